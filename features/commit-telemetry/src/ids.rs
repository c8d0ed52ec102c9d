//! Ids of changesets, and addresses of repositories.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;
use uuid::Uuid;

/// The characters that are encoded in a segment of a path: all but RFC 3986's unreserved ones.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The id of a changeset: 40 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Node(String);

/// A text that is not the id of a changeset.
#[derive(Debug, Error)]
#[error("the id of a changeset has 40 lower-case hex digits")]
pub struct InvalidNode;

impl Node {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The document id of its ping: the first 32 digits. A repeated ping has the same id, so the ingestion drops it as a
    /// duplicate.
    pub fn ping_id(&self) -> Uuid {
        // A node always has 40 hex digits.
        Uuid::from_u128(u128::from_str_radix(&self.0[..32], 16).unwrap_or_default())
    }
}

impl TryFrom<String> for Node {
    type Error = InvalidNode;

    fn try_from(text: String) -> Result<Self, InvalidNode> {
        let is_hex = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 40 && text.bytes().all(is_hex) {
            Ok(Self(text))
        } else {
            Err(InvalidNode)
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of a repository on an hgweb, such as `https://hg.mozilla.org/mozilla-central`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Repository(Url);

/// A text that is not the address of a repository.
#[derive(Debug, Error)]
#[error(
    "the address of a repository is an http or https url without a password, a query or a fragment, such as https://hg.mozilla.org/mozilla-central"
)]
pub struct InvalidRepository;

impl FromStr for Repository {
    type Err = InvalidRepository;

    /// An address with a password is rejected: pings contain the address, and pings are public.
    fn from_str(text: &str) -> Result<Self, InvalidRepository> {
        let url = Url::parse(text).map_err(|_| InvalidRepository)?;
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        let has_extras = url.query().is_some() || url.fragment().is_some();
        if matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && !has_credentials
            && !has_extras
        {
            Ok(Self(url))
        } else {
            Err(InvalidRepository)
        }
    }
}

impl TryFrom<String> for Repository {
    type Error = InvalidRepository;

    fn try_from(text: String) -> Result<Self, InvalidRepository> {
        text.parse()
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl Repository {
    /// Its address.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The address of an hgweb command, such as `json-rev`, on a revision. `None` for a revision that would leave the
    /// repository: `.` and `..` climb even when they are encoded.
    pub(crate) fn command(&self, command: &str, revision: &str) -> Option<Url> {
        if matches!(revision, "" | "." | "..") {
            return None;
        }
        let mut url = self.0.clone();
        let revision = utf8_percent_encode(revision, ENCODED);
        url.set_path(&format!("{}/{command}/{revision}", self.path()));
        Some(url)
    }

    /// The address of the pushes with numbers from `after`, exclusively, to `end`, inclusively.
    pub(crate) fn pushlog(&self, after: u64, end: u64) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}/json-pushes", self.path()));
        url.set_query(Some(&format!("version=2&startID={after}&endID={end}")));
        url
    }

    /// Whether `url` is below the repository, on the same server.
    pub(crate) fn contains(&self, url: &Url) -> bool {
        let rest = url.path().strip_prefix(self.path());
        url.origin() == self.0.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && rest.is_some_and(|rest| rest.starts_with('/'))
    }

    fn path(&self) -> &str {
        self.0.path().trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_is_validated_and_determines_ping_id() {
        let node = Node::try_from("30b686e0c48bde03742fb29c17ff80e54b3712a4".to_owned()).unwrap();
        assert_eq!(
            node.ping_id().to_string(),
            "30b686e0-c48b-de03-742f-b29c17ff80e5"
        );
        for text in [
            "",
            "30b686e0c48b",
            "30B686E0C48BDE03742FB29C17FF80E54B3712A4",
            &"ü".repeat(20),
            &"0".repeat(41),
        ] {
            assert!(Node::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn repository_address_is_validated() {
        for text in [
            "",
            "mozilla-central",
            "file:///etc",
            "ssh://hg.mozilla.org/try",
            "https://me:secret@hg.mozilla.org/try",
            "https://me@hg.mozilla.org/try",
            "https://hg.mozilla.org/try?a=b",
            "https://hg.mozilla.org/try#a",
            "http:///",
        ] {
            assert!(text.parse::<Repository>().is_err(), "{text}");
        }
        let central = "http://127.0.0.1:18088/mozilla-central";
        assert_eq!(central.parse::<Repository>().unwrap().to_string(), central);
    }

    #[test]
    fn revision_cannot_leave_its_repository() {
        for base in ["https://hg.mozilla.org/try", "https://hg.mozilla.org/try/"] {
            let repository: Repository = base.parse().unwrap();
            let address = |revision| repository.command("json-rev", revision).map(String::from);
            assert_eq!(
                address("abc").unwrap(),
                "https://hg.mozilla.org/try/json-rev/abc"
            );
            assert_eq!(
                address("../a?b#c").unwrap(),
                "https://hg.mozilla.org/try/json-rev/..%2Fa%3Fb%23c"
            );
            assert!(
                [".", "..", ""]
                    .into_iter()
                    .all(|revision| address(revision).is_none())
            );
        }
    }

    #[test]
    fn url_belongs_to_repository_only_on_its_server_and_path() {
        let repository: Repository = "https://hg.mozilla.org/try".parse().unwrap();
        for (url, below) in [
            (
                "https://hg.mozilla.org/try/json-pushes?version=2&startID=9&endID=10",
                true,
            ),
            ("https://hg.mozilla.org:443/try/json-pushes", true),
            ("https://hg.mozilla.org/try-comm-central/json-pushes", false),
            ("https://hg.mozilla.org/try/../secret", false),
            ("https://hg.mozilla.org/try/%2e%2e/secret", false),
            ("http://hg.mozilla.org/try/json-pushes", false),
            ("https://hg.mozilla.org:444/try/json-pushes", false),
            ("https://hg.mozilla.org.example.com/try/json-pushes", false),
            ("https://a:b@hg.mozilla.org/try/json-pushes", false),
            ("https://169.254.169.254/try/json-pushes", false),
        ] {
            assert_eq!(
                repository.contains(&Url::parse(url).unwrap()),
                below,
                "{url}"
            );
        }
    }
}
