//! The notifier: sends the notifications that the definitions of tasks request.
//!
//! A [`Dispatcher`] handles a task's messages from Pulse, and creates one [`Notification`] for each (channel, identity) in
//! the task's definition. A [`Sender`] sends them over [`Channels`]: each to each recipient once a day at most, those beyond
//! the throttle as one [`Digest`], and none to a muted recipient. [`CHANNELS`] lists the implementations of [`Channel`].

mod aws;
mod channel;
mod channel_health;
mod channels;
mod dedup;
mod dispatch;
mod error;
mod event;
mod identities;
mod influx;
mod mail;
mod mutes;
mod notification;
mod placeholders;
mod preview;
mod records;
mod registration;
mod send;
mod settings;
mod task_limits;
mod task_section;
mod templates;
pub mod text;
mod throttle;

pub use channel::{Channel, ChannelError, Checked};
pub use channels::{CHANNELS, Channels};
pub use dispatch::{Dispatcher, Omission, Plan};
pub use error::DispatchError;
pub use event::replayed;
pub use identities::{Identities, IdentitiesError};
pub use influx::{InfluxRecorder, InfluxSettings, InfluxWriter};
pub use mutes::{Muted, muted, unmute};
pub use notification::{
    DigestLine, Links, LogLink, Notification, NotifiedTask, Recipients, Status,
};
pub use preview::preview;
pub use registration::{Opened, Parts, Registration};
pub use send::{SendError, Sender};
pub use settings::{Key, Settings, SettingsError, flag};
pub use templates::{TemplateError, Templates};
pub use throttle::Digest;
