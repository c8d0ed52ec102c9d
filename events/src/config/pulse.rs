//! Our user on Pulse: in a document, and in the environment, which overrides the document.

use anyhow::Context as _;
use notify::flag;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pulse::{AddressError, PulseSettings};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use tracing::info;
use url::{Host, Url};

use super::{
    Faults,
    schema::Keys,
    secrets,
    values::{FromText, Secret, Text, Written},
};

/// The values of the environment's variables. None is empty.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A user on Pulse.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub struct PulseConfig {
    /// The server, with the virtual host as its path.
    pub url: Url,
    /// The name, which is a part of queues' names.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

impl PulseConfig {
    /// The settings of the client.
    pub fn settings(&self) -> Result<PulseSettings, AddressError> {
        let mut address = self.url.clone();
        let vhost = match address.path().trim_start_matches('/') {
            "" => "/".to_owned(),
            name => percent_encoding::percent_decode_str(name)
                .decode_utf8_lossy()
                .into_owned(),
        };
        address.set_path("");
        Ok(PulseSettings {
            address: address.as_str().parse()?,
            vhost,
            user: self.user.clone(),
            password: self.password.clone(),
            ca: None,
        })
    }
}

/// A server, and the keys of a document that name it and our user there.
pub(super) struct Server {
    keys: [&'static str; 3],
    default: &'static str,
}

/// Mozilla's Pulse.
pub(super) const MOZILLA_SERVER: Server = Server {
    keys: ["pulse_url", "pulse_user", "pulse_password"],
    default: "amqps://pulse.mozilla.org:5671/",
};

/// The Pulse of the community's Taskcluster.
pub(super) const COMMUNITY_SERVER: Server = Server {
    keys: [
        "communitytc_pulse_url",
        "communitytc_pulse_user",
        "communitytc_pulse_password",
    ],
    default: "amqps://pulse.mozilla.org:5671/communitytc",
};

/// The address of a server in a document.
#[derive(Debug, Clone)]
pub(super) struct ServerUrl(Url);

impl FromText for ServerUrl {
    const FORMAT: &'static str = "amqp-url";
    const EXPECTED: &'static str =
        "an amqps or amqp url without a user, with the virtual host as its path";
    fn from_text(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().or(url.fragment()).is_none();
        (matches!(url.scheme(), "amqps" | "amqp") && url.has_host() && plain).then_some(Self(url))
    }
}

/// The keys of our user on Mozilla's Pulse.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct MozillaKeys {
    /// The server; its path is the virtual host. `amqp://` does not use TLS. The url must not hold a user.
    #[schemars(extend("default" = MOZILLA_SERVER.default))]
    pulse_url: Option<Written<ServerUrl>>,
    /// Our [user on Pulse](../use/triggers.md#rights); required for everything that listens to Pulse.
    pulse_user: Option<Text>,
    /// Its password.
    pulse_password: Option<Secret>,
}

/// The keys of our user on the Pulse of the community's Taskcluster.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct CommunityKeys {
    /// The community's server, in the same form as `pulse_url`.
    #[schemars(extend("default" = COMMUNITY_SERVER.default))]
    communitytc_pulse_url: Option<Written<ServerUrl>>,
    /// Our user on the community's Pulse; required for test selection.
    communitytc_pulse_user: Option<Text>,
    /// Its password.
    communitytc_pulse_password: Option<Secret>,
}

/// Our user on Mozilla's Pulse, if a document names one.
pub(super) fn mozilla(keys: &Keys<'_>) -> Option<PulseConfig> {
    let MozillaKeys {
        pulse_url,
        pulse_user,
        pulse_password,
    } = keys.read();
    documented(keys, &MOZILLA_SERVER, pulse_url, pulse_user, pulse_password)
}

/// Our user on the community's Pulse, if a document names one.
pub(super) fn community(keys: &Keys<'_>) -> Option<PulseConfig> {
    let CommunityKeys {
        communitytc_pulse_url,
        communitytc_pulse_user,
        communitytc_pulse_password,
    } = keys.read();
    documented(
        keys,
        &COMMUNITY_SERVER,
        communitytc_pulse_url,
        communitytc_pulse_user,
        communitytc_pulse_password,
    )
}

