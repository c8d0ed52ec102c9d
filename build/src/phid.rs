//! Phabricator's identifiers of objects.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// A PHID: `PHID-<four letters of the type>-<twenty letters and digits>`. Longer kinds carry a subtype before the
/// last part (`PHID-XACT-DREV-…`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Phid(String);

impl Serialize for Phid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The cause for which a text is not accepted as a PHID.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PhidError {
    /// It does not have the form of a PHID.
    #[error("is not a PHID")]
    Malformed,
    /// It is a PHID of another type.
    #[error("is not a PHID of type {expected}")]
    WrongType {
        /// The type that the caller expected, such as `HMBT`.
        expected: &'static str,
    },
}

impl Phid {
    /// The type of build targets.
    pub const TARGET: &'static str = "HMBT";
    /// The type of repositories.
    pub const REPOSITORY: &'static str = "REPO";
    /// The longest PHID that is accepted, in bytes.
    const MAX_LENGTH: usize = 64;

    /// Reads a PHID of any type.
    pub fn parse(text: &str) -> Result<Self, PhidError> {
        let mut parts = text.split('-');
        let head = parts.next() == Some("PHID");
        let kind = parts
            .next()
            .is_some_and(|kind| kind.len() == 4 && kind.bytes().all(|b| b.is_ascii_uppercase()));
        let mut rest = parts.peekable();
        let tail = rest.peek().is_some()
            && rest.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric()));
        if head && kind && tail && text.len() <= Self::MAX_LENGTH {
            Ok(Self(text.to_owned()))
        } else {
            Err(PhidError::Malformed)
        }
    }

    /// Reads a PHID of the type `expected`, such as `HMBT`.
    pub fn parse_as(expected: &'static str, text: &str) -> Result<Self, PhidError> {
        let phid = Self::parse(text)?;
        if phid.kind() == expected {
            Ok(phid)
        } else {
            Err(PhidError::WrongType { expected })
        }
    }

    /// The type, such as `HMBT`.
    pub fn kind(&self) -> &str {
        self.0.get(5..9).unwrap_or_default()
    }

    /// The whole PHID.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Phid {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Phid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Phid {
    type Error = PhidError;

    fn try_from(text: String) -> Result<Self, PhidError> {
        Self::parse(&text)
    }
}

impl From<Phid> for String {
    fn from(phid: Phid) -> Self {
        phid.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phid_of_another_type_or_form_is_rejected() {
        let table = [
            ("PHID-HMBT-6om2iuajepxcv7v6poue", Ok(())),
            (
                "PHID-REPO-gheyr7w2d2ab3qg236ha",
                Err(PhidError::WrongType { expected: "HMBT" }),
            ),
            ("PHID-HMBT-", Err(PhidError::Malformed)),
            ("PHID-HMBT", Err(PhidError::Malformed)),
            ("PHID-hmbt-6om2iuajepxcv7v6poue", Err(PhidError::Malformed)),
            ("PHID-HMBT-6om2iua\nepxcv7v6poue", Err(PhidError::Malformed)),
            (
                "PHID-HMBT-../../../../etc/passwd",
                Err(PhidError::Malformed),
            ),
            ("", Err(PhidError::Malformed)),
        ];
        for (text, expected) in table {
            assert_eq!(
                Phid::parse_as(Phid::TARGET, text).map(|_| ()),
                expected,
                "{text:?}"
            );
        }
        assert!(Phid::parse("PHID-XACT-DREV-o4dbpjnmq6vsfqb").is_ok());
    }
}
