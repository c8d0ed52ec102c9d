//! `events builds list`, `show`, `retry`, `cancel` and `audit`.

use std::process::Output;

use bus::QueueAdmin;
use events::queues::BUILD_PUSH;
use runtime::Clock;
use serde_json::Value;
use testkit::phabricator::{RevisionStatus, TargetStatus};
use tokio::process::Command;

use crate::world::{World, until};

impl World {
    async fn operator(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
        command
            .args(arguments)
            .arg("--config")
            .arg(self.path("config.yml"))
            .env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.redis.as_ref().map(|redis| ("REDIS_URL", redis.url())));
        command.output().await.unwrap()
    }

    /// The output of a command that succeeds.
    async fn output(&self, arguments: &[&str]) -> String {
        let output = self.operator(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn error(&self, arguments: &[&str]) -> String {
        let output = self.operator(arguments).await;
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.output(&[arguments, &["--json"]].concat()).await).unwrap()
    }
}

#[tokio::test]
async fn history_of_a_pushed_build_is_shown_from_its_request_to_its_answer() {
    let world = World::with_redis().await;
    let (mut web, mut worker) = (world.start("web"), world.start("worker"));
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    let link = world.until_pushed(&build, &worker).await;
    world.assert_pushed_once(&build, &link).await;
    worker
        .until_logged("pushed, with the link to its jobs")
        .await;
    until_closed(&world, build.target.as_str()).await;

    let history = world
        .output(&["builds", "show", build.target.as_str()])
        .await;
    let order = [
        "diff 3 of D3",
        "published: pushed, accepted",
        "accepted from Harbormaster",
        "public; loaded D1, D2, D3",
        "base chosen: ",
        "outcome: pushed",
        "sent to its target: [link] CI (Treeherder) Jobs",
        "sent to its target: [work] mercurial: pass",
        "published: pushed, with the link to its jobs",
        "outcome: pushed, decided",
        "head: ",
        "jobs: https://treeherder.",
        "[link] CI (Treeherder) Jobs",
        &link,
        "[work] mercurial: pass",
    ];
    let mut from = 0;
    for text in order {
        let found = history[from..].find(text);
        from += found
            .unwrap_or_else(|| panic!("{text:?} is not there, or not in its place:\n{history}"));
    }
    for which in ["D3", "3"] {
        assert_eq!(
            world.json(&["builds", "show", which]).await["target"],
            build.target.as_str(),
            "{which}"
        );
    }
    let json = world.json(&["builds", "show", "D3"]).await;
    assert_eq!(
        (&json["state"], &json["now"], &json["next"]),
        (&"published".into(), &Value::Null, &Value::Null)
    );
    assert_eq!(
        (&json["outcome"], &json["reason"]),
        (&"pushed".into(), &Value::Null)
    );
    assert_eq!(json["base"]["used"], world.repositories.base);
    assert_eq!(json["published"], "published");
    let answers = json["answers"].as_array().unwrap();
    assert_eq!(
        (answers.len(), &answers[0]["text"]),
        (2, &Value::from(link.as_str()))
    );
    assert!(
        answers.iter().all(|answer| answer["at"].is_string()),
        "{answers:?}"
    );
    assert!(
        world
            .error(&["builds", "show", "D99"])
            .await
            .contains("no build of D99 is known")
    );
    assert!(
        world
            .error(&["builds", "show", "x"])
            .await
            .contains("expected a build target")
    );
    assert!(
        world
            .error(&["builds", "retry", "D3"])
            .await
            .contains("run `events builds restart")
    );
    assert!(
        world
            .error(&["builds", "cancel", "D3"])
            .await
            .contains("it has already ended (pushed)")
    );
    assert!(
        world
            .output(&["builds", "audit"])
            .await
            .contains("every accepted build has ended")
    );
    worker.stop().await;
    web.stop().await;
}

