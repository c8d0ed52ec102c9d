//! The notifier on a bus in memory, with a Taskcluster that serves real HTTP.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod channels;
mod dispatch;
mod docs;
mod influx;
mod mail;
mod peers;
mod replay;
mod send;
mod templates;
mod throttle;
mod world;

// What a channel within the crate takes from its root, for the one that `docs` shows.
use notify::{
    Channel, ChannelError, Key, Notification, Opened, Parts, Registration, Settings, text,
};
