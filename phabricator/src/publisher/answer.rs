//! What is read on a build target in the end.

use std::fmt;

use serde::Serialize;

use super::{LINK_NAME, Say, words};
use crate::model::Report;

/// One thing that is said on a build target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What it does: `work` leaves the target as it is, `pass` and `fail` end it, `link` puts a link on it.
    pub act: &'static str,
    /// What it is shown as: a unit and its result, such as `mercurial: unsound`, or a link's name. `None` for a bare
    /// message.
    pub heading: Option<String>,
    /// Remarkup, or the link's address. Empty for a bare message.
    pub text: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.act)?;
        if let Some(heading) = &self.heading {
            write!(f, " {heading}\n{}", self.text)?;
        }
        Ok(())
    }
}

/// What the [`super::Publisher`] says of a report, in its order.
pub fn answer(report: &Report) -> Vec<Answer> {
    words(report).into_iter().map(Answer::from).collect()
}

impl From<Say<'_>> for Answer {
    fn from(say: Say<'_>) -> Self {
        match say {
            Say::Message(kind, None) => Self { act: kind.name(), heading: None, text: String::new() },
            Say::Message(kind, Some(unit)) => {
                let heading = Some(format!("{}: {}", unit.name, unit.result.name()));
                Self { act: kind.name(), heading, text: unit.details }
            }
            Say::Link(url) => Self { act: "link", heading: Some(LINK_NAME.to_owned()), text: url.to_owned() },
        }
    }
}
