//! `matrix`: a notice in a room, by the client-server API: <https://spec.matrix.org/v1.16/client-server-api/>.
//!
//! The recipients are a section's `channels` that are rooms (`!id:server`, `#alias:server`); where it names none, the room of
//! the settings. Its other `channels` are IRC's.
//!
//! # Exactly once
//!
//! The name of the transaction in which a message is sent is made of the room and the notification. The homeserver answers
//! a name that it has seen from the same access token with the event that it made then, and makes no other: a sending that
//! is repeated, since nobody saw its answer, shows nothing new. Homeservers remember for a while only, which is longer than
//! a repeat takes.
//!
//! # Rooms
//!
//! An alias is resolved when it is first used, and remembered until its room takes nothing any more. To a room where we
//! are not a member we send once more after joining, where the room lets us. Messages are not encrypted.

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
/// How many aliases are remembered.
const MAX_ALIASES: usize = 1000;
/// What has to be set as `room`.
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
    /// The rooms of aliases.
    aliases: Mutex<HashMap<String, String>>,
}

/// An unsuccessful answer.
enum Denied {
    /// What it means whatever was asked for.
    Plainly(ChannelError),
    /// What it means depends on what was asked for.
    With {
        code: Option<String>,
        problem: String,
    },
}

/// The answer of a homeserver. Another server may answer without any of these fields.
#[derive(Default, Deserialize)]
struct Said {
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
        let sent = self.tell(notification, recipient, &content).await;
        if matches!(sent, Err(ChannelError::HardBounce { .. })) {
            self.aliases().remove(recipient);
        }
        sent
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let answer = self
            .call(
                Method::GET,
                &["account", "whoami"],
                None,
                "the question who we are",
            )
            .await;
        let said = answer.map_err(Denied::refused)?;
        let user = said.user_id.ok_or_else(|| self.senseless("user_id"))?;
        Ok(Checked {
            found: Some(format!(
                "{} accepts the token, our account is {}",
                self.host(),
                one_line(&user, 255)
            )),
            by_hand: Some(
                "whether our account may join rooms and write there, which people there would see"
                    .to_owned(),
            ),
        })
    }
}

