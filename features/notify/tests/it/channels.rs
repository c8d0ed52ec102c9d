//! Each channel against its peer.

mod irc;
mod irc_sender;
mod irc_server;
mod log_collect;
mod matrix;
mod repulse;
mod ses;
mod slack;
mod smtp;
mod sns;
mod webhook;

use std::{collections::BTreeMap, sync::Arc};

use notify::{
    Channels, Links, LogLink, Notification, NotifiedTask, Parts, Recipients, SettingsError, Status,
    Templates,
};
use pulse::{PulseMessage, PulseSettings, Routing};
use runtime::{Clock, ManualClock};
use secrecy::SecretString;
use testkit::taskcluster::FakeTaskcluster;

use crate::world::{NOW, client, http};

/// A channel, set up from what stands in the file.
pub(crate) async fn open(name: &str, file: &[(&str, &str)]) -> Result<Channels, SettingsError> {
    open_with(name, file, &|_| None, None).await
}

/// A channel, set up from the file, the environment, and our user on Pulse. Its clock stands still at [`NOW`].
pub(crate) async fn open_with(
    name: &str,
    file: &[(&str, &str)],
    environment: &dyn Fn(&str) -> Option<String>,
    pulse: Option<&PulseSettings>,
) -> Result<Channels, SettingsError> {
    open_at(
        Arc::new(ManualClock::new(NOW.parse().unwrap())),
        name,
        file,
        environment,
        pulse,
    )
    .await
}

/// The same, by another clock.
pub(crate) async fn open_at(
    clock: Arc<dyn Clock>,
    name: &str,
    file: &[(&str, &str)],
    environment: &dyn Fn(&str) -> Option<String>,
    pulse: Option<&PulseSettings>,
) -> Result<Channels, SettingsError> {
    let still = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let fake = FakeTaskcluster::start(still.clone()).await.unwrap();
    let section = file
        .iter()
        .map(|(key, value)| ((*key).to_owned(), SecretString::from(*value)))
        .collect();
    let parts = Parts {
        templates: &Arc::new(Templates::ours().unwrap()),
        taskcluster: &client(&fake, &still),
        pulse,
        http: &http(),
        clock: &clock,
    };
    Channels::open(
        &[name.to_owned()],
        &BTreeMap::from([(name.to_owned(), section)]),
        environment,
        &parts,
    )
}

/// What a check of the channel found, or why it failed.
pub(crate) async fn checked(name: &str, file: &[(&str, &str)]) -> Result<String, String> {
    let channels = open(name, file).await.unwrap();
    let checked = channels
        .get(name)
        .unwrap()
        .check()
        .await
        .map_err(|error| error.to_string())?;
    assert_ne!(
        checked.by_hand, None,
        "something is left that only a notification shows"
    );
    Ok(checked.found.unwrap())
}

/// A failed build, of which two runs left logs.
pub(crate) fn notification(channel: &str, to: Recipients) -> Notification {
    let task = "https://taskcluster.example/tasks/bGmvC3EFTSWLcp5Kb5E12A";
    let log = |run_id| {
        LogLink {
        run_id,
        url: format!("https://taskcluster.example/api/queue/v1/task/bGmvC3EFTSWLcp5Kb5E12A/runs/{run_id}/artifacts/public/logs/live_backing.log")
            .parse()
            .unwrap(),
    }
    };
    let props = [
        ("branch", "mozilla-beta"),
        ("product", "firefox"),
        ("version", "51.0b1"),
        ("build_number", "2"),
        ("platform", "linux64"),
    ];
    Notification {
        channel: channel.to_owned(),
        identity: None,
        recipient: None,
        next: 0,
        status: Status::TaskFailed,
        task: NotifiedTask {
            id: "bGmvC3EFTSWLcp5Kb5E12A".to_owned(),
            name: "build-linux64/opt".to_owned(),
            group_id: "fNq1pK0NRKSlMhPvJ3zj5g".to_owned(),
            run_id: Some(1),
            runs: vec![0, 1],
            build_props: props.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        },
        artifact: None,
        subject: "build-linux64/opt failed".to_owned(),
        message: "The build failed.\nSee its log.".to_owned(),
        links: Links { task: task.parse().unwrap(), logs: vec![log(0), log(1)] },
        to,
        pulse: PulseMessage {
            routing: Routing {
                exchange: Status::TaskFailed.exchange(),
                key: "primary.bGmvC3EFTSWLcp5Kb5E12A.1.us-west-2.i-1.gecko.build.-.fNq1pK0NRKSlMhPvJ3zj5g._".to_owned(),
                other_routes: vec!["route.index.gecko".to_owned()],
            },
            body: br#"{"status":{"taskId":"bGmvC3EFTSWLcp5Kb5E12A"}}"#.to_vec().into(),
        },
        created_at: NOW.parse().unwrap(),
        digest: Vec::new(),
    }
}
