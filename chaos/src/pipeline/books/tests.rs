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
        ends: Vec::new(),
        units: vec![unit("mercurial", "pass", "applied")],
        links,
    }
}

fn ended(end: &str, name: &str, result: &str, text: &str) -> Said {
    Said {
        ends: vec![end.to_owned()],
        units: vec![unit(name, result, text)],
        links: Vec::new(),
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
        heard: Heard::Accepted,
        said,
        faults: 0,
    }
}

fn head(node: &str, number: usize) -> Head {
    Head {
        node: node.to_owned(),
        diff: format!("diff{number}"),
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
fn good() -> Books {
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
            heard: Heard::Nobody,
            ..entry(5, Truth::Pushed, Said::default())
        },
        Entry {
            heard: Heard::Unsure,
            ..entry(6, Truth::Pushed, Said::default())
        },
    ];
    let heads = vec![head("aaa", 0), head("bbb", 1)];
    Books {
        builds,
        tries: vec![
            Try {
                heads,
                changesets: 6,
            },
            Try::default(),
        ],
        letters: Vec::new(),
    }
}

/// The build was given up after faults enough.
fn give_up(books: &mut Books) {
    books.builds[0].said = broken();
    books.builds[0].faults = ATTEMPTS;
    books.letters.push(letter(QUEUE, 0, ATTEMPTS));
    books.tries[0] = Try {
        heads: vec![head("bbb", 1)],
        changesets: 3,
    };
}

#[test]
fn a_campaign_without_fault_has_no_offences() {
    let balance = good().balance(QUEUE);
    assert_eq!(balance.offences, []);
    assert_eq!(
        (balance.accepted, balance.ended, balance.unheard),
        (5, 5, 0)
    );
    let ends = Ends {
        pushed: 2,
        patch_failed: 1,
        neutral: 1,
        broken: 0,
        silent: 1,
    };
    assert_eq!(balance.ends, ends);
}

#[test]
fn a_build_whose_attempts_were_used_up_by_faults_may_be_given_up() {
    let mut books = good();
    give_up(&mut books);
    let balance = books.balance(QUEUE);
    assert_eq!(balance.offences, []);
    assert_eq!(balance.given_up, ["b0: it broke"]);
}

#[test]
fn a_build_that_was_taken_in_without_an_answer_is_held_to_the_same() {
    let mut books = good();
    books.builds[1].heard = Heard::Unsure;
    let balance = books.balance(QUEUE);
    assert_eq!(
        (balance.offences, balance.accepted, balance.unheard),
        (Vec::new(), 5, 1)
    );
    books.builds[1].said.units.clear();
    assert_eq!(books.balance(QUEUE).offences[0].kind, Kind::NoAnswer);
}

#[test]
fn unit_beside_a_link_may_be_missing_after_a_fault_alone() {
    let mut books = good();
    books.builds[0].said.units.clear();
    assert_eq!(books.balance(QUEUE).offences[0].kind, Kind::NoAnswer);
    books.builds[0].faults = 1;
    assert_eq!(books.balance(QUEUE).offences, []);
    books.builds[0].said.links.clear();
    assert_eq!(books.balance(QUEUE).offences[0].kind, Kind::NoAnswer);
}

