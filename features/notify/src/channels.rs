//! The channels: one file each, and one line in [`CHANNELS`].

pub(crate) mod http;
mod irc;
mod log_collect;
mod matrix;
mod repulse;
mod ses;
mod slack;
mod smtp;
mod sns;
mod webhook;

use std::{collections::BTreeMap, net::IpAddr};

use secrecy::SecretString;

use crate::{
    Channel, Parts, Registration, Settings, SettingsError, TemplateError, Templates,
    registration::Opened, text::one_line,
};

/// The channels by their names.
pub static CHANNELS: &[Registration] = &[
    irc::REGISTRATION,
    log_collect::REGISTRATION,
    matrix::REGISTRATION,
    repulse::REGISTRATION,
    ses::REGISTRATION,
    slack::REGISTRATION,
    smtp::REGISTRATION,
    sns::REGISTRATION,
    webhook::REGISTRATION,
];

impl Templates {
    /// The built-in templates: the common ones, and those of every channel.
    pub fn ours() -> Result<Self, TemplateError> {
        Self::new(CHANNELS.iter().flat_map(|channel| channel.templates))
    }
}

/// The open channels.
pub struct Channels(BTreeMap<&'static str, Box<dyn Channel>>);

impl Channels {
    /// Opens the channels `names`. `file` holds their sections of the configuration file; `environment` returns the values of
    /// environment variables, which override the file. Overridden keys are logged. An error names every channel that cannot
    /// be opened.
    pub fn open(
        names: &[String],
        file: &BTreeMap<String, BTreeMap<String, SecretString>>,
        environment: &dyn Fn(&str) -> Option<String>,
        parts: &Parts<'_>,
    ) -> Result<Self, SettingsError> {
        let (mut channels, nothing) = (Vec::new(), BTreeMap::new());
        let mut faults = Vec::new();
        for name in names {
            match open(name, file.get(name).unwrap_or(&nothing), environment, parts) {
                Ok(channel) => channels.push(channel),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.len() > 1 {
            return Err(SettingsError::Several(faults));
        }
        if let Some(fault) = faults.pop() {
            return Err(fault);
        }
        Ok(Self::new(channels))
    }

    /// Creates the set of these channels.
    pub fn new(channels: Vec<Box<dyn Channel>>) -> Self {
        Self(
            channels
                .into_iter()
                .map(|channel| (channel.name(), channel))
                .collect(),
        )
    }

    /// The channel with this name, if it is open.
    pub fn get(&self, name: &str) -> Option<&dyn Channel> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// The open channels.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Channel> {
        self.0.values().map(AsRef::as_ref)
    }
}

fn open(
    name: &str,
    section: &BTreeMap<String, SecretString>,
    environment: &dyn Fn(&str) -> Option<String>,
    parts: &Parts<'_>,
) -> Opened {
    let registration = CHANNELS
        .iter()
        .find(|known| known.name == name)
        .ok_or_else(|| {
            let known: Vec<&str> = CHANNELS.iter().map(|known| known.name).collect();
            SettingsError::UnknownChannel {
                name: one_line(name, 60),
                known: known.join(", "),
            }
        })?;
    let settings = Settings::layered(registration.name, registration.keys, section, environment)?;
    settings.log_overridden();
    (registration.open)(&settings, parts)
}

/// Whether `host` is this machine: then a connection without TLS exposes no secret.
fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}
