//! The revisions of a repository, and their names.

/// A revision of a clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Its whole hash, 40 hex digits.
    pub id: String,
}

impl Revision {
    /// The first 12 digits of its hash.
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// The name of a revision: 12 to 40 hex digits. No other foreign text may get into an expression of the version
/// control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionName(String);

impl RevisionName {
    /// Parses the name that an author's client sent, in any case, with spaces around it. Returns `None` for other
    /// texts, and for all `0` or all `f`: Mercurial takes these for "nothing" and "the working copy".
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let pseudo = ["0", "f"]
            .iter()
            .any(|digit| text.trim_start_matches(digit).is_empty());
        let usable = (12..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !pseudo;
        usable.then_some(Self(text))
    }

    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names this revision.
    pub fn names(&self, revision: &Revision) -> bool {
        revision.id.starts_with(&self.0)
    }
}
