//! The auth service: who calls, and what he may do.

use std::{str::FromStr, time::Duration};

use aws_lc_rs::{digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use hawk::Header;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    FakeTaskcluster,
    certificate::Certificate,
    request::{Refusal, Reply, Request},
    state::State,
};

/// The client that may do everything.
const ROOT: (&str, &str) = ("static/taskcluster/root", "the-root-client's-access-token");
/// What anyone may do: what the deployments of Mozilla leave open.
const ANONYMOUS: [&str; 5] = [
    "queue:get-artifact:public/*",
    "queue:get-task:*",
    "queue:status:*",
    "queue:list-task-group:*",
    "index:find-task:*",
];
/// How far a request's time may be off.
const SKEW: Duration = Duration::from_secs(60);

/// What a client shows.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The client's id.
    pub client_id: String,
    /// Its access token.
    pub access_token: SecretString,
    /// The certificate of temporary credentials, as JSON.
    pub certificate: Option<SecretString>,
}

/// A client of the auth service.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its id.
    pub id: String,
    /// Its access token.
    pub access_token: String,
    /// What it may do. A scope that ends in `*` stands for all that begin so.
    pub scopes: Vec<String>,
}

impl Client {
    pub(super) fn root() -> Self {
        Self {
            id: ROOT.0.to_owned(),
            access_token: ROOT.1.to_owned(),
            scopes: vec!["*".to_owned()],
        }
    }
}

impl FakeTaskcluster {
    /// Credentials that may do everything.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            client_id: ROOT.0.to_owned(),
            access_token: SecretString::from(ROOT.1),
            certificate: None,
        }
    }

    /// Temporary credentials of the client that may do everything, for `scopes` only and for an hour.
    pub fn temporary_credentials(&self, scopes: &[&str]) -> Credentials {
        let now = self.state().clock.now();
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let certificate = Certificate::issue(ROOT.1, scopes, now);
        Credentials {
            client_id: ROOT.0.to_owned(),
            access_token: SecretString::from(certificate.access_token(ROOT.1)),
            certificate: Some(SecretString::from(json!(certificate).to_string())),
        }
    }

    /// Adds a client, or replaces it.
    pub fn add_client(&self, client: Client) {
        self.state().clients.insert(client.id.clone(), client);
    }
}

/// Whoever calls.
pub(super) struct Caller {
    id: Option<String>,
    scopes: Vec<String>,
}

impl Caller {
    /// Verifies the signature, with the same checks as npm's `hawk` and in its words.
    pub(super) fn of(request: &Request, state: &mut State) -> Result<Self, Refusal> {
        let Some(header) = &request.authorization else {
            let client = request.proxied.then(Client::root);
            let scopes = ANONYMOUS.iter().map(|scope| (*scope).to_owned()).collect();
            return Ok(client.map_or(Self { id: None, scopes }, |client| Self::from(&client)));
        };
        if request.proxied {
            return Err(Refusal::unauthenticated(
                "A proxy signs itself: send no signature through it",
            ));
        }
        let header = header
            .strip_prefix("Hawk ")
            .and_then(|header| Header::from_str(header).ok());
        let header = header.ok_or_else(|| refused("Bad header format"))?;
        let id = header
            .id
            .clone()
            .ok_or_else(|| refused("Missing attributes"))?;
        let Some(client) = state.clients.get(&id).cloned() else {
            return Err(Refusal::unauthenticated(format!(
                "Client with clientId '{id}' not found"
            )));
        };
        let mut caller = Self::from(&client);
        let ext = header
            .ext
            .as_ref()
            .map(|ext| read_ext(ext))
            .transpose()?
            .unwrap_or_default();
        let mut key = client.access_token.clone();
        if let Some(certificate) = ext.get("certificate") {
            let certificate: Certificate = serde_json::from_value(certificate.clone())
                .map_err(|_| Refusal::unauthenticated("ext.certificate is not a certificate"))?;
            certificate
                .verify(&client.access_token, state.clock.now())
                .map_err(Refusal::unauthenticated)?;
            key = certificate.access_token(&client.access_token);
            caller.scopes = certificate.scopes;
        }
        verify(request, &header, &id, &key, state)?;
        if let Some(scopes) = ext.get("authorizedScopes").and_then(Value::as_array) {
            caller.scopes = scopes
                .iter()
                .filter_map(|scope| scope.as_str().map(str::to_owned))
                .collect();
        }
        Ok(caller)
    }

