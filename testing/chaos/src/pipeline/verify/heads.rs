//! What is on a Try, compared with the links of its builds.

use std::collections::{HashMap, HashSet};

use super::{Entry, Head, Kind, Observations, Response, Truth, Try, Violation};

/// A head, and whether a build has it.
struct Found<'a> {
    head: &'a Head,
    taken: bool,
}

/// How many changesets must be there.
#[derive(Default)]
struct Changesets {
    all: usize,
    /// Those of them that are the same, if the builds have the same base.
    shared: usize,
    diffs: HashSet<String>,
}

impl Changesets {
    fn count(&mut self, build: &Entry, pushed: &Try) {
        self.all += build.patches + pushed.own_commits;
        if !self.diffs.insert(build.diff.clone()) {
            self.shared += build.patches;
        }
    }
}

impl Found<'_> {
    /// Whether a build can have it. Two builds of a diff have one head where they have no changeset of their own.
    fn is_for(&self, build: &Entry, pushed: &Try) -> bool {
        let target = self.head.target.as_ref();
        (!self.taken || pushed.own_commits == 0)
            && target.is_none_or(|target| *target == build.target)
    }
}

impl Observations {
    pub(super) fn check_try(&self, number: usize, pushed: &Try, violations: &mut Vec<Violation>) {
        let mut report =
            |key: String, what| violations.push(Violation::new(Kind::TryHead, key, what));
        for (key, what) in &pushed.wrong {
            report(format!("{key} on Try {number}"), what.clone());
        }
        let mut heads: HashMap<&str, Vec<Found<'_>>> = HashMap::new();
        for head in &pushed.heads {
            let found = Found { head, taken: false };
            heads.entry(&head.diff).or_default().push(found);
        }
        let mut changesets = Changesets::default();
        let builds = || {
            self.builds
                .iter()
                .filter(|build| build.repository == number)
        };
        // A restarted build has another target, with a link of its own.
        let mut newest: HashMap<&str, (&Entry, &Head)> = HashMap::new();
        for build in builds() {
            let Some(link) = build.said.links.first() else {
                continue;
            };
            let found = heads.entry(&build.diff).or_default();
            let linked = found
                .iter_mut()
                .find(|found| link.ends_with(&found.head.link) && found.is_for(build, pushed));
            if let Some(linked) = linked {
                linked.taken = true;
                changesets.count(build, pushed);
                newest.insert(&build.diff, (build, linked.head));
            } else {
                let nodes: Vec<_> = found.iter().map(|found| &found.head.node).collect();
                let what = format!("has the link {link} and on Try the heads {nodes:?}");
                report(build.name.clone(), what);
                found.clear();
            }
        }
        // The head of a build that was stopped after its push may have no link.
        let stopped = |build: &&Entry| {
            build.truth == Truth::Stopped
                && build.response != Response::NotConnected
                && build.said.links.is_empty()
        };
        for build in builds().filter(stopped) {
            let found = heads.get_mut(build.diff.as_str()).into_iter().flatten();
            let mut free = found.filter(|found| !found.taken && found.is_for(build, pushed));
            if let Some(head) = free.next() {
                head.taken = true;
                changesets.count(build, pushed);
            }
        }
        let mut replaced: Vec<_> = newest
            .into_values()
            .filter(|(_, head)| head.replaced)
            .collect();
        replaced.sort_unstable_by_key(|(build, _)| &build.name);
        for (build, head) in replaced {
            let what = format!(
                "has the head {}, which is not on its ref any more",
                head.node
            );
            report(build.name.clone(), what);
        }
        let mut strangers: Vec<_> = heads
            .into_iter()
            .map(|(diff, found)| {
                let free = found.into_iter().filter(|found| !found.taken);
                let nodes: Vec<_> = free.map(|found| &found.head.node).collect();
                let known = builds().find(|build| build.diff == diff);
                (known.map_or(diff, |build| &build.name), nodes)
            })
            .filter(|(_, nodes)| !nodes.is_empty())
            .collect();
        strangers.sort_unstable();
        for (key, nodes) in strangers {
            report(
                key.to_owned(),
                format!("has the heads {nodes:?} on Try {number}, and no build has a link to them"),
            );
        }
        let Changesets { all, shared, .. } = changesets;
        let expected = all - shared..=all;
        if violations.is_empty() && !expected.contains(&pushed.changesets) {
            let what = format!(
                "has {} pushed changesets, and its builds have {expected:?}",
                pushed.changesets
            );
            violations.push(Violation::new(Kind::TryHead, format!("Try {number}"), what));
        }
    }
}
