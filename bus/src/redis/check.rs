//! The check whether the bus can use a Redis server.

use redis::ErrorKind;

use super::connection::Connections;
use crate::BusError;

/// The oldest version of Redis that has all the commands of the scripts.
const OLDEST: (u32, u32) = (6, 2);

/// Checks the server. Returns warnings; see [`super::RedisBus::check`].
pub(super) async fn check(connections: &Connections) -> Result<Vec<String>, BusError> {
    let doing = "checking the server";
    let info: String = connections
        .command(doing, &redis::cmd("INFO"))
        .await
        .map_err(wrong_kind)?;
    // The user may have no permission for CONFIG.
    let save = connections
        .command(doing, redis::cmd("CONFIG").arg("GET").arg("save"))
        .await;
    let save: Option<(String, String)> = save.ok();
    check_info(
        &info,
        save.as_ref().map(|(_, save)| save.as_str()),
        connections.is_single(),
    )
}

/// [`BusError::Unfit`] in place of an error that shows that the url is for another kind of server: no retry helps.
fn wrong_kind(error: BusError) -> BusError {
    let BusError::Redis { source, .. } = &error else {
        return error;
    };
    let unfit = |reason: &str| BusError::Unfit {
        reason: reason.to_owned(),
    };
    match source.detail() {
        Some(detail) if detail.contains("cluster support disabled") => {
            unfit("it is not a node of a cluster: name it as redis://host:port")
        }
        _ if source.kind() == ErrorKind::InvalidClientConfig => unfit(
            "it is not a sentinel: name the sentinels, or name redis itself as redis://host:port",
        ),
        _ => error,
    }
}

/// Checks the reply to `INFO`. `save` is the setting of that name, if the user may read it. With `single`, the url names this
/// server itself; otherwise Sentinel or a Cluster names it, and the next connection may lead to another server.
fn check_info(info: &str, save: Option<&str>, single: bool) -> Result<Vec<String>, BusError> {
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let unfit = |reason: String| Err(BusError::Unfit { reason });
    if field("redis_mode") == Some("sentinel") {
        return unfit("it is a sentinel: name it as redis+sentinel://host:port/master".to_owned());
    }
    // Valkey has the version of Redis here with which it is compatible.
    if let Some(version) = field("redis_version") {
        let mut parts = version
            .split('.')
            .map(|part| part.parse::<u32>().unwrap_or(0));
        let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        if found < OLDEST {
            return unfit(format!(
                "it is version {version}: install redis 6.2 or newer, or valkey"
            ));
        }
    }
    if single && field("cluster_enabled") == Some("1") {
        return unfit("it is a node of a cluster: name it as redis+cluster://host:port".to_owned());
    }
    if single && field("role") == Some("slave") {
        let master = field("master_host").zip(field("master_port"));
        let master = master
            .map(|(host, port)| format!(" {host}:{port}"))
            .unwrap_or_default();
        return unfit(format!(
            "it is a replica, which cannot be written to: name its master{master}, or its sentinels as \
             redis+sentinel://host:port/master"
        ));
    }
    if let Some(policy) = field("maxmemory_policy")
        && policy != "noeviction"
    {
        return unfit(format!(
            "maxmemory-policy is {policy}: a full server would evict messages; set it to noeviction"
        ));
    }
    if field("aof_enabled") != Some("0") {
        return Ok(Vec::new());
    }
    let lost = match save {
        Some("") => "redis keeps nothing on disk: a restart loses all messages",
        _ => {
            "redis keeps no append-only file: a restart may lose what came after the last snapshot, if there is one"
        }
    };
    Ok(vec![format!("{lost}; set appendonly to yes")])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "redis_version:7.0.15\r\nredis_mode:standalone\r\naof_enabled:1\r\nrole:master\r\n\
                        maxmemory_policy:noeviction\r\ncluster_enabled:0\r\n";

    /// The reply of a good server, with another value of one field.
    fn but(field: &str) -> String {
        let (name, _) = field.split_once(':').unwrap();
        let others = GOOD
            .lines()
            .filter(|line| !line.starts_with(&format!("{name}:")));
        others
            .chain([field])
            .map(|line| format!("{line}\r\n"))
            .collect()
    }

    #[test]
    fn server_that_loses_messages_is_refused_and_missing_persistence_is_warned_of() {
        let valkey = "server_name:valkey\r\nvalkey_version:8.1.1\r\nredis_version:7.2.4";
        let replica = "master_host:10.0.0.1\r\nmaster_port:6379\r\nrole:slave";
        let table = [
            (GOOD.to_owned(), None, true, Ok("")),
            (but("redis_version:6.2.0"), None, true, Ok("")),
            (
                GOOD.replace("redis_version:7.0.15", valkey),
                None,
                true,
                Ok(""),
            ),
            (but("aof_enabled:0"), None, true, Ok("no append-only file")),
            (
                but("aof_enabled:0"),
                Some("3600 1"),
                true,
                Ok("no append-only file"),
            ),
            (but("aof_enabled:0"), Some(""), true, Ok("nothing on disk")),
            (but("redis_version:6.0.16"), None, true, Err("6.0.16")),
            (
                but("maxmemory_policy:allkeys-lru"),
                None,
                true,
                Err("allkeys-lru"),
            ),
            (
                but("redis_mode:sentinel"),
                None,
                true,
                Err("redis+sentinel://"),
            ),
            (
                but("cluster_enabled:1"),
                None,
                true,
                Err("redis+cluster://"),
            ),
            (but("cluster_enabled:1"), None, false, Ok("")),
            (
                GOOD.replace("role:master", replica),
                None,
                true,
                Err("name its master 10.0.0.1:6379"),
            ),
            (GOOD.replace("role:master", replica), None, false, Ok("")),
        ];
        for (info, save, single, expected) in table {
            let checked = check_info(&info, save, single)
                .map(|warnings| warnings.join("\n"))
                .map_err(|e| e.to_string());
            match (&checked, expected) {
                (Ok(found), Ok("")) => assert_eq!(found, "", "{info}"),
                (Ok(found), Ok(word)) | (Err(found), Err(word)) => {
                    assert!(found.contains(word), "{info}: {found}")
                }
                _ => panic!("{info}: {checked:?}, expected {expected:?}"),
            }
        }
    }
}
