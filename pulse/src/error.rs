//! Failures of Pulse, and whether a retry helps.

use std::time::Duration;

use bus::{Retry, Retryable};
use lapin::ErrorKind;
use thiserror::Error;

use crate::{Address, PulseSettings};

/// The longest name or routing key that AMQP carries, in bytes.
const MAX_NAME: usize = 255;

/// The delay of a step that could not reach the server.
const AWAY: Duration = Duration::from_secs(5);
/// The delay of a step that waits for a change of a setting.
const SETTING: Duration = Duration::from_secs(60);

/// A failure of Pulse. None of these holds the password.
#[derive(Debug, Error)]
pub enum PulseError {
    /// A setting is invalid whatever the server is.
    #[error("pulse cannot be used: {reason}")]
    Unusable {
        /// The fault and the remedy.
        reason: String,
    },
    /// No connection could be made.
    #[error("cannot connect to rabbitmq at {address}")]
    Unreachable {
        /// The server.
        address: Address,
        /// The error of the client.
        #[source]
        source: Box<lapin::Error>,
    },
    /// The server did not respond in time.
    #[error("rabbitmq at {address} did not respond within {} s while trying to {doing}", within.as_secs())]
    Silent {
        /// The server.
        address: Address,
        /// The operation.
        doing: String,
        /// The time limit.
        within: Duration,
    },
    /// The server refuses the user and the password.
    #[error(
        "rabbitmq at {address} does not accept user {user}: set the user and password that PulseGuardian has ({reply})"
    )]
    Login {
        /// The server.
        address: Address,
        /// The user.
        user: String,
        /// The response of the server.
        reply: String,
    },
    /// The user has no access to the virtual host.
    #[error(
        "user {user} cannot use the virtual host {vhost} of {address}: on pulse it is / ({reply})"
    )]
    Vhost {
        /// The server.
        address: Address,
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
        /// The response of the server.
        reply: String,
    },
    /// An exchange or a queue does not exist.
    #[error(
        "cannot {doing}: correct the name in the configuration, or have its owner create it ({reply})"
    )]
    Missing {
        /// The operation.
        doing: String,
        /// The response of the server.
        reply: String,
    },
    /// The user lacks the permission.
    #[error(
        "user {user} may not {doing}: a pulse user reads every exchange/…, and has only queue/{user}/… and \
         exchange/{user}/… for itself, so correct the name or the user ({reply})"
    )]
    Forbidden {
        /// The operation.
        doing: String,
        /// The user.
        user: String,
        /// The response of the server.
        reply: String,
    },
    /// An exchange or a queue exists with other properties.
    #[error(
        "cannot {doing}: it exists with other properties, so delete it in PulseGuardian or choose another name ({reply})"
    )]
    Mismatch {
        /// The operation.
        doing: String,
        /// The response of the server.
        reply: String,
    },
    /// The server refused a message.
    #[error("rabbitmq refused to store a message for {exchange}, try again")]
    NotStored {
        /// The exchange.
        exchange: String,
    },
    /// The connection broke.
    #[error("the connection to rabbitmq broke while trying to {doing}")]
    Lost {
        /// The operation.
        doing: String,
        /// The error of the client.
        #[source]
        source: Box<lapin::Error>,
    },
}

impl PulseError {
    /// The error of a failed connection.
    pub(crate) fn connecting(settings: &PulseSettings, source: lapin::Error) -> Self {
        let (address, user) = (settings.address.clone(), settings.user.clone());
        match refusal(&source) {
            Some((403, reply)) => Self::Login {
                address,
                user,
                reply,
            },
            // The reply says whether it does not exist, is closed to the user, or has too many connections.
            Some((530, reply)) => Self::Vhost {
                address,
                user,
                vhost: settings.vhost.clone(),
                reply,
            },
            _ => Self::Unreachable {
                address,
                source: Box::new(source),
            },
        }
    }

    /// The error of a failed operation on a connection.
    pub(crate) fn doing(
        settings: &PulseSettings,
        doing: impl Into<String>,
    ) -> impl FnOnce(lapin::Error) -> Self {
        let (doing, user) = (doing.into(), settings.user.clone());
        move |source| match refusal(&source) {
            Some((403, reply)) => Self::Forbidden { doing, user, reply },
            Some((404, reply)) => Self::Missing { doing, reply },
            Some((406, reply)) => Self::Mismatch { doing, reply },
            _ => Self::Lost {
                doing,
                source: Box::new(source),
            },
        }
    }

    /// Whether it lasts until somebody changes a setting, or creates what is missing.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Unusable { .. } | Self::Login { .. } => true,
            // RabbitMQ uses the same code for a virtual host that is down, and for too many connections.
            Self::Vhost { reply, .. } => !["limit", "is down"]
                .iter()
                .any(|temporary| reply.contains(temporary)),
            _ => self.is_about_a_name(),
        }
    }

    /// Whether it concerns one exchange or queue, so that others can be used.
    pub(crate) fn is_about_a_name(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. } | Self::Forbidden { .. } | Self::Mismatch { .. }
        )
    }
}

/// [`PulseError::Unusable`] when AMQP cannot carry `name`; `what` names it in the error.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), PulseError> {
    let length = name.len();
    if length <= MAX_NAME {
        return Ok(());
    }
    let shown: String = name.chars().take(40).collect();
    Err(PulseError::Unusable {
        reason: format!("{what} {shown:?}… has {length} bytes, and amqp carries {MAX_NAME}"),
    })
}

/// The code and the text with which the server closed a channel or a connection.
fn refusal(error: &lapin::Error) -> Option<(u16, String)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().to_string())),
        _ => None,
    }
}

impl Retryable for PulseError {
    fn retry(&self) -> Retry {
        match self {
            Self::Unusable { .. } | Self::Forbidden { .. } | Self::Mismatch { .. } => Retry::Never,
            Self::Missing { .. } | Self::NotStored { .. } => Retry::Backoff,
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Lost { .. } => {
                Retry::Defer(AWAY)
            }
            Self::Login { .. } | Self::Vhost { .. } => Retry::Defer(SETTING),
        }
    }
}
