//! `repulse`: publishes a notification's original message of Pulse again, on an exchange of our user.
//!
//! The exchange is a durable topic exchange. Routing key, further keys (`CC`) and body are those of the original message,
//! so consumers bind and read as on the original exchange. A message counts as sent when RabbitMQ has confirmed that every
//! bound queue has stored it; it may be bound to none. A message that was confirmed just before the process died is
//! published again.

use std::sync::Arc;

use async_trait::async_trait;
use pulse::{Publisher, PulseError, PulseMessage, PulseSettings, Routing};

use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    SettingsError,
};

const NAME: &str = "repulse";
/// The default exchange, after the prefix with our user.
const DEFAULT: &str = "notify";

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[Key::new("exchange")],
    templates: &[],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let pulse = parts.pulse.ok_or_else(|| SettingsError::Needs {
        channel: NAME,
        problem: "it publishes as our user on pulse, so set that one (pulse, or PULSE_LOGIN and PULSE_PASSWORD in the \
                  environment)"
            .to_owned(),
    })?;
    let ours = format!("exchange/{}/", pulse.user);
    let exchange = settings
        .optional_text("exchange")
        .unwrap_or_else(|| format!("{ours}{DEFAULT}"));
    let name = exchange.strip_prefix(&ours).filter(|name| !name.is_empty());
    if name.is_none() || exchange.len() > MAX_EXCHANGE || exchange.chars().any(char::is_control) {
        return Err(settings.invalid(
            "exchange",
            "an exchange of our own: exchange/<our user on pulse>/<name>",
        ));
    }
    let publisher = Publisher::new(pulse.clone(), Arc::clone(parts.clock));
    Ok(Box::new(Repulse {
        exchange,
        publisher,
        settings: pulse.clone(),
    }))
}

/// The longest name of an exchange in AMQP, in bytes.
const MAX_EXCHANGE: usize = 255;

struct Repulse {
    exchange: String,
    publisher: Publisher,
    /// Our user.
    settings: PulseSettings,
}

#[async_trait]
impl Channel for Repulse {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, _: &Notification) -> Vec<String> {
        vec![self.exchange.clone()]
    }

    fn is_read_by_people(&self) -> bool {
        false
    }

    async fn send(&self, notification: &Notification, _: &str) -> Result<(), ChannelError> {
        let PulseMessage {
            routing: Routing {
                key, other_routes, ..
            },
            body,
        } = notification.pulse.clone();
        let routing = Routing {
            exchange: self.exchange.clone(),
            key,
            other_routes,
        };
        self.publisher
            .publish(&PulseMessage { routing, body })
            .await
            .map_err(|error| judged(&error))
    }

    /// The first message declares the exchange, so its absence is not an error here.
    async fn check(&self) -> Result<Checked, ChannelError> {
        pulse::check(&self.settings)
            .await
            .map_err(|error| judged(&error))?;
        let found = format!(
            "{} lets {} in, who may have the exchange",
            self.settings.address, self.settings.user
        );
        Ok(Checked {
            found: Some(found),
            by_hand: None,
        })
    }
}

fn judged(error: &PulseError) -> ChannelError {
    let (channel, problem) = (NAME, runtime::error_chain(error));
    match error {
        PulseError::Unreachable { .. } => ChannelError::Unreachable { channel, problem },
        PulseError::Login { .. } | PulseError::Vhost { .. } | PulseError::Forbidden { .. } => {
            ChannelError::Credentials { channel, problem }
        }
        // Without a response the server may have stored the message, so it is not sent again all day.
        PulseError::Silent { .. }
        | PulseError::Lost { .. }
        | PulseError::NotStored { .. }
        | PulseError::Missing { .. } => ChannelError::Failed { channel, problem },
        // An exchange of another kind stays so until an operator deletes it, and a key that is too long stays so.
        PulseError::Mismatch { .. } | PulseError::Unusable { .. } => {
            ChannelError::Refused { channel, problem }
        }
    }
}
