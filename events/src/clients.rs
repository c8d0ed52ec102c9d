//! Clients of the services that the configuration and the environment name.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use http_client::{Networks, PublicClient};
use pulse::PulseSettings;
use runtime::Clock;
use taskcluster::{Credentials, Taskcluster};
use url::Url;

use crate::{
    config::{FIREFOX, PulseConfig, TaskclusterConfig},
    environment::variable,
};

/// The longest that one HTTP request to a service may take. A raw diff can be large.
pub(crate) const REQUEST: Duration = Duration::from_secs(60);

/// The longest that one HTTP request to Taskcluster may take. Whoever finds that another delivery was about to trigger a
/// hook waits for longer than all tries of one call take.
const TASKCLUSTER_REQUEST: Duration = Duration::from_secs(30);

/// A client, and one of the same deployment under its public address, for what is public.
type Clients = (Taskcluster, Taskcluster);

/// The Taskcluster of Firefox: through a proxy where there is one, with the configured credentials, or with those of the
/// environment.
pub(crate) fn firefox(
    config: Option<&TaskclusterConfig>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Option<Clients>> {
    let http = http_client::client(TASKCLUSTER_REQUEST)?;
    let root = firefox_root(config)?;
    let public = client(root.clone(), None, clock)?;
    if let Some(proxy) = variable("TASKCLUSTER_PROXY_URL") {
        let proxy = url("TASKCLUSTER_PROXY_URL", &proxy)?;
        let proxied = Taskcluster::through_proxy(proxy, root, http, Arc::clone(clock));
        return Ok(Some((proxied.fetching_elsewhere(fetching()?), public)));
    }
    if let Some(config) = config {
        return configured(config, clock).map(Some);
    }
    let (client_id, token) = (
        variable("TASKCLUSTER_CLIENT_ID"),
        variable("TASKCLUSTER_ACCESS_TOKEN"),
    );
    let credentials = match (client_id, token) {
        (Some(client_id), Some(token)) => Credentials {
            client_id,
            access_token: token.into(),
            certificate: variable("TASKCLUSTER_CERTIFICATE").map(Into::into),
        },
        (None, None) => return Ok(None),
        _ => anyhow::bail!(
            "TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN belong together, and one of them is not set"
        ),
    };
    Ok(Some((client(root, Some(credentials), clock)?, public)))
}

/// The Taskcluster of Firefox for reading what is public: like [`firefox`], and without credentials where there are none.
pub(crate) fn firefox_to_read(
    config: Option<&TaskclusterConfig>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Clients> {
    if let Some(clients) = firefox(config, clock)? {
        return Ok(clients);
    }
    let public = client(firefox_root(config)?, None, clock)?;
    Ok((public.clone(), public))
}

fn firefox_root(config: Option<&TaskclusterConfig>) -> anyhow::Result<Url> {
    match (config, variable("TASKCLUSTER_ROOT_URL")) {
        (Some(config), _) => Ok(config.root_url.clone()),
        (None, Some(root)) => url("TASKCLUSTER_ROOT_URL", &root),
        (None, None) => url("the usual address", FIREFOX),
    }
}

/// A Taskcluster with the credentials of the configuration.
pub(crate) fn configured(
    config: &TaskclusterConfig,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Clients> {
    let TaskclusterConfig {
        root_url,
        client_id,
        access_token,
    } = config.clone();
    let credentials = Credentials {
        client_id,
        access_token,
        certificate: None,
    };
    Ok((
        client(root_url.clone(), Some(credentials), clock)?,
        client(root_url, None, clock)?,
    ))
}

/// A client of the deployment at `root`.
fn client(
    root: Url,
    credentials: Option<Credentials>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Taskcluster> {
    let client = Taskcluster::new(
        root,
        credentials,
        http_client::client(TASKCLUSTER_REQUEST)?,
        Arc::clone(clock),
    );
    Ok(client.fetching_elsewhere(fetching()?))
}

/// The client that fetches contents of artifacts, whose addresses tasks choose.
fn fetching() -> anyhow::Result<PublicClient> {
    Ok(http_client::public_client(
        TASKCLUSTER_REQUEST,
        Networks::default(),
    )?)
}

/// Our user on Pulse. The path of the address is the virtual host.
pub(crate) fn pulse(config: &PulseConfig) -> anyhow::Result<PulseSettings> {
    Ok(config.settings()?)
}

fn url(name: &str, text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    url.with_context(|| format!("{name} is not an http or https url"))
}
