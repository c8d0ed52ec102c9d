//! A deployment: Redis, Phabricator, a source and a Try repository, and the program's processes.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use build::Phid;
use bus::{RedisBus, RedisOptions};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pulse::PulseSettings;
use runtime::{Clock, SystemClock};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use testkit::{
    RedisServer,
    phabricator::{
        BuildVariables, CreatedRevision, FakePhabricator, NewDiff, NewRevision, Target,
        harbormaster_request,
    },
    repositories::{Repositories, hg},
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};

/// How long anything may take before the test gives up on it.
const PATIENCE: Duration = Duration::from_secs(180);

pub struct World {
    pub phabricator: FakePhabricator,
    pub repositories: Repositories,
    pub redis: Option<RedisServer>,
    pub directory: TempDir,
    pub repository: Phid,
    /// The project whose revisions are private.
    pub secure: Phid,
    pub author: Phid,
}

/// The demo's repositories with the patches of its stack, which are made once and kept beside what is built, copied into
/// `directory`.
async fn copy_of_template(directory: &Path) -> Repositories {
    let mut hasher = DefaultHasher::new();
    include_str!("../../../testing/testkit/src/repositories.rs").hash(&mut hasher);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = built.join(format!("deployment-{:x}", hasher.finish()));
    if !template.exists() {
        let making = TempDir::new_in(built).unwrap();
        let made = Repositories::create(making.path()).await.unwrap();
        for (number, work) in made.work().await.unwrap().into_iter().enumerate() {
            let text = format!("{}\n{}", work.title, work.patch);
            std::fs::write(making.path().join(format!("patch-{number}")), text).unwrap();
        }
        std::fs::write(making.path().join("base"), made.base).unwrap();
        // Another test may have been faster: its template is as good.
        if std::fs::rename(making.path(), &template).is_ok() {
            let _ = making.keep();
        }
    }
    let copied = Command::new("cp")
        .arg("-a")
        .arg(template.join("."))
        .arg(directory)
        .status()
        .await
        .unwrap();
    assert!(copied.success(), "cannot copy {}", template.display());
    let base = std::fs::read_to_string(template.join("base")).unwrap();
    let copy = Repositories::at(directory, base);
    // The path in the template's own configuration is that of where it was made.
    let configuration = format!(
        "[paths]\ndefault = {}\n[phases]\npublish = False\n",
        copy.source.display()
    );
    std::fs::write(copy.try_repository.join(".hg/hgrc"), configuration).unwrap();
    copy
}

/// How a configuration names where these settings lead.
pub fn pulse_url(settings: &PulseSettings) -> String {
    match settings.vhost.as_str() {
        "/" => settings.address.to_string(),
        vhost => format!("{}/{vhost}", settings.address),
    }
}

impl World {
    /// Everything but the program, with a Redis.
    pub async fn with_redis() -> Self {
        let mut world = Self::alone().await;
        let place = world.path("redis");
        std::fs::create_dir(&place).unwrap();
        world.redis = Some(RedisServer::start(place).await.unwrap());
        world
    }

