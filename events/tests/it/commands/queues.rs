//! `events queues`

use super::*;

#[tokio::test]
async fn accepted_builds_are_listed_in_their_queue() {
    let world = World::with_redis().await;
    let mut web = world.start("web");
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    web.stop().await;

    let said = world.events(&["queues", "list"]).await;
    let lines = said.lines();
    let cells: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).collect())
        .collect();
    let names: Vec<_> = cells.iter().map(|row| row[0]).collect();
    let all = events::queues::all();
    let expected = std::iter::once("QUEUE").chain(all.iter().map(|queue| queue.name));
    assert_eq!(names, Vec::from_iter(expected));
    assert_eq!(
        names[1..5],
        ["build:load", "build:push", "build:publish", "lando"]
    );
    assert_eq!([cells[0][1].trim(), cells[0][2]], ["READY", "IN FLIGHT"]);
    assert_eq!(cells[1][1].trim(), "1");
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);

    let peeked = world
        .events(&["queues", "peek", "build:load", "--json"])
        .await
        .json();
    assert_eq!(
        (peeked.len(), &peeked[0]["state"], &peeked[0]["attempts"]),
        (1, &json!("ready"), &json!(0))
    );
    let id = peeked[0]["id"].as_str().unwrap();
    assert!(
        world
            .events(&["queues", "peek", "build:load"])
            .await
            .out
            .contains(id)
    );
    let one = world
        .events(&["queues", "peek", "build:load", "--id", id, "--json"])
        .await
        .json()
        .remove(0);
    assert_eq!(one["body"]["target"], json!(build.target.as_str()));
}

#[tokio::test]
async fn paused_queue_keeps_a_build_until_it_is_resumed() {
    let world = World::with_redis().await;
    assert_eq!(
        world
            .events(&["queues", "pause", "build:load"])
            .await
            .lines(),
        ["build:load is paused: 0 ready, 0 in flight, 0 delayed"]
    );
    let (web, worker) = (world.start("web"), world.start("worker"));
    let build = world.submit_stack();
    assert_eq!(
        world.request(web.address().await, &build).await,
        200,
        "builds are accepted"
    );
    worker.until_logged("working on").await;
    assert!(
        world
            .events(&["queues", "list"])
            .await
            .out
            .lines()
            .nth(1)
            .unwrap()
            .ends_with("paused")
    );
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);

    let resumed = world
        .events(&["queues", "resume", "build:load", "--json"])
        .await
        .json()
        .remove(0);
    assert_eq!(
        (&resumed["queue"], &resumed["paused"]),
        (&json!("build:load"), &json!(false))
    );
    let link = world.until_pushed(&build, &worker).await;
    for queue in ["build:load", "build:push", "build:publish", "lando"] {
        assert_eq!(
            world.events(&["queues", "drain", queue]).await.lines(),
            [format!("{queue} is drained")]
        );
    }
    world.assert_pushed_once(&build, &link).await;
    let rows = world.events(&["queues", "list", "--json"]).await.json();
    // Lando is not configured, nor is anything that is triggered.
    let used = rows
        .iter()
        .filter(|row| row["settled_per_minute"].as_f64().unwrap() > 0.0);
    let used: Vec<_> = used.map(|row| row["queue"].as_str().unwrap()).collect();
    assert_eq!(used, ["build:load", "build:push", "build:publish"]);
}

#[tokio::test]
async fn delayed_messages_are_requeued_and_waiting_ones_dropped() {
    let world = World::with_redis().await;
    let first = world.push(&BUILD_LOAD, &request(1), HOUR).await;
    for diff in 2..=4 {
        world.push(&BUILD_LOAD, &request(diff), HOUR).await;
    }
    let one = world
        .events(&["queues", "requeue", "build:load", "--id", &first])
        .await;
    assert_eq!(one.lines(), ["made 1 delayed message of build:load ready"]);
    let again = world
        .events(&["queues", "requeue", "build:load", "--id", &first])
        .await;
    assert_eq!(
        again.fault(),
        format!("queue build:load has no message {first} that is delayed")
    );
    let all = world
        .events(&["queues", "requeue", "build:load", "--all", "--json"])
        .await;
    assert_eq!(all.json(), [json!({"queue": "build:load", "requeued": 3})]);
    assert_eq!(world.counts("build:load").await, [4, 0, 0, 0]);

    let limited = world
        .events(&["queues", "peek", "build:load", "--limit", "3"])
        .await;
    assert_eq!(limited.lines().len(), 5);
    assert!(limited.lines()[4].contains("there are more"), "{limited:?}");

    let refused = world
        .events(&["queues", "drop", "build:load", "--all"])
        .await;
    assert_eq!(
        refused.fault(),
        "4 messages of build:load would be dropped permanently: pass --yes to confirm"
    );
    assert_eq!(world.counts("build:load").await, [4, 0, 0, 0]);
    let one = world
        .events(&["queues", "drop", "build:load", "--id", &first, "--yes"])
        .await;
    assert_eq!(one.lines(), ["dropped 1 message of build:load"]);
    let all = world
        .events(&["queues", "drop", "build:load", "--all", "--yes", "--json"])
        .await;
    assert_eq!(all.json(), [json!({"queue": "build:load", "dropped": 3})]);
    assert_eq!(world.counts("build:load").await, [0, 0, 0, 0]);
}

