//! The role of a process, and the bus that it needs.

use thiserror::Error;

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// The web server, which accepts builds.
    Web,
    /// A worker, which handles builds and all other messages of the pipeline.
    Worker,
    /// The web server and a worker in one process.
    All,
    /// Commit telemetry, which sends pings about pushes and is set up by the environment.
    Telemetry,
    /// The notifier alone, as with `events notify`.
    Notify,
}

/// Why a process cannot run in its role.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum RoleError {
    /// Web and worker in processes of their own share nothing but Redis.
    #[error(
        "{0} alone needs redis to reach the other processes: set REDIS_URL, or run `all` in one process"
    )]
    NeedsRedis(&'static str),
    /// The Heroku dyno has none of our process types.
    #[error(
        "DYNO is {0:?}, expected web.N, worker.N, notify.N or telemetry.N: name the role on the command line"
    )]
    UnknownDyno(String),
}

impl Role {
    /// The role from the command line, else that of the Heroku dyno, else [`Role::All`].
    pub fn named(option: Option<Self>, dyno: Option<&str>) -> Result<Self, RoleError> {
        let dyno_role = |dyno: &str| match dyno.split('.').next() {
            Some("web") => Ok(Self::Web),
            Some("worker") => Ok(Self::Worker),
            Some("telemetry") => Ok(Self::Telemetry),
            Some("notify") => Ok(Self::Notify),
            _ => Err(RoleError::UnknownDyno(dyno.to_owned())),
        };
        match (option, dyno) {
            (Some(role), _) => Ok(role),
            (None, Some(dyno)) => dyno_role(dyno),
            (None, None) => Ok(Self::All),
        }
    }

    /// Fails when the role needs a Redis and there is none.
    pub fn check(self, dyno: Option<&str>, redis: bool) -> Result<(), RoleError> {
        match self {
            _ if redis => Ok(()),
            Self::Web => Err(RoleError::NeedsRedis("web")),
            Self::Worker => Err(RoleError::NeedsRedis("worker")),
            // What a dyno holds in memory is gone at its daily restart.
            Self::All | Self::Telemetry | Self::Notify if dyno.is_some() => {
                Err(RoleError::NeedsRedis("a dyno"))
            }
            Self::All | Self::Telemetry | Self::Notify => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_wins_over_dyno_and_separate_roles_need_redis() {
        let table = [
            (None, None, false, Ok(Role::All)),
            (None, None, true, Ok(Role::All)),
            (Some(Role::Web), None, true, Ok(Role::Web)),
            (
                Some(Role::Web),
                None,
                false,
                Err(RoleError::NeedsRedis("web")),
            ),
            (
                Some(Role::Worker),
                None,
                false,
                Err(RoleError::NeedsRedis("worker")),
            ),
            (None, Some("web.1"), true, Ok(Role::Web)),
            (None, Some("worker.12"), true, Ok(Role::Worker)),
            (
                None,
                Some("worker.1"),
                false,
                Err(RoleError::NeedsRedis("worker")),
            ),
            (
                Some(Role::All),
                Some("web.1"),
                false,
                Err(RoleError::NeedsRedis("a dyno")),
            ),
            (Some(Role::Worker), Some("web.1"), true, Ok(Role::Worker)),
            (Some(Role::Telemetry), None, false, Ok(Role::Telemetry)),
            (None, Some("telemetry.1"), true, Ok(Role::Telemetry)),
            (
                None,
                Some("telemetry.1"),
                false,
                Err(RoleError::NeedsRedis("a dyno")),
            ),
            (None, Some("notify.1"), true, Ok(Role::Notify)),
            (
                None,
                Some("notify.1"),
                false,
                Err(RoleError::NeedsRedis("a dyno")),
            ),
            (
                Some(Role::Notify),
                Some("run.7"),
                false,
                Err(RoleError::NeedsRedis("a dyno")),
            ),
            (Some(Role::Notify), None, false, Ok(Role::Notify)),
            (
                None,
                Some("run.7"),
                true,
                Err(RoleError::UnknownDyno("run.7".to_owned())),
            ),
        ];
        for (option, dyno, redis, expected) in table {
            let role =
                Role::named(option, dyno).and_then(|role| role.check(dyno, redis).map(|()| role));
            assert_eq!(role, expected, "{option:?} {dyno:?} {redis}");
        }
    }
}