impl Matrix {
    async fn tell(
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
            Err(Denied::With { code, .. }) if code.as_deref() == Some("M_FORBIDDEN") => {}
            other => return other.map_err(Denied::refused),
        }
        let room = self.join(recipient).await?.unwrap_or(room);
        // We are in the room. Whether it refuses our account or this text, nobody says, so nobody is muted for it.
        self.put(&room, &transaction(notification, &room), content)
            .await
            .map_err(|denied| {
                denied.advised(
                    "M_FORBIDDEN",
                    "let our account write there, or look at the server's filters",
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
        let answer = self
            .call(
                Method::GET,
                &["directory", "room", recipient],
                None,
                "the question for an alias",
            )
            .await;
        let said = answer.map_err(|denied| {
            let unknown = |code: &str| matches!(code, "M_NOT_FOUND" | "M_INVALID_PARAM");
            denied.bounced(
                recipient,
                "give a room this alias, or name another one",
                unknown,
            )
        })?;
        let room = said.room().ok_or_else(|| self.senseless("room_id"))?;
        self.remember(recipient, &room);
        Ok(room)
    }

    fn remember(&self, alias: &str, room: &str) {
        let mut aliases = self.aliases();
        if aliases.len() >= MAX_ALIASES {
            // Tasks that name more aliases than that have them requested again.
            aliases.clear();
        }
        aliases.insert(alias.to_owned(), room.to_owned());
    }

    async fn put(&self, room: &str, transaction: &str, content: &Value) -> Result<(), Denied> {
        let path = ["rooms", room, "send", "m.room.message", transaction];
        let said = self
            .call(Method::PUT, &path, Some(content), "a message")
            .await?;
        said.event_id
            .map(|_| ())
            .ok_or_else(|| Denied::Plainly(self.senseless("event_id")))
    }

    /// Joins the room of this name, and gives its id: an alias may have got another room than the one that is remembered.
    async fn join(&self, recipient: &str) -> Result<Option<String>, ChannelError> {
        let joined = self
            .call(
                Method::POST,
                &["join", recipient],
                Some(&json!({})),
                "our wish to join a room",
            )
            .await;
        let said = joined.map_err(|denied| {
            let shut = |code: &str| {
                matches!(
                    code,
                    "M_FORBIDDEN"
                        | "M_NOT_FOUND"
                        | "M_INVALID_PARAM"
                        | "M_INCOMPATIBLE_ROOM_VERSION"
                )
            };
            denied.bounced(recipient, "invite our account into the room", shut)
        })?;
        let room = said.room();
        if let Some(room) = room.as_deref().filter(|_| is_alias(recipient)) {
            self.remember(recipient, room);
        }
        Ok(room)
    }

    /// Calls the homeserver. `what` is what it answers, in words.
    async fn call(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
        what: &str,
    ) -> Result<Said, Denied> {
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
        let answer = http::ask(NAME, &format!("{what} to {host}"), request)
            .await
            .map_err(Denied::Plainly)?;
        let said: Said = answer.json().unwrap_or_default();
        if answer.status.is_success() {
            return Ok(said);
        }
        let code = said.errcode.as_deref().map(|code| one_line(code, 60));
        let words = match &code {
            Some(code) => {
                let error = said.error.as_deref().unwrap_or_default();
                format!("{code}: {}", http_client::redact(error, [&self.token], 200))
            }
            None => {
                "it does not speak as a homeserver does, set notify.matrix.homeserver to the address of one".to_owned()
            }
        };
        let problem = format!(
            "{host} answered {what} with http status {}: {words}",
            answer.status.as_u16()
        );
        Err(match (answer.status, code.as_deref()) {
            (StatusCode::TOO_MANY_REQUESTS, _) if said.retry_after_ms.is_some() => {
                let retry_after = said.retry_after_ms.map(Duration::from_millis);
                Denied::Plainly(ChannelError::Busy {
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
                Denied::Plainly(ChannelError::Credentials {
                    channel: NAME,
                    problem,
                })
            }
            _ => match http::passing(&answer, NAME, &problem) {
                Some(error) => Denied::Plainly(error),
                None => Denied::With { code, problem },
            },
        })
    }

    /// What is sent. No one is mentioned, whatever names the texts hold.
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

    fn senseless(&self, field: &str) -> ChannelError {
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

impl Said {
    /// The id of a room.
    fn room(self) -> Option<String> {
        self.room_id.filter(|id| is_room(id) && !is_alias(id))
    }
}

impl Denied {
    fn refused(self) -> ChannelError {
        match self {
            Self::Plainly(error) => error,
            Self::With { problem, .. } => ChannelError::Refused {
                channel: NAME,
                problem,
            },
        }
    }

    /// The same, with an advice for this code.
    fn advised(self, code: &str, advice: &str) -> ChannelError {
        match self {
            Self::With {
                code: Some(told),
                problem,
            } if told == code => ChannelError::Refused {
                channel: NAME,
                problem: format!("{problem}: {advice}"),
            },
            other => other.refused(),
        }
    }

    /// That `recipient` cannot be reached, where the homeserver says so with a code that `means` it.
    fn bounced(self, recipient: &str, advice: &str, means: impl Fn(&str) -> bool) -> ChannelError {
        match self {
            Self::With {
                code: Some(code),
                problem,
            } if means(&code) => ChannelError::HardBounce {
                channel: NAME,
                recipient: recipient.to_owned(),
                problem: format!("{problem}: {advice}"),
            },
            other => other.refused(),
        }
    }
}

/// The name of the transaction in which this notification is sent to this room. Two digests of the same task have other
/// lines.
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