    /// Whether he may do what takes all of `scopes`.
    pub(super) fn needs_all(&self, scopes: &[String]) -> Result<(), Refusal> {
        let expression = serde_json::to_string_pretty(&json!({ "AllOf": scopes }))
            .unwrap_or_else(|error| error.to_string());
        self.satisfies(scopes, &expression)
    }

    /// Whether he may do what takes `scope`.
    pub(super) fn needs(&self, scope: String) -> Result<(), Refusal> {
        let expression = scope.clone();
        self.satisfies(&[scope], &expression)
    }

    fn satisfies(&self, scopes: &[String], expression: &str) -> Result<(), Refusal> {
        let missing: Vec<_> = scopes
            .iter()
            .filter(|scope| !self.has(scope))
            .map(String::as_str)
            .collect();
        match &self.id {
            _ if missing.is_empty() => Ok(()),
            None => Err(Refusal::scopes(format!(
                "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n\
                 ```\n{expression}\n```"
            ))),
            Some(id) => Err(Refusal::scopes(format!(
                "Client ID {id} does not have sufficient scopes and is missing the following scopes:\n\n\
                 ```\n{}\n```\n\n\
                 This request requires the client to satisfy the following scope expression:\n\n\
                 ```\n{expression}\n```",
                missing.join("\n")
            ))),
        }
    }

    fn has(&self, wanted: &str) -> bool {
        self.scopes
            .iter()
            .any(|scope| match scope.strip_suffix('*') {
                Some(start) => wanted.starts_with(start),
                None => scope == wanted,
            })
    }

    /// `auth.currentScopes`.
    pub(super) fn current_scopes(&self) -> Result<Reply, Refusal> {
        self.needs("auth:current-scopes".to_owned())?;
        Ok(Reply::Json(json!({ "scopes": self.scopes })))
    }
}

impl From<&Client> for Caller {
    fn from(client: &Client) -> Self {
        Self {
            id: Some(client.id.clone()),
            scopes: client.scopes.clone(),
        }
    }
}

fn refused(why: &str) -> Refusal {
    Refusal::unauthenticated(format!("Unauthorized: {why}"))
}

fn read_ext(ext: &str) -> Result<Value, Refusal> {
    let bytes = STANDARD.decode(ext).ok();
    let value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.ok_or_else(|| Refusal::unauthenticated("Failed to parse ext"))
}

fn verify(
    request: &Request,
    header: &Header,
    id: &str,
    key: &str,
    state: &mut State,
) -> Result<(), Refusal> {
    let (Some(ts), Some(nonce), Some(mac)) = (header.ts, &header.nonce, &header.mac) else {
        return Err(refused("Missing attributes"));
    };
    let sent = Timestamp::try_from(ts).map_err(|_| refused("Invalid timestamp"))?;
    if signature(request, header, key, sent.as_second(), nonce)[..] != mac[..] {
        return Err(refused("Bad mac"));
    }
    match &header.hash {
        // The real one lets this pass; but then what is sent is not what was signed.
        None if !request.body.is_empty() => return Err(refused("Missing required payload hash")),
        Some(hash) if *hash != payload_hash(&request.body) => {
            return Err(refused("Bad payload hash"));
        }
        _ => {}
    }
    if sent.duration_since(state.clock.now()).unsigned_abs() > SKEW + Duration::from_secs(1) {
        return Err(refused("Stale timestamp"));
    }
    if !state.nonces.insert((id.to_owned(), nonce.clone())) {
        return Err(refused("Invalid nonce"));
    }
    Ok(())
}

/// The signature that a request must have, after the description of Hawk and without the code of the client.
fn signature(request: &Request, header: &Header, key: &str, time: i64, nonce: &str) -> Vec<u8> {
    let Request {
        method,
        target,
        host,
        ..
    } = request;
    let (host, port) = host.rsplit_once(':').unwrap_or((host, "80"));
    let hash = header.hash.as_ref().map(|hash| STANDARD.encode(hash));
    let hash = hash.unwrap_or_default();
    let ext = header.ext.as_deref().unwrap_or_default();
    let text = format!(
        "hawk.1.header\n{time}\n{nonce}\n{method}\n{target}\n{host}\n{port}\n{hash}\n{ext}\n"
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn payload_hash(body: &[u8]) -> Vec<u8> {
    let text = [b"hawk.1.payload\napplication/json\n", body, b"\n"].concat();
    digest::digest(&digest::SHA256, &text).as_ref().to_vec()
}
