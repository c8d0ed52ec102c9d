//! `matrix`: a notice in a room, through the client-server API: <https://spec.matrix.org/v1.16/client-server-api/>.
//!
//! The recipients are the rooms among a section's `channels` (`!id:server`, `#alias:server`). If there is none, the
//! recipient is the room of the settings. The other `channels` are those of IRC.
//!
//! # Repeated messages
//!
//! The id of a message's transaction is a hash of the room and the notification. When the same access token sends a
//! transaction id again, the homeserver returns the event of the first request, and creates no second one. So a message
//! whose response was lost is sent again, and shown once. Homeservers keep transaction ids for a limited time, which is
//! longer than the time until an attempt is repeated.
//!
//! # Rooms
//!
//! An alias is resolved when it is first used, and cached until its room refuses a message. If our account is not in a
//! room, it joins the room and sends the message again. Messages are not encrypted.

mod room;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use async_trait::async_trait;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use self::room::is_alias;
pub(super) use self::room::is_room;
use super::http;
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    Templates,
    records::hash_id,
    text::{bounded, one_line},
};

const NAME: &str = "matrix";
const TEXT: &str = "matrix.txt";
const HTML: &str = "matrix.html";

/// The longest text, in bytes. With the HTML it has to fit into an event of 65,536 bytes, escaped as JSON.
const MAX_TEXT: usize = 12_000;
/// The longest HTML, in bytes. A longer one is left out: it cannot be cut.
const MAX_HTML: usize = 16_000;
/// The maximum number of cached aliases.
const MAX_ALIASES: usize = 1000;
/// The valid values of `room`, for errors.
const ROOM: &str = "the id (!…:server) or an alias (#…:server) of a room";

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("homeserver"),
        Key::new("access_token"),
        Key::new("room"),
    ],
    templates: &[
        (TEXT, include_str!("../../templates/matrix.txt")),
        (HTML, include_str!("../../templates/matrix.html")),
    ],
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let homeserver = http::address(settings, "homeserver")?;
    let token = settings.secret("access_token")?;
    if !token
        .expose_secret()
        .bytes()
        .all(|byte| byte.is_ascii_graphic())
    {
        return Err(settings.invalid("access_token", "a token without spaces"));
    }
    let room = settings.optional_text("room");
    if room.as_deref().is_some_and(|room| !is_room(room)) {
        return Err(settings.invalid("room", ROOM));
    }
    let (http, templates) = (parts.http.clone(), Arc::clone(parts.templates));
    Ok(Box::new(Matrix {
        homeserver,
        token,
        room,
        http,
        templates,
        aliases: Mutex::default(),
    }))
}

struct Matrix {
    homeserver: Url,
    token: SecretString,
    room: Option<String>,
    http: reqwest::Client,
    templates: Arc<Templates>,
    /// The ids of rooms, by alias.
    aliases: Mutex<HashMap<String, String>>,
}

/// The failure of a request.
enum Rejection {
    /// It has the same meaning for each request.
    Any(ChannelError),
    /// Its meaning depends on the request.
    Coded {
        code: Option<String>,
        problem: String,
    },
}

/// The body of a homeserver's response. That of another server may have none of these fields.
#[derive(Default, Deserialize)]
struct Body {
    errcode: Option<String>,
    error: Option<String>,
    retry_after_ms: Option<u64>,
    room_id: Option<String>,
    event_id: Option<String>,
    user_id: Option<String>,
}

#[async_trait]
impl Channel for Matrix {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, notification: &Notification) -> Vec<String> {
        let named: Vec<_> = notification
            .to
            .channels
            .iter()
            .filter(|name| is_room(name))
            .cloned()
            .collect();
        if named.is_empty() {
            self.room.iter().cloned().collect()
        } else {
            named
        }
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let content = self.content(notification)?;
        let sent = self.send_to_room(notification, recipient, &content).await;
        if matches!(sent, Err(ChannelError::HardBounce { .. })) {
            self.aliases().remove(recipient);
        }
        sent
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let response = self
            .call(
                Method::GET,
                &["account", "whoami"],
                None,
                "a request for our account",
            )
            .await;
        let body = response.map_err(Rejection::refused)?;
        let user = body.user_id.ok_or_else(|| self.missing_field("user_id"))?;
        Ok(Checked {
            found: Some(format!(
                "{} accepts the token, our account is {}",
                self.host(),
                one_line(&user, 255)
            )),
            by_hand: Some(
                "whether our account may join rooms and send messages there: a trial would be seen there"
                    .to_owned(),
            ),
        })
    }
}