fn documented(
    keys: &Keys<'_>,
    server: &Server,
    url: Option<Written<ServerUrl>>,
    user: Option<Text>,
    password: Option<Secret>,
) -> Option<PulseConfig> {
    let at = keys.at("");
    let [url_key, user_key, password_key] = server.keys;
    let url = match url {
        Some(Written(ServerUrl(url))) => Some(url),
        None => Url::parse(server.default).ok(),
    };
    secrets::advise_plain_http(&at, url_key, url.as_ref(), "the password");
    if at.has(user_key) && !at.has(password_key) {
        at.reject(password_key, String::EXPECTED);
    }
    Some(PulseConfig {
        url: url?,
        user: user?.0,
        password: password?.0,
    })
}

/// Our user on Pulse in a document, if it names one. Other keys are ignored.
pub fn parse(text: &str) -> (Option<Option<PulseConfig>>, Faults) {
    super::parse(text, |keys| Some(mozilla(keys)))
}

/// The same for the community's Pulse.
pub fn parse_community(text: &str) -> (Option<Option<PulseConfig>>, Faults) {
    super::parse(text, |keys| Some(community(keys)))
}

/// The user of a document as the environment overrides it, which is logged.
pub fn with_environment(
    documented: Option<PulseConfig>,
    environment: Variables<'_>,
) -> anyhow::Result<Option<PulseConfig>> {
    let variables = [
        "PULSE_HOST",
        "PULSE_PORT",
        "PULSE_SSL",
        "PULSE_VHOST",
        "PULSE_LOGIN",
        "PULSE_PASSWORD",
    ];
    let Some(variable) = variables
        .into_iter()
        .find(|name| environment(name).is_some())
    else {
        return Ok(documented);
    };
    let pulse = from_environment(documented.as_ref(), environment, "PULSE_LOGIN")
        .map_err(|faults| anyhow::anyhow!(faults.join("; ")))
        .with_context(|| {
            format!("cannot read our user on Pulse from the environment, where {variable} is set")
        })?;
    if documented.is_some() {
        let key = "pulse_url, pulse_user or pulse_password";
        info!(
            key,
            variable, "environment variable overrides the key of the file"
        );
    }
    Ok(Some(pulse))
}

/// Our user on Pulse by the environment, with the values of a document where the environment has none. The error has every
/// fault, by its variable and without its value.
pub(super) fn from_environment(
    documented: Option<&PulseConfig>,
    environment: Variables<'_>,
    user_variable: &str,
) -> Result<PulseConfig, Vec<String>> {
    let mut faults = Vec::new();
    let user = environment(user_variable).or_else(|| Some(documented?.user.clone()));
    if user.is_none() {
        faults.push(format!(
            "{user_variable}: is not set, expected our user on Pulse"
        ));
    }
    let password = environment("PULSE_PASSWORD").map(SecretString::from);
    let password = password.or_else(|| Some(documented?.password.clone()));
    if password.is_none() {
        faults.push("PULSE_PASSWORD: is not set, expected its password".to_owned());
    }
    let url = url(documented, environment, &mut faults);
    match (url, user, password) {
        (Some(url), Some(user), Some(password)) if faults.is_empty() => Ok(PulseConfig {
            url,
            user,
            password,
        }),
        _ => Err(faults),
    }
}

