//! `events check-config --online`: everything that a build needs is looked at, and each fault is found.

use std::sync::Arc;

use runtime::SystemClock;
use testkit::{
    Sshd,
    phabricator::{Fault, Plan},
    repositories::hg,
    taskcluster::FakeTaskcluster,
};

use crate::{operate::Said, world::World};

/// A deployment in which everything is right.
struct Right {
    world: World,
    /// The server of Try, when it is not a path: each check takes twice as long over it.
    sshd: Option<Sshd>,
}

impl Right {
    async fn new() -> Self {
        Self::of(World::with_redis().await, None)
    }

    async fn over_ssh() -> Self {
        let world = World::with_redis().await;
        let sshd = Sshd::start(world.path("sshd")).await.unwrap();
        Self::of(world, Some(sshd))
    }

    fn of(world: World, sshd: Option<Sshd>) -> Self {
        let right = Self { world, sshd };
        right.write(&right.keys());
        let build = right.world.submit_stack();
        right.world.phabricator.answered(&build.target, 200);
        right
    }

    /// The keys of the section `events`, each with its value.
    fn keys(&self) -> Vec<(&'static str, String)> {
        let world = &self.world;
        let source = world.repositories.source.display();
        let target = &world.repositories.try_repository;
        let try_keys = match &self.sshd {
            Some(sshd) => format!(
                "try_url: \"{}\", ssh_user: {}, ssh_key: \"{}\"",
                sshd.url(target),
                sshd.user(),
                self.key()
            ),
            None => format!("try_url: {}", target.display()),
        };
        let repository = format!("[{{name: product, url: {source}, {try_keys}}}]");
        let token = secrecy::ExposeSecret::expose_secret(&world.phabricator.token()).to_owned();
        let phabricator = format!(
            "{{url: \"{}\", api_key: \"{token}\", publish: true}}",
            world.phabricator.url()
        );
        let known_hosts = self.sshd.as_ref().map(Sshd::known_hosts);
        let known_hosts = known_hosts.map(|file| ("known_hosts", file.display().to_string()));
        let mut keys = vec![
            ("PHABRICATOR", phabricator),
            (
                "build_plan_phid",
                world.phabricator.build_plan().to_string(),
            ),
            ("webhook_secret", "0123456789abcdef".to_owned()),
            ("clones_dir", world.path("clones").display().to_string()),
            ("repositories", repository),
        ];
        keys.extend(known_hosts);
        keys
    }

    fn sshd(&mut self) -> &mut Sshd {
        self.sshd.as_mut().unwrap()
    }

    /// The private key, as it stands in the configuration.
    fn key(&self) -> String {
        let key = self.sshd.as_ref().unwrap().private_key().unwrap();
        key.replace('\n', "\\n")
    }

