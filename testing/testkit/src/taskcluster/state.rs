//! What the fake holds.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use runtime::Clock;
use serde_json::Value;
use url::Url;

use super::{
    auth::Client,
    hooks::{Hook, Trigger},
    notify::Mail,
    tasks::Task,
};

pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) root: Url,
    pub(super) clients: BTreeMap<String, Client>,
    /// Client and nonce of every request.
    pub(super) nonces: HashSet<(String, String)>,
    /// By group and id.
    pub(super) hooks: BTreeMap<(String, String), Hook>,
    pub(super) triggers: Vec<Trigger>,
    pub(super) tasks: BTreeMap<String, Task>,
    /// The tasks' ids in order of creation.
    pub(super) created: Vec<String>,
    /// The most tasks that a page of a group has.
    pub(super) page: usize,
    /// Task ids by namespace.
    pub(super) index: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Value>,
    pub(super) mails: Vec<Mail>,
    pub(super) denied: BTreeSet<String>,
}

impl State {
    pub(super) fn new(clock: Arc<dyn Clock>, root: Url) -> Self {
        let client = Client::root();
        Self {
            clock,
            root,
            clients: BTreeMap::from([(client.id.clone(), client)]),
            nonces: HashSet::new(),
            hooks: BTreeMap::new(),
            triggers: Vec::new(),
            tasks: BTreeMap::new(),
            created: Vec::new(),
            page: 1000,
            index: BTreeMap::new(),
            secrets: BTreeMap::new(),
            mails: Vec::new(),
            denied: BTreeSet::new(),
        }
    }

    /// A new slug id: a random UUID in url-safe base64.
    pub(super) fn slug_id(&self) -> String {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.clock.random().to_be_bytes());
        bytes[8..].copy_from_slice(&self.clock.random().to_be_bytes());
        // The bits that say "random UUID", and one that keeps a dash from the beginning.
        bytes[0] &= 0x7f;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        URL_SAFE_NO_PAD.encode(bytes)
    }
}
