//! What is set for a channel: in the configuration file, and in the environment as its predecessor wanted it. The
//! environment wins.

use std::{collections::BTreeMap, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tracing::info;

/// Something that can be set for a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in the channel's section of the file.
    pub name: &'static str,
    /// The environment variable that sets it too.
    pub variable: Option<&'static str>,
}

impl Key {
    /// A key of the file only.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            variable: None,
        }
    }

    /// The same, and `variable` in the environment.
    pub const fn or_variable(self, variable: &'static str) -> Self {
        Self {
            variable: Some(variable),
            ..self
        }
    }
}

/// Why a channel cannot be opened. Quotes no value.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Something has to be set.
    #[error("{channel} cannot be used: set notify.{channel}.{key}{}", or_variable(.variable))]
    Missing {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: &'static str,
        /// The environment variable that sets it too.
        variable: Option<&'static str>,
    },
    /// It is set to something that does not do.
    #[error("{channel} cannot be used: notify.{channel}.{key}{} is not {expected}", or_variable(.variable))]
    Unfit {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: &'static str,
        /// The environment variable that sets it too.
        variable: Option<&'static str>,
        /// What would do.
        expected: &'static str,
    },
    /// The file sets something that the channel does not know.
    #[error("{channel} knows no notify.{channel}.{key}: it knows {known}")]
    Unknown {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: String,
        /// What it knows.
        known: String,
    },
    /// There is no such channel.
    #[error("there is no channel {name}: there are {known}")]
    NoChannel {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The channel needs something that is not a setting of its own.
    #[error("{channel} cannot be used: {problem}")]
    Needs {
        /// The channel.
        channel: &'static str,
        /// What is missing, and how it is set.
        problem: String,
    },
}

fn or_variable(variable: &Option<&'static str>) -> String {
    variable
        .map(|variable| format!(" (or {variable} in the environment)"))
        .unwrap_or_default()
}

/// Whether a text says on or off, in any of the words that environments have for it.
pub fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What is set for one channel. Any of it may be a secret, so none of it is shown.
#[derive(Debug, Clone)]
pub struct Settings {
    channel: &'static str,
    keys: &'static [Key],
    values: BTreeMap<&'static str, SecretString>,
    overridden: Vec<Key>,
}

impl Settings {
    /// The settings of `channel`: what stands in its section of the `file`, and over that the `environment`. An empty text
    /// sets nothing, in either: nothing is signed with an empty secret.
    pub fn layered(
        channel: &'static str,
        keys: &'static [Key],
        file: &BTreeMap<String, SecretString>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        if let Some(key) = file
            .keys()
            .find(|key| keys.iter().all(|known| known.name != **key))
        {
            let known = keys
                .iter()
                .map(|known| known.name)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(SettingsError::Unknown {
                channel,
                key: key.clone(),
                known,
            });
        }
        let (mut values, mut overridden) = (BTreeMap::new(), Vec::new());
        for key in keys {
            let in_file = file
                .get(key.name)
                .filter(|value| !value.expose_secret().is_empty());
            let variable = key
                .variable
                .and_then(environment)
                .filter(|value| !value.is_empty());
            if in_file.is_some() && variable.is_some() {
                overridden.push(*key);
            }
            if let Some(value) = variable
                .map(SecretString::from)
                .or_else(|| in_file.cloned())
            {
                values.insert(key.name, value);
            }
        }
        Ok(Self {
            channel,
            keys,
            values,
            overridden,
        })
    }

    /// The keys of the file that have no effect, since the environment sets them too.
    pub fn overridden(&self) -> &[Key] {
        &self.overridden
    }

    /// Logs the keys of the file that have no effect.
    pub(crate) fn tell_overridden(&self) {
        for key in &self.overridden {
            let (channel, key, variable) = (self.channel, key.name, key.variable);
            info!(
                channel,
                key, variable, "the environment sets this too, and wins over the file"
            );
        }
    }

    /// A secret that must be set.
    pub fn secret(&self, key: &'static str) -> Result<SecretString, SettingsError> {
        self.optional_secret(key).ok_or_else(|| self.missing(key))
    }

