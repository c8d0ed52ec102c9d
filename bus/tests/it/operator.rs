//! Queues and dead letters by name, on both backends.

use bus::{Letters, Message as _, Messages, Operator, OperatorError, Settlement};

use crate::{
    on_both,
    world::{LANED, NOTES, Note, OUT, World},
};

on_both!(
    an_unknown_queue_is_answered_with_the_nearest_and_all_names,
    what_is_meant_must_be_said_exactly,
    letters_of_all_queues_are_chosen_by_reason,
    a_message_that_is_not_there_is_named,
);

fn operator(world: &World) -> Operator {
    Operator::new(world.bus.clone(), &[NOTES.spec(), LANED.spec(), OUT.spec()])
}

async fn bury(world: &World, queue: &bus::Queue<Note>, reason: &str) -> String {
    world.send(queue, "poison").await;
    let leased = world.take(queue).await;
    let id = leased.envelope.id;
    let how = Settlement::Dead {
        id,
        reason: reason.to_owned(),
        attempts: 1,
        emit: Vec::new(),
    };
    world.bus.settle(&leased.lease, &how).await.unwrap();
    id.to_string()
}

async fn an_unknown_queue_is_answered_with_the_nearest_and_all_names(world: World) {
    let operator = operator(&world);
    for (name, expected) in [
        (
            "note",
            "there is no queue \"note\", did you mean notes?; the queues are notes, laned, out",
        ),
        (
            "xyz",
            "there is no queue \"xyz\"; the queues are notes, laned, out",
        ),
    ] {
        assert_eq!(
            operator.queue(name).await.unwrap_err().to_string(),
            expected
        );
        assert_eq!(
            operator
                .dead(Some(name), "", 1)
                .await
                .unwrap_err()
                .to_string(),
            expected
        );
        assert_eq!(
            operator
                .set_paused(name, true)
                .await
                .unwrap_err()
                .to_string(),
            expected
        );
    }
    let names: Vec<_> = operator
        .queues()
        .await
        .unwrap()
        .iter()
        .map(|report| report.queue)
        .collect();
    assert_eq!(names, ["notes", "laned", "out"]);
}

async fn what_is_meant_must_be_said_exactly(world: World) {
    let operator = operator(&world);
    bury(&world, &NOTES, "why").await;
    let id = Some(uuid::Uuid::nil());
    for messages in [Messages::default(), Messages { id, all: true }] {
        let unclear = operator.drop_waiting("notes", messages).await;
        assert!(
            matches!(unclear, Err(OperatorError::Unclear(_))),
            "{unclear:?}"
        );
    }
    let ids = vec!["x".to_owned()];
    for letters in [
        Letters::default(),
        Letters {
            queue: Some("notes".to_owned()),
            ..Letters::default()
        },
        Letters {
            ids: ids.clone(),
            all: true,
            ..Letters::default()
        },
        Letters {
            ids,
            reason: Some("why".to_owned()),
            ..Letters::default()
        },
        Letters {
            reason: Some("why".to_owned()),
            all: true,
            ..Letters::default()
        },
    ] {
        let unclear = operator.choose(&letters).await;
        assert!(
            matches!(unclear, Err(OperatorError::Unclear(_))),
            "{unclear:?}"
        );
    }
    let empty = operator
        .choose(&Letters {
            reason: Some(String::new()),
            ..Letters::default()
        })
        .await
        .unwrap_err();
    assert!(empty.to_string().contains("the reason is empty"), "{empty}");
}

async fn letters_of_all_queues_are_chosen_by_reason(world: World) {
    let operator = operator(&world);
    let away = bury(&world, &NOTES, "it is away").await;
    let laned = bury(&world, &LANED, "it is away, too").await;
    let other = bury(&world, &NOTES, "poison").await;
    let reason = |reason: &str| Letters {
        reason: Some(reason.to_owned()),
        ..Letters::default()
    };
    let named = |ids: &[&String]| Letters {
        ids: ids.iter().map(ToString::to_string).collect(),
        ..Letters::default()
    };
    let count = async |letters: &Letters| operator.choose(letters).await.unwrap().count();
    assert_eq!(count(&reason("away")).await, 2);
    assert_eq!(
        count(&Letters {
            queue: Some("laned".to_owned()),
            ..reason("away")
        })
        .await,
        1
    );
    assert_eq!(
        count(&Letters {
            all: true,
            ..Letters::default()
        })
        .await,
        3
    );
    assert_eq!(count(&named(&[&laned, &other])).await, 2);

    let unknown = operator
        .choose(&named(&[&laned, &"x".to_owned()]))
        .await
        .unwrap_err();
    assert_eq!(unknown.to_string(), "there is no dead letter x");
    let shown = operator.dead_letter(None, &laned).await.unwrap();
    assert_eq!(
        (shown.report.queue, shown.contents.lane.as_deref()),
        ("laned", Some("p"))
    );
    let line = serde_json::to_value(&shown).unwrap();
    assert_eq!(
        (&line["body"]["text"], &line["version"]),
        (&"poison".into(), &Note::VERSION.into()),
        "{line}"
    );

    let chosen = operator.choose(&reason("away")).await.unwrap();
    assert_eq!(operator.requeue_dead(&chosen).await.unwrap().requeued, 2);
    assert_eq!(
        operator.requeue_dead(&chosen).await.unwrap().requeued,
        0,
        "they are gone"
    );
    assert_eq!(
        (world.depth(&NOTES).await, world.depth(&LANED).await),
        ((1, 0, 0, 1), (1, 0, 0, 0))
    );
    let gone = operator.dead_letter(Some("notes"), &away).await;
    assert!(
        matches!(gone, Err(OperatorError::NoLetters { .. })),
        "{gone:?}"
    );
    let left = operator.choose(&named(&[&other])).await.unwrap();
    assert_eq!(operator.drop_dead(&left).await.unwrap(), 1);
    assert!(operator.dead(None, "", 10).await.unwrap().is_empty());
}

async fn a_message_that_is_not_there_is_named(world: World) {
    let operator = operator(&world);
    world.send(&NOTES, "held").await;
    let held = world.take(&NOTES).await.envelope.id;
    let one = Messages {
        id: Some(held),
        all: false,
    };
    let (requeued, dropped) = (
        operator.requeue("notes", one).await,
        operator.drop_waiting("notes", one).await,
    );
    assert_eq!(
        requeued.unwrap_err().to_string(),
        format!("queue notes has no message {held} that is delayed")
    );
    let expected = format!("queue notes has no message {held} that is ready or delayed");
    assert_eq!(dropped.unwrap_err().to_string(), expected);
    assert_eq!(
        operator
            .count_waiting("notes", one)
            .await
            .unwrap_err()
            .to_string(),
        expected
    );
    let shown = serde_json::to_value(operator.message("notes", held).await.unwrap()).unwrap();
    assert_eq!(
        (&shown["state"], &shown["body"]["text"]),
        (&"in_flight".into(), &"held".into()),
        "{shown}"
    );
    let listed = serde_json::to_value(operator.messages("notes", 10).await.unwrap()).unwrap();
    assert!(
        listed[0]["body_bytes"].is_u64() && listed[0].get("body").is_none(),
        "{listed}"
    );
}
