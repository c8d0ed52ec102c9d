//! `events monitor` as its users run it, on a real RabbitMQ.

mod commands;
mod page;

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use futures::{StreamExt, stream};
use http_client::Limits;
use nix::sys::signal::Signal;
use pulse::{PulseMessage, Routing};
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::RabbitServer;

use crate::world::{Process, pulse_url, until};

const BUILDS: &str = "exchange/build/normalized";
const JOBS: &str = "exchange/taskcluster-treeherder/v1/jobs";
/// Secrets of the program, which a command must not see.
const SECRETS: [&str; 11] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "INFLUXDB_PASSWORD",
    "IRC_PASS",
    "PULSE_PASSWORD",
    "REDIS_TLS_URL",
    "REDIS_URL",
    "SENTRY_DSN",
    "SMTP_PASSWD",
    "TASKCLUSTER_ACCESS_TOKEN",
    "TASKCLUSTER_CERTIFICATE",
];
const HOSTILE: &str = "<script>alert(1)</script>";

struct World {
    rabbit: RabbitServer,
    directory: TempDir,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rabbit = RabbitServer::share().await.unwrap();
        for exchange in [BUILDS, JOBS] {
            rabbit.declare_exchange(exchange).await.unwrap();
        }
        Self { rabbit, directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts `events monitor` by the environment alone, with its output in the file `name`, and waits until it listens.
    async fn monitor(&self, name: &str, arguments: &[&str]) -> Process {
        let process = self.start(name, arguments);
        process.until_logged("listening to pulse").await;
        process
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Process {
        self.start_printing(File::create(self.path(name)).unwrap().into(), arguments)
    }

    fn start_printing(&self, output: Stdio, arguments: &[&str]) -> Process {
        let settings = self.rabbit.settings();
        let port = settings.address.port.to_string();
        let environment = [
            ("PULSE_HOST", "localhost"),
            ("PULSE_PORT", &port),
            ("PULSE_SSL", "0"),
            ("PULSE_VHOST", &settings.vhost),
            ("PULSE_LOGIN", &settings.user),
            ("PULSE_PASSWORD", settings.password.expose_secret()),
        ];
        let environment: Vec<_> = SECRETS
            .iter()
            .map(|name| (*name, "hunter2"))
            .chain(environment)
            .collect();
        Process::start_printing(&[&["monitor"], arguments].concat(), &environment, output)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn until_printed(&self, name: &str, expected: &str, process: &Process) {
        until(&format!("{name} to hold {expected}"), process, || {
            self.read(name).contains(expected)
        })
        .await;
    }

    async fn publish(&self, exchange: &str, key: &str, body: &Value) {
        let routing = Routing {
            exchange: exchange.to_owned(),
            key: key.to_owned(),
            other_routes: Vec::new(),
        };
        self.rabbit
            .publish(&PulseMessage {
                routing,
                body: body.to_string().into_bytes().into(),
            })
            .await
            .unwrap();
    }

    async fn publish_build(&self, tree: &str, platform: &str, more: Value) {
        let mut payload = json!({ "timestamp": "2026-11-21T02:52:31Z", "product": "firefox", "tags": ["nightly"] });
        payload
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        self.publish(
            BUILDS,
            &format!("build.{tree}.{platform}.opt.nightly.b"),
            &json!({ "payload": payload }),
        )
        .await;
    }

    async fn publish_test(&self, kind: &str, test: &str) {
        let payload = json!({ "timestamp": "2026-11-21T02:55:54Z", "logurl": "http://logs.example/log.txt.gz" });
        let key = format!("{kind}.mozilla-central.win32.xp.debug.{test}.firefox.b");
        self.publish(BUILDS, &key, &json!({ "payload": payload }))
            .await;
    }
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn monitor_prints_serves_and_runs_commands() {
    let world = World::new().await;
    text_lines_are_printed(&world).await;
    json_lines_are_printed_and_sent_to_command(&world).await;
    treeherder_jobs_are_printed(&world).await;
    page::newest_builds_are_served(&world).await;
    commands::hanging_commands_delay_nothing_else(&world).await;
    full_pipe_delays_nothing_else(&world).await;
    closed_pipe_ends_monitor_with_success(&world).await;
    invalid_settings_end_monitor_with_reason(&world).await;
}

async fn text_lines_are_printed(world: &World) {
    let mut process = world
        .monitor("text", &["--platform", "win32", "--platform", "a\u{1b}[2J"])
        .await;
    world
        .publish_build("mozilla-central", "linux64", json!({}))
        .await;
    world.publish_build("try", "win32", json!({})).await;
    world
        .publish_build(
            "mozilla-central",
            "win32",
            json!({ "buildurl": "http://builds.example/firefox.zip" }),
        )
        .await;
    world
        .publish_build(
            "mozilla-central",
            "a\u{1b}[2J",
            json!({ "buildurl": "http://a\nb" }),
        )
        .await;
    world.publish_test("unittest", "xpcshell").await;
    world.publish_test("talos", "tp5o").await;
    world.until_printed("text", "xpcshell", &process).await;
    world.until_printed("text", "a[2J", &process).await;
    process.stop().await;
    let mut lines: Vec<_> = world.read("text").lines().map(str::to_owned).collect();
    lines.sort();
    let expected = [
        "2026-11-21 02:52:31 build mozilla-central a[2J opt: http://a b",
        "2026-11-21 02:52:31 build mozilla-central win32 opt: http://builds.example/firefox.zip",
        "2026-11-21 02:55:54 test mozilla-central xp debug xpcshell: http://logs.example/log.txt.gz",
    ];
    assert_eq!(lines, expected);
    assert!(
        !process
            .log()
            .contains(world.rabbit.settings().password.expose_secret())
    );
}

async fn json_lines_are_printed_and_sent_to_command(world: &World) {
    let (events, failures) = (world.path("events"), world.path("exec"));
    let script = format!(
        "read -r event; echo \"$event\" >> {}; echo told; env > {}; \
         case \"$event\" in *fails*) exit 3;; esac",
        events.display(),
        world.path("environment").display(),
    );
    let arguments = [
        "--tree",
        "*",
        "--talos",
        "--format",
        "json",
        "--exec",
        &script,
        "--label",
        "kept",
        "--tag",
        "nightly,x",
    ];
    let mut process = world
        .monitor(failures.file_name().unwrap().to_str().unwrap(), &arguments)
        .await;
    world.publish_test("talos", "$(exit)").await;
    world.publish_test("unittest", "fails").await;
    world
        .publish_build("mozilla-central", "win32", json!({ "tags": ["nightly"] }))
        .await;
    world
        .publish_build(
            "mozilla-central",
            "win32",
            json!({ "tags": ["x", "nightly"], "key": "wanted" }),
        )
        .await;
    until("the command to run", &process, || {
        world.read("events").lines().count() == 3
    })
    .await;
    process
        .until_logged("the command failed: exit status: 3")
        .await;
    until("all of it", &process, || {
        world.read("exec").lines().count() == 6
    })
    .await;
    process.stop().await;
    let printed = world.read("exec");
    let (told, lines): (Vec<_>, Vec<_>) = printed.lines().partition(|line| *line == "told");
    assert_eq!(told.len(), 3, "what the command prints is seen: {printed}");
    let environment = world.read("environment");
    assert!(environment.contains("PULSE_LOGIN="), "{environment}");
    for secret in SECRETS {
        assert!(
            !environment
                .lines()
                .any(|line| line.starts_with(&format!("{secret}="))),
            "{secret}: {environment}"
        );
    }
    let sorted = |lines: &[&str]| {
        let mut events: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        events.sort_by_key(|event| event["key"].to_string());
        events
    };
    let printed = sorted(&lines);
    assert_eq!(
        printed,
        sorted(&world.read("events").lines().collect::<Vec<_>>())
    );
    let expected = json!({
        "event": "test", "tree": "mozilla-central", "branch": "mozilla-central", "os": "xp", "platform": "win32",
        "buildtype": "debug", "builddate": null, "test": "$(exit)", "timestamp": "20261121025554",
        "logurl": "http://logs.example/log.txt.gz", "mobile": false, "talos": true, "product": "firefox",
        "key": "talos.mozilla-central.win32.xp.debug.$(exit).firefox.b",
    });
    assert_eq!(printed[0], expected);
    assert_eq!(printed[2]["key"], "wanted");
    assert_eq!(
        world.rabbit.depth("queue/pulseuser/kept").await.unwrap(),
        Some(0),
        "a label keeps the queue"
    );
}

async fn treeherder_jobs_are_printed(world: &World) {
    let monitor = async |name, more: &[&str]| {
        world
            .monitor(
                name,
                &[&["--source", "treeherder", "--tree", "autoland"], more].concat(),
            )
            .await
    };
    let mut process = monitor("jobs", &["--mobile", "true"]).await;
    let (mut usual, mut any) = (
        monitor("usual", &[]).await,
        monitor("any", &["--mobile", "any"]).await,
    );
    let job = |platform: &str, state: &str| {
        json!({
            "taskId": "a", "origin": { "project": "autoland", "revision": "0".repeat(40) }, "buildSystem": "taskcluster",
            "display": { "jobSymbol": "B", "groupSymbol": "?", "jobName": format!("build-{platform}/opt") },
            "state": state, "result": "success", "jobKind": "build", "labels": ["opt"], "version": 1,
            "timeCompleted": "2026-11-21T03:00:00.000Z",
            "buildMachine": { "platform": platform, "os": "-", "architecture": "-" },
        })
    };
    let jobs = [
        ("linux64", "completed"),
        ("android-5-0", "running"),
        ("android-5-0", "completed"),
        ("win64", "completed"),
    ];
    for (platform, state) in jobs {
        world
            .publish(JOBS, "primary.autoland._", &job(platform, state))
            .await;
    }
    world.until_printed("jobs", "android", &process).await;
    process.stop().await;
    for (name, expected, process) in [("usual", 2, &mut usual), ("any", 3, &mut any)] {
        world.until_printed(name, "win64", process).await;
        process.stop().await;
        assert_eq!(
            world.read(name).lines().count(),
            expected,
            "{}",
            world.read(name)
        );
    }
    assert_eq!(
        world.read("jobs"),
        "2026-11-21 03:00:00 build autoland android-5-0 opt: nothing to download\n"
    );
}

async fn full_pipe_delays_nothing_else(world: &World) {
    let (_reader, writer) = std::io::pipe().unwrap();
    let mut process = world.start_printing(
        writer.into(),
        &["--tree", "*", "--format", "json", "--serve", "0"],
    );
    process.until_logged("listening to pulse").await;
    // More than the pipe and the queue of lines hold.
    let (builds, url) = (1_300, format!("http://builds.example/{}", "x".repeat(500)));
    let publish = |number: usize| {
        let more = json!({ "buildurl": url });
        async move {
            world
                .publish_build(&format!("tree{}", number % 30), "win32", more)
                .await
        }
    };
    stream::iter(0..builds)
        .map(publish)
        .buffer_unordered(50)
        .collect::<()>()
        .await;
    let accepted = format!("build_monitor_accepted_total{{label=\"random\"}} {builds}\n");
    until_served(&process, "/metrics", |text| text.contains(&accepted)).await;
    until_served(&process, "/builds.json", |text| trees(text) == 30).await;
    until_served(&process, "/metrics", |text| {
        let dropped = text
            .lines()
            .find_map(|line| line.strip_prefix("build_monitor_lines_dropped_total "));
        dropped.is_some_and(|dropped| dropped.parse::<u32>().unwrap() > 50)
    })
    .await;
    process.stop().await;
    assert_eq!(
        process
            .log()
            .matches("the queue is full; dropping events")
            .count(),
        1,
        "{}",
        process.log()
    );
}

async fn closed_pipe_ends_monitor_with_success(world: &World) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let settings = world.rabbit.settings();
    let config = world.path("config.yml");
    let (url, user, password) = (
        pulse_url(&settings),
        &settings.user,
        settings.password.expose_secret(),
    );
    let text = format!(
        "events: {{pulse_url: \"{url}\", pulse_user: {user}, pulse_password: \"{password}\"}}\n"
    );
    fs::write(&config, text).unwrap();
    let mut process = Process::start_printing(
        &["monitor", "--config", config.to_str().unwrap()],
        &[],
        Stdio::from(writer),
    );
    process.until_logged("listening to pulse").await;
    world.publish_test("unittest", "reftest").await;
    assert!(process.ended().await.success(), "{}", process.log());
}

async fn invalid_settings_end_monitor_with_reason(world: &World) {
    for (arguments, environment, expected) in [
        (
            &[][..],
            &[][..],
            "no user on Pulse: set PULSE_LOGIN and PULSE_PASSWORD",
        ),
        (
            &[],
            &[("PULSE_LOGIN", "us")],
            "PULSE_PASSWORD: is not set, expected its password",
        ),
        (&["--bind", "::1"], &[], "--serve <PORT>"),
        (
            &["--mobile", "perhaps"],
            &[],
            "[possible values: false, true, any]",
        ),
    ] {
        let mut process = Process::start(&[&["monitor"], arguments].concat(), environment);
        assert!(!process.ended().await.success());
        process.until_logged(expected).await;
    }
    let port = world.rabbit.settings().address.port.to_string();
    let environment = [
        ("PULSE_HOST", "localhost"),
        ("PULSE_PORT", &port),
        ("PULSE_SSL", "0"),
        ("PULSE_LOGIN", "pulseuser"),
        ("PULSE_PASSWORD", "hunter2"),
    ];
    let mut process = Process::start(&["monitor"], &environment);
    assert!(!process.ended().await.success());
    process.until_logged("does not accept user pulseuser").await;
    assert!(!process.log().contains("hunter2"), "{}", process.log());
    let mut process = world.start("missing", &["--exchange", "exchange/build/none"]);
    assert!(!process.ended().await.success());
    process
        .until_logged("cannot find the exchange exchange/build/none: correct the name")
        .await;
    let mut process = world.start("long", &["--label", &"x".repeat(300)]);
    assert!(!process.ended().await.success());
    process.until_logged("amqp carries 255").await;
}

/// The body that a process serves.
async fn served(process: &Process, path: &str) -> String {
    let url = format!("http://{}{path}", process.address().await);
    let http = http_client::client(Duration::from_secs(20)).unwrap();
    let sent = http_client::send(http.get(url), Limits::body(usize::MAX));
    String::from_utf8_lossy(&sent.await.unwrap().body).into_owned()
}

async fn until_served(process: &Process, path: &str, expected: impl Fn(&str) -> bool) {
    let begun = SystemClock.now();
    loop {
        let text = served(process, path).await;
        if expected(&text) {
            return;
        }
        let waited = SystemClock.now().duration_since(begun);
        assert!(
            waited.unsigned_abs() < Duration::from_secs(40),
            "{text}\n{}",
            process.log()
        );
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
}

fn trees(json: &str) -> usize {
    serde_json::from_str::<Value>(json)
        .unwrap()
        .as_object()
        .unwrap()
        .len()
}
