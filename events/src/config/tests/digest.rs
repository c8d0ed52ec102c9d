//! The keys of the digest of builds.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Faults,
    schema::{At, Keys},
    values::{List, Text, Written},
};

const INTERVAL: Duration = Duration::from_secs(24 * 3600);
const MAX_BUILDS: u32 = 100;

/// The mails that list builds without an outcome.
pub struct DigestConfig {
    /// The recipients.
    pub to: Vec<String>,
    /// The time between two mails.
    pub interval: Duration,
    /// The most builds that one mail lists.
    pub max_builds: u32,
}

/// The section, as a key of the document.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct DigestSection {
    /// The digest of builds.
    #[schemars(required)]
    digest: Option<DigestKeys>,
}

/// The keys of the section.
#[derive(Deserialize, JsonSchema)]
struct DigestKeys {
    /// The recipients.
    #[schemars(required)]
    to: Option<List<Text>>,
    /// The time between two mails.
    #[schemars(extend("default" = "24h"))]
    interval: Option<Written<Duration>>,
    /// The most builds that one mail lists.
    #[schemars(
        range(min = 1, max = 1000),
        extend("default" = MAX_BUILDS, "x-expected" = "a whole number from 1 to 1000")
    )]
    max_builds: Option<u32>,
}

impl DigestConfig {
    /// Reads these keys of a document, and ignores the others.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| {
            let config = read(keys);
            keys.warn_of_unknown();
            config
        })
    }
}

/// Reads the keys. Returns `None` when one of them is faulty.
pub(super) fn read(keys: &Keys<'_>) -> Option<DigestConfig> {
    let section: DigestSection = keys.read();
    section.digest?.read(&keys.at("").child("digest"))
}

impl DigestKeys {
    fn read(self, at: &At<'_>) -> Option<DigestConfig> {
        let to = self.to.map(List::values);
        if to.as_ref().is_some_and(Vec::is_empty) {
            at.reject("to", "expected a recipient, found none");
        }
        Some(DigestConfig {
            to: to?,
            interval: self.interval.map_or(INTERVAL, |value| value.0),
            max_builds: self.max_builds.unwrap_or(MAX_BUILDS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_a_digest_is_a_day_unless_it_is_set() {
        for (interval, expected) in [("", 24), (", interval: 6h", 6)] {
            let text = format!("events: {{digest: {{to: [ann@example.com]{interval}}}}}");
            let (config, faults) = DigestConfig::parse(&text);
            let config = config.unwrap_or_else(|| panic!("{faults}"));
            assert_eq!(config.to, ["ann@example.com"]);
            assert_eq!(config.interval, Duration::from_secs(expected * 3600));
            assert_eq!(config.max_builds, 100);
        }
    }

    #[test]
    fn every_fault_of_a_digest_is_found_at_once() {
        let (config, faults) = DigestConfig::parse(
            "\
events:
  digest:
    interval: 6
    max_builds: 0
    too: [ann@example.com]
",
        );
        assert!(config.is_none());
        assert_eq!(
            faults.to_string(),
            "\
error: line 2: events.digest.to: is missing, expected a list of texts
error: line 3: events.digest.interval: expected a duration such as 24h or 90m, found a number
error: line 4: events.digest.max_builds: expected a whole number from 1 to 1000, found 0
warning: line 5: events.digest.too: unknown key, did you mean to?"
        );
    }
}
