//! `events dead-letters`

use super::*;

/// The id of no message.
const UNKNOWN: &str = "0199a0b0-0000-7000-8000-000000000000";

#[tokio::test]
async fn dead_letters_are_listed_shown_requeued_and_dropped() {
    let world = World::with_redis().await;
    assert_eq!(
        world.events(&["dead-letters", "list"]).await.lines(),
        ["there are no dead letters"]
    );
    let build = world
        .bury(
            &BUILD_LOAD,
            &request(1),
            "phabricator is away: 503\n\x1b[2J<html>",
        )
        .await;
    let message = BuildUpdateMessage {
        request: request(2),
        update: BuildUpdate::Private,
    };
    let answer = world
        .bury(&BUILD_PUBLISH, &message, "phabricator refuses it")
        .await;

    let listed = world.events(&["dead-letters", "list"]).await;
    let lines = listed.lines();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[1].starts_with(&answer) && lines[2].starts_with(&build),
        "the newest first: {lines:?}"
    );
    assert!(
        lines[2].ends_with("phabricator is away: 503 [2J<html>"),
        "nothing that a terminal obeys: {lines:?}"
    );
    let ids = async |arguments: &[&str]| -> Vec<String> {
        let rows = world
            .events(&[&["dead-letters", "list", "--json"], arguments].concat())
            .await
            .json();
        rows.iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&["--limit", "1"]).await, [answer.as_str()]);
    assert_eq!(ids(&["--reason", "is away"]).await, [build.as_str()]);
    assert_eq!(ids(&["--queue", "build:publish"]).await, [answer.as_str()]);

    let shown = world.events(&["dead-letters", "show", &answer]).await;
    let shown: Value = serde_json::from_str(&shown.lines().join("\n")).unwrap();
    assert_eq!(
        (&shown["queue"], &shown["attempts"], &shown["version"]),
        (&json!("build:publish"), &json!(3), &json!(1))
    );
    assert_eq!(
        (
            &shown["body"]["request"]["diff_id"],
            &shown["body"]["update"]
        ),
        (&json!(2), &json!("Private"))
    );

    let unknown = world
        .events(&["dead-letters", "requeue", &build, UNKNOWN])
        .await;
    assert_eq!(
        unknown.fault(),
        format!("there is no dead letter {UNKNOWN}")
    );
    assert_eq!(
        world
            .events(&["dead-letters", "requeue", &build])
            .await
            .lines(),
        ["requeued 1 dead letter"]
    );
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);
    let refused = world
        .events(&["dead-letters", "drop", "--reason", "refuses"])
        .await;
    assert_eq!(
        refused.fault(),
        "1 dead letter would be dropped permanently: pass --yes to confirm"
    );
    let dropped = world
        .events(&[
            "dead-letters",
            "drop",
            "--reason",
            "refuses",
            "--yes",
            "--json",
        ])
        .await;
    assert_eq!(dropped.json(), [json!({"dropped": 1})]);
    assert_eq!(
        world
            .events(&["dead-letters", "drop", "--all", "--queue", "build:publish"])
            .await
            .lines(),
        ["dropped nothing: no dead letter matches"]
    );
}