    fn write(&self, keys: &[(&'static str, String)]) {
        let lines: String = keys
            .iter()
            .map(|(key, value)| format!("  {key}: {value}\n"))
            .collect();
        std::fs::write(self.world.path("config.yml"), format!("events:\n{lines}")).unwrap();
    }

    async fn check(&self) -> Said {
        self.world.events(&["check-config", "--online"]).await
    }

    /// Checks with one key changed, and then with the right one again.
    async fn check_with(&self, key: &'static str, value: impl Fn(&str) -> String) -> Said {
        let mut keys = self.keys();
        let known = keys.iter_mut().find(|(name, _)| *name == key).unwrap();
        known.1 = value(&known.1);
        self.write(&keys);
        let said = self.check().await;
        self.write(&self.keys());
        said
    }

    /// Checks with another build plan, and then with the right one again.
    async fn check_plan(&self, edit: impl FnOnce(&mut Plan)) -> Said {
        let phabricator = &self.world.phabricator;
        let mut before = None;
        phabricator.edit_build_plan(&phabricator.build_plan(), |plan| {
            before = Some(plan.clone());
            edit(plan);
        });
        let said = self.check().await;
        phabricator.edit_build_plan(&phabricator.build_plan(), |plan| *plan = before.unwrap());
        said
    }
}

/// The one line that failed.
fn failed(said: &Said) -> &str {
    let mut failed = said.out.lines().filter(|line| line.starts_with("FAILED"));
    let line = failed
        .next()
        .unwrap_or_else(|| panic!("nothing failed: {said:?}"));
    assert_eq!((failed.next(), said.code), (None, Some(1)), "{said:?}");
    assert_eq!(said.err, "events: 1 check failed\n");
    line
}

fn has(said: &Said, verdict: &str, parts: &[&str]) {
    let fits =
        |line: &str| line.starts_with(verdict) && parts.iter().all(|part| line.contains(part));
    assert!(
        said.out.lines().any(fits),
        "{verdict} {parts:?} in\n{}",
        said.out
    );
}

#[tokio::test]
async fn everything_that_a_build_needs_is_looked_at_and_said_how() {
    let right = Right::over_ssh().await;
    let said = right.check().await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    for (verdict, parts) in [
        ("ok", &["redis: "][..]),
        (
            "ok",
            &[
                "phabricator ",
                "user.whoami accepts the token, our user is bot",
            ],
        ),
        (
            "ok",
            &["names on phabricator: it knows every configured name"],
        ),
        ("ok", &["PHABRICATOR.publish: answers are written"]),
        (
            "ok",
            &[
                "build plan PHID-HMCP-",
                "harbormaster.buildplan.search finds it: code review, enabled",
            ],
        ),
        ("ok", &["Hold Drafts of build plan", "Never"]),
        (
            "ok",
            &["build step: harbormaster.step.search finds Notify code review"],
        ),
        (
            "BY HAND",
            &[
                "build step: its settings cannot be read through Conduit",
                "Wait For Message",
            ],
        ),
        ("ok", &["Herald rule: 1 of the newest 1 builds"]),
        (
            "BY HAND",
            &[
                "Herald rule: its type cannot be read through Conduit",
                "Differential Revision",
            ],
        ),
        (
            "ok",
            &[
                "rights of our user: our user sees the newest build and its target",
                "nothing was sent",
            ],
        ),
        (
            "ok",
            &["the clones directory ", "it can be written", "free"],
        ),
        (
            "ok",
            &["the ssh key of product", "ssh-ed25519", "ssh-keygen"],
        ),
        ("ok", &["the known host keys", "1 lines"]),
        (
            "ok",
            &["the source of product: tip is changeset", "hg identify"],
        ),
        (
            "ok",
            &[
                "try, to which product is pushed",
                "the right to push was not tried",
            ],
        ),
    ] {
        has(&said, verdict, parts);
    }
    assert!(
        !said.out.contains("api-fake") && !said.out.contains("PRIVATE KEY"),
        "{}",
        said.out
    );
    assert_eq!(
        right.world.repositories.try_changesets().await.unwrap(),
        0,
        "nothing was pushed"
    );
    assert!(
        !right.world.path("clones/product").exists(),
        "nothing was cloned"
    );
}

#[tokio::test]
async fn each_fault_of_a_repository_is_found() {
    let mut right = Right::over_ssh().await;
    let wrong = right.sshd().wrong_key().unwrap().replace('\n', "\\n");
    let key = right.key();
    let said = right
        .check_with("repositories", |value| value.replace(&key, &wrong))
        .await;
    assert!(
        failed(&said).contains("try, to which product is pushed: ")
            && said.out.contains("Permission denied")
    );

    let said = right
        .check_with("repositories", |value| {
            value.replace(
                "name: product,",
                "name: product, default_revision: nowhere,",
            )
        })
        .await;
    assert!(
        failed(&said)
            .contains("the source of product: product has no revision nowhere at its source"),
        "{said:?}"
    );

    let source = right.world.repositories.source.display().to_string();
    let gone = right.world.path("gone").display().to_string();
    let said = right
        .check_with("repositories", |value| value.replace(&source, &gone))
        .await;
    assert!(
        failed(&said).contains("the source of product: "),
        "{said:?}"
    );

    let other = right.world.path("other");
    std::fs::create_dir(&other).unwrap();
    hg(&other, &["init"]).await.unwrap();
    std::fs::write(other.join("file"), "x").unwrap();
    hg(
        &other,
        &[
            "commit",
            "--addremove",
            "--user=x",
            "--message=another repository",
        ],
    )
    .await
    .unwrap();
    let try_repository = right.world.repositories.try_repository.clone();
    let [try_url, other] = [try_repository, other].map(|path| right.sshd().url(&path));
    let said = right
        .check_with("repositories", |value| value.replace(&try_url, &other))
        .await;
    assert!(
        failed(&said).contains("try is another repository than product"),
        "{said:?}"
    );

    let said = right
        .check_with("clones_dir", |_| "/proc/clones".to_owned())
        .await;
    has(&said, "FAILED", &["the clones directory /proc/clones"]);
    assert_eq!(said.code, Some(1));

    right.sshd().change_host_key().await.unwrap();
    let said = right.check().await;
    assert!(
        failed(&said).contains("try, to which product is pushed: "),
        "{said:?}"
    );
}

#[tokio::test]
async fn a_broken_key_and_missing_host_keys_are_named_for_themselves() {
    let right = Right::over_ssh().await;
    let key = right.key();
    let broken = key.replace("KEY-----\\n", "KEY-----\\nAAAA");
    let said = right
        .check_with("repositories", |value| value.replace(&key, &broken))
        .await;
    has(&said, "FAILED", &["the ssh key of product: "]);
    assert_eq!(said.code, Some(1));
    let said = right
        .check_with("known_hosts", |_| "/nonexistent/known_hosts".to_owned())
        .await;
    has(
        &said,
        "FAILED",
        &[
            "the known host keys /nonexistent/known_hosts",
            "No such file",
        ],
    );
    has(
        &said,
        "FAILED",
        &[
            "try, to which product is pushed",
            "Host key verification failed",
        ],
    );
}

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
        &["names, publish, build plan and rights: were not looked at"],
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
    keys.extend([
        ("pulse_url", "amqp://127.0.0.1:9".to_owned()),
        ("pulse_user", "us".to_owned()),
        ("pulse_password", "hunter2".to_owned()),
    ]);
    right.write(&keys);
    let said = right.check().await;
    assert!(
        failed(&said).contains("pulse 127.0.0.1:9") && !said.out.contains("hunter2"),
        "{said:?}"
    );

    let mut keys = right.keys();
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = format!("http://{}/hunter2", receiver.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(receiver, axum::Router::new()).await });
    let smtp = "{host: 127.0.0.1, port: 9, email: a@example.com, tls: none}";
    let webhook = format!("{{url: '{hook}', secret: 0123456789abcdefg}}");
    keys.push((
        "notify",
        format!("{{services: [smtp, webhook], smtp: {smtp}, webhook: {webhook}}}"),
    ));
    right.write(&keys);
    let said = right.check().await;
    assert!(
        failed(&said).contains("channel smtp: ") && failed(&said).contains("127.0.0.1:9"),
        "{said:?}"
    );
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
    let mut command = right.world.command(&["check-config", "--online"]);
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
}
