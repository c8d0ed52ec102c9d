//! What is about Mercurial: its command server, clones, imports and pushes, and what its output means.

pub(crate) mod apply;
pub(crate) mod changeset;
pub(crate) mod clone;
pub(crate) mod command_server;
pub(crate) mod framing;
pub(crate) mod locks;
pub(crate) mod manifest;
pub(crate) mod messages;
pub(crate) mod probe;
pub(crate) mod push;
pub(crate) mod rejects;
pub(crate) mod remote;
pub(crate) mod search;
