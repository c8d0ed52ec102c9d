//! Where events come from.

use jiff::Timestamp;
use thiserror::Error;

use super::{buildbot, event::Event, filters::Filters, treeherder};
use crate::{PulseError, PulseMessage, Topic};

/// The largest body that is read, in bytes. Recorded ones have 3 kB at most.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// Which messages are read, and where they are published.
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

/// Which kinds of messages somebody wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) builds: bool,
    pub(super) tests: bool,
    /// Each message, whatever the filters say.
    pub(super) messages: bool,
}

/// Why no event can be made of a message.
#[derive(Debug, Error)]
pub(super) enum Unreadable {
    #[error("its routing key does not begin with build, unittest or talos, or has too few words")]
    Key,
    #[error("its body has {0} bytes, and {MAX_BODY} are read at most")]
    TooLarge(usize),
    #[error("its body is not what messages of its exchange hold")]
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

    /// What to bind to: no more than what is wanted, as far as topics can say that.
    pub(super) fn topics(
        &self,
        filters: &Filters,
        wanted: Wanted,
    ) -> Result<Vec<Topic>, PulseError> {
        let topics = match self.kind {
            Kind::Buildbot => buildbot::topics(filters, wanted),
            Kind::Treeherder => treeherder::topics(filters, wanted),
        };
        topics.iter().map(|topic| topic.parse()).collect()
    }

    /// The event that a message tells of, if it is about something that has finished.
    pub(super) fn read(
        &self,
        message: &PulseMessage,
        received: Timestamp,
    ) -> Result<Option<Event>, Unreadable> {
        let (key, body) = (message.routing.key.as_str(), &*message.body);
        if body.len() > MAX_BODY {
            return Err(Unreadable::TooLarge(body.len()));
        }
        match self.kind {
            Kind::Buildbot => buildbot::read(key, body, received).map(Some),
            Kind::Treeherder => treeherder::read(key, body, received),
        }
    }
}

/// The most topics that one queue is bound to.
const MAX_TOPICS: usize = 64;

/// Topics of `lists` that stand between `before` and `after`: one for each way of taking a value from each list, where an
/// empty list is any word. A list that would make too many is any word as well.
pub(super) fn combine(before: &str, lists: &[&[String]], after: &str) -> Vec<String> {
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