    /// A secret that may be set.
    pub fn optional_secret(&self, key: &'static str) -> Option<SecretString> {
        self.values.get(key).cloned()
    }

    /// A text that must be set.
    pub fn text(&self, key: &'static str) -> Result<String, SettingsError> {
        self.optional_text(key).ok_or_else(|| self.missing(key))
    }

    /// A text that may be set.
    pub fn optional_text(&self, key: &'static str) -> Option<String> {
        self.values
            .get(key)
            .map(|value| value.expose_secret().to_owned())
    }

    /// A value that must be set, and be what `expected` says, such as `a port from 1 to 65535`.
    pub fn value<T: FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, SettingsError> {
        self.optional_value(key, expected)?
            .ok_or_else(|| self.missing(key))
    }

    /// A value that may be set.
    pub fn optional_value<T: FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<Option<T>, SettingsError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        value
            .expose_secret()
            .parse()
            .map(Some)
            .map_err(|_| self.unfit(key, expected))
    }

    /// That `key` is not `expected`, for what a channel checks itself.
    pub fn unfit(&self, key: &'static str, expected: &'static str) -> SettingsError {
        SettingsError::Unfit {
            channel: self.channel,
            key,
            variable: self.variable(key),
            expected,
        }
    }

    fn missing(&self, key: &'static str) -> SettingsError {
        SettingsError::Missing {
            channel: self.channel,
            key,
            variable: self.variable(key),
        }
    }

    fn variable(&self, key: &str) -> Option<&'static str> {
        self.keys.iter().find(|known| known.name == key)?.variable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key::new("host").or_variable("SMTP_HOST"),
        Key::new("port").or_variable("SMTP_PORT"),
    ];

    fn settings(file: &[(&str, &str)], environment: &[(&str, &str)]) -> Settings {
        let file = file
            .iter()
            .map(|(key, value)| ((*key).to_owned(), SecretString::from(*value)))
            .collect();
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::layered("smtp", KEYS, &file, &variable).unwrap()
    }

    #[test]
    fn environment_overriding_file_is_reported() {
        let both = settings(
            &[("host", "a"), ("port", "25")],
            &[("SMTP_HOST", "b"), ("SMTP_PORT", "")],
        );
        assert_eq!(
            (
                both.text("host").unwrap().as_str(),
                both.value::<u16>("port", "a port").unwrap()
            ),
            ("b", 25)
        );
        assert_eq!(both.overridden(), [KEYS[0]]);
        assert_eq!(settings(&[], &[("SMTP_HOST", "b")]).overridden(), []);
        let empty = settings(&[("host", "")], &[("SMTP_HOST", "b")]);
        assert_eq!(
            (empty.text("host").unwrap().as_str(), empty.overridden()),
            ("b", &[][..])
        );
        assert!(
            settings(&[("host", "")], &[]).text("host").is_err(),
            "an empty text sets nothing"
        );
    }

    #[test]
    fn flag_is_on_or_off_in_any_case_and_nothing_else() {
        for (text, expected) in [
            ("1", Some(true)),
            ("True", Some(true)),
            ("TRUE", Some(true)),
            ("yes", Some(true)),
            ("On", Some(true)),
            ("0", Some(false)),
            ("False", Some(false)),
            ("no", Some(false)),
            ("off", Some(false)),
            (" true ", Some(true)),
            ("", None),
            ("2", None),
            ("perhaps", None),
        ] {
            assert_eq!(flag(text), expected, "{text}");
        }
    }

    #[test]
    fn fault_names_file_key_and_variable_without_value() {
        let wrong = settings(&[("port", "hunter2")], &[]);
        for (error, expected) in [
            (
                wrong.text("host").unwrap_err(),
                "smtp cannot be used: set notify.smtp.host (or SMTP_HOST in the environment)",
            ),
            (
                wrong.value::<u16>("port", "a port").unwrap_err(),
                "smtp cannot be used: notify.smtp.port (or SMTP_PORT in the environment) is not a port",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
        assert!(!format!("{wrong:?}").contains("hunter2"));
    }
}