fn url(
    documented: Option<&PulseConfig>,
    environment: Variables<'_>,
    faults: &mut Vec<String>,
) -> Option<Url> {
    let base = match documented {
        Some(documented) => documented.url.clone(),
        None => Url::parse(MOZILLA_SERVER.default).ok()?,
    };
    let base_tls = base.scheme() == "amqps";
    let mut value = |name: &str, expected: &str, is_valid: &dyn Fn(&str) -> bool| {
        let value = environment(name)?;
        if is_valid(&value) {
            return Some(value);
        }
        faults.push(format!("{name}: expected {expected}"));
        None
    };
    let tls = value(
        "PULSE_SSL",
        "on (1, true, yes, on) or off (0, false, no, off)",
        &|text| flag(text).is_some(),
    );
    let tls = tls.and_then(|text| flag(&text)).unwrap_or(base_tls);
    let host = value("PULSE_HOST", "the name of a host", &|text| {
        Host::parse(text).is_ok()
    });
    let port = value("PULSE_PORT", "a port from 1 to 65535", &|text| {
        text.parse::<u16>().is_ok_and(|port| port > 0)
    });
    // The port of the document belongs to its host and its scheme.
    let base_port = base.port().filter(|_| host.is_none() && tls == base_tls);
    let port = port.and_then(|text| text.parse().ok()).or(base_port);
    let port: u16 = port.unwrap_or(if tls { 5671 } else { 5672 });
    let path = match environment("PULSE_VHOST").as_deref() {
        None => base.path().to_owned(),
        Some("/") => "/".to_owned(),
        Some(vhost) => format!("/{}", utf8_percent_encode(vhost, NON_ALPHANUMERIC)),
    };
    let scheme = if tls { "amqps" } else { "amqp" };
    let host = host.as_deref().or_else(|| base.host_str())?;
    Url::parse(&format!("{scheme}://{host}:{port}{path}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_may_have_other_keys() {
        let (pulse, faults) =
            parse("events: {PHABRICATOR: 7, pulse_user: us, pulse_password: hunter2}");
        let pulse = pulse.expect("it is right").expect("a user");
        assert_eq!(
            (pulse.url.as_str(), pulse.user.as_str()),
            ("amqps://pulse.mozilla.org:5671/", "us")
        );
        assert_eq!(faults.to_string(), "");
        assert!(
            parse("events: {PHABRICATOR: 7}")
                .0
                .expect("it is right")
                .is_none()
        );
        let (pulse, faults) = parse("events: {pulse_user: us}");
        assert!(
            pulse.is_none()
                && faults
                    .to_string()
                    .contains("events.pulse_password: is missing"),
            "{faults}"
        );
    }

    #[test]
    fn variable_sets_virtual_host() {
        let variables = |vhost: &'static str| {
            move |name: &str| match name {
                "PULSE_LOGIN" | "PULSE_PASSWORD" => Some("us".to_owned()),
                "PULSE_VHOST" => Some(vhost.to_owned()),
                _ => None,
            }
        };
        for vhost in ["/", "/tests", "a b%2F"] {
            let pulse = with_environment(None, &variables(vhost)).expect("it is right");
            let settings = pulse.expect("a user").settings().expect("it is right");
            assert_eq!(settings.vhost, vhost);
        }
    }

    #[test]
    fn faulty_variable_is_reported_without_its_value() {
        for (set, expected) in [
            (
                &[("PULSE_HOST", "pulse.example")][..],
                "PULSE_LOGIN: is not set, expected our user on Pulse",
            ),
            (
                &[("PULSE_LOGIN", "us")],
                "PULSE_PASSWORD: is not set, expected its password",
            ),
            (
                &[("PULSE_PORT", "x"), ("PULSE_LOGIN", "us")],
                "PULSE_PORT: expected a port from 1 to 65535",
            ),
            (
                &[("PULSE_SSL", "maybe")],
                "PULSE_SSL: expected on (1, true, yes, on) or off (0, false, no, off)",
            ),
            (
                &[("PULSE_HOST", "us:hunter2@pulse")],
                "PULSE_HOST: expected the name of a host",
            ),
            (
                &[("PULSE_HOST", "a/b")],
                "PULSE_HOST: expected the name of a host",
            ),
        ] {
            let variables = |name: &str| {
                set.iter()
                    .find(|(known, _)| *known == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            let error = with_environment(None, &variables).err();
            let error = format!("{:#}", error.expect("it is refused"));
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
