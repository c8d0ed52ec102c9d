//! Faults of Harbormaster, Redis and other services.

use super::*;

#[tokio::test]
async fn each_fault_of_harbormaster_is_found() {
    let right = Right::new().await;
    let said = right
        .check_with("build_plan_phid", |_| {
            "PHID-HMCP-n3nisprxbb7ehv2lzdcb".to_owned()
        })
        .await;
    assert!(failed(&said).contains(
        "build plan PHID-HMCP-n3nisprxbb7ehv2lzdcb: harbormaster.buildplan.search finds no such"
    ));
    let said = right.check_plan(|plan| plan.is_visible = false).await;
    assert!(
        failed(&said)
            .contains("finds no such plan: correct build_plan_phid, or let our user see the plan")
    );
    let said = right.check_plan(|plan| plan.is_enabled = false).await;
    assert!(failed(&said).contains("code review is disabled, so no build is requested"));
    let said = right.check_plan(|plan| plan.steps.clear()).await;
    assert!(failed(&said).contains(
        "build step: harbormaster.step.search finds none in the plan: add Make HTTP Request"
    ));

    // What works, and what people may not want, fails nothing.
    let said = right.check_plan(|plan| plan.hold_drafts = "always").await;
    has(
        &said,
        "WARNING",
        &["Hold Drafts of build plan", "is always", "stays a draft"],
    );
    assert_eq!(said.code, Some(0));
    let said = right.check_plan(|plan| plan.has_rule = false).await;
    has(
        &said,
        "WARNING",
        &["Herald rule: none of the newest 1 builds was started by one"],
    );
    let said = right
        .check_with("PHABRICATOR", |value| {
            value.replace("publish: true", "publish: false")
        })
        .await;
    has(
        &said,
        "WARNING",
        &["PHABRICATOR.publish: is false, so NOTHING is written"],
    );
    assert_eq!(said.code, Some(0));

    // A server that does not show them.
    let phabricator = &right.world.phabricator;
    phabricator.fail_until_mended(
        "harbormaster.buildplan.search",
        &Fault::Refuse("ERR-CONDUIT-CALL"),
    );
    let said = right.check().await;
    has(
        &said,
        "BY HAND",
        &[
            "build plan",
            "cannot be read through Conduit of this server",
        ],
    );
    assert_eq!(said.code, Some(0));
}