#[tokio::test]
async fn waiting_builds_are_shown_cancelled_and_retried() {
    let world = World::with_redis().await;
    let (mut web, mut worker) = (world.start("web"), world.start("worker"));
    let bus = world.bus();
    bus.set_paused(&BUILD_PUSH.spec(), true).await.unwrap();
    let first = world.submit_stack();
    let second = world.phabricator.start_build(1);
    for build in [&first, &second] {
        assert_eq!(world.request(web.address().await, build).await, 200);
    }
    worker.until_logged("loaded a stack of 1 patches").await;
    worker.until_logged("loaded a stack of 3 patches").await;
    until("both to be recorded", &worker, || {
        [&first, &second]
            .iter()
            .all(|build| !world.target(build).messages.is_empty())
    })
    .await;

    let history = world.output(&["builds", "show", "D3"]).await;
    assert!(history.contains("now:  in build:push, ready"), "{history}");
    assert!(
        history.contains("2 ready and 0 in flight, and is paused"),
        "{history}"
    );
    assert!(
        history.contains("next: its stack is applied on a clone and pushed to its destination"),
        "{history}"
    );
    // Neighbouring diffs share a tag.
    for (diff, build) in [("3", &first), ("1", &second)] {
        let found = &world.json(&["builds", "show", diff]).await["target"];
        assert_eq!(found, build.target.as_str(), "diff {diff}");
    }
    let unknown = world.error(&["builds", "show", "2"]).await;
    assert!(unknown.contains("no build of diff 2 is known"), "{unknown}");
    let list = world
        .output(&["builds", "list", "--state", "applying"])
        .await;
    assert!(
        list.contains(first.target.as_str()) && list.contains(second.target.as_str()),
        "{list}"
    );
    let list = world.output(&["builds", "list", "--revision", "D1"]).await;
    assert!(
        !list.contains(first.target.as_str())
            && list.contains("its turn in build:push, which is paused"),
        "{list}"
    );
    assert_eq!(
        world
            .output(&["builds", "list", "--outcome", "pushed"])
            .await,
        "no build matches\n"
    );
    assert!(
        world
            .error(&["builds", "list", "--state", "x"])
            .await
            .contains("expected one of accepted, loading, applying")
    );

    assert!(
        world
            .output(&["builds", "cancel", first.target.as_str()])
            .await
            .contains(": cancelled")
    );
    until("the neutral answer", &worker, || {
        world.target(&first).status == TargetStatus::Passed
    })
    .await;
    assert_eq!(
        world.target(&first).units[0]["details"],
        "Cancelled by an operator."
    );

    // The message of the other one is gone, so a retry builds it from the beginning.
    bus.drop_waiting(&BUILD_PUSH.spec(), bus::MessageSelector::All)
        .await
        .unwrap();
    bus.set_paused(&BUILD_PUSH.spec(), false).await.unwrap();
    assert!(
        world
            .output(&["builds", "retry", "D1"])
            .await
            .contains("building it again from the beginning")
    );
    let link = world.until_pushed(&second, &worker).await;
    world.assert_pushed_once(&second, &link).await;
    until_closed(&world, second.target.as_str()).await;
    assert_eq!(
        world.json(&["builds", "list", "--outcome", "pushed"]).await["target"],
        second.target.as_str()
    );
    assert!(
        world
            .output(&["builds", "show", "D1"])
            .await
            .contains("sent again: an operator retries it")
    );
    worker.stop().await;
    web.stop().await;
}

#[tokio::test]
async fn accepted_build_is_found_and_cancelled_before_a_worker_begins_with_it() {
    let world = World::with_redis().await;
    let mut web = world.start("web");
    let first = world.submit_stack();
    let second = world.phabricator.start_build(1);
    for build in [&first, &second] {
        assert_eq!(world.request(web.address().await, build).await, 200);
    }
    web.stop().await;
    for which in ["D3", "3", first.target.as_str()] {
        let found = &world.json(&["builds", "show", which]).await["target"];
        assert_eq!(found, first.target.as_str(), "{which}");
    }
    let history = world.output(&["builds", "show", "D3"]).await;
    let line = history.lines().nth(1).unwrap();
    assert!(
        line.starts_with("accepted ")
            && line.ends_with(" ago")
            && line.matches("accepted").count() == 1,
        "{history}"
    );
    for options in [
        &["builds", "list"][..],
        &["builds", "list", "--state", "accepted"],
    ] {
        let list = world.output(options).await;
        assert!(
            [&first, &second]
                .iter()
                .all(|build| list.contains(build.target.as_str())),
            "{list}"
        );
    }
    let list = world.output(&["builds", "list", "--revision", "D1"]).await;
    assert!(
        list.contains(second.target.as_str()) && !list.contains(first.target.as_str()),
        "{list}"
    );

    world.output(&["builds", "cancel", "D3"]).await;
    let history = world.output(&["builds", "show", "D3"]).await;
    let line = history.lines().nth(1).unwrap();
    assert!(
        line.starts_with("skipped (cancelled), accepted "),
        "{history}"
    );
    assert!(
        history.contains("next: its outcome is published on its build target"),
        "{history}"
    );
    let json = world.json(&["builds", "show", "D3"]).await;
    assert_eq!(
        (&json["state"], &json["outcome"], &json["reason"]),
        (&"accepted".into(), &"skipped".into(), &"cancelled".into())
    );
    let mut worker = world.start("worker");
    until("the neutral answer", &worker, || {
        world.target(&first).status == TargetStatus::Passed
    })
    .await;
    let link = world.until_pushed(&second, &worker).await;
    world.assert_pushed_once(&second, &link).await;
    until_closed(&world, first.target.as_str()).await;
    for which in ["D3", "3"] {
        let found = &world.json(&["builds", "show", which]).await["target"];
        assert_eq!(found, first.target.as_str(), "{which}");
    }
    assert_eq!(
        world
            .json(&["builds", "list", "--outcome", "skipped"])
            .await["target"],
        first.target.as_str()
    );
    worker.stop().await;
}

