//! The ingestion edge of telemetry.mozilla.org, which receives the pings.

use std::{fmt, sync::Arc};

use jsonschema::Validator;
use reqwest::StatusCode;
use runtime::Clock;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    Ping, TelemetryError,
    http::{HttpClient, open, sanitized, unexpected},
};

/// The schema of the pings, as the ingestion publishes it.
const SCHEMA: &str = include_str!("hgpush.1.schema.json");
const SCHEMA_NAME: &str = "hgpush.1";

/// The parts of a ping's address: `<base>/<namespace>/<doctype>/<version>/<id>`.
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

/// A client of the ingestion edge. The edge responds before it validates a ping, and drops an invalid one silently, so this
/// client validates first.
#[derive(Clone)]
pub struct Edge {
    /// The address without the ping's id.
    address: Url,
    schema: Arc<Validator>,
    http: HttpClient,
}

impl fmt::Debug for Edge {
    /// Shows only the host: an address may contain a password.
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
        let invalid = |problem: String| TelemetryError::InvalidSettings { problem };
        let names = [&settings.namespace, &settings.doctype, &settings.version];
        if names
            .iter()
            .any(|name| matches!(name.as_str(), "" | "." | ".."))
        {
            return Err(invalid(
                "the ping's namespace, doctype and version need names".to_owned(),
            ));
        }
        let mut address = settings.base.clone();
        address
            .path_segments_mut()
            .map_err(|()| invalid("the telemetry edge needs an http address".to_owned()))?
            .pop_if_empty()
            .extend(names);
        let unusable = |problem: String| {
            invalid(format!(
                "the schema {SCHEMA_NAME} cannot be used: {problem}"
            ))
        };
        let schema: Value =
            serde_json::from_str(SCHEMA).map_err(|error| unusable(error.to_string()))?;
        let schema = jsonschema::options()
            .offline()
            .build(&schema)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            address,
            schema: Arc::new(schema),
            http: HttpClient::new(http, clock),
        })
    }

    fn address_of(&self, ping: &Ping) -> Url {
        let mut address = self.address.clone();
        if let Ok(mut segments) = address.path_segments_mut() {
            segments.push(&ping.changeset_id.ping_id().to_string());
        }
        address
    }

    /// Validates a ping against the schema and sends it. Repeats are harmless: the ping has the id of its changeset.
    pub async fn send(&self, ping: &Ping) -> Result<(), TelemetryError> {
        let body = self.check(ping)?.to_string();
        let address = self.address_of(ping);
        let node = &ping.changeset_id;
        let call = format!("the ping of changeset {node} to the telemetry edge");
        let send = || async {
            let request = self.http.put(&address);
            let request = request
                .header("Content-Type", "application/json")
                .body(body.clone());
            let status = open(&call, request, 0).await?.status();
            if status == StatusCode::OK {
                return Ok(());
            }
            Err(match advice(status.as_u16()) {
                Some(advice) => TelemetryError::Rejected {
                    node: node.to_string(),
                    status: status.as_u16(),
                    advice,
                },
                None => unexpected(&call, status),
            })
        };
        self.http.with_retries(send).await
    }

    /// The ping as valid JSON.
    pub(crate) fn check(&self, ping: &Ping) -> Result<Value, TelemetryError> {
        let violation = |place: String, problem: String| TelemetryError::SchemaViolation {
            node: ping.changeset_id.to_string(),
            schema: SCHEMA_NAME,
            place,
            problem: sanitized(&problem),
        };
        let json = serde_json::to_value(ping)
            .map_err(|error| violation(String::new(), error.to_string()))?;
        self.schema
            .validate(&json)
            .map_err(|error| violation(error.instance_path().to_string(), error.to_string()))?;
        Ok(json)
    }
}

/// The remedy for a status that is permanent according to the ingestion's documentation.
fn advice(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "the request is malformed: check the namespace, doctype and version",
        404 => "the namespace is unknown: check TMO_PING_NAMESPACE and TMO_BASE_URL",
        405 => "PUT is not allowed there: check TMO_BASE_URL",
        411 => "the request has no length: does a proxy drop it?",
        413 => "it is too large",
        414 => "its address is too long: check TMO_BASE_URL and the names of the ping",
        _ => return None,
    })
}
