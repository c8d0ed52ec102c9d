use super::*;

const QUEUE: &str = "build:push";

fn unit(name: &str, result: &str, text: &str) -> (String, String, String) {
    (name.to_owned(), result.to_owned(), text.to_owned())
}

fn pushed(node: &str) -> Said {
    let links = vec![format!(
        "https://treeherder.example.com/#/jobs?repo=try&revision={node}"
    )];
    Said {
        units: vec![unit("mercurial", "pass", "applied")],
        links,
        ..Said::default()
    }
}

fn ended(end: &str, name: &str, result: &str, text: &str) -> Said {
    Said {
        ends: vec![end.to_owned()],
        units: vec![unit(name, result, text)],
        ..Said::default()
    }
}

fn broken() -> Said {
    ended(
        "fail",
        "general",
        "broken",
        "This is not your patch's fault.",
    )
}

fn entry(number: usize, truth: Truth, said: Said) -> Entry {
    Entry {
        name: format!("b{number}"),
        target: format!("target{number}"),
        diff: format!("diff{number}"),
        repository: 0,
        patches: 2,
        truth,
        response: Response::Accepted,
        said,
        faults: 0,
    }
}

fn head(node: &str, number: usize) -> Head {
    Head {
        node: node.to_owned(),
        diff: format!("diff{number}"),
        link: format!("revision={node}"),
        target: None,
        replaced: false,
    }
}

fn on_try(heads: Vec<Head>, changesets: usize) -> Try {
    Try {
        heads,
        changesets,
        own_commits: 1,
        ..Try::default()
    }
}

fn letter(queue: &'static str, number: usize, attempts: u32) -> Letter {
    Letter {
        queue,
        target: Some(format!("target{number}")),
        attempts,
        reason: "it broke".to_owned(),
    }
}

/// A campaign in which all went well: two builds were pushed, and one each ended in another way.
fn good() -> Observations {
    let failed = Truth::PatchFailed(vec!["D7 ".to_owned(), "does not apply".to_owned()]);
    let builds = vec![
        entry(0, Truth::Pushed, pushed("aaa")),
        entry(1, Truth::Pushed, pushed("bbb")),
        entry(
            2,
            failed,
            ended(
                "fail",
                "mercurial",
                "fail",
                "The patch of D7 does not apply.",
            ),
        ),
        entry(
            3,
            Truth::Neutral("Expired".to_owned()),
            ended("pass", "general", "skip", "Expired: it is old."),
        ),
        entry(4, Truth::Silent, Said::default()),
        Entry {
            response: Response::NotConnected,
            ..entry(5, Truth::Pushed, Said::default())
        },
        Entry {
            response: Response::Unclear,
            ..entry(6, Truth::Pushed, Said::default())
        },
    ];
    let heads = vec![head("aaa", 0), head("bbb", 1)];
    Observations {
        builds,
        tries: vec![on_try(heads, 6), Try::default()],
        ..Observations::default()
    }
}

/// The build was given up after faults enough.
fn give_up(observed: &mut Observations) {
    observed.builds[0].said = broken();
    observed.builds[0].faults = ATTEMPTS;
    observed.letters.push(letter(QUEUE, 0, ATTEMPTS));
    observed.tries[0] = on_try(vec![head("bbb", 1)], 3);
}

#[test]
fn sound_campaign_has_no_violations() {
    let verdict = good().verify(QUEUE);
    assert_eq!(verdict.violations, []);
    assert_eq!(
        (verdict.accepted, verdict.ended, verdict.unconfirmed),
        (5, 5, 0)
    );
    let ends = Ends {
        pushed: 2,
        patch_failed: 1,
        neutral: 1,
        broken: 0,
        silent: 1,
    };
    assert_eq!(verdict.ends, ends);
}

#[test]
fn build_may_be_given_up_after_as_many_faults_as_attempts() {
    let mut observed = good();
    give_up(&mut observed);
    let verdict = observed.verify(QUEUE);
    assert_eq!(verdict.violations, []);
    assert_eq!(verdict.given_up, ["b0: it broke"]);
}

#[test]
fn build_accepted_without_response_is_verified_too() {
    let mut observed = good();
    observed.builds[1].response = Response::Unclear;
    let verdict = observed.verify(QUEUE);
    assert_eq!(
        (verdict.violations, verdict.accepted, verdict.unconfirmed),
        (Vec::new(), 5, 1)
    );
    observed.builds[1].said.units.clear();
    assert_eq!(observed.verify(QUEUE).violations[0].kind, Kind::NoAnswer);
}

#[test]
fn unit_beside_link_may_be_missing_only_after_a_fault() {
    let mut observed = good();
    observed.builds[0].said.units.clear();
    assert_eq!(observed.verify(QUEUE).violations[0].kind, Kind::NoAnswer);
    observed.builds[0].faults = 1;
    assert_eq!(observed.verify(QUEUE).violations, []);
    observed.builds[0].said.links.clear();
    assert_eq!(observed.verify(QUEUE).violations[0].kind, Kind::NoAnswer);
}

