//! The events: a build or a test has finished.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A build or a test that has finished, as a stream yields them. In JSON, the field `event` names the kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A build.
    Build(BuildFinished),
    /// A unit test or a performance test.
    Test(TestFinished),
}

/// A build has finished, with success or not. A value that its source does not have is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFinished {
    /// The address of the build. A build that failed has none, nor has a repack of another language.
    pub buildurl: Option<String>,
    /// The address of the tests for this build.
    pub testsurl: Option<String>,
    /// The tree, such as `mozilla-central`.
    pub tree: String,
    /// The branch of the repository that it was made from.
    pub branch: String,
    /// The time of the build, in seconds since 1970.
    pub builddate: Option<i64>,
    /// The build's own id: mostly 14 digits, of a date and a time.
    pub buildid: Option<String>,
    /// The time of its report, as `YYYYMMDDHHMMSS` in UTC.
    pub timestamp: String,
    /// The target platform, such as `linux64`, `win32` or `macosx64`.
    pub platform: String,
    /// The kind of build: `opt`, `debug`, or something rarer such as `pgo`.
    pub buildtype: String,
    /// The product, such as `firefox`.
    pub product: Option<String>,
    /// Further properties, such as `nightly` or `l10n`.
    pub tags: Vec<String>,
    /// The source's name of the message.
    pub key: String,
}

/// A test has finished, with success or not. A value that its source does not have is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestFinished {
    /// The tree of the build that was tested, such as `mozilla-central`.
    pub tree: String,
    /// The branch of the repository that the build was made from.
    pub branch: String,
    /// The system that it ran on, such as `xp`, `ubuntu64_vm` or `snowleopard`.
    pub os: String,
    /// The target platform of the build, such as `linux64`, `win32` or `macosx64`.
    pub platform: String,
    /// The kind of build: `opt`, `debug`, or something rarer such as `pgo`.
    pub buildtype: String,
    /// The time of the build, in seconds since 1970.
    pub builddate: Option<i64>,
    /// The name of the test, such as `reftest` or `mochitest-1`.
    pub test: String,
    /// The time of its report, as `YYYYMMDDHHMMSS` in UTC.
    pub timestamp: String,
    /// The address of its log.
    pub logurl: Option<String>,
    /// Whether it is for a phone or a tablet: the platform's name begins with `android`.
    pub mobile: bool,
    /// Whether it measures speed.
    pub talos: bool,
    /// The product under test, such as `firefox`.
    pub product: Option<String>,
    /// The source's name of the message.
    pub key: String,
}

impl Event {
    /// The source's name of the message.
    pub fn key(&self) -> &str {
        match self {
            Self::Build(build) => &build.key,
            Self::Test(test) => &test.key,
        }
    }
}

/// Whether builds for this platform are for phones and tablets.
pub(crate) fn is_mobile(platform: &str) -> bool {
    platform.starts_with("android")
}

/// A time as events have it: that of the message, else the time of its arrival.
pub(crate) fn timestamp(named: Option<&str>, received: Timestamp) -> String {
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