#[tokio::test]
async fn drain_waits_for_the_last_message_or_reports_the_rest() {
    let world = World::with_redis().await;
    world.push(&BUILD_LOAD, &request(1), Duration::ZERO).await;
    world.push(&BUILD_LOAD, &request(2), HOUR).await;
    let late = world
        .events(&["queues", "drain", "build:load", "--timeout", "0"])
        .await;
    assert_eq!(
        late.fault(),
        "build:load is not drained after 0 s: 1 ready, 0 in flight, 1 delayed"
    );

    let mut draining = world.command(&["queues", "drain", "build:load", "--json"]);
    let draining = draining.stdout(Stdio::piped()).spawn().unwrap();
    world
        .events(&["queues", "drop", "build:load", "--all", "--yes"])
        .await
        .lines();
    let output = draining.wait_with_output().await.unwrap();
    assert!(output.status.success());
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&line["queue"], &line["ready"], &line["delayed"]),
        (&json!("build:load"), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn command_without_effect_reports_it() {
    let world = World::with_redis().await;
    for (arguments, expected) in [
        (
            vec!["queues", "resume", "build:load"],
            "build:load was not paused: ",
        ),
        (
            vec!["queues", "pause", "build:load"],
            "build:load is paused: ",
        ),
        (
            vec!["queues", "pause", "build:load"],
            "build:load was already paused: ",
        ),
        (
            vec!["queues", "requeue", "build:load", "--all"],
            "requeued nothing: build:load has no delayed message",
        ),
        (
            vec!["queues", "drop", "build:load", "--all", "--yes"],
            "dropped nothing: build:load has no message that is ready or delayed",
        ),
        (
            vec!["dead-letters", "requeue", "--all"],
            "requeued nothing: no dead letter matches",
        ),
        (
            vec!["dead-letters", "drop", "--reason", "x", "--yes"],
            "dropped nothing: no dead letter matches",
        ),
    ] {
        let said = world.events(&arguments).await;
        assert!(
            said.lines()[0].starts_with(expected),
            "{arguments:?}: {said:?}"
        );
    }
}

#[tokio::test]
async fn unknown_queue_or_deployment_is_reported_with_its_remedy() {
    let world = World::with_redis().await;
    let known = Vec::from_iter(events::queues::all().iter().map(|queue| queue.name)).join(", ");
    let known = format!("the queues are {known}");
    for (arguments, expected) in [
        (
            vec!["queues", "peek", "build:loud"],
            format!("there is no queue \"build:loud\", did you mean build:load?; {known}"),
        ),
        (
            vec!["queues", "drop", "xyz", "--all", "--yes"],
            format!("there is no queue \"xyz\"; {known}"),
        ),
        (
            vec!["dead-letters", "list", "--queue", "build:publsh"],
            format!("there is no queue \"build:publsh\", did you mean build:publish?; {known}"),
        ),
    ] {
        assert_eq!(world.events(&arguments).await.fault(), expected);
    }
    for (command, variable, expected) in [
        (
            ["queues", "list"],
            "REDIS_URL",
            "a process without it keeps its queues in its own memory",
        ),
        (
            ["builds", "audit"],
            "EVENTS_CONFIG",
            "name its configuration",
        ),
    ] {
        let output = world
            .command(&command)
            .env_remove(variable)
            .output()
            .await
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    for unclear in [
        vec!["dead-letters", "drop", "--yes"],
        vec!["queues", "drop", "build:load", "--yes"],
        vec![
            "dead-letters",
            "requeue",
            "00000000-0000-4000-8000-000000000000",
            "--all",
        ],
    ] {
        assert_eq!(world.events(&unclear).await.code, Some(2), "{unclear:?}");
    }
}

#[tokio::test]
async fn api_serves_requests_with_the_token() {
    let world = World::with_redis().await;
    let config = std::fs::read_to_string(world.path("config.yml")).unwrap();
    std::fs::write(
        world.path("config.yml"),
        format!("{config}  api_token: t0ken\n"),
    )
    .unwrap();
    let mut web = world.start("web");
    let address = web.address().await;
    let delayed = world.push(&BUILD_LOAD, &request(1), HOUR).await;
    let call = async |token: &str, line: &str, body: &str| -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(
        call("wrong", "GET /api/v1/queues", "")
            .await
            .starts_with("HTTP/1.1 401")
    );
    let queues = call("t0ken", "GET /api/v1/queues", "").await;
    assert!(
        queues.starts_with("HTTP/1.1 200") && queues.contains("\"build:publish\""),
        "{queues}"
    );
    let requeued = call(
        "t0ken",
        "POST /api/v1/queues/build:load/requeue",
        &json!({"id": delayed}).to_string(),
    )
    .await;
    assert!(requeued.ends_with("{\"requeued\":1}"), "{requeued}");
    assert_eq!(world.counts("build:load").await, [1, 0, 0, 0]);
    until("the refusal to be logged", &web, || {
        web.log().contains("refused a request without the secret")
    })
    .await;
    assert!(!web.log().contains("t0ken"), "{}", web.log());
    web.stop().await;
}