#[test]
fn stopped_build_may_have_one_head_without_a_link() {
    let restarted = |node: &str| {
        let mut observed = good();
        // The target of build 0 was stopped; its restart, of the same diff, was pushed.
        let again = entry(0, Truth::Pushed, pushed(node));
        observed.builds[0].truth = Truth::Stopped;
        observed.builds[0].said = Said::default();
        observed.builds.push(again);
        observed
    };
    assert_eq!(restarted("aaa").verify(QUEUE).violations, []);
    let mut both = restarted("ccc");
    both.tries[0].heads.push(head("ccc", 0));
    // The patches of both are the same changesets, or have another base.
    for more in [1, 3] {
        both.tries[0].changesets = 6 + more;
        assert_eq!(both.verify(QUEUE).violations, []);
    }
    both.tries[0].changesets = 10;
    assert_eq!(both.verify(QUEUE).violations[0].kind, Kind::TryHead);
    both.tries[0].heads.push(head("ddd", 0));
    assert_eq!(both.verify(QUEUE).violations[0].kind, Kind::TryHead);
    let mut lost = restarted("ccc");
    lost.builds[0].said = pushed("aaa");
    assert_eq!(lost.verify(QUEUE).violations[0].kind, Kind::TryHead);
}

/// The same campaign with Git: heads say which target they are for, and are on refs.
fn with_refs() -> Observations {
    let mut observed = good();
    for (number, head) in observed.tries[0].heads.iter_mut().enumerate() {
        head.target = Some(format!("target{number}"));
    }
    observed
}

/// Build 0 was stopped after its push, and its restart replaced the head on the ref.
fn restarted_on_its_ref() -> Observations {
    let mut observed = with_refs();
    observed.builds[0].truth = Truth::Stopped;
    observed.builds.push(Entry {
        target: "target9".to_owned(),
        ..entry(0, Truth::Pushed, pushed("ccc"))
    });
    observed.tries[0].heads[0].replaced = true;
    observed.tries[0].heads.push(Head {
        target: Some("target9".to_owned()),
        ..head("ccc", 0)
    });
    observed.tries[0].changesets = 7;
    observed
}

#[test]
fn head_on_a_ref_is_that_of_the_newest_build() {
    assert_eq!(restarted_on_its_ref().verify(QUEUE).violations, []);
    type Case = (&'static str, fn(&mut Observations), &'static str);
    let table: [Case; 4] = [
        (
            "the older head is on the ref",
            |observed| {
                observed.tries[0].heads[0].replaced = false;
                observed.tries[0].heads[2].replaced = true;
            },
            "b0",
        ),
        (
            "the head of one target is linked on the other",
            |observed| {
                observed.builds[0].said = Said::default();
                observed.builds[7].said = pushed("aaa");
            },
            "b0",
        ),
        (
            "the ref of somebody else is not what it was",
            |observed| {
                let moved = ("refs/heads/main".to_owned(), "was moved".to_owned());
                observed.tries[1].wrong.push(moved);
            },
            "refs/heads/main on Try 1",
        ),
        (
            "more writes were cut off than programs were killed",
            |observed| {
                observed.try_kills = 1;
                observed.tries[0].cut_off_writes = 1;
                observed.tries[1].cut_off_writes = 1;
            },
            "Try",
        ),
    ];
    for (case, spoil, expected) in table {
        let mut observed = restarted_on_its_ref();
        spoil(&mut observed);
        let violations = observed.verify(QUEUE).violations;
        let found = violations
            .first()
            .map(|violation| (violation.kind, violation.key.as_str()));
        assert_eq!(
            found,
            Some((Kind::TryHead, expected)),
            "{case}: {violations:?}"
        );
    }
}

#[test]
fn builds_of_a_diff_share_a_head_without_changesets_of_their_own() {
    let mut observed = good();
    observed.builds[0].truth = Truth::Stopped;
    observed.builds.push(entry(0, Truth::Pushed, pushed("aaa")));
    observed.tries[0].changesets = 4;
    assert_eq!(observed.verify(QUEUE).violations[0].kind, Kind::TryHead);
    observed.tries[0].own_commits = 0;
    assert_eq!(observed.verify(QUEUE).violations, []);
}

#[test]
fn abandoned_build_is_pushed_or_says_so() {
    let truth = || Truth::PushedOr("was abandoned".to_owned());
    let mut observed = good();
    observed.builds[0].truth = truth();
    observed.builds[3] = entry(
        3,
        truth(),
        ended(
            "pass",
            "general",
            "skip",
            "D7 was abandoned, its patch is not built.",
        ),
    );
    assert_eq!(observed.verify(QUEUE).violations, []);
    observed.builds[3].said.units[0].2 = "Expired: it is old.".to_owned();
    assert_eq!(observed.verify(QUEUE).violations[0].kind, Kind::WrongBlame);
}

