//! The sources of events.

mod buildbot;
mod treeherder;

use jiff::Timestamp;
use pulse::{PulseError, PulseMessage, Topic};
use thiserror::Error;

use crate::{event::Event, filters::Filters};

/// The largest body that is read, in bytes. Recorded ones have 3 kB at most.
pub(crate) const MAX_BODY: usize = 256 * 1024;

/// The form of messages, and the exchange that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    kind: Kind,
    exchange: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Buildbot,
    Treeherder,
}

/// The kinds of events that have a handler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection {
    pub(crate) builds: bool,
    pub(crate) tests: bool,
    /// Each message, whatever the filters select.
    pub(crate) messages: bool,
}

/// A message that holds no event.
#[derive(Debug, Error)]
pub(crate) enum ParseError {
    #[error("its routing key does not begin with build, unittest or talos, or has too few words")]
    Key,
    #[error("its body has {0} bytes, more than {MAX_BODY}")]
    TooLarge(usize),
    #[error("its body does not have the form of its exchange")]
    Body(#[from] serde_json::Error),
}

impl Source {
    /// The normalized messages of buildbot, on `exchange/build/normalized`.
    pub fn buildbot() -> Self {
        Self {
            kind: Kind::Buildbot,
            exchange: buildbot::EXCHANGE.to_owned(),
        }
    }

    /// The jobs of Treeherder, on `exchange/taskcluster-treeherder/v1/jobs`.
    pub fn treeherder() -> Self {
        Self {
            kind: Kind::Treeherder,
            exchange: treeherder::EXCHANGE.to_owned(),
        }
    }

    /// The same messages on another exchange.
    #[must_use]
    pub fn on(self, exchange: impl Into<String>) -> Self {
        Self {
            exchange: exchange.into(),
            ..self
        }
    }

    /// The exchange, by its full name.
    pub fn exchange(&self) -> &str {
        &self.exchange
    }

    /// The topics to bind to: no more than the filters select, as far as topics can express that.
    pub(crate) fn topics(
        &self,
        filters: &Filters,
        selection: Selection,
    ) -> Result<Vec<Topic>, PulseError> {
        let topics = match self.kind {
            Kind::Buildbot => buildbot::topics(filters, selection),
            Kind::Treeherder => treeherder::topics(filters, selection),
        };
        topics.iter().map(|topic| topic.parse()).collect()
    }

    /// The event in a message; `None` when its build or test has not finished.
    pub(crate) fn read(
        &self,
        message: &PulseMessage,
        received: Timestamp,
    ) -> Result<Option<Event>, ParseError> {
        let (key, body) = (message.routing.key.as_str(), &*message.body);
        if body.len() > MAX_BODY {
            return Err(ParseError::TooLarge(body.len()));
        }
        match self.kind {
            Kind::Buildbot => buildbot::read(key, body, received).map(Some),
            Kind::Treeherder => treeherder::read(key, body, received),
        }
    }
}

/// The most topics of one queue.
const MAX_TOPICS: usize = 64;

/// Topics of `before`, one word of each list, and `after`, in every combination. An empty list becomes any word, and so
/// does a list that would make too many topics.
fn combine(before: &str, lists: &[&[String]], after: &str) -> Vec<String> {
    let mut topics = vec![before.to_owned()];
    for list in lists {
        let narrow = !list.is_empty() && topics.len() * list.len() <= MAX_TOPICS;
        let any = ["*".to_owned()];
        let words: &[String] = if narrow { list } else { &any };
        topics = topics
            .iter()
            .flat_map(|topic| words.iter().map(move |word| format!("{topic}.{word}")))
            .collect();
    }
    topics
        .iter()
        .map(|topic| format!("{topic}.{after}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn topics_cover_every_selection() {
        let (trees, types) = (words(&["a", "b"]), words(&["opt", "debug"]));
        let topics = combine("build", &[&trees, &[], &types], "#");
        assert_eq!(
            topics,
            [
                "build.a.*.opt.#",
                "build.a.*.debug.#",
                "build.b.*.opt.#",
                "build.b.*.debug.#"
            ]
        );
    }

    #[test]
    fn selection_with_too_many_topics_uses_filters() {
        let many: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
        let topics = combine("build", &[&many, &many, &words(&["opt"])], "#");
        assert_eq!((topics.len(), topics[0].as_str()), (40, "build.t0.*.opt.#"));
    }
}