#[tokio::test]
async fn each_fault_of_a_service_is_found_and_all_of_them_at_once() {
    let right = Right::new().await;
    let said = right
        .check_with("PHABRICATOR", |value| {
            value.replace("api_key: \"api-", "api_key: \"api+")
        })
        .await;
    assert!(failed(&said).contains("user.whoami"), "{said:?}");
    has(
        &said,
        "WARNING",
        &["names, publish, build plan and rights: were not checked"],
    );
    has(&said, "ok", &["try, to which product is pushed"]);

    let said = right
        .check_with("repositories", |value| {
            value.replace("name: product", "name: unknown")
        })
        .await;
    assert!(
        failed(&said).contains("names on phabricator: it does not know: repository unknown"),
        "{said:?}"
    );

    // Nobody listens on this port.
    let away = "http://127.0.0.1:9/";
    let taskcluster = FakeTaskcluster::start(Arc::new(SystemClock)).await.unwrap();
    let mut keys = right.keys();
    keys.push(("treestatus_url", away.to_owned()));
    right.write(&keys);
    assert!(failed(&right.check().await).contains("tree status 127.0.0.1:9"));
    let mut keys = right.keys();
    keys.push(("LANDO", format!("{{url: '{away}'}}")));
    right.write(&keys);
    assert!(failed(&right.check().await).contains("lando 127.0.0.1:9"));
    let mut keys = right.keys();
    keys.push((
        "taskcluster",
        format!(
            "{{root_url: '{}', client_id: nobody, access_token: wrong}}",
            taskcluster.root()
        ),
    ));
    right.write(&keys);
    assert!(failed(&right.check().await).contains("the Taskcluster of Firefox"));
    let mut keys = right.keys();
    let hook = "{type: static-analysis-phabricator, hookId: a/bot, repositories: [product]}";
    keys.push(("HOOKS", format!("[{hook}]")));
    right.write(&keys);
    let said = right.check().await;
    assert!(
        failed(&said).contains("taskcluster: the hook project-releng/a/bot needs Taskcluster"),
        "{said:?}"
    );
    let mut keys = right.keys();
    keys.extend([
        ("pulse_url", "amqp://127.0.0.1:9".to_owned()),
        ("pulse_user", "us".to_owned()),
        ("pulse_password", "hunter2".to_owned()),
    ]);
    right.write(&keys);
    let said = right.check().await;
    assert!(
        failed(&said).contains("pulse amqp://127.0.0.1:9: ") && !said.out.contains("hunter2"),
        "{said:?}"
    );

    let mut keys = right.keys();
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/hunter2", receiver.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(receiver, axum::Router::new()).await });
    let smtp = "{host: 127.0.0.1, port: 9, email: a@example.com, tls: none}";
    let webhook = format!("{{url: '{hook}', secret: 0123456789abcdefg}}");
    keys.extend([
        ("pulse_url", "amqp://127.0.0.1:9".to_owned()),
        ("pulse_user", "us".to_owned()),
        ("pulse_password", "hunter2".to_owned()),
        (
            "notify",
            format!("{{services: [smtp, webhook], smtp: {smtp}, webhook: {webhook}}}"),
        ),
    ]);
    right.write(&keys);
    let said = right.check().await;
    has(
        &said,
        "FAILED",
        &["pulse amqp://127.0.0.1:9 of the notifier"],
    );
    has(&said, "FAILED", &["channel smtp: ", "127.0.0.1:9"]);
    has(
        &said,
        "ok",
        &["channel webhook: 127.0.0.1 answered a HEAD request with http status 404"],
    );
    has(
        &said,
        "BY HAND",
        &[
            "channel webhook: whether it takes posts",
            "nothing was sent",
        ],
    );
    assert!(!said.out.contains("hunter2"), "{said:?}");
    // The environment names another user for the notifier, and nothing else uses that of the file.
    let mut command = right.world.command(&["config", "check", "--online"]);
    command.envs([("PULSE_LOGIN", "them"), ("PULSE_PORT", "10")]);
    let output = command.output().await.unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(
        out.contains("FAILED  pulse amqp://127.0.0.1:10 of the notifier: ")
            && !out.contains("pulse amqp://127.0.0.1:9"),
        "{out}"
    );

    // Several at once.
    right
        .world
        .phabricator
        .edit_build_plan(&right.world.phabricator.build_plan(), |plan| {
            plan.is_enabled = false
        });
    std::fs::remove_dir_all(&right.world.repositories.try_repository).unwrap();
    let mut keys = right.keys();
    keys.push(("treestatus_url", away.to_owned()));
    right.write(&keys);
    let said = right.check().await;
    let failed: Vec<&str> = said
        .out
        .lines()
        .filter(|line| line.starts_with("FAILED"))
        .collect();
    assert_eq!(failed.len(), 3, "{said:?}");
    assert_eq!(said.err, "events: 3 checks failed\n");
}

#[tokio::test]
async fn a_redis_that_does_not_answer_or_takes_no_writes_is_found() {
    let right = Right::new().await;
    let socket = right.world.redis().url();
    let socket = socket.trim_start_matches("redis+unix://");
    let redis = |arguments: &[&str]| {
        let output = std::process::Command::new("redis-cli")
            .args(["-s", socket])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let keys = redis(&["dbsize"]);
    has(
        &right.check().await,
        "ok",
        &["redis: it answers", "a record was stored and removed"],
    );
    assert_eq!(redis(&["dbsize"]), keys, "nothing is left behind");
    // Its memory is full: it answers, and stores nothing.
    redis(&["config", "set", "maxmemory", "1"]);
    let said = right.check().await;
    assert!(
        failed(&said).starts_with("FAILED  redis: ") && failed(&said).contains("OOM"),
        "{said:?}"
    );
    redis(&["config", "set", "maxmemory", "0"]);
    let mut command = right.world.command(&["config", "check", "--online"]);
    let output = command
        .env("REDIS_URL", "redis://127.0.0.1:9")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let failed: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("FAILED"))
        .collect();
    assert!(
        matches!(failed[..], [line] if line.contains("redis: ")),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));

    // Web and worker run apart, so each of them alone needs one.
    let said = right
        .world
        .command(&["config", "check", "--online", "--role", "worker"])
        .env_remove("REDIS_URL")
        .output()
        .await
        .unwrap();
    let out = String::from_utf8_lossy(&said.stdout);
    assert!(
        out.contains(
            "FAILED  redis: worker alone needs redis to reach the other processes: set REDIS_URL"
        ),
        "{out}"
    );
}
