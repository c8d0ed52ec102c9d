//! Queues and dead letters by name, on both backends.

use bus::{Admin, AdminError, DeadLetterFilter, Message as _, Messages};

use crate::{
    on_both,
    world::{NOTES, Note, OUT, PARTITIONED, World},
};

on_both!(
    unknown_queue_is_reported_with_the_nearest_and_all_names,
    ambiguous_selection_is_refused,
    dead_letters_of_all_queues_are_selected_by_reason,
    missing_message_is_named,
);

fn admin(world: &World) -> Admin {
    Admin::new(
        world.bus.clone(),
        &[NOTES.spec(), PARTITIONED.spec(), OUT.spec()],
    )
}

async fn unknown_queue_is_reported_with_the_nearest_and_all_names(world: World) {
    let admin = admin(&world);
    for (name, expected) in [
        (
            "note",
            "there is no queue \"note\", did you mean notes?; the queues are notes, partitioned, out",
        ),
        (
            "xyz",
            "there is no queue \"xyz\"; the queues are notes, partitioned, out",
        ),
    ] {
        assert_eq!(admin.queue(name).await.unwrap_err().to_string(), expected);
        assert_eq!(
            admin.dead(Some(name), "", 1).await.unwrap_err().to_string(),
            expected
        );
        assert_eq!(
            admin.set_paused(name, true).await.unwrap_err().to_string(),
            expected
        );
    }
    let names: Vec<_> = admin
        .queues()
        .await
        .unwrap()
        .iter()
        .map(|report| report.queue)
        .collect();
    assert_eq!(names, ["notes", "partitioned", "out"]);
}

async fn ambiguous_selection_is_refused(world: World) {
    let admin = admin(&world);
    world.dead_letter(&NOTES, "poison", "why").await;
    let id = Some(uuid::Uuid::nil());
    for messages in [Messages::default(), Messages { id, all: true }] {
        let unclear = admin.drop_waiting("notes", messages).await;
        assert!(
            matches!(unclear, Err(AdminError::Unclear(_))),
            "{unclear:?}"
        );
    }
    let ids = vec!["x".to_owned()];
    for letters in [
        DeadLetterFilter::default(),
        DeadLetterFilter {
            queue: Some("notes".to_owned()),
            ..DeadLetterFilter::default()
        },
        DeadLetterFilter {
            ids: ids.clone(),
            all: true,
            ..DeadLetterFilter::default()
        },
        DeadLetterFilter {
            ids,
            reason: Some("why".to_owned()),
            ..DeadLetterFilter::default()
        },
        DeadLetterFilter {
            reason: Some("why".to_owned()),
            all: true,
            ..DeadLetterFilter::default()
        },
    ] {
        let unclear = admin.choose(&letters).await;
        assert!(
            matches!(unclear, Err(AdminError::Unclear(_))),
            "{unclear:?}"
        );
    }
    let empty = admin
        .choose(&DeadLetterFilter {
            reason: Some(String::new()),
            ..DeadLetterFilter::default()
        })
        .await
        .unwrap_err();
    assert!(empty.to_string().contains("the reason is empty"), "{empty}");
}

async fn dead_letters_of_all_queues_are_selected_by_reason(world: World) {
    let admin = admin(&world);
    let away = world.dead_letter(&NOTES, "poison", "it is away").await;
    let partitioned = world
        .dead_letter(&PARTITIONED, "poison", "it is away, too")
        .await;
    let other = world.dead_letter(&NOTES, "poison", "poison").await;
    let reason = |reason: &str| DeadLetterFilter {
        reason: Some(reason.to_owned()),
        ..DeadLetterFilter::default()
    };
    let named = |ids: &[&String]| DeadLetterFilter {
        ids: ids.iter().map(ToString::to_string).collect(),
        ..DeadLetterFilter::default()
    };
    let count = async |letters: &DeadLetterFilter| admin.choose(letters).await.unwrap().count();
    assert_eq!(count(&reason("away")).await, 2);
    assert_eq!(
        count(&DeadLetterFilter {
            queue: Some("partitioned".to_owned()),
            ..reason("away")
        })
        .await,
        1
    );
    assert_eq!(
        count(&DeadLetterFilter {
            all: true,
            ..DeadLetterFilter::default()
        })
        .await,
        3
    );
    assert_eq!(count(&named(&[&partitioned, &other])).await, 2);

    let unknown = admin
        .choose(&named(&[&partitioned, &"x".to_owned()]))
        .await
        .unwrap_err();
    assert_eq!(unknown.to_string(), "there is no dead letter x");
    let shown = admin.dead_letter(None, &partitioned).await.unwrap();
    assert_eq!(
        (shown.report.queue, shown.contents.partition.as_deref()),
        ("partitioned", Some("p"))
    );
    let line = serde_json::to_value(&shown).unwrap();
    assert_eq!(
        (&line["body"]["text"], &line["version"]),
        (&"poison".into(), &Note::VERSION.into()),
        "{line}"
    );

    let chosen = admin.choose(&reason("away")).await.unwrap();
    assert_eq!(admin.requeue_dead(&chosen).await.unwrap().requeued, 2);
    assert_eq!(
        admin.requeue_dead(&chosen).await.unwrap().requeued,
        0,
        "they are gone"
    );
    assert_eq!(
        (world.depth(&NOTES).await, world.depth(&PARTITIONED).await),
        ((1, 0, 0, 1), (1, 0, 0, 0))
    );
    let gone = admin.dead_letter(Some("notes"), &away).await;
    assert!(
        matches!(gone, Err(AdminError::NoDeadLetters { .. })),
        "{gone:?}"
    );
    let left = admin.choose(&named(&[&other])).await.unwrap();
    assert_eq!(admin.drop_dead(&left).await.unwrap(), 1);
    assert!(admin.dead(None, "", 10).await.unwrap().is_empty());
}

async fn missing_message_is_named(world: World) {
    let admin = admin(&world);
    world.send(&NOTES, "held").await;
    let held = world.reserve(&NOTES).await.envelope.id;
    let one = Messages {
        id: Some(held),
        all: false,
    };
    let (requeued, dropped) = (
        admin.requeue("notes", one).await,
        admin.drop_waiting("notes", one).await,
    );
    assert_eq!(
        requeued.unwrap_err().to_string(),
        format!("queue notes has no message {held} that is delayed")
    );
    let expected = format!("queue notes has no message {held} that is ready or delayed");
    assert_eq!(dropped.unwrap_err().to_string(), expected);
    assert_eq!(
        admin
            .count_waiting("notes", one)
            .await
            .unwrap_err()
            .to_string(),
        expected
    );
    let shown = serde_json::to_value(admin.message("notes", held).await.unwrap()).unwrap();
    assert_eq!(
        (&shown["state"], &shown["body"]["text"]),
        (&"in_flight".into(), &"held".into()),
        "{shown}"
    );
    let listed = serde_json::to_value(admin.messages("notes", 10).await.unwrap()).unwrap();
    assert!(
        listed[0]["body_bytes"].is_u64() && listed[0].get("body").is_none(),
        "{listed}"
    );
}
