//! Our user on Pulse, for what runs by the environment alone: its variables, as they set up the notifier's predecessor, win
//! over the document.

use anyhow::Context as _;
use notify::flag;
use secrecy::SecretString;
use tracing::info;
use url::Url;

use super::{
    Faults, PulseConfig,
    triggers::{self, COMMUNITY_PULSE, COMMUNITY_PULSE_KEYS, PULSE, PULSE_KEYS},
};

/// The values of the environment's variables. None is empty.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Our user on Pulse in a document, if it names one. Other keys are ignored.
pub fn parse(text: &str) -> (Option<Option<PulseConfig>>, Faults) {
    super::parse(text, |keys| Some(triggers::pulse(keys, PULSE_KEYS, PULSE)))
}

/// The same for the community's Pulse.
pub fn parse_community(text: &str) -> (Option<Option<PulseConfig>>, Faults) {
    super::parse(text, |keys| {
        Some(triggers::pulse(keys, COMMUNITY_PULSE_KEYS, COMMUNITY_PULSE))
    })
}

/// The same user with what the environment says, which wins; that the document loses is logged.
pub fn with_environment(
    documented: Option<PulseConfig>,
    environment: Variables<'_>,
) -> anyhow::Result<Option<PulseConfig>> {
    let Some((pulse, variable)) = overlaid(documented.as_ref(), environment)? else {
        return Ok(documented);
    };
    if documented.is_some() {
        let key = "pulse_url, pulse_user or pulse_password";
        info!(
            key,
            variable, "the environment sets this too, and wins over the file"
        );
    }
    Ok(Some(pulse))
}

/// Our user on Pulse where the environment sets something of it, and a variable that does.
fn overlaid(
    pulse: Option<&PulseConfig>,
    environment: Variables<'_>,
) -> anyhow::Result<Option<(PulseConfig, &'static str)>> {
    let [host, port, tls, user, password] = [
        "PULSE_HOST",
        "PULSE_PORT",
        "PULSE_SSL",
        "PULSE_LOGIN",
        "PULSE_PASSWORD",
    ]
    .map(|variable| environment(variable).map(|value| (variable, value)));
    let set = [&host, &port, &tls, &user, &password]
        .into_iter()
        .flatten()
        .next()
        .map(|(variable, _)| *variable);
    let Some(variable) = set else { return Ok(None) };
    let tls = match &tls {
        None => pulse.is_none_or(|pulse| pulse.url.scheme() == "amqps"),
        Some((_, text)) => flag(text)
            .context("PULSE_SSL is neither on (1, true, yes, on) nor off (0, false, no, off)")?,
    };
    let usual = || Url::parse(PULSE).context("the usual address of Pulse");
    let documented = pulse.map_or_else(usual, |pulse| Ok(pulse.url.clone()))?;
    let host = host.map_or_else(
        || documented.host_str().unwrap_or_default().to_owned(),
        |(_, host)| host,
    );
    let port = match port {
        Some((_, port)) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .context("PULSE_PORT is no port from 1 to 65535")?,
        // The port of the document is that of its host, and of TLS where it speaks it.
        None if variable == "PULSE_HOST" || (documented.scheme() == "amqps") != tls => {
            if tls {
                5671
            } else {
                5672
            }
        }
        None => documented.port().unwrap_or(if tls { 5671 } else { 5672 }),
    };
    let vhost = documented.path();
    let url = Url::parse(&format!(
        "{}://{host}:{port}{vhost}",
        if tls { "amqps" } else { "amqp" }
    ))
    .ok()
    .filter(|url| url.username().is_empty() && url.password().is_none() && url.path() == vhost)
    .context("PULSE_HOST is no name of a host")?;
    let user = user
        .map(|(_, user)| user)
        .or_else(|| Some(pulse?.user.clone()));
    let password = password
        .map(|(_, word)| SecretString::from(word))
        .or_else(|| Some(pulse?.password.clone()));
    let user = user
        .with_context(|| format!("{variable} is set: set our user on Pulse too, in PULSE_LOGIN"))?;
    let password = password.with_context(|| {
        format!("{variable} is set: set our password on Pulse too, in PULSE_PASSWORD")
    })?;
    Ok(Some((
        PulseConfig {
            url,
            user,
            password,
        },
        variable,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_may_name_the_user_among_other_things() {
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
    fn a_faulty_variable_is_named() {
        for (set, expected) in [
            (
                &[("PULSE_HOST", "pulse.example")][..],
                "set our user on Pulse too, in PULSE_LOGIN",
            ),
            (
                &[("PULSE_LOGIN", "us")],
                "set our password on Pulse too, in PULSE_PASSWORD",
            ),
            (
                &[("PULSE_PORT", "x"), ("PULSE_LOGIN", "us")],
                "PULSE_PORT is no port from 1 to 65535",
            ),
            (
                &[("PULSE_SSL", "maybe")],
                "PULSE_SSL is neither on (1, true, yes, on) nor off (0, false, no, off)",
            ),
            (
                &[("PULSE_HOST", "us:hunter2@pulse")],
                "PULSE_HOST is no name of a host",
            ),
            (&[("PULSE_HOST", "a/b")], "PULSE_HOST is no name of a host"),
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
