//! Which messages go to which queues of the bus.

use bus::{BusError, Outgoing, Queue};
use runtime::Clock;
use sha2::{Digest, Sha256};

use crate::{Binding, PulseMessage, Routing, Topic};

/// Messages of one exchange that go to one queue of the bus.
#[derive(Debug, Clone)]
pub struct Route {
    /// The exchange, by its full name (`exchange/…`).
    pub exchange: String,
    /// The routing keys: one match is enough.
    pub topics: Vec<Topic>,
    /// The destination.
    pub queue: Queue<PulseMessage>,
}

impl Route {
    /// Whether a message with this routing goes to the queue.
    pub(crate) fn matches(&self, routing: &Routing) -> bool {
        // RabbitMQ routes by the CC header as it does by the routing key.
        let matches = |key| self.topics.iter().any(|topic| topic.matches(key));
        self.exchange == routing.exchange && routing.keys().any(matches)
    }
}

impl From<&Route> for Binding {
    fn from(route: &Route) -> Self {
        Self {
            exchange: route.exchange.clone(),
            topics: route.topics.clone(),
        }
    }
}

/// The message for each queue with a matching route, once for each queue.
///
/// Its deduplication key is made of its content, so that it is the same in each delivery, also to another process.
pub(crate) fn pack(
    routes: &[Route],
    message: &PulseMessage,
    clock: &dyn Clock,
) -> Result<Vec<Outgoing>, BusError> {
    let mut outgoing: Vec<Outgoing> = Vec::new();
    let key = key(message);
    let matching = routes
        .iter()
        .filter(|route| route.matches(&message.routing));
    for queue in matching.map(|route| route.queue) {
        if outgoing
            .iter()
            .all(|other| other.queue.name != queue.spec().name)
        {
            outgoing.push(Outgoing {
                key: Some(key.clone()),
                ..queue.pack(message, clock)?
            });
        }
    }
    Ok(outgoing)
}

fn key(message: &PulseMessage) -> String {
    let Routing { exchange, key, .. } = &message.routing;
    let mut hash = Sha256::new();
    for part in [exchange.as_bytes(), key.as_bytes(), &message.body] {
        // The lengths keep the parts apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    format!("pulse:{:x}", hash.finalize())
}

#[cfg(test)]
mod tests {
    use bus::Policy;
    use runtime::SystemClock;

    use super::*;

    const ONE: Queue<PulseMessage> = Queue::new("one", Policy::DEFAULT);
    const OTHER: Queue<PulseMessage> = Queue::new("other", Policy::DEFAULT);

    fn route(exchange: &str, topics: &[&str], queue: Queue<PulseMessage>) -> Route {
        let topics = topics.iter().map(|topic| topic.parse().unwrap()).collect();
        Route {
            exchange: exchange.to_owned(),
            topics,
            queue,
        }
    }

    fn message(exchange: &str, key: &str, other_routes: &[&str], body: &str) -> PulseMessage {
        let other_routes = other_routes
            .iter()
            .map(|route| (*route).to_owned())
            .collect();
        let routing = Routing {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            other_routes,
        };
        PulseMessage {
            routing,
            body: body.as_bytes().to_vec().into(),
        }
    }

    fn queues(routes: &[Route], message: &PulseMessage) -> Vec<&'static str> {
        pack(routes, message, &SystemClock)
            .unwrap()
            .iter()
            .map(|outgoing| outgoing.queue.name)
            .collect()
    }

    #[test]
    fn message_goes_once_to_each_matching_queue() {
        let routes = [
            route("exchange/x", &["a.#", "b.#"], ONE),
            route("exchange/x", &["a.#"], ONE),
            route("exchange/x", &["#.c"], OTHER),
            route("exchange/y", &["#"], OTHER),
        ];
        assert_eq!(
            queues(&routes, &message("exchange/x", "a.b", &[], "")),
            ["one"]
        );
        assert_eq!(
            queues(&routes, &message("exchange/x", "a.c", &[], "")),
            ["one", "other"]
        );
        assert_eq!(
            queues(&routes, &message("exchange/y", "a.c", &[], "")),
            ["other"]
        );
        assert_eq!(
            queues(&routes, &message("exchange/x", "z", &[], "")),
            [""; 0]
        );
        assert_eq!(
            queues(&routes, &message("exchange/x", "z", &["y", "b"], "")),
            ["one"],
            "by another route"
        );
        assert_eq!(
            queues(&routes, &message("exchange/z", "a", &["a"], "")),
            [""; 0]
        );
    }

    #[test]
    fn deduplication_key_is_equal_for_equal_messages_only() {
        let one = message("exchange/x", "a.b", &[], "body");
        assert_eq!(
            key(&one),
            key(&message("exchange/x", "a.b", &["c"], "body"))
        );
        for other in [
            message("exchange/y", "a.b", &[], "body"),
            message("exchange/x", "a.c", &[], "body"),
            message("exchange/x", "a.b", &[], "bodx"),
            message("exchange/x", "a.bb", &[], "ody"),
            message("exchange/xa", ".b", &[], "body"),
        ] {
            assert_ne!(key(&one), key(&other));
        }
    }
}