/// Its messages would be handled without any effect.
#[tokio::test]
async fn dead_letter_of_an_ended_build_is_kept_with_the_reason() {
    let world = World::with_redis().await;
    world.configure("  api_token: t0ken-t0ken-t0ken\n");
    let (ended, open) = (request(1), request(2));
    let log = BuildLog::new(HOUR, "a test", BUILD_QUEUES);
    let producer = Producer::new(Arc::new(world.bus()), Arc::new(SystemClock));
    let landed = BuildUpdate::skipped(SkipReason::Landed, "It landed.");
    for one in [&ended, &open] {
        log.accept(&producer, one, Source::Harbormaster)
            .await
            .unwrap();
    }
    let record = BuildRecord::default();
    log.finish_from(&producer, &ended, &record, landed.clone(), None)
        .await
        .unwrap();
    for queue in [BUILD_LOAD.spec(), BUILD_PUBLISH.spec()] {
        let all = bus::MessageSelector::All;
        producer.bus().drop_waiting(&queue, all).await.unwrap();
    }
    let build = world.bury(&BUILD_LOAD, &ended, "phabricator is away").await;
    let other = BuildUpdateMessage {
        request: ended.clone(),
        update: BuildUpdate::Private,
    };
    let other = world
        .bury(&BUILD_PUBLISH, &other, "phabricator refuses it")
        .await;

    let why = format!(
        "build {0} has ended (outcome skipped (landed)); requeueing does nothing; restart it with `events builds restart {0}`",
        ended.target
    );
    let said = world.events(&["dead-letters", "requeue", &build]).await;
    assert_eq!(
        (said.code, said.out),
        (
            Some(1),
            format!("requeued 0 dead letters\nkept {build} of build:load: {why}\n")
        )
    );
    assert!(said.err.contains("requeued nothing"), "{}", said.err);
    assert_eq!(world.counts("build:load").await, [0, 0, 0, 1]);
    assert_eq!(
        world
            .events(&["dead-letters", "requeue", &other])
            .await
            .code,
        Some(1),
        "another end was decided"
    );

    // Its end was decided and not published: that letter does something.
    let end = world
        .bury(
            &BUILD_PUBLISH,
            &BuildUpdateMessage {
                request: ended.clone(),
                update: landed,
            },
            "phabricator refuses it",
        )
        .await;
    assert_eq!(
        world
            .events(&["dead-letters", "requeue", &end])
            .await
            .lines(),
        ["requeued 1 dead letter"]
    );
    let going = world.bury(&BUILD_LOAD, &open, "phabricator is away").await;
    let all = world
        .events(&[
            "dead-letters",
            "requeue",
            "--all",
            "--queue",
            "build:load",
            "--json",
        ])
        .await
        .json();
    assert_eq!(
        all,
        [json!({"requeued": 1, "kept": [{"queue": "build:load", "id": build, "reason": why}]})]
    );
    assert!(going != build);

    let delayed = world.push(&BUILD_LOAD, &ended, HOUR).await;
    let said = world
        .events(&["queues", "requeue", "build:load", "--id", &delayed])
        .await;
    assert!(said.fault().ends_with(&why), "{said:?}");

    let mut web = world.start("web");
    let body = json!({"ids": [build]}).to_string();
    let answer = post(
        web.address().await,
        "/api/v1/dead-letters/requeue",
        "t0ken-t0ken-t0ken",
        &body,
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 409") && answer.contains("requeueing does nothing"),
        "{answer}"
    );
    web.stop().await;
}

#[tokio::test]
async fn unreadable_dead_letter_is_shown_in_base64() {
    let world = World::with_redis().await;
    let redis = world.redis.as_ref().unwrap().url();
    let added = std::process::Command::new("redis-cli")
        .args(["-s", redis.trim_start_matches("redis+unix://")])
        .args([
            "XADD",
            "{events}:build:load:ready",
            "*",
            "a",
            "0",
            "e",
            "no envelope",
        ])
        .status()
        .unwrap();
    assert!(added.success());
    let bus = world.bus();
    assert!(
        bus.reserve(&BUILD_LOAD.spec(), Reserve::now(1))
            .await
            .unwrap()
            .is_empty()
    );
    let letter = bus.dead(&BUILD_LOAD.spec(), "", 1).await.unwrap().remove(0);
    let shown = world
        .events(&[
            "dead-letters",
            "show",
            &letter.id,
            "--queue",
            "build:load",
            "--json",
        ])
        .await
        .json()
        .remove(0);
    assert_eq!(
        (&shown["body_base64"], shown.get("body")),
        (&json!("bm8gZW52ZWxvcGU="), None),
        "{shown}"
    );
    assert!(
        shown["reason"]
            .as_str()
            .unwrap()
            .starts_with("not an envelope"),
        "{shown}"
    );
}
