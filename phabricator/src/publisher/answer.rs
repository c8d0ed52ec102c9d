//! The answers on a build target, as records and commands show them.

use super::call::{PublishCall, calls_for};
use build::{Answer, BuildUpdate, Phid};

/// The answers that the [`super::Publisher`] sends to `target` for an update, in order, without the link to a page of the
/// deployment.
pub fn answer(target: &Phid, update: &BuildUpdate) -> Vec<Answer> {
    calls_for(target, update, None)
        .into_iter()
        .map(Answer::from)
        .collect()
}

impl From<PublishCall<'_>> for Answer {
    fn from(call: PublishCall<'_>) -> Self {
        match call {
            PublishCall::Message(kind, None) => Self {
                act: kind.name().to_owned(),
                heading: None,
                text: String::new(),
            },
            PublishCall::Message(kind, Some(unit)) => {
                let heading = Some(format!("{}: {}", unit.name, unit.result.name()));
                Self {
                    act: kind.name().to_owned(),
                    heading,
                    text: unit.details,
                }
            }
            PublishCall::Link(link) => Self {
                act: "link".to_owned(),
                heading: Some(link.name.to_owned()),
                text: link.url.to_owned(),
            },
        }
    }
}
