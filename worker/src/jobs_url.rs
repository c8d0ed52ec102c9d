//! The address of the page with the jobs of a head.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use build::Build;

/// The characters of a value that are escaped. A path and a query can have a slash.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b'_')
    .remove(b'~');

/// Checks a template. Returns the fault as a phrase. Only a repository with Git has a `{ref}` and a `{branch}`.
pub fn check(template: &str, is_git: bool) -> Result<(), &'static str> {
    let reference = is_git.then_some("refs/heads/a");
    let filled = fill(template, "1", "1", "1", reference);
    if filled.contains(['{', '}']) {
        return Err(if is_git {
            "expected no other placeholders than {commit}, {ref}, {branch}, {revision} and {diff}"
        } else {
            "expected no other placeholders than {commit}, {revision} and {diff}"
        });
    }
    match Url::parse(&filled) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err("expected an http or https url"),
    }
}

/// The address for a head that was pushed to `reference`, if that is a ref.
pub(crate) fn of(template: &str, build: &Build, commit: &str, reference: Option<&str>) -> String {
    let revision = build.request.revision_id.to_string();
    let diff = build.diff.id.to_string();
    fill(template, commit, &revision, &diff, reference)
}

/// Whether an address is one of the pages below `site`.
pub(crate) fn is_below(url: &str, site: &str) -> bool {
    url.strip_prefix(site.trim_end_matches('/'))
        .is_some_and(|rest| rest.starts_with('/'))
}

fn fill(
    template: &str,
    commit: &str,
    revision: &str,
    diff: &str,
    reference: Option<&str>,
) -> String {
    let mut address = template
        .replace("{commit}", commit)
        .replace("{revision}", revision)
        .replace("{diff}", diff);
    if let Some(reference) = reference {
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
        let escaped = |value| utf8_percent_encode(value, ESCAPED).to_string();
        address = address
            .replace("{ref}", &escaped(reference))
            .replace("{branch}", &escaped(branch));
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_keep_their_slashes() {
        let filled = |template| fill(template, "c0ffee", "7", "9", Some("refs/heads/a#b/D7/9&x"));
        assert_eq!(
            filled("https://ci.example.com/{commit}?b={branch}&r={ref}&d={diff}&v={revision}"),
            "https://ci.example.com/c0ffee?b=a%23b/D7/9%26x&r=refs/heads/a%23b/D7/9%26x&d=9&v=7"
        );
    }

    #[test]
    fn page_of_a_site_begins_with_its_address() {
        let site = "https://treeherder.example.com/";
        for (url, expected) in [
            (
                "https://treeherder.example.com/#/jobs?repo=try&revision=1",
                true,
            ),
            (
                "https://treeherder.example.com/jobs?repo=try&revision=1",
                true,
            ),
            (
                "https://treeherder.example.com.evil.org/#/jobs?repo=try",
                false,
            ),
            ("https://ci.example.com/#/jobs?repo=try", false),
        ] {
            assert_eq!(is_below(url, site), expected, "{url}");
            assert_eq!(is_below(url, site.trim_end_matches('/')), expected, "{url}");
        }
    }

    #[test]
    fn address_has_known_placeholders_and_is_one_of_the_web() {
        for (template, git, mercurial) in [
            ("https://ci.example.com/{commit}", true, true),
            ("https://ci.example.com/D{revision}/{diff}", true, true),
            ("https://ci.example.com/{branch}", true, false),
            ("https://ci.example.com/{ref}", true, false),
            ("https://ci.example.com/{build}", false, false),
            ("ftp://ci.example.com/{commit}", false, false),
            ("{commit}", false, false),
        ] {
            assert_eq!(check(template, true).is_ok(), git, "{template}");
            assert_eq!(check(template, false).is_ok(), mercurial, "{template}");
        }
    }
}
