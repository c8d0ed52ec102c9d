//! Asks for builds as Harbormaster does: once each, and whoever does not answer 200 has failed the build permanently.

use std::{io, net::SocketAddr, time::Duration};

use runtime::{Clock, SystemClock};
use testkit::phabricator::{BuildVariables, harbormaster_request};
use tokio::task::JoinSet;

use super::{stage::SECRET, verify::Response};

/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// All requests that are under way.
#[derive(Default)]
pub struct Harbormaster {
    asking: JoinSet<Option<Answer>>,
}

/// The answer to the first request for a build.
#[derive(Debug)]
pub struct Answer {
    /// The number of the build.
    pub build: usize,
    /// The HTTP status; 0 when there was none.
    pub status: u16,
    /// What it means.
    pub response: Response,
}

impl Harbormaster {
    /// Asks for a build.
    pub fn ask(&mut self, web: SocketAddr, build: usize, variables: BuildVariables) {
        self.asking
            .spawn(async move { Some(ask(web, build, &variables).await) });
    }

    /// Sends a request after a while that was sent already. Nobody waits for its answer.
    pub fn ask_again(&mut self, web: SocketAddr, after: Duration, variables: BuildVariables) {
        self.asking.spawn(async move {
            SystemClock.sleep(after).await;
            let _ = tokio::time::timeout(PATIENCE, request(web, &variables)).await;
            None
        });
    }

    /// The answers that have come meanwhile.
    pub fn answers(&mut self) -> anyhow::Result<Vec<Answer>> {
        let mut answers = Vec::new();
        while let Some(answer) = self.asking.try_join_next() {
            answers.extend(answer?);
        }
        Ok(answers)
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.asking.is_empty()
    }
}

async fn request(web: SocketAddr, variables: &BuildVariables) -> io::Result<(u16, String)> {
    harbormaster_request(web, variables, Some(("harbormaster", SECRET))).await
}

async fn ask(web: SocketAddr, build: usize, variables: &BuildVariables) -> Answer {
    let (status, response) = match tokio::time::timeout(PATIENCE, request(web, variables)).await {
        Ok(Ok((200, _))) => (200, Response::Accepted),
        Ok(Ok((status, _))) => (status, Response::Unclear),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            (0, Response::NotConnected)
        }
        Ok(Err(_)) | Err(_) => (0, Response::Unclear),
    };
    Answer {
        build,
        status,
        response,
    }
}
