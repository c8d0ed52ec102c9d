//! The newest build for each tree, platform and build type.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use parking_lot::{Mutex, MutexGuard};

use crate::BuildFinished;

/// How many builds are kept. Mozilla has about 30 trees, each with about 20 kinds of builds.
const MAX: usize = 1_000;

/// The newest builds since the process began. When there are too many kinds, it drops the one without a new build for the
/// longest time.
#[derive(Default)]
pub struct Latest(Mutex<Kinds>);

#[derive(Default)]
struct Kinds {
    kept: BTreeMap<Kind, Kept>,
    /// The number of builds so far, including those that were not kept.
    seen: u64,
    /// The number of changes.
    version: u64,
}

/// Tree, platform and build type.
type Kind = (String, String, String);

struct Kept {
    build: BuildFinished,
    /// Its number among all builds.
    number: u64,
}

/// Builds by tree, platform and build type.
pub(crate) type Nested = BTreeMap<String, BTreeMap<String, BTreeMap<String, BuildFinished>>>;

impl Latest {
    /// Keeps a build if it is the newest of its kind.
    pub(crate) fn note(&self, build: &BuildFinished) {
        let mut kinds = self.kinds();
        kinds.seen += 1;
        let number = kinds.seen;
        let kind = (
            build.tree.clone(),
            build.platform.clone(),
            build.buildtype.clone(),
        );
        match kinds.kept.get_mut(&kind) {
            Some(kept) => {
                if replaces(build, &kept.build) {
                    *kept = Kept {
                        build: build.clone(),
                        number,
                    };
                    kinds.version += 1;
                }
            }
            None => {
                if kinds.kept.len() >= MAX
                    && let Some(oldest) = kinds.kept.iter().min_by_key(|(_, kept)| kept.number)
                {
                    let oldest = oldest.0.clone();
                    kinds.kept.remove(&oldest);
                }
                kinds.kept.insert(
                    kind,
                    Kept {
                        build: build.clone(),
                        number,
                    },
                );
                kinds.version += 1;
            }
        }
    }

    /// Grows with each change.
    pub(crate) fn version(&self) -> u64 {
        self.kinds().version
    }

    /// All kept builds.
    pub(crate) fn nested(&self) -> Nested {
        let mut nested = Nested::new();
        for ((tree, platform, build_type), kept) in &self.kinds().kept {
            let platforms = nested.entry(tree.clone()).or_default();
            platforms
                .entry(platform.clone())
                .or_default()
                .insert(build_type.clone(), kept.build.clone());
        }
        nested
    }

    fn kinds(&self) -> MutexGuard<'_, Kinds> {
        self.0.lock()
    }
}

/// Whether a build replaces another of its kind. A build without a download (it failed, or is a repack of another language)
/// does not replace one with a download. Otherwise the later date wins, since messages may overtake each other.
fn replaces(new: &BuildFinished, old: &BuildFinished) -> bool {
    match (&new.buildurl, &old.buildurl) {
        (None, Some(_)) => false,
        (Some(_), None) => true,
        _ => new
            .builddate
            .zip(old.builddate)
            .is_none_or(|(new, old)| new >= old),
    }
}

/// The timestamp `YYYYMMDDHHMMSS` of an event, for people. Another text is shown as it came.
pub(crate) fn readable(timestamp: &str) -> String {
    DateTime::strptime("%Y%m%d%H%M%S", timestamp).map_or_else(
        |_| timestamp.to_owned(),
        |moment| moment.strftime("%F %T").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn build(tree: &str, url: Option<&str>, date: Option<i64>) -> BuildFinished {
        let build = json!({
            "tree": tree, "branch": tree, "platform": "linux64", "buildtype": "opt", "tags": [], "key": "k",
            "timestamp": "20261121025554", "buildurl": url, "builddate": date,
        });
        serde_json::from_value(build).unwrap()
    }

    #[test]
    fn newest_build_with_download_is_kept() {
        let latest = Latest::default();
        for (url, date, expected) in [
            (None, Some(5), None),
            (Some("a"), Some(1), Some("a")),
            (Some("b"), Some(3), Some("b")),
            (Some("late"), Some(2), Some("b")),
            (None, Some(9), Some("b")),
            (Some("c"), Some(3), Some("c")),
            (Some("d"), None, Some("d")),
        ] {
            latest.note(&build("try", url, date));
            let nested = latest.nested();
            assert_eq!(
                nested["try"]["linux64"]["opt"].buildurl.as_deref(),
                expected
            );
        }
    }

    #[test]
    fn number_of_kinds_is_bounded() {
        let latest = Latest::default();
        for number in 0..MAX {
            latest.note(&build(&format!("tree {number}"), None, None));
        }
        latest.note(&build("tree 0", Some("a"), None));
        latest.note(&build("one more", None, None));
        let nested = latest.nested();
        assert_eq!(nested.len(), MAX);
        assert!(
            nested.contains_key("tree 0")
                && nested.contains_key("one more")
                && !nested.contains_key("tree 1")
        );
    }

    #[test]
    fn timestamp_is_formatted_for_people() {
        assert_eq!(readable("20261121025554"), "2026-11-21 02:55:54");
        for other in ["é", "", "20260230120000", "20261121", "20261121025554Z"] {
            assert_eq!(readable(other), other);
        }
    }
}