impl Matrix {
    async fn send_to_room(
        &self,
        notification: &Notification,
        recipient: &str,
        content: &Value,
    ) -> Result<(), ChannelError> {
        let room = self.resolve(recipient).await?;
        match self
            .put(&room, &transaction(notification, &room), content)
            .await
        {
            Err(Rejection::Coded { code, .. }) if code.as_deref() == Some("M_FORBIDDEN") => {}
            other => return other.map_err(Rejection::refused),
        }
        let room = self.join(recipient).await?.unwrap_or(room);
        // Our account is in the room. The response does not tell whether the room refuses our account or this text, so
        // the room is not muted.
        self.put(&room, &transaction(notification, &room), content)
            .await
            .map_err(|rejection| {
                rejection.with_advice(
                    "M_FORBIDDEN",
                    "allow our account to send messages there, or check the server's filters",
                )
            })
    }

    /// The id of the room.
    async fn resolve(&self, recipient: &str) -> Result<String, ChannelError> {
        if !is_alias(recipient) {
            return Ok(recipient.to_owned());
        }
        if let Some(room) = self.aliases().get(recipient) {
            return Ok(room.clone());
        }
        let response = self
            .call(
                Method::GET,
                &["directory", "room", recipient],
                None,
                "a request to resolve an alias",
            )
            .await;
        let body = response.map_err(|rejection| {
            let unknown = |code: &str| matches!(code, "M_NOT_FOUND" | "M_INVALID_PARAM");
            rejection.hard_bounce(
                recipient,
                "give a room this alias, or name another one",
                unknown,
            )
        })?;
        let room = body.room().ok_or_else(|| self.missing_field("room_id"))?;
        self.cache_alias(recipient, &room);
        Ok(room)
    }

    fn cache_alias(&self, alias: &str, room: &str) {
        let mut aliases = self.aliases();
        if aliases.len() >= MAX_ALIASES {
            // Each alias is resolved again when it is next used.
            aliases.clear();
        }
        aliases.insert(alias.to_owned(), room.to_owned());
    }

    async fn put(&self, room: &str, transaction: &str, content: &Value) -> Result<(), Rejection> {
        let path = ["rooms", room, "send", "m.room.message", transaction];
        let body = self
            .call(Method::PUT, &path, Some(content), "a message")
            .await?;
        body.event_id
            .map(|_| ())
            .ok_or_else(|| Rejection::Any(self.missing_field("event_id")))
    }

    /// Joins a room, and returns its id. An alias may name another room by now than the cached one.
    async fn join(&self, recipient: &str) -> Result<Option<String>, ChannelError> {
        let joined = self
            .call(
                Method::POST,
                &["join", recipient],
                Some(&json!({})),
                "a request to join a room",
            )
            .await;
        let body = joined.map_err(|rejection| {
            let closed = |code: &str| {
                matches!(
                    code,
                    "M_FORBIDDEN"
                        | "M_NOT_FOUND"
                        | "M_INVALID_PARAM"
                        | "M_INCOMPATIBLE_ROOM_VERSION"
                )
            };
            rejection.hard_bounce(recipient, "invite our account into the room", closed)
        })?;
        let room = body.room();
        if let Some(room) = room.as_deref().filter(|_| is_alias(recipient)) {
            self.cache_alias(recipient, room);
        }
        Ok(room)
    }

