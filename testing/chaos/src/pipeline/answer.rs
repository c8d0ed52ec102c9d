//! What stands on a build target in the end.

use serde_json::Value;
use testkit::phabricator::Target;

use super::vcs::Vcs;

/// All that was said on a build target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// The version control, after which the units about patches are named.
    pub vcs: Vcs,
    /// `pass` and `fail` messages.
    pub ends: Vec<String>,
    /// The units, each with its name, result and text.
    pub units: Vec<(String, String, String)>,
    /// Where the links lead to.
    pub links: Vec<String>,
}

/// An answer that is whole and was given once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// A link to this address, and what was applied.
    Pushed(String),
    /// The patch cannot be built, with the words for its author.
    PatchFailed(String),
    /// We failed.
    Broken(String),
    /// There is nothing to do, for this reason.
    Neutral(String),
}

/// Why there is no [`End`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Amiss {
    /// Nothing was said that ends it.
    Silent,
    /// Something is missing, or nobody knows what it means.
    Half,
    /// There is the link of a push to this address, without what was applied.
    LinkAlone(String),
    /// Something was said twice.
    Twice,
}

impl Said {
    /// Reads a target.
    pub fn on(target: &Target, vcs: Vcs) -> Self {
        let field = |unit: &serde_json::Map<String, Value>, key: &str| {
            unit.get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        Self {
            vcs,
            ends: target
                .messages
                .iter()
                .filter(|kind| *kind != "work")
                .cloned()
                .collect(),
            units: target
                .units
                .iter()
                .map(|unit| {
                    (
                        field(unit, "name"),
                        field(unit, "result"),
                        field(unit, "details"),
                    )
                })
                .collect(),
            links: target
                .artifacts
                .iter()
                .map(|artifact| {
                    artifact
                        .data
                        .get("uri")
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect(),
        }
    }

    /// The one end that all of it makes.
    pub fn end(&self) -> Result<End, Amiss> {
        let Self {
            vcs,
            ends,
            units,
            links,
        } = self;
        if ends.len() + links.len() > 1 || units.len() > 1 {
            return Err(Amiss::Twice);
        }
        let Some((name, result, text)) = units.first() else {
            return Err(match (ends.as_slice(), links.as_slice()) {
                ([], []) => Amiss::Silent,
                ([], [link]) => Amiss::LinkAlone(link.clone()),
                _ => Amiss::Half,
            });
        };
        let text = text.clone();
        let (end, link) = (ends.first().map(String::as_str), links.first());
        match (result.as_str(), end, link) {
            ("pass" | "unsound", None, Some(link)) if name == vcs.unit() => {
                Ok(End::Pushed(link.clone()))
            }
            ("fail", Some("fail"), None) if name == vcs.unit() => Ok(End::PatchFailed(text)),
            ("broken", Some("fail"), None) if name == "general" => Ok(End::Broken(text)),
            ("skip", Some("pass"), None) if name == "general" => Ok(End::Neutral(text)),
            _ => Err(Amiss::Half),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_complete_and_sent_once() {
        let said = |ends: &[&str], units: &[(&str, &str)], links: &[&str]| Said {
            vcs: Vcs::Hg,
            ends: ends.iter().map(|&end| end.to_owned()).collect(),
            units: units
                .iter()
                .map(|&(name, result)| (name.to_owned(), result.to_owned(), "t".to_owned()))
                .collect(),
            links: links.iter().map(|&link| link.to_owned()).collect(),
        };
        let text = || "t".to_owned();
        let (pass, fail) = (("mercurial", "pass"), ("mercurial", "fail"));
        let table = [
            (said(&[], &[pass], &["t"]), Ok(End::Pushed(text()))),
            (
                said(&[], &[("mercurial", "unsound")], &["t"]),
                Ok(End::Pushed(text())),
            ),
            (said(&["fail"], &[fail], &[]), Ok(End::PatchFailed(text()))),
            (
                said(&["fail"], &[("general", "broken")], &[]),
                Ok(End::Broken(text())),
            ),
            (
                said(&["pass"], &[("general", "skip")], &[]),
                Ok(End::Neutral(text())),
            ),
            (said(&[], &[], &[]), Err(Amiss::Silent)),
            (
                said(&[], &[], &["t"]),
                Err(Amiss::LinkAlone("t".to_owned())),
            ),
            (said(&[], &[pass], &[]), Err(Amiss::Half)),
            (said(&["fail"], &[], &[]), Err(Amiss::Half)),
            (said(&["pass"], &[fail], &[]), Err(Amiss::Half)),
            (said(&[], &[fail], &["t"]), Err(Amiss::Half)),
            (said(&[], &[pass, pass], &["t"]), Err(Amiss::Twice)),
            (said(&[], &[pass], &["t", "t"]), Err(Amiss::Twice)),
            (said(&["fail", "fail"], &[fail], &[]), Err(Amiss::Twice)),
            (said(&["fail"], &[fail, fail], &[]), Err(Amiss::Twice)),
            (said(&["fail"], &[pass], &["t"]), Err(Amiss::Twice)),
        ];
        for (said, expected) in table {
            assert_eq!(said.end(), expected, "{said:?}");
        }
        let of_git = |name| Said {
            vcs: Vcs::Git,
            ..said(&[], &[(name, "pass")], &["t"])
        };
        assert_eq!(of_git("git").end(), Ok(End::Pushed(text())));
        assert_eq!(of_git("mercurial").end(), Err(Amiss::Half));
    }
}