    /// Everything but the program and Redis.
    pub async fn alone() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repositories = copy_of_template(directory.path()).await;
        let phabricator = FakePhabricator::start(Arc::new(SystemClock)).await.unwrap();
        let repository = phabricator.add_repository("product");
        let secure = phabricator.add_project("secure-revision");
        let author = phabricator.add_user("zoe", "Zoë Example");
        let world = Self {
            phabricator,
            repositories,
            redis: None,
            directory,
            repository,
            secure,
            author,
        };
        let config = format!(
            "events:\n  PHABRICATOR: {{url: \"{}\", api_key: \"{}\", publish: true}}\n  clones_dir: {}\n  \
             repositories:\n    - {{name: product, url: {}, try_url: {}}}\n",
            world.phabricator.url(),
            world.phabricator.token().expose_secret(),
            world.path("clones").display(),
            world.repositories.source.display(),
            world.repositories.try_repository.display(),
        );
        std::fs::write(world.path("config.yml"), config).unwrap();
        world
    }

    /// Adds lines to the section `events` of the configuration.
    pub fn configure(&self, lines: &str) {
        let path = self.path("config.yml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, config + lines).unwrap();
    }

    /// The deployment's queues and records, past its processes.
    pub fn bus(&self) -> RedisBus {
        let url = self.redis.as_ref().unwrap().url().into();
        let options = RedisOptions {
            url,
            namespace: "events".to_owned(),
            ca: None,
            waiters: 1,
        };
        RedisBus::new(&options, &SystemClock).unwrap()
    }

    pub fn redis(&self) -> &RedisServer {
        self.redis.as_ref().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a process of the program.
    pub fn start(&self, role: &str) -> Process {
        self.start_with(role, &[])
    }

    /// Starts a process of the program with more in its environment.
    pub fn start_with(&self, role: &str, environment: &[(&str, &str)]) -> Process {
        let config = self.path("config.yml");
        let redis = self.redis.as_ref().map(RedisServer::url);
        let redis = redis.iter().map(|url| ("REDIS_URL", url.as_str()));
        let environment: Vec<_> = redis.chain(environment.iter().copied()).collect();
        Process::start(
            &[
                "run",
                role,
                "--config",
                config.to_str().unwrap(),
                "--grace",
                "1",
            ],
            &environment,
        )
    }

    /// Publishes a patch on top of `parent`.
    pub fn submit(
        &self,
        title: &str,
        patch: &str,
        parent: Option<&CreatedRevision>,
    ) -> CreatedRevision {
        let diff = NewDiff::new(patch).base(&self.repositories.base);
        let mut revision = NewRevision::new(title, &self.author, &self.repository, diff);
        if let Some(parent) = parent {
            revision = revision.parent(&parent.phid);
        }
        self.phabricator.create_revision(revision)
    }

    /// Publishes the stack of three and starts the build of its top.
    pub fn submit_stack(&self) -> BuildVariables {
        let mut top: Option<CreatedRevision> = None;
        for number in 0..3 {
            let work = std::fs::read_to_string(self.path(&format!("patch-{number}"))).unwrap();
            let (title, patch) = work.split_once('\n').unwrap();
            top = Some(self.submit(title, patch, top.as_ref()));
        }
        self.phabricator.start_build(top.unwrap().diff.id)
    }

    /// Sends Harbormaster's request for a build.
    pub async fn request(&self, web: SocketAddr, build: &BuildVariables) -> u16 {
        let (status, _) = harbormaster_request(web, build, None).await.unwrap();
        self.phabricator.answered(&build.target, status);
        status
    }

    pub fn target(&self, build: &BuildVariables) -> Target {
        self.phabricator.target(&build.target).unwrap()
    }

    /// Waits until the build has its link, and was told what was applied.
    pub async fn until_pushed(&self, build: &BuildVariables, process: &Process) -> String {
        let told = || {
            let target = self.target(build);
            !target.artifacts.is_empty() && !target.units.is_empty()
        };
        until("the link on the build", process, told).await;
        self.target(build).artifacts[0].data["uri"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// What the build was told, and what is on Try: exactly one answer and one head.
    pub async fn assert_pushed_once(&self, build: &BuildVariables, link: &str) {
        let heads = self.repositories.try_heads().await.unwrap();
        assert_eq!(heads.len(), 1, "one head on Try");
        assert_eq!(
            link,
            format!(
                "https://treeherder.mozilla.org/#/jobs?repo=try&revision={}",
                heads[0]
            )
        );
        let target = self.target(build);
        assert_eq!(target.artifacts.len(), 1);
        // A process that dies between saying it and noting that says it again.
        assert!(!target.units.is_empty());
        for unit in &target.units {
            assert_eq!(
                (&unit["name"], &unit["result"]),
                (&"mercurial".into(), &"pass".into()),
                "{unit:?}"
            );
        }
        assert!(
            target.messages.iter().all(|message| message == "work"),
            "{:?}",
            target.messages
        );
    }

    /// Files with their contents at the head of Try.
    pub async fn on_try(&self, file: &str) -> Result<String, String> {
        let arguments = ["cat", "--rev=tip", file];
        hg(&self.repositories.try_repository, &arguments)
            .await
            .map_err(|error| error.to_string())
    }

    /// A shell hook that says that it was reached, and waits for leave.
    pub fn gate(&self, repository: &Path, hook: &str) -> Gate {
        let (reached, open) = (
            self.path(&format!("{hook}-reached")),
            self.path(&format!("{hook}-open")),
        );
        let script = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.02; done",
            reached.display(),
            open.display()
        );
        let file = repository.join(".hg/hgrc");
        let mut text = std::fs::read_to_string(&file).unwrap_or_default();
        text.push_str(&format!("\n[hooks]\n{hook}.gate = {script}\n"));
        std::fs::write(file, text).unwrap();
        Gate { reached, open }
    }

    /// Command lines of processes that have to do with this world's directory.
    pub fn processes(&self) -> Vec<String> {
        let mine = self.directory.path().to_str().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        entries
            .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(mine) && !line.contains("redis-server"))
            .collect()
    }
}

pub struct Gate {
    reached: PathBuf,
    open: PathBuf,
}

impl Gate {
    pub async fn until_reached(&self, process: &Process) {
        until("the hook to be reached", process, || self.reached.exists()).await;
    }

    pub fn open(&self) {
        std::fs::write(&self.open, "").unwrap();
    }
}

/// A process of the program, and what it logs.
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Process {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_printing(arguments, environment, Stdio::null())
    }

    /// The same for a process whose standard output is of interest.
    pub fn start_printing(arguments: &[&str], environment: &[(&str, &str)], output: Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_events"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PORT", "0")
            .env("RUST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped())
            .envs(environment.iter().copied())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = log.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().push(line);
            }
        });
        Self { child, log, reader }
    }

    pub fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    pub async fn until_logged(&self, text: &str) {
        until(text, self, || self.log().contains(text)).await;
    }

    /// Where the web server listens.
    pub async fn address(&self) -> SocketAddr {
        self.until_logged("listening address=").await;
        let log = self.log();
        let (_, rest) = log.split_once("listening address=").unwrap();
        let port = rest
            .split_whitespace()
            .next()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(self.child.id().unwrap().cast_signed()),
            signal,
        )
        .unwrap();
    }

    /// Waits for its end. All that it said is in the log then.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("the process did not end:\n{}", self.log()),
        };
        if !self.reader.is_finished() {
            // A child of its own that outlives it may hold the pipe.
            let _ = tokio::time::timeout(Duration::from_secs(5), &mut self.reader).await;
        }
        status
    }

    /// SIGTERM, and a good end.
    pub async fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "{status}:\n{}", self.log());
    }
}

/// Waits until `condition` holds.
pub async fn until(what: &str, process: &Process, condition: impl Fn() -> bool) {
    let begun = SystemClock.now();
    while !condition() {
        let waited = SystemClock.now().duration_since(begun);
        assert!(
            waited.unsigned_abs() < PATIENCE,
            "waited in vain for {what}:\n{}",
            process.log()
        );
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
}
