//! `./dev demo`: one build from Harbormaster's request to the push on Try, in one process, with the program's own parts.
//! Only Phabricator is a fake; Mercurial or Git, and HTTP, are real.

mod story;

use std::{io, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use build::Phid;
use bus::MemoryBus;
use clap::Parser;
use events::{
    config::{Config, PhabricatorConfig, RepositoryConfig},
    features::{self, Pipeline},
    log_layer, print, signals,
};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use serde::Serialize;
use testkit::{
    phabricator::{
        BuildVariables, FakePhabricator, NewDiff, NewRevision, Target, TargetStatus,
        harbormaster_request,
    },
    repositories::{self, Repositories, Side},
};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
use worker::{GitSettings, TryMode, VcsSettings};

use self::story::Story;

/// The name of the demo's repository on Phabricator.
const REPOSITORY: &str = "product";

/// How long the build may take before something must be wrong.
const PATIENCE: Duration = Duration::from_secs(60);

/// Show a build from request to push, with a Phabricator and repositories of its own.
#[derive(Debug, Parser)]
#[command(name = "demo", version, max_term_width = 100)]
struct Demo {
    /// The same with Git, and without Mercurial
    #[arg(long)]
    git: bool,
    /// Outcome as one JSON line on standard output, and the story on standard error
    #[arg(long)]
    json: bool,
    /// Further builds after this one, until a signal
    #[arg(long)]
    keep: bool,
}

/// The outcome of the build; also its line for machines.
#[derive(Serialize)]
struct Outcome {
    outcome: &'static str,
    vcs: &'static str,
    revision: String,
    /// The ref at Try, with Git.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// The link that the build got.
    jobs_url: String,
    /// The same, with Mercurial.
    #[serde(skip_serializing_if = "Option::is_none")]
    treeherder_url: Option<String>,
    patches: usize,
    seconds: f64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Demo::parse();
    // One TLS provider for everything. It is set once, here, so setting it cannot fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match demo(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last line of a program that fails")]
fn complain(error: &anyhow::Error) {
    eprintln!("demo: {}", runtime::sanitize::plain(&format!("{error:#}")));
}

/// Runs the demo, and prints its story and outcome.
async fn demo(options: Demo) -> anyhow::Result<()> {
    let out: Box<dyn io::Write + Send> = if options.json {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    // Told until the end of the process.
    let story: &'static Story = Box::leak(Box::new(Story::new(|| SystemClock.now(), out)));
    tracing_subscriber::registry()
        .with(story)
        .with(log_layer("warn")?)
        .init();

    let directory = tempfile::Builder::new()
        .prefix("events-demo-")
        .tempdir()
        .context("cannot make a directory")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let side = if options.git {
        Side::Git
    } else {
        Side::Mercurial
    };
    let repositories = Repositories::create_with(side, directory.path()).await?;
    let phabricator = FakePhabricator::start(clock.clone())
        .await
        .context("cannot serve a phabricator")?;
    let repository = phabricator.add_repository(REPOSITORY);
    phabricator.add_project("secure-revision");
    let config = config(
        side,
        &phabricator,
        &repositories,
        &directory.path().join("clones"),
    );

    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let web = features::web(
        &(&config).into(),
        bus.clone(),
        clock.clone(),
        SocketAddr::from(([127, 0, 0, 1], 0)),
    )
    .await?;
    let address = web.address();
    let worker = Pipeline {
        config,
        bus,
        clock: clock.clone(),
    };
    let shutdown = Shutdown::new();
    signals::watch(shutdown.clone(), Duration::from_secs(5), clock.clone())
        .context("cannot watch for signals")?;
    let services: Vec<Box<dyn Service>> = vec![Box::new(web), Box::new(worker)];
    let mut running = tokio::spawn(run_services(services, shutdown.clone()));
    story.line(
        "ready",
        &format!(
            "web on http://{address}, phabricator on {}",
            phabricator.url()
        ),
    );

    let build = publish_stack(&phabricator, &repository, &repositories, story).await?;
    let built = async {
        let begun = clock.now();
        story.line(
            "request",
            &format!(
                "harbormaster asks for diff {} of D{}",
                build.diff_id, build.revision_id
            ),
        );
        ask(&phabricator, address, &build).await?;
        let target = tokio::select! {
            target = answer(&phabricator, &build.target, &clock) => target?,
            ended = &mut running => {
                ended.context("the program panicked")?.map_err(anyhow::Error::from_boxed)?;
                bail!("the program ended before the build was answered")
            }
        };
        let seconds = clock.now().duration_since(begun).as_secs_f64();
        outcome(side, &target, &repositories, seconds).await
    };
    let outcome = match built.await {
        Err(_) if shutdown.is_stopping() => bail!("interrupted before the build was answered"),
        outcome => outcome?,
    };
    tell(options.json, &outcome, &repositories, story).await?;

    if options.keep {
        let again = phabricator.start_build(build.diff_id);
        story.line(
            "keep",
            &format!(
                "for one more build, once (ctrl-c ends): {}",
                curl(address, &again)
            ),
        );
        shutdown.stopping().await;
    }
    shutdown.stop();
    running
        .await
        .context("the program panicked")?
        .map_err(anyhow::Error::from_boxed)
}

/// The configuration of a deployment on these parts.
fn config(
    side: Side,
    phabricator: &FakePhabricator,
    repositories: &Repositories,
    clones: &Path,
) -> Config {
    let vcs = match side {
        Side::Mercurial => VcsSettings::Mercurial,
        Side::Git => VcsSettings::Git(GitSettings::default()),
    };
    let repository = RepositoryConfig {
        name: REPOSITORY.to_owned(),
        url: repositories.source.display().to_string(),
        try_url: repositories.try_repository.display().to_string(),
        try_name: "try".to_owned(),
        try_mode: TryMode::Json,
        jobs_url: (side == Side::Git)
            .then(|| "https://ci.example.com/{branch}/{commit}".to_owned()),
        default_revision: vcs.default_revision().to_owned(),
        vcs,
        use_latest_revision: false,
        base_mapping: None,
        lando: None,
        ssh_user: None,
        ssh_key: None,
        clone_slots: 1,
    };
    let phabricator = PhabricatorConfig {
        url: phabricator.url().clone(),
        api_key: phabricator.token(),
        publish: true,
    };
    Config {
        clones_dir: clones.to_owned(),
        ..Config::new(phabricator, vec![repository])
    }
}

/// Publishes the developer's stack, and starts the build of its top.
async fn publish_stack(
    phabricator: &FakePhabricator,
    repository: &Phid,
    repositories: &Repositories,
    story: &Story,
) -> anyhow::Result<BuildVariables> {
    let author = phabricator.add_user("zoe", "Zoë Example");
    let mut below: Option<Phid> = None;
    let mut top = None;
    for work in repositories.work().await? {
        let raw = repositories::author().replacen("Zoë Example", "\"Zoë Example\"", 1);
        let diff = NewDiff::new(work.patch)
            .base(&repositories.base)
            .commit(raw, work.title);
        let mut revision = NewRevision::new(work.title, &author, repository, diff);
        if let Some(parent) = &below {
            revision = revision.parent(parent);
        }
        let created = phabricator.create_revision(revision);
        story.line("submitted", &format!("D{}: {}", created.id, work.title));
        below = Some(created.phid.clone());
        top = Some(created);
    }
    let top = top.context("there is no stack")?;
    Ok(phabricator.start_build(top.diff.id))
}

/// Harbormaster's request, and what its answer does to the target.
async fn ask(
    phabricator: &FakePhabricator,
    web: SocketAddr,
    build: &BuildVariables,
) -> anyhow::Result<()> {
    let (status, text) = harbormaster_request(web, build, None)
        .await
        .context("the request failed")?;
    phabricator.answered(&build.target, status);
    ensure!(
        status == 200,
        "the request was answered with {status}: {text}"
    );
    Ok(())
}

/// Waits until the target has its link, or its end.
async fn answer(
    phabricator: &FakePhabricator,
    target: &Phid,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Target> {
    let deadline = clock.now().checked_add(PATIENCE)?;
    while clock.now() < deadline {
        let target = phabricator
            .target(target)
            .context("the build target is gone")?;
        let ended = matches!(target.status, TargetStatus::Passed | TargetStatus::Failed);
        if ended || !target.artifacts.is_empty() {
            return Ok(target);
        }
        clock.sleep(Duration::from_millis(10)).await;
    }
    bail!("the build was not answered within {} s", PATIENCE.as_secs())
}

async fn outcome(
    side: Side,
    target: &Target,
    repositories: &Repositories,
    seconds: f64,
) -> anyhow::Result<Outcome> {
    let Some(link) = target
        .artifacts
        .first()
        .and_then(|artifact| artifact.data.get("uri")?.as_str())
    else {
        bail!(
            "the build ended without a link: {:?}, {:?}",
            target.status,
            target.units
        );
    };
    let heads = repositories.try_refs().await?;
    let [(revision, reference)] = heads.as_slice() else {
        bail!("Try has {} new heads, expected one", heads.len())
    };
    ensure!(
        link.ends_with(revision),
        "the link {link} does not lead to the head {revision}"
    );
    // The last commit tells the decision task what to do; the others are patches.
    let pushed = repositories.try_changesets().await?;
    Ok(Outcome {
        outcome: "pushed",
        vcs: match side {
            Side::Mercurial => "hg",
            Side::Git => "git",
        },
        revision: revision.clone(),
        reference: reference.clone(),
        jobs_url: link.to_owned(),
        treeherder_url: (side == Side::Mercurial).then(|| link.to_owned()),
        patches: pushed.saturating_sub(1),
        seconds: (seconds * 1000.0).round() / 1000.0,
    })
}

async fn tell(
    json: bool,
    outcome: &Outcome,
    repositories: &Repositories,
    story: &Story,
) -> anyhow::Result<()> {
    let Outcome {
        jobs_url,
        patches,
        seconds,
        ..
    } = outcome;
    story.line(
        "done",
        &format!("{patches} patches and the try configuration in {seconds:.2} s"),
    );
    if json {
        print(&serde_json::to_string(outcome)?)?;
    } else {
        print(&format!(
            "\nTry:\n{}\n\n{jobs_url}",
            repositories.try_log().await?.trim_end()
        ))?;
    }
    Ok(())
}

/// The request as a line for a shell.
fn curl(web: SocketAddr, build: &BuildVariables) -> String {
    let BuildVariables {
        diff_id,
        repository,
        revision_id,
        target,
    } = build;
    format!(
        "curl -X POST 'http://{web}/codereview/new?diff={diff_id}&repo={repository}&revision={revision_id}&target={target}'"
    )
}