    /// Sends a request to the homeserver. `what` names the request in errors.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        what: &str,
    ) -> Result<Body, Rejection> {
        let mut url = self.homeserver.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(["_matrix", "client", "v3"])
                .extend(path);
        }
        let mut request = self
            .http
            .request(method, url)
            .bearer_auth(self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let host = self.host();
        let response = http::ask(NAME, &format!("{what} to {host}"), request)
            .await
            .map_err(Rejection::Any)?;
        let body: Body = response.json().unwrap_or_default();
        if response.status.is_success() {
            return Ok(body);
        }
        let code = body.errcode.as_deref().map(|code| one_line(code, 60));
        let reason = match &code {
            Some(code) => {
                let error = body.error.as_deref().unwrap_or_default();
                format!("{code}: {}", http_client::redact(error, [&self.token], 200))
            }
            None => "it is not a homeserver: set notify.matrix.homeserver to the address of one"
                .to_owned(),
        };
        let problem = format!(
            "{host} answered {what} with http status {}: {reason}",
            response.status.as_u16()
        );
        Err(match (response.status, code.as_deref()) {
            (StatusCode::TOO_MANY_REQUESTS, _) if body.retry_after_ms.is_some() => {
                let retry_after = body.retry_after_ms.map(Duration::from_millis);
                Rejection::Any(ChannelError::Busy {
                    channel: NAME,
                    retry_after,
                    problem,
                })
            }
            (StatusCode::UNAUTHORIZED, _)
            | (
                _,
                Some(
                    "M_UNKNOWN_TOKEN" | "M_MISSING_TOKEN" | "M_USER_DEACTIVATED" | "M_USER_LOCKED",
                ),
            ) => {
                let problem = format!(
                    "{problem}: set notify.matrix.access_token to a token of an account that may log in"
                );
                Rejection::Any(ChannelError::Credentials {
                    channel: NAME,
                    problem,
                })
            }
            _ => match http::passing(&response, NAME, &problem) {
                Some(error) => Rejection::Any(error),
                None => Rejection::Coded { code, problem },
            },
        })
    }

    /// The content of the event. It mentions nobody, whatever names the texts contain.
    fn content(&self, notification: &Notification) -> Result<Value, ChannelError> {
        let text = self.templates.render(NAME, TEXT, notification)?;
        let html = self.templates.render(NAME, HTML, notification)?;
        let mut content =
            json!({ "msgtype": "m.notice", "body": bounded(&text, MAX_TEXT), "m.mentions": {} });
        if html.len() <= MAX_HTML {
            content["format"] = "org.matrix.custom.html".into();
            content["formatted_body"] = html.into();
        }
        Ok(content)
    }

    fn missing_field(&self, field: &str) -> ChannelError {
        let problem = format!(
            "{} answered with success and no {field}: set notify.matrix.homeserver to the address of a homeserver",
            self.host()
        );
        ChannelError::Failed {
            channel: NAME,
            problem,
        }
    }

    fn host(&self) -> &str {
        self.homeserver.host_str().unwrap_or_default()
    }

    fn aliases(&self) -> parking_lot::MutexGuard<'_, HashMap<String, String>> {
        self.aliases.lock()
    }
}

impl Body {
    /// The room id in it, if it is valid.
    fn room(self) -> Option<String> {
        self.room_id.filter(|id| is_room(id) && !is_alias(id))
    }
}

impl Rejection {
    fn refused(self) -> ChannelError {
        match self {
            Self::Any(error) => error,
            Self::Coded { problem, .. } => ChannelError::Refused {
                channel: NAME,
                problem,
            },
        }
    }

    /// The error of [`Self::refused`], with `advice` if the homeserver sent this code.
    fn with_advice(self, code: &str, advice: &str) -> ChannelError {
        match self {
            Self::Coded {
                code: Some(sent),
                problem,
            } if sent == code => ChannelError::Refused {
                channel: NAME,
                problem: format!("{problem}: {advice}"),
            },
            other => other.refused(),
        }
    }

    /// A hard bounce of `recipient`, if the homeserver sent a code for which `is_bounce` holds.
    fn hard_bounce(
        self,
        recipient: &str,
        advice: &str,
        is_bounce: impl Fn(&str) -> bool,
    ) -> ChannelError {
        match self {
            Self::Coded {
                code: Some(code),
                problem,
            } if is_bounce(&code) => ChannelError::HardBounce {
                channel: NAME,
                recipient: recipient.to_owned(),
                problem: format!("{problem}: {advice}"),
            },
            other => other.refused(),
        }
    }
}

/// The id of the transaction that sends this notification to this room. It includes the lines of a digest: a task may have
/// several digests.
fn transaction(notification: &Notification, room: &str) -> String {
    let key = notification.key();
    let lines = notification
        .digest
        .iter()
        .flat_map(|line| [line.link.as_str(), line.subject.as_str()]);
    hash_id(
        &[room, key.as_str()]
            .into_iter()
            .chain(lines)
            .collect::<Vec<_>>(),
    )
}
