//! The registration of a channel.

use std::sync::Arc;

use pulse::PulseSettings;
use runtime::Clock;
use taskcluster::Taskcluster;

use crate::{Channel, Key, Settings, SettingsError, Templates};

/// The registration of a channel: its name, its keys, its templates, and how it is opened.
pub struct Registration {
    /// Its name, as in `PN_SERVICES` and in `plugins`.
    pub name: &'static str,
    /// Its settings.
    pub keys: &'static [Key],
    /// Its templates: each the name and the text of a file in `templates/`, which a deployment can replace.
    pub templates: &'static [(&'static str, &'static str)],
    /// Opens it, without network access.
    pub open: fn(&Settings, &Parts<'_>) -> Opened,
}

/// A channel, or the setting that it lacks.
pub type Opened = Result<Box<dyn Channel>, SettingsError>;

/// The parts that channels share, beside their settings.
pub struct Parts<'a> {
    /// The templates of all channels.
    pub templates: &'a Arc<Templates>,
    /// The deployment that runs the tasks.
    pub taskcluster: &'a Taskcluster,
    /// Our user on Pulse.
    pub pulse: Option<&'a PulseSettings>,
    /// A client that follows no redirects.
    pub http: &'a reqwest::Client,
    /// Time and randomness.
    pub clock: &'a Arc<dyn Clock>,
}
