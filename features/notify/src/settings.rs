//! The settings of a channel, from the configuration file and from the environment variables of its predecessor, which
//! override the file.

use std::{collections::BTreeMap, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tracing::info;

/// A key of a channel's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name in the channel's section of the file.
    pub name: &'static str,
    /// The environment variable for the same setting.
    pub variable: Option<&'static str>,
}

impl Key {
    /// A key without an environment variable.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            variable: None,
        }
    }

    /// The same key, with the environment variable `variable`.
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
    /// A required setting is missing.
    #[error("{channel} cannot be used: set notify.{channel}.{key}{}", or_variable(.variable))]
    Missing {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: &'static str,
        /// The environment variable for the same setting.
        variable: Option<&'static str>,
    },
    /// A setting has an invalid value.
    #[error("{channel} cannot be used: notify.{channel}.{key}{} is not {expected}", or_variable(.variable))]
    Invalid {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: &'static str,
        /// The environment variable for the same setting.
        variable: Option<&'static str>,
        /// The valid values.
        expected: &'static str,
    },
    /// The file has an unknown key.
    #[error("unknown key notify.{channel}.{key}: {channel} has {known}")]
    Unknown {
        /// The channel.
        channel: &'static str,
        /// The key.
        key: String,
        /// The known keys.
        known: String,
    },
    /// There is no such channel.
    #[error("unknown channel {name}: the channels are {known}")]
    UnknownChannel {
        /// The name.
        name: String,
        /// The known channels.
        known: String,
    },
    /// More than one channel cannot be opened.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<SettingsError>),
    /// The channel requires a setting outside of its section.
    #[error("{channel} cannot be used: {problem}")]
    Needs {
        /// The channel.
        channel: &'static str,
        /// The missing setting, and how to set it.
        problem: String,
    },
}

fn or_variable(variable: &Option<&'static str>) -> String {
    variable
        .map(|variable| format!(" (or {variable} in the environment)"))
        .unwrap_or_default()
}

/// Parses a switch: `1`, `true`, `yes`, `on`, or their opposites, in any case.
pub fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The settings of one channel. `Debug` shows no value, since any may be a secret.
#[derive(Debug, Clone)]
pub struct Settings {
    channel: &'static str,
    keys: &'static [Key],
    values: BTreeMap<&'static str, SecretString>,
    overridden: Vec<Key>,
}

impl Settings {
    /// The settings of `channel` from its section of the `file`, overridden by the `environment`. An empty value counts as
    /// not set in both: nothing is signed with an empty secret.
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

    /// The keys of the file that the environment overrides.
    pub fn overridden(&self) -> &[Key] {
        &self.overridden
    }

    /// Logs the keys of the file that the environment overrides.
    pub(crate) fn log_overridden(&self) {
        for key in &self.overridden {
            let (channel, key, variable) = (self.channel, key.name, key.variable);
            info!(
                channel,
                key, variable, "environment variable overrides the key of the file"
            );
        }
    }

    /// A required secret.
    pub fn secret(&self, key: &'static str) -> Result<SecretString, SettingsError> {
        self.optional_secret(key).ok_or_else(|| self.missing(key))
    }

    /// An optional secret.
    pub fn optional_secret(&self, key: &'static str) -> Option<SecretString> {
        self.values.get(key).cloned()
    }

    /// A required text.
    pub fn text(&self, key: &'static str) -> Result<String, SettingsError> {
        self.optional_text(key).ok_or_else(|| self.missing(key))
    }

    /// An optional text.
    pub fn optional_text(&self, key: &'static str) -> Option<String> {
        self.values
            .get(key)
            .map(|value| value.expose_secret().to_owned())
    }

    /// A required value. `expected` describes valid values, such as `a port from 1 to 65535`.
    pub fn value<T: FromStr>(
        &self,
        key: &'static str,
        expected: &'static str,
    ) -> Result<T, SettingsError> {
        self.optional_value(key, expected)?
            .ok_or_else(|| self.missing(key))
    }

    /// An optional value.
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
            .map_err(|_| self.invalid(key, expected))
    }

    /// The error that `key` is not `expected`, for checks of a channel's own.
    pub fn invalid(&self, key: &'static str, expected: &'static str) -> SettingsError {
        SettingsError::Invalid {
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
