//! The web server. It sends to the queues of builds, and administers every queue.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use bus::{Bus, Producer};
use runtime::Clock;
use web::{Version, WebServer, WebSettings};

use super::{admin, build_log};
use crate::config::WebConfig;

/// The web server at `address`: Harbormaster's requests go to `build:load`, and operators reach every queue.
pub async fn web(
    config: &WebConfig,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
) -> anyhow::Result<WebServer> {
    let version = Version::load(std::env::var_os("VERSION_PATH").map(PathBuf::from))?;
    let log = build_log(config.build_retention);
    let settings = WebSettings {
        admin: admin(bus.clone(), log.clone()),
        api_token: config.server.api_token.clone(),
        producer: Producer::new(bus, clock),
        log,
        secret: config.server.webhook_secret.clone(),
        version,
    };
    Ok(WebServer::bind(address, settings).await?)
}
