//! What is read on a build target in the end.

use super::{Say, words};
use build::{Answer, Report};

/// What the [`super::Publisher`] sends of a report, in its order, but for the link to a page of the deployment.
pub fn answer(report: &Report) -> Vec<Answer> {
    words(report, None).into_iter().map(Answer::from).collect()
}

impl From<Say<'_>> for Answer {
    fn from(say: Say<'_>) -> Self {
        match say {
            Say::Message(kind, None) => Self {
                act: kind.name().to_owned(),
                heading: None,
                text: String::new(),
            },
            Say::Message(kind, Some(unit)) => {
                let heading = Some(format!("{}: {}", unit.name, unit.result.name()));
                Self {
                    act: kind.name().to_owned(),
                    heading,
                    text: unit.details,
                }
            }
            Say::Link(link) => Self {
                act: "link".to_owned(),
                heading: Some(link.name.to_owned()),
                text: link.url.to_owned(),
            },
        }
    }
}
