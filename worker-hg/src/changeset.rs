//! Changesets.

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

impl Changeset {
    /// Reads a line of the output of `hg log`.
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

    /// The first 12 digits of its hash, for people.
    pub(crate) fn short(&self) -> &str {
        self.node.get(..12).unwrap_or(&self.node)
    }
}
