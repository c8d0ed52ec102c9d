//! Changesets and what can name one.

/// A changeset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changeset {
    /// Its hash, 40 hex digits.
    pub(crate) node: String,
    /// Its number in this clone.
    pub(crate) number: i64,
    /// Its first parent's hash.
    pub(crate) parent: String,
    /// Its manifest's hash.
    pub(crate) manifest: String,
    /// Whether it changes any file.
    pub(crate) changes: bool,
}

/// What can name a changeset: 12 to 40 hex digits. Nothing else from outside may get into an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) String);

impl Hash {
    /// Reads what an author's client says, which may be in any case, with spaces around it. `None` for what Mercurial
    /// takes for "nothing" or "the working copy".
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let pseudo = ["0", "f"]
            .iter()
            .any(|digit| text.trim_start_matches(digit).is_empty());
        let usable = (12..=40).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !pseudo;
        usable.then_some(Self(text))
    }

    /// Whether it names this changeset.
    pub(crate) fn names(&self, changeset: &Changeset) -> bool {
        changeset.node.starts_with(&self.0)
    }
}

impl Changeset {
    /// Reads a line of what `hg log` printed.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [node, number, parent, manifest, changes] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            node: (*node).to_owned(),
            number: number.parse().ok()?,
            parent: (*parent).to_owned(),
            manifest: (*manifest).to_owned(),
            changes: *changes == "changes",
        })
    }

    /// The first digits of its hash, as people read it.
    pub(crate) fn short(&self) -> &str {
        self.node.get(..12).unwrap_or(&self.node)
    }
}
