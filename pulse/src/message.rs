//! A message of Pulse, as it travels on the bus.

use bus::{Blob, Message, Retry, Retryable};
use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldArray, FieldTable, LongString},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

/// A message of Pulse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulseMessage {
    /// Its exchange and routing keys.
    pub routing: Routing,
    /// Its bytes as they came. Each handler parses them by itself.
    pub body: Blob,
}

/// The exchange and the routing keys of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The exchange of its publication.
    pub exchange: String,
    /// Its routing key.
    pub key: String,
    /// Further keys: RabbitMQ's `CC` header.
    pub other_routes: Vec<String>,
}

impl Routing {
    /// All keys that RabbitMQ routed it by.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.key)
            .chain(&self.other_routes)
            .map(String::as_str)
    }
}

impl Message for PulseMessage {
    const VERSION: u16 = 1;
}

impl PulseMessage {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, UnreadableBody> {
        serde_json::from_slice(&self.body).map_err(|source| UnreadableBody {
            exchange: self.routing.exchange.clone(),
            key: self.routing.key.clone(),
            source,
        })
    }
}

/// The header with further keys under which RabbitMQ routes a message.
const CC: &str = "CC";

impl From<Delivery> for PulseMessage {
    fn from(delivery: Delivery) -> Self {
        let routing = Routing {
            exchange: delivery.exchange.into(),
            key: delivery.routing_key.into(),
            other_routes: other_routes(&delivery.properties),
        };
        Self {
            routing,
            body: delivery.data.into(),
        }
    }
}

fn other_routes(properties: &BasicProperties) -> Vec<String> {
    let carried = properties
        .headers()
        .as_ref()
        .and_then(|headers| headers.inner().get(CC));
    let Some(AMQPValue::FieldArray(routes)) = carried else {
        return Vec::new();
    };
    let text = |route: &AMQPValue| match route {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    };
    routes.as_slice().iter().filter_map(text).collect()
}

/// The headers by which RabbitMQ routes a message by these keys too.
pub(crate) fn headers(other_routes: &[String]) -> FieldTable {
    let mut headers = FieldTable::default();
    if !other_routes.is_empty() {
        let routes = other_routes
            .iter()
            .map(|route| AMQPValue::LongString(LongString::from(route.as_str())));
        headers.insert(
            CC.into(),
            AMQPValue::FieldArray(FieldArray::from(routes.collect::<Vec<_>>())),
        );
    }
    headers
}

/// A body that does not have the form of its exchange.
#[derive(Debug, Error)]
#[error("the message of {exchange} with routing key {key} cannot be read")]
pub struct UnreadableBody {
    /// The exchange of the message.
    pub exchange: String,
    /// Its routing key.
    pub key: String,
    /// The fault.
    #[source]
    pub source: serde_json::Error,
}

impl Retryable for UnreadableBody {
    fn retry(&self) -> Retry {
        Retry::Never
    }
}

#[cfg(test)]
mod tests {
    use runtime::error_chain;
    use serde_json::Value;

    use super::*;

    #[test]
    fn unreadable_body_is_dead_letter_naming_its_route() {
        for body in [&b"no json"[..], b"", b"\xff\xfe", b"{}{}"] {
            let routing = Routing {
                exchange: "exchange/x".into(),
                key: "a.b".into(),
                other_routes: Vec::new(),
            };
            let message = PulseMessage {
                routing,
                body: body.to_vec().into(),
            };
            let error = message.json::<Value>().unwrap_err();
            assert_eq!(error.retry(), Retry::Never);
            let text = error_chain(&error);
            assert!(
                text.starts_with("the message of exchange/x with routing key a.b cannot be read: "),
                "{text}"
            );
        }
    }
}
