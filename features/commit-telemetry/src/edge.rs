//! The ingestion edge: where pings are sent.

use std::{fmt, sync::Arc};

use jsonschema::Validator;
use reqwest::StatusCode;
use runtime::Clock;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    Ping, TelemetryError,
    call::{Answer, Caller, short},
};

/// The schema of the pings, as the ingestion publishes it.
const SCHEMA: &str = include_str!("hgpush.1.schema.json");
/// What it is called.
const SCHEMA_NAME: &str = "hgpush.1";

/// Where the pings go: `<base>/<namespace>/<doctype>/<version>/<id>`.
#[derive(Debug, Clone, Deserialize)]
pub struct EdgeSettings {
    /// The address of the ingestion, such as `https://incoming.telemetry.mozilla.org/submit`.
    pub base: Url,
    /// The namespace of the ping.
    pub namespace: String,
    /// The name of the ping.
    pub doctype: String,
    /// The version of the ping's schema.
    pub version: String,
}

/// The ingestion edge. It answers before it has looked into a ping, and drops what does not fit its schema, so that is
/// found out here.
#[derive(Clone)]
pub struct Edge {
    /// The address without the ping's id.
    address: Url,
    schema: Arc<Validator>,
    caller: Caller,
}

impl fmt::Debug for Edge {
    /// An address may hold a password, so only the host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("host", &self.address.host_str())
            .finish_non_exhaustive()
    }
}

impl Edge {
    /// A client of the ingestion. `http` must not follow redirects.
    pub fn new(
        settings: &EdgeSettings,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TelemetryError> {
        let setup = |problem: String| TelemetryError::Setup { problem };
        let mut address = settings.base.clone();
        let names = [&settings.namespace, &settings.doctype, &settings.version];
        if names
            .iter()
            .any(|name| matches!(name.as_str(), "" | "." | ".."))
        {
            return Err(setup(
                "the ping's namespace, doctype and version need names".to_owned(),
            ));
        }
        address
            .path_segments_mut()
            .map_err(|()| setup("the telemetry edge needs an http address".to_owned()))?
            .pop_if_empty()
            .extend(names);
        let wrong = |problem: String| {
            setup(format!(
                "the schema {SCHEMA_NAME} cannot be used: {problem}"
            ))
        };
        let schema: Value =
            serde_json::from_str(SCHEMA).map_err(|problem| wrong(problem.to_string()))?;
        let schema = jsonschema::options()
            .offline()
            .build(&schema)
            .map_err(|problem| wrong(problem.to_string()))?;
        Ok(Self {
            address,
            schema: Arc::new(schema),
            caller: Caller::new(http, clock),
        })
    }

    /// Where a ping is sent.
    pub fn address_of(&self, ping: &Ping) -> Url {
        let mut address = self.address.clone();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.push(&ping.changeset_id.ping_id().to_string());
        }
        address
    }

    /// Sends a ping, after a look at whether it fits the schema. To send it again does no harm: its id is the changeset's.
    pub async fn send(&self, ping: &Ping) -> Result<(), TelemetryError> {
        let body = self.check(ping)?.to_string();
        let address = self.address_of(ping);
        let call = format!(
            "the ping of changeset {} to the telemetry edge",
            ping.changeset_id
        );
        let send = || async {
            let request = self
                .caller
                .http
                .put(address.clone())
                .header("Content-Type", "application/json");
            let answer = Answer::of(&call, request.body(body.clone())).await?;
            match answer.status() {
                StatusCode::OK => Ok(()),
                status => match advice(status.as_u16()) {
                    Some(advice) => {
                        let node = ping.changeset_id.to_string();
                        Err(TelemetryError::Refused {
                            node,
                            status: status.as_u16(),
                            advice,
                        })
                    }
                    None => Err(answer.unexpected()),
                },
            }
        };
        self.caller.retried(send).await
    }

    /// The ping as JSON that fits the schema.
    pub(crate) fn check(&self, ping: &Ping) -> Result<Value, TelemetryError> {
        let unfit = |place: String, problem: String| {
            let node = ping.changeset_id.to_string();
            TelemetryError::Unfit {
                node,
                schema: SCHEMA_NAME,
                place,
                problem: short(&problem),
            }
        };
        let json =
            serde_json::to_value(ping).map_err(|error| unfit(String::new(), error.to_string()))?;
        match self.schema.validate(&json) {
            Ok(()) => Ok(json),
            Err(error) => Err(unfit(error.instance_path().to_string(), error.to_string())),
        }
    }
}

/// What to do about an answer that will not change. The ingestion documents these.
fn advice(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "it takes the request for no ping: check the namespace, doctype and version",
        404 => "it does not know the namespace: check TMO_PING_NAMESPACE and TMO_BASE_URL",
        405 => "it takes no PUT there: check TMO_BASE_URL",
        411 => "it misses the length: is there a proxy between that drops it?",
        413 => "it is too large",
        414 => "its address is too long: check TMO_BASE_URL and the names of the ping",
        _ => return None,
    })
}
