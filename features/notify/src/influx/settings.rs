//! The settings of InfluxDB: the section `influxdb`, overridden by the environment.

use std::{collections::BTreeMap, fmt};

use secrecy::SecretString;
use url::Url;

use crate::{Key, Settings, SettingsError, flag};

const SECTION: &str = "influxdb";
const DEFAULT_URL: &str = "http://127.0.0.1:8086";
const DEFAULT_DATABASE: &str = "notify";
const ADDRESS: &str = "an address that begins with http or https, without user and password";

/// The address of InfluxDB and its database.
#[derive(Clone)]
pub struct InfluxSettings {
    /// Its base address.
    pub url: Url,
    /// The database, which has to exist.
    pub database: String,
    /// The user and the password, if it requires them.
    pub login: Option<(String, SecretString)>,
}

impl fmt::Debug for InfluxSettings {
    /// An address may hold a password, so only the host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfluxSettings")
            .field("host", &self.url.host_str())
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl InfluxSettings {
    /// The keys. `FLUX_RECORD` is the switch of pulse-notify.
    pub const KEYS: &[Key] = &[
        Key::new("record").or_variable("FLUX_RECORD"),
        Key::new("url").or_variable("INFLUXDB_URL"),
        Key::new("database").or_variable("INFLUXDB_DATABASE"),
        Key::new("user").or_variable("INFLUXDB_USER"),
        Key::new("password").or_variable("INFLUXDB_PASSWORD"),
    ];

    /// The settings from the section of the `file`, overridden by the `environment`; `None` where recording is off.
    /// Overridden keys are logged.
    pub fn open(
        file: &BTreeMap<String, SecretString>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let settings = Settings::layered(SECTION, Self::KEYS, file, environment)?;
        let Some(record) = settings.optional_text("record") else {
            return Ok(None);
        };
        match flag(&record) {
            Some(false) => return Ok(None),
            Some(true) => {}
            None => return Err(settings.invalid("record", "1 (true, on) or 0 (false, off)")),
        }
        settings.log_overridden();
        let url = settings
            .optional_text("url")
            .unwrap_or_else(|| DEFAULT_URL.to_owned());
        let url = Url::parse(&url).map_err(|_| settings.invalid("url", ADDRESS))?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !matches!(url.scheme(), "http" | "https") || !is_plain {
            return Err(settings.invalid("url", ADDRESS));
        }
        let database = settings
            .optional_text("database")
            .unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
        let login = match (
            settings.optional_text("user"),
            settings.optional_secret("password"),
        ) {
            (None, None) => None,
            _ => Some((settings.text("user")?, settings.secret("password")?)),
        };
        Ok(Some(Self {
            url,
            database,
            login,
        }))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn open(
        file: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Result<Option<InfluxSettings>, SettingsError> {
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
        InfluxSettings::open(&file, &variable)
    }

    #[test]
    fn switch_alone_enables_the_channel() {
        for on in ["1", "true", "True", "on", "yes"] {
            let settings = open(&[], &[("FLUX_RECORD", on)]).unwrap().unwrap();
            assert_eq!(
                (settings.url.as_str(), settings.database.as_str()),
                ("http://127.0.0.1:8086/", "notify")
            );
            assert!(settings.login.is_none());
        }
        for off in ["0", "false", "False", "off", "no", ""] {
            assert!(open(&[("record", off)], &[]).unwrap().is_none(), "{off}");
        }
        assert!(
            open(&[("url", "http://influx:8086")], &[])
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn environment_overrides_file() {
        let file = [
            ("record", "0"),
            ("url", "http://a:1"),
            ("user", "ann"),
            ("password", "old"),
        ];
        let environment = [
            ("FLUX_RECORD", "1"),
            ("INFLUXDB_URL", "https://b:2"),
            ("INFLUXDB_PASSWORD", "hunter2"),
            ("INFLUXDB_DATABASE", "d"),
        ];
        let settings = open(&file, &environment).unwrap().unwrap();
        assert_eq!(
            (settings.url.as_str(), settings.database.as_str()),
            ("https://b:2/", "d")
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
        let (user, password) = settings.login.unwrap();
        assert_eq!(
            (user.as_str(), password.expose_secret()),
            ("ann", "hunter2")
        );
    }

    #[test]
    fn unusable_setting_is_named() {
        for (file, expected) in [
            (
                &[("record", "perhaps")][..],
                "notify.influxdb.record (or FLUX_RECORD in the environment) is not 1 (true, on)",
            ),
            (
                &[("record", "1"), ("url", "influx:8086")],
                "notify.influxdb.url (or INFLUXDB_URL in the environment) is not",
            ),
            (
                &[("record", "1"), ("url", "http://u:p@influx")],
                "without user and password",
            ),
            (
                &[("record", "1"), ("user", "ann")],
                "set notify.influxdb.password (or INFLUXDB_PASSWORD",
            ),
            (
                &[("record", "1"), ("password", "x")],
                "set notify.influxdb.user (or INFLUXDB_USER",
            ),
            (&[("host", "x")], "unknown key notify.influxdb.host"),
        ] {
            let error = open(file, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
