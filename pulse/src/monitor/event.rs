//! The events: a build or a test has finished.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A build or a test that has finished, as a stream of both carries them. In JSON, `event` says which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A build.
    Build(BuildFinished),
    /// A unit test or a performance test.
    Test(TestFinished),
}

/// A build has finished, well or not. What its source does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFinished {
    /// Where the build can be downloaded. A build that failed has none, nor has a repack of another language.
    pub buildurl: Option<String>,
    /// Where the tests that belong to it can be downloaded.
    pub testsurl: Option<String>,
    /// The tree, such as `mozilla-central`.
    pub tree: String,
    /// The branch of the repository that it was made from.
    pub branch: String,
    /// When it was made, in seconds since 1970.
    pub builddate: Option<i64>,
    /// The id that the build calls itself: mostly 14 digits, of a date and a time.
    pub buildid: Option<String>,
    /// When its end was reported, as `YYYYMMDDHHMMSS` in UTC.
    pub timestamp: String,
    /// What it is for, such as `linux64`, `win32` or `macosx64`.
    pub platform: String,
    /// How it was made: `opt`, `debug`, or something rarer such as `pgo`.
    pub buildtype: String,
    /// What it is a build of, such as `firefox`.
    pub product: Option<String>,
    /// What else it is, such as `nightly` or `l10n`.
    pub tags: Vec<String>,
    /// What the source calls the message.
    pub key: String,
}

/// A test has finished, well or not. What its source does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestFinished {
    /// The tree of the build that was tested, such as `mozilla-central`.
    pub tree: String,
    /// The branch of the repository that the build was made from.
    pub branch: String,
    /// The system that it ran on, such as `xp`, `ubuntu64_vm` or `snowleopard`.
    pub os: String,
    /// What the build is for, such as `linux64`, `win32` or `macosx64`.
    pub platform: String,
    /// How the build was made: `opt`, `debug`, or something rarer such as `pgo`.
    pub buildtype: String,
    /// When the build was made, in seconds since 1970.
    pub builddate: Option<i64>,
    /// The name of the test, such as `reftest` or `mochitest-1`.
    pub test: String,
    /// When its end was reported, as `YYYYMMDDHHMMSS` in UTC.
    pub timestamp: String,
    /// Where its log can be read.
    pub logurl: Option<String>,
    /// Whether it is for a phone or a tablet: the platform's name begins with `android`.
    pub mobile: bool,
    /// Whether it measures speed.
    pub talos: bool,
    /// What was tested, such as `firefox`.
    pub product: Option<String>,
    /// What the source calls the message.
    pub key: String,
}

impl Event {
    /// What the source calls the message.
    pub fn key(&self) -> &str {
        match self {
            Self::Build(build) => &build.key,
            Self::Test(test) => &test.key,
        }
    }
}

/// Whether builds for this platform are for phones and tablets.
pub(super) fn is_mobile(platform: &str) -> bool {
    platform.starts_with("android")
}

/// A moment as events carry it: the one that a message names, or, where it names none, when it came.
pub(super) fn timestamp(named: Option<&str>, received: Timestamp) -> String {
    let moment = named
        .and_then(|text| text.parse::<Timestamp>().ok())
        .unwrap_or(received);
    moment.strftime("%Y%m%d%H%M%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_is_written_in_utc() {
        let received: Timestamp = "2026-11-21T01:02:03Z".parse().unwrap();
        for (named, expected) in [
            (Some("2026-11-21T02:55:54Z"), "20261121025554"),
            (Some("2025-02-26T23:06:42-08:00"), "20250227070642"),
            (Some("2026-11-21T02:55:54.987654+00:00"), "20261121025554"),
            (Some("yesterday"), "20261121010203"),
            (Some(""), "20261121010203"),
            (None, "20261121010203"),
        ] {
            assert_eq!(timestamp(named, received), expected, "{named:?}");
        }
    }
}