#[test]
fn each_offence_is_found() {
    type Case = (
        &'static str,
        fn(&mut Books),
        &'static [(Kind, &'static str)],
    );
    let table: [Case; 24] = [
        (
            "an answer is lost",
            |books| books.builds[3].said = Said::default(),
            &[(Kind::NoAnswer, "b3")],
        ),
        (
            "half an answer is lost",
            |books| books.builds[0].said.units.clear(),
            &[(Kind::NoAnswer, "b0")],
        ),
        (
            "a push is lost",
            |books| {
                books.builds[0].said = Said::default();
                books.tries[0] = Try {
                    heads: vec![head("bbb", 1)],
                    changesets: 3,
                };
            },
            &[(Kind::NoAnswer, "b0")],
        ),
        (
            "a unit is shown twice",
            |books| {
                let again = books.builds[0].said.units[0].clone();
                books.builds[0].said.units.push(again);
            },
            &[(Kind::DuplicateAnswer, "b0")],
        ),
        (
            "a target is ended twice",
            |books| {
                books.builds[3].said.ends.push("pass".to_owned());
            },
            &[(Kind::DuplicateAnswer, "b3")],
        ),
        (
            "an end and a push",
            |books| books.builds[0].said.ends.push("fail".to_owned()),
            &[(Kind::DuplicateAnswer, "b0")],
        ),
        (
            "a good patch is blamed",
            |books| {
                books.builds[0].said = ended(
                    "fail",
                    "mercurial",
                    "fail",
                    "The patch of D7 does not apply.",
                );
                books.tries[0] = Try {
                    heads: vec![head("bbb", 1)],
                    changesets: 3,
                };
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "another patch is blamed",
            |books| books.builds[2].said.units[0].2 = "D71 does not apply".to_owned(),
            &[(Kind::WrongBlame, "b2")],
        ),
        (
            "a bad patch is not blamed",
            |books| books.builds[2].said = broken(),
            &[(Kind::WrongBlame, "b2")],
        ),
        (
            "another reason is given",
            |books| books.builds[3].said.units[0].2 = "Superseded".to_owned(),
            &[(Kind::WrongBlame, "b3")],
        ),
        (
            "a private build is spoken of",
            |books| books.builds[4].said = broken(),
            &[(Kind::WrongBlame, "b4")],
        ),
        (
            "a build is given up without a letter",
            |books| {
                give_up(books);
                books.letters.clear();
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "a build is given up too early",
            |books| {
                give_up(books);
                books.letters[0].attempts = 1;
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "a build is given up without faults enough",
            |books| {
                give_up(books);
                books.builds[0].faults = ATTEMPTS - 1;
            },
            &[(Kind::WrongBlame, "b0")],
        ),
        (
            "nobody asked",
            |books| books.builds[5].said = broken(),
            &[(Kind::Stray, "b5")],
        ),
        (
            "a head is missing",
            |books| {
                books.tries[0] = Try {
                    heads: vec![head("bbb", 1)],
                    changesets: 3,
                };
            },
            &[(Kind::TryHead, "b0")],
        ),
        (
            "a build is pushed twice",
            |books| books.tries[0].heads.push(head("ccc", 0)),
            &[(Kind::TryHead, "b0")],
        ),
        (
            "the link leads elsewhere",
            |books| books.builds[0].said = pushed("ccc"),
            &[(Kind::TryHead, "b0")],
        ),
        (
            "a bad patch is pushed",
            |books| books.tries[0].heads.push(head("ccc", 2)),
            &[(Kind::TryHead, "b2")],
        ),
        (
            "a head of nobody",
            |books| books.tries[0].heads.push(head("ccc", 9)),
            &[(Kind::TryHead, "diff9")],
        ),
        (
            "a head on the other Try",
            |books| {
                books.tries[0] = Try {
                    heads: vec![head("bbb", 1)],
                    changesets: 3,
                };
                books.tries[1] = Try {
                    heads: vec![head("aaa", 0)],
                    changesets: 3,
                };
            },
            &[(Kind::TryHead, "b0"), (Kind::TryHead, "diff0")],
        ),
        (
            "a patch is left out",
            |books| books.tries[0].changesets -= 1,
            &[(Kind::TryHead, "Try 0")],
        ),
        (
            "a dead letter of a build that is well",
            |books| books.letters.push(letter(QUEUE, 0, 5)),
            &[(Kind::DeadLetter, "b0")],
        ),
        (
            "a dead letter elsewhere",
            |books| {
                give_up(books);
                books.letters.push(letter("build:publish", 0, 5));
                books.letters.push(Letter {
                    target: None,
                    ..letter(QUEUE, 0, 5)
                });
            },
            &[(Kind::DeadLetter, "b0"), (Kind::DeadLetter, "unknown")],
        ),
    ];
    for (case, spoil, expected) in table {
        let mut books = good();
        spoil(&mut books);
        let offences = books.balance(QUEUE).offences;
        let found: Vec<_> = offences
            .iter()
            .map(|offence| (offence.kind, offence.key.as_str()))
            .collect();
        assert_eq!(found, expected, "{case}: {offences:?}");
    }
}
