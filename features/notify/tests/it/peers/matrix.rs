//! A fake homeserver with tokens, rooms, members, aliases and transactions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::serve;

pub(crate) const TOKEN: &str = "syt_hunter2";
/// The user of [`TOKEN`].
const USER: &str = "@events:example.org";

/// The rights of our user in a room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Our user is a member.
    Member,
    /// Everybody may join.
    Public,
    /// Only invited users may join.
    InviteOnly,
    /// Everybody may join, and our user may not send.
    ReadOnly,
}

struct Room {
    access: Access,
    members: HashSet<String>,
    events: Vec<Value>,
}

#[derive(Default)]
pub(crate) struct Home {
    tokens: HashMap<String, String>,
    rooms: HashMap<String, Room>,
    aliases: HashMap<String, String>,
    /// The events of transactions, by token, room and id.
    transactions: HashMap<[String; 3], String>,
    /// The number of requests to resolve an alias.
    resolutions: usize,
    /// The responses to the next requests, instead of the usual ones.
    faults: Vec<(u16, Value)>,
    /// Whether messages are accepted, and the response is an error.
    loses_responses: bool,
}

#[derive(Clone)]
pub(crate) struct Homeserver {
    pub(crate) url: String,
    home: Arc<Mutex<Home>>,
}

impl Homeserver {
    pub(crate) async fn start() -> Self {
        let home = Arc::new(Mutex::new(Home::default()));
        home.lock().tokens.insert(TOKEN.to_owned(), USER.to_owned());
        let api = Router::new()
            .route("/directory/room/{alias}", get(resolve))
            .route("/join/{room}", post(join))
            .route("/account/whoami", get(whoami))
            .route("/rooms/{room}/send/m.room.message/{transaction}", put(send))
            .with_state(home.clone());
        let url = serve(Router::new().nest("/_matrix/client/v3", api)).await;
        Self { url, home }
    }

    fn home(&self) -> MutexGuard<'_, Home> {
        self.home.lock()
    }

    pub(crate) fn room(&self, id: &str, access: Access) {
        let members = if access == Access::Member {
            HashSet::from([USER.to_owned()])
        } else {
            HashSet::new()
        };
        self.home().rooms.insert(
            id.to_owned(),
            Room {
                access,
                members,
                events: Vec::new(),
            },
        );
    }

    pub(crate) fn alias(&self, alias: &str, room: &str) {
        self.home()
            .aliases
            .insert(alias.to_owned(), room.to_owned());
    }

    pub(crate) fn revoke(&self) {
        self.home().tokens.clear();
    }

    pub(crate) fn fail_next(&self, status: u16, body: Value) {
        self.home().faults.push((status, body));
    }

    /// Accepts messages from now on, and responds with an error.
    pub(crate) fn lose_responses(&self, lost: bool) {
        self.home().loses_responses = lost;
    }

    /// The number of requests to resolve an alias.
    pub(crate) fn resolutions(&self) -> usize {
        self.home().resolutions
    }

    /// The events of a room.
    pub(crate) fn events(&self, room: &str) -> Vec<Value> {
        self.home().rooms[room].events.clone()
    }
}

impl Home {
    /// The token and the user of a request, or an error response.
    fn authenticate(&mut self, headers: &HeaderMap) -> Result<(String, String), Box<Response>> {
        if let Some((status, body)) = self.faults.pop() {
            return Err(Box::new(
                (StatusCode::from_u16(status).unwrap(), Json(body)).into_response(),
            ));
        }
        let value = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(|value| value.strip_prefix("Bearer ")) else {
            return Err(Box::new(denied(
                401,
                "M_MISSING_TOKEN",
                "Missing access token",
            )));
        };
        match self.tokens.get(token) {
            Some(user) => Ok((token.to_owned(), user.clone())),
            None => Err(Box::new(denied(
                401,
                "M_UNKNOWN_TOKEN",
                "Invalid access token passed.",
            ))),
        }
    }
}

fn denied(status: u16, errcode: &str, error: &str) -> Response {
    (
        StatusCode::from_u16(status).unwrap(),
        Json(json!({ "errcode": errcode, "error": error })),
    )
        .into_response()
}

async fn resolve(
    State(home): State<Arc<Mutex<Home>>>,
    Path(alias): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut home = home.lock();
    if let Err(answer) = home.authenticate(&headers) {
        return *answer;
    }
    home.resolutions += 1;
    match home.aliases.get(&alias) {
        Some(room) => Json(json!({ "room_id": room, "servers": ["example.org"] })).into_response(),
        None => denied(
            404,
            "M_NOT_FOUND",
            &format!("Room alias {alias} not found."),
        ),
    }
}

async fn whoami(State(home): State<Arc<Mutex<Home>>>, headers: HeaderMap) -> Response {
    match home.lock().authenticate(&headers) {
        Ok((_, user)) => Json(json!({ "user_id": user, "device_id": "DEVICE" })).into_response(),
        Err(answer) => *answer,
    }
}

async fn join(
    State(home): State<Arc<Mutex<Home>>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut home = home.lock();
    let user = match home.authenticate(&headers) {
        Ok((_, user)) => user,
        Err(answer) => return *answer,
    };
    let id = home.aliases.get(&name).cloned().unwrap_or(name);
    match home.rooms.get_mut(&id) {
        None => denied(
            404,
            "M_UNKNOWN",
            "Can't join remote room because no servers that are in the room are known.",
        ),
        Some(room) if room.access == Access::InviteOnly => {
            denied(403, "M_FORBIDDEN", "You are not invited to this room.")
        }
        Some(room) => {
            room.members.insert(user);
            Json(json!({ "room_id": id })).into_response()
        }
    }
}

async fn send(
    State(home): State<Arc<Mutex<Home>>>,
    Path((id, transaction)): Path<(String, String)>,
    headers: HeaderMap,
    Json(content): Json<Value>,
) -> Response {
    let mut home = home.lock();
    let (token, user) = match home.authenticate(&headers) {
        Ok(known) => known,
        Err(answer) => return *answer,
    };
    if content.to_string().len() > 60_000 {
        return denied(413, "M_TOO_LARGE", "event too large");
    }
    let transaction = [token, id.clone(), transaction];
    if !home.transactions.contains_key(&transaction) {
        let Some(room) = home
            .rooms
            .get_mut(&id)
            .filter(|room| room.members.contains(&user))
        else {
            return denied(403, "M_FORBIDDEN", &format!("User {user} not in room {id}"));
        };
        if room.access == Access::ReadOnly {
            return denied(
                403,
                "M_FORBIDDEN",
                "You don't have permission to post that to the room.",
            );
        }
        room.events.push(content);
        let event = format!("${}", home.transactions.len());
        home.transactions.insert(transaction.clone(), event);
    }
    if home.loses_responses {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    Json(json!({ "event_id": home.transactions[&transaction] })).into_response()
}
