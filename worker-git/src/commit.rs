//! The commits of a stack, from what is known of its patches.
//!
//! A commit is a pure function of its tree, its parent and the build: its author, date and message come from the diff,
//! its committer is ours with the same date, and nothing comes from the clock. So a repeated build gives the same hashes
//! on each worker.

use gix::{ObjectId, actor::Signature, date::Time, objs::Commit};
use jiff::Timestamp;
use worker::text;

/// The beginning of the lines that name a revision or a diff of Phabricator.
const TRAILER: &str = "Differential ";

/// The line by which Phabricator finds the revision of a commit.
const REVISION: &str = "Differential Revision:";

/// The author, date and message of a commit.
#[derive(Debug, Clone)]
pub(crate) struct CommitText {
    author: Person,
    committer: Person,
    date: Timestamp,
    message: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Person {
    name: String,
    mail: String,
}

impl CommitText {
    /// The commit of a patch. `author` may be any text; `url` is the address of its revision, if it is known, and
    /// `diff` the PHID of its diff.
    pub(crate) fn of_patch(
        author: Option<&str>,
        default_author: &str,
        date: Timestamp,
        message: &str,
        url: Option<&str>,
        diff: &str,
    ) -> Self {
        let default = Person::parse(default_author);
        let mut text = text::message(message).trim_end().to_owned();
        let has_revision = text
            .lines()
            .any(|line| line.trim_start().starts_with(REVISION));
        if let Some(url) = url.filter(|_| !has_revision) {
            add_trailer(&mut text, &format!("{REVISION} {url}"));
        }
        add_trailer(&mut text, &format!("Differential Diff: {diff}"));
        Self {
            author: author
                .map(Person::parse)
                .filter(|person| !person.name.is_empty())
                .unwrap_or_else(|| default.clone()),
            committer: default,
            date,
            message: text,
        }
    }

    /// The last commit of a stack.
    pub(crate) fn last(default_author: &str, date: Timestamp, message: &str) -> Self {
        let default = Person::parse(default_author);
        Self {
            author: default.clone(),
            committer: default,
            date,
            message: text::message(message).trim_end().to_owned(),
        }
    }

    /// The commit with this text.
    pub(crate) fn commit(&self, tree: ObjectId, parent: ObjectId) -> Commit {
        Commit {
            tree,
            parents: [parent].into_iter().collect(),
            author: self.author.signature(self.date),
            committer: self.committer.signature(self.date),
            encoding: None,
            message: format!("{}\n", self.message).into(),
            extra_headers: Vec::new(),
        }
    }
}

/// Adds a line at the end of a message, in a paragraph with others of its kind.
fn add_trailer(message: &mut String, line: &str) {
    let follows = message
        .lines()
        .last()
        .is_some_and(|last| last.starts_with(TRAILER));
    message.push_str(if follows { "\n" } else { "\n\n" });
    message.push_str(line);
}

impl Person {
    /// Reads `Name <mail>`. Of any other text it takes what Git can hold. The name is empty only when nothing is left.
    fn parse(text: &str) -> Self {
        let text = text::author(text).unwrap_or_default();
        let (name, mail) = match text.rsplit_once('<') {
            Some((name, mail)) => (name, mail.split('>').next().unwrap_or_default()),
            None => (text.as_str(), ""),
        };
        let (name, mail) = (plain(name), plain(mail));
        Self {
            name: if name.is_empty() { mail.clone() } else { name },
            mail,
        }
    }

    fn signature(&self, date: Timestamp) -> Signature {
        Signature {
            name: self.name.as_str().into(),
            email: self.mail.as_str().into(),
            // Git has no dates before 1970.
            time: Time::new(date.as_second().max(0), 0),
        }
    }
}

/// A name or an address without the characters that end one in a commit.
fn plain(text: &str) -> String {
    text.replace(['<', '>'], "").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use gix::objs::WriteTo;

    use super::*;

    const URL: &str = "https://phabricator.example.org/D7";

    fn of(author: Option<&str>, message: &str) -> String {
        let text = CommitText::of_patch(
            author,
            "Bot <bot@example.org>",
            "2026-11-21T11:00:00Z".parse().expect("a time"),
            message,
            Some(URL),
            "PHID-DIFF-7",
        );
        let id = ObjectId::empty_tree(gix::hash::Kind::Sha1);
        let mut written = Vec::new();
        text.commit(id, id)
            .write_to(&mut written)
            .expect("a commit");
        String::from_utf8(written).expect("text")
    }

    #[test]
    fn authors_are_those_of_the_diff_as_far_as_git_can_hold_them() {
        let bot = "Bot <bot@example.org>";
        let table = [
            (Some("Ada <ada@example.org>"), "Ada <ada@example.org>"),
            (Some("Ada"), "Ada <>"),
            (
                Some("<ada@example.org>"),
                "ada@example.org <ada@example.org>",
            ),
            (Some("A\nB <a\0b>\n"), "A B <a b>"),
            (Some("A <b> C <d@e> tail"), "A b C <d@e>"),
            (Some("A > B <<x>>"), "A  B <x>"),
            (Some("Ж <ж@example.org>"), "Ж <ж@example.org>"),
            (Some(" \n"), bot),
            (Some("<>"), bot),
            (None, bot),
        ];
        for (author, expected) in table {
            let commit = of(author, "x");
            let line = format!("\nauthor {expected} 1795258800 +0000\n");
            assert!(commit.contains(&line), "{author:?}: {commit}");
            assert!(commit.contains("\ncommitter Bot <bot@example.org> 1795258800 +0000\n"));
        }
    }

    #[test]
    fn revision_is_named_once() {
        let message = |text: &str| {
            let commit = of(None, text);
            commit.split_once("\n\n").expect("a message").1.to_owned()
        };
        let diff = "Differential Diff: PHID-DIFF-7\n";
        assert_eq!(
            message("Bug 1 - Do it\n"),
            format!("Bug 1 - Do it\n\nDifferential Revision: {URL}\n{diff}")
        );
        assert_eq!(
            message("Bug 1\n\nDifferential Revision: https://other/D1"),
            format!("Bug 1\n\nDifferential Revision: https://other/D1\n{diff}")
        );
        assert_eq!(
            message("Differential Revision: https://other/D1\n\nMore"),
            format!("Differential Revision: https://other/D1\n\nMore\n\n{diff}")
        );
        assert!(message("a\0b").starts_with("a\u{fffd}b\n"));
    }
}
