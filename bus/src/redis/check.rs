//! What a Redis server must be to carry a bus.

use crate::BusError;

const OLDEST: (u32, u32) = (6, 2);

/// Reads the answer to `INFO`; returns warnings.
pub(super) fn check(info: &str) -> Result<Vec<String>, BusError> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let unfit = |reason: String| Err(BusError::Unfit { reason });
    if let Some(version) = field("redis_version") {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < OLDEST {
            return unfit(format!("it is version {version}, needed is 6.2 or newer"));
        }
    }
    if let Some(policy) = field("maxmemory_policy")
        && policy != "noeviction"
    {
        return unfit(format!(
            "maxmemory-policy is {policy}: a full server would throw messages away; set it to noeviction"
        ));
    }
    let mut warnings = Vec::new();
    if field("aof_enabled") == Some("0") {
        warnings.push(
            "redis keeps no append-only file: a restart of redis loses messages; set appendonly to yes".to_owned(),
        );
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_evicting_server_is_refused_and_one_without_persistence_is_warned_of() {
        let table = [
            ("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n", Ok(0)),
            ("redis_version:6.2.0\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\n", Ok(1)),
            ("redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n", Err("6.0.16")),
            ("redis_version:7.2.4\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", Err("allkeys-lru")),
        ];
        for (info, expected) in table {
            match (check(info), expected) {
                (Ok(warnings), Ok(count)) => assert_eq!(warnings.len(), count, "{info}"),
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
                (got, expected) => panic!("{info}: {got:?}, expected {expected:?}"),
            }
        }
    }
}
