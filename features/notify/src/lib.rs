//! The notifier: what happens to tasks reaches people, as the tasks themselves ask for it.
//!
//! A [`Dispatcher`] makes one [`Notification`] for each (channel, identity) that a task names, from what Pulse says of the
//! task. A [`Sender`] sends them over [`Channels`]: each to each recipient once a day at most, too much at once as one
//! [`Digest`], and nothing to recipients that it cannot reach. [`CHANNELS`] lists every [`Channel`] there is.

mod aws;
mod channel;
mod channels;
mod dispatch;
mod error;
mod event;
mod fields;
mod flux;
mod identities;
mod mail;
mod memory;
mod notification;
mod preview;
mod registration;
mod section;
mod send;
mod settings;
mod share;
mod storm;
mod templates;
pub mod text;
mod trouble;

pub use channel::{Channel, ChannelError, Checked};
pub use channels::{CHANNELS, Channels};
pub use dispatch::{Dispatcher, Plan, Remark};
pub use error::DispatchError;
pub use event::replayed;
pub use flux::{Flux, FluxSettings, FluxWriter};
pub use identities::{Identities, IdentitiesError};
pub use memory::{Muted, muted, unmute};
pub use notification::{
    DigestLine, Links, LogLink, Notification, NotifiedTask, Recipients, Status,
};
pub use preview::preview;
pub use registration::{Opened, Parts, Registration};
pub use send::{SendError, Sender};
pub use settings::{Key, Settings, SettingsError, flag};
pub use storm::Digest;
pub use templates::{TemplateError, Templates};