/// The settlement comes after the answer was seen.
async fn until_closed(world: &World, target: &str) {
    for _ in 0..200 {
        if !world.json(&["builds", "show", target]).await["published_at"].is_null() {
            return;
        }
    }
    panic!("{target} was not closed");
}

/// With `publish: false` a build runs as usual, but no answer is sent.
#[tokio::test]
async fn history_omits_answers_that_were_not_sent() {
    let world = World::with_redis().await;
    let config = std::fs::read_to_string(world.path("config.yml")).unwrap();
    std::fs::write(
        world.path("config.yml"),
        config.replace("publish: true", "publish: false"),
    )
    .unwrap();
    world.phabricator.set_status(
        world.submit("It landed", "patch", None).id,
        RevisionStatus::Published,
    );
    let build = world.phabricator.start_build(1);
    let (mut web, mut worker) = (world.start("web"), world.start("worker"));
    assert_eq!(world.request(web.address().await, &build).await, 200);
    until_closed(&world, build.target.as_str()).await;
    let history = world.output(&["builds", "show", "D1"]).await;
    assert!(
        history.contains("not published: publish is false"),
        "{history}"
    );
    let would_be = "there is no patch left to build";
    assert!(
        !history.contains(would_be) && !history.contains("sent to its target"),
        "{history}"
    );
    let json = world.json(&["builds", "show", "D1"]).await;
    assert_eq!(json["answers"].as_array().unwrap().len(), 0);
    assert_eq!(json["published"], "not published: publish is false");
    assert!(world.target(&build).units.is_empty());
    worker.stop().await;
    web.stop().await;
}

#[tokio::test]
async fn history_names_the_attempt_and_the_time_of_the_next_one() {
    let world = World::with_redis().await;
    let hook = "\n[hooks]\npretxnchangegroup.no = false\n";
    let file = world.repositories.try_repository.join(".hg/hgrc");
    let settings = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, settings + hook).unwrap();
    let (mut web, mut worker) = (world.start("web"), world.start("worker"));
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    let bus = world.bus();
    // Without a worker its message stays where it is after the second attempt.
    for attempts in 1..=2 {
        while bus
            .peek(&BUILD_PUSH.spec(), 1)
            .await
            .unwrap()
            .first()
            .is_none_or(|waiting| {
                waiting.attempts < attempts
                    || !matches!(waiting.state, bus::MessageState::Delayed { .. })
            })
        {
            runtime::SystemClock
                .sleep(std::time::Duration::from_millis(20))
                .await;
        }
        if attempts == 1 {
            bus.requeue(&BUILD_PUSH.spec(), bus::MessageSelector::All)
                .await
                .unwrap();
        }
    }
    let history = world.output(&["builds", "show", "D3"]).await;
    let line = history
        .lines()
        .find(|line| line.starts_with("now:"))
        .unwrap();
    assert!(
        line.contains("in build:push, attempt 2 of 5, next at ") && line.contains(" UTC (in "),
        "{line}"
    );
    let list = world.output(&["builds", "list", "--revision", "D3"]).await;
    assert!(
        list.contains("build:push: attempt 2 of 5, next at "),
        "{list}"
    );
    worker.stop().await;
    web.stop().await;
}
