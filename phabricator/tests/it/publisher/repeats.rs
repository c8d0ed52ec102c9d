//! Answers that come twice, late, or without an answer of their own.

use super::*;

#[tokio::test]
async fn repeated_update_makes_one_link() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.publish(&request, &pushed(None)).await;
    world.publish(&request, &pushed(None)).await;
    assert_eq!(world.target(&request).artifacts.len(), 1);
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn unit_whose_response_was_lost_is_not_sent_twice() {
    for update in [
        patch_failed(),
        broken(),
        pushed(None),
        pushed(Some("dead")),
        BuildUpdate::Private,
    ] {
        let world = World::new().await;
        let request = world.request(world.create("revision").diff.id);
        world
            .fake
            .fail_next("harbormaster.sendmessage", 1, &Fault::CutAfter);
        world.publish(&request, &update).await;
        assert!(world.record(&request).await.published_at.is_none());
        world.advance(120);
        assert_eq!(world.tell().await, 1);
        let target = world.target(&request);
        assert_eq!(
            (target.units.len(), target.messages.len()),
            (1, 1),
            "{update:?}"
        );
        assert_eq!(
            target.artifacts.len(),
            usize::from(matches!(update, BuildUpdate::Pushed(_)))
        );
        assert!(world.record(&request).await.published_at.is_some());
        assert_eq!(world.results().await, bus::Depth::default());
    }
}

#[tokio::test]
async fn answer_of_a_worker_that_died_after_sending_it_is_not_sent_again() {
    for update in [patch_failed(), pushed(None)] {
        let world = World::new().await;
        let request = world.request(world.create("revision").diff.id);
        world.send_update(&request, &update).await;
        let acted = async {
            while world.target(&request).messages.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = acted => {}
            ended = world.tell() => panic!("settled before it died: {ended}"),
        }
        let record = world.record(&request).await;
        assert!(record.claimed_at.is_some() && record.published_at.is_none());
        for _ in 0..60 {
            world.advance(5);
            world.tell().await;
        }
        let target = world.target(&request);
        assert_eq!(
            (target.units.len(), target.messages.len()),
            (1, 1),
            "{update:?}"
        );
        assert!(world.record(&request).await.published_at.is_some());
        assert_eq!(world.results().await, bus::Depth::default());
    }
}

#[tokio::test]
async fn publisher_waits_for_harbormaster_to_act_on_an_answer() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world.fake.hold_messages();
    world
        .fake
        .fail_next("harbormaster.sendmessage", 1, &Fault::CutAfter);
    world.publish(&request, &patch_failed()).await;
    world.advance(70);
    for _ in 0..5 {
        assert_eq!(world.tell().await, 1);
        assert_eq!(world.results().await.delayed, 1);
        world.advance(5);
    }
    world.fake.act_on_messages();
    assert_eq!(world.tell().await, 1);
    assert_eq!(
        (
            world.target(&request).status,
            world.target(&request).units.len()
        ),
        (TargetStatus::Failed, 1)
    );
    assert_eq!(world.results().await, bus::Depth::default());
}

#[tokio::test]
async fn answer_that_never_arrived_is_sent_again() {
    let world = World::new().await;
    let request = world.request(world.create("revision").diff.id);
    world
        .fake
        .fail_next("harbormaster.sendmessage", 1, &Fault::Cut);
    world.publish(&request, &patch_failed()).await;
    assert!(world.target(&request).units.is_empty());
    for _ in 0..30 {
        world.advance(60);
        world.tell().await;
    }
    assert_eq!(
        (
            world.target(&request).status,
            world.target(&request).units.len()
        ),
        (TargetStatus::Failed, 1)
    );
    assert_eq!(world.results().await, bus::Depth::default());
}

/// It was surely not acted on, so there is nothing to wait for.
#[tokio::test]
async fn refused_answer_is_sent_at_the_next_attempt() {
    for fault in [Fault::Status(503), Fault::Refuse("ERR-CONDUIT-CORE")] {
        let world = World::new().await;
        let request = world.request(world.create("revision").diff.id);
        world.fake.fail_next("harbormaster.sendmessage", 1, &fault);
        world.publish(&request, &pushed(None)).await;
        assert_eq!(world.record(&request).await.claimed_at, None);
        world.advance(70);
        world.tell().await;
        assert_eq!(world.target(&request).units.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn only_one_of_two_concurrent_deliveries_sends() {
    for update in [pushed(None), patch_failed()] {
        let world = World::new().await;
        let request = world.build(&world.create("revision")).await;
        world.decide(&request, &update).await;
        world.send_update(&request, &update).await;
        world.send_update(&request, &update).await;
        assert_eq!(world.tell().await, 2);
        assert_eq!(world.target(&request).units.len(), 1);
        world.advance(60);
        world.tell().await;
        assert_eq!(
            (world.target(&request).units.len(), world.results().await),
            (1, bus::Depth::default())
        );
    }
}

/// Somebody else made it, and Harbormaster does not show where it leads.
#[tokio::test]
async fn link_of_another_service_under_our_key_is_a_conflict() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let request = world.build(&world.create("revision")).await;
    let theirs =
        json!({ "uri": "https://treeherder.example/theirs", "name": "Jobs", "ui.external": true });
    let params = json!({
        "buildTargetPHID": request.target, "artifactKey": "treeherder", "artifactType": "uri", "artifactData": theirs,
    });
    let params = params.as_object().cloned().unwrap();
    conduit(&world.fake)
        .call::<serde_json::Value>("harbormaster.createartifact", params)
        .await
        .unwrap();
    world.decide(&request, &pushed(None)).await;
    world.publish(&request, &pushed(None)).await;

    let record = world.record(&request).await;
    let ours = "https://treeherder.example/#/jobs?repo=try&revision=aaaa";
    let conflict = BuildEventKind::Conflict {
        key: "treeherder".to_owned(),
        ours: ours.to_owned(),
        theirs: None,
    };
    assert_eq!(record.events.last().unwrap().kind, conflict);
    assert!(
        record.published_at.is_some() && record.sent().next().is_none(),
        "{record:?}"
    );
    assert!(
        !record
            .events
            .iter()
            .any(|event| matches!(event.kind, BuildEventKind::Published { .. })),
        "{record:?}"
    );
    assert_eq!(world.target(&request).artifacts[0].data, theirs);
    let log = logs.text();
    assert!(
        log.contains("another link with this key already") && log.contains(ours),
        "{log}"
    );
    assert!(
        log.contains("an address that harbormaster does not show"),
        "{log}"
    );
}

/// The first delivery died, or its answer was lost: the record says that the link is ours.
#[tokio::test]
async fn link_whose_response_was_lost_counts_as_ours() {
    let world = World::new().await;
    let request = world.build(&world.create("revision")).await;
    world.decide(&request, &pushed(None)).await;
    for _ in 0..3 {
        world
            .fake
            .fail_next("harbormaster.createartifact", 1, &Fault::CutAfter);
    }
    world.publish(&request, &pushed(None)).await;
    world.advance(120);
    world.tell().await;
    let record = world.record(&request).await;
    assert_eq!(
        (
            world.target(&request).artifacts.len(),
            world.target(&request).units.len()
        ),
        (1, 1)
    );
    let sent: Vec<&str> = record
        .sent()
        .map(|(_, answer)| answer.act.as_str())
        .collect();
    assert_eq!(sent, ["link", "work"]);
    assert!(
        matches!(
            record.events.last().unwrap().kind,
            BuildEventKind::Published { .. }
        ),
        "{record:?}"
    );
}
