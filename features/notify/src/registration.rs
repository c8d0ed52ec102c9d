//! How a channel is known and opened.

use std::sync::Arc;

use pulse::PulseSettings;
use runtime::Clock;
use taskcluster::Taskcluster;

use crate::{Channel, Key, Settings, SettingsError, Templates};

/// How a channel is known and opened.
pub struct Registration {
    /// Its name, as in `PN_SERVICES` and in `plugins`.
    pub name: &'static str,
    /// What can be set for it.
    pub keys: &'static [Key],
    /// Its templates: each the name and the text of a file in `templates/`, which a deployment can replace.
    pub templates: &'static [(&'static str, &'static str)],
    /// Opens it, which touches no network.
    pub open: fn(&Settings, &Parts<'_>) -> Opened,
}

/// A channel, or what has to be set for it.
pub type Opened = Result<Box<dyn Channel>, SettingsError>;

/// What channels are made of, beside their settings.
pub struct Parts<'a> {
    /// The texts.
    pub templates: &'a Arc<Templates>,
    /// The deployment whose tasks are spoken of.
    pub taskcluster: &'a Taskcluster,
    /// Our user on Pulse.
    pub pulse: Option<&'a PulseSettings>,
    /// A client that follows no redirects.
    pub http: &'a reqwest::Client,
    /// Time and randomness.
    pub clock: &'a Arc<dyn Clock>,
}