#[test]
fn each_violation_is_found() {
    type Case = (
        &'static str,
        fn(&mut Observations),
        &'static [(Kind, &'static str)],
    );
    let table: [Case; 24] = [
        (
            "an answer is lost",
            |observed| observed.builds[3].said = Said::default(),
            &[(Kind::NoAnswer, "b3")],
        ),
        (
            "half an answer is lost",
            |observed| observed.builds[0].said.units.clear(),
            &[(Kind::NoAnswer, "b0")],
        ),
        (
            "a push is lost",
            |observed| {
                observed.builds[0].said = Said::default();
                observed.tries[0] = on_try(vec![head("bbb", 1)], 3);
            },
            &[(Kind::NoAnswer, "b0")],
        ),
        (
            "a unit is shown twice",
            |observed| {
                let again = observed.builds[0].said.units[0].clone();
                observed.builds[0].said.units.push(again);
            },
            &[(Kind::DuplicateAnswer, "b0")],
        ),
        (
            "a target is ended twice",
            |observed| {
                observed.builds[3].said.ends.push("pass".to_owned());
            },
            &[(Kind::DuplicateAnswer, "b3")],
        ),
        (
            "an end and a push",
            |observed| observed.builds[0].said.ends.push("fail".to_owned()),
            &[(Kind::DuplicateAnswer, "b0")],
        ),
        (
            "a good patch is blamed",
            |observed| {
                observed.builds[0].said = ended(
                    "fail",
                    "mercurial",
                    "fail",
                    "The patch of D7 does not apply.",
                );
                observed.tries[0] = on_try(vec![head("bbb", 1)], 3);
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "another patch is blamed",
            |observed| observed.builds[2].said.units[0].2 = "D71 does not apply".to_owned(),
            &[(Kind::WrongBlame, "b2")],
        ),
        (
            "a bad patch is not blamed",
            |observed| observed.builds[2].said = broken(),
            &[(Kind::WrongBlame, "b2")],
        ),
        (
            "another reason is given",
            |observed| observed.builds[3].said.units[0].2 = "Superseded".to_owned(),
            &[(Kind::WrongBlame, "b3")],
        ),
        (
            "a private build is notes of",
            |observed| observed.builds[4].said = broken(),
            &[(Kind::WrongBlame, "b4")],
        ),
        (
            "a build is given up without a dead letter",
            |observed| {
                give_up(observed);
                observed.letters.clear();
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "a build is given up too early",
            |observed| {
                give_up(observed);
                observed.letters[0].attempts = 1;
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "a build is given up without faults enough",
            |observed| {
                give_up(observed);
                observed.builds[0].faults = ATTEMPTS - 1;
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "nobody asked",
            |observed| observed.builds[5].said = broken(),
            &[(Kind::Stray, "b5")],
        ),
        (
            "a head is missing",
            |observed| {
                observed.tries[0] = on_try(vec![head("bbb", 1)], 3);
            },
            &[(Kind::TryHead, "b0")],
        ),
        (
            "a build is pushed twice",
            |observed| observed.tries[0].heads.push(head("ccc", 0)),
            &[(Kind::TryHead, "b0")],
        ),
        (
            "the link leads elsewhere",
            |observed| observed.builds[0].said = pushed("ccc"),
            &[(Kind::TryHead, "b0")],
        ),
        (
            "a bad patch is pushed",
            |observed| observed.tries[0].heads.push(head("ccc", 2)),
            &[(Kind::TryHead, "b2")],
        ),
        (
            "a head of nobody",
            |observed| observed.tries[0].heads.push(head("ccc", 9)),
            &[(Kind::TryHead, "diff9")],
        ),
        (
            "a head on the other Try",
            |observed| {
                observed.tries[0] = on_try(vec![head("bbb", 1)], 3);
                observed.tries[1] = on_try(vec![head("aaa", 0)], 3);
            },
            &[(Kind::TryHead, "b0"), (Kind::TryHead, "diff0")],
        ),
        (
            "a patch is left out",
            |observed| observed.tries[0].changesets -= 1,
            &[(Kind::TryHead, "Try 0")],
        ),
        (
            "a dead letter of a build that is well",
            |observed| observed.letters.push(letter(QUEUE, 0, 5)),
            &[(Kind::DeadLetter, "b0")],
        ),
        (
            "a dead letter elsewhere",
            |observed| {
                give_up(observed);
                observed.letters.push(letter("build:publish", 0, 5));
                observed.letters.push(Letter {
                    target: None,
                    ..letter(QUEUE, 0, 5)
                });
            },
            &[(Kind::DeadLetter, "b0"), (Kind::DeadLetter, "unknown")],
        ),
    ];
    for (case, spoil, expected) in table {
        let mut observed = good();
        spoil(&mut observed);
        let violations = observed.verify(QUEUE).violations;
        let found: Vec<_> = violations
            .iter()
            .map(|violation| (violation.kind, violation.key.as_str()))
            .collect();
        assert_eq!(found, expected, "{case}: {violations:?}");
    }
}
