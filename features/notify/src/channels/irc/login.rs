//! The registration of a connection: login and nick.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Config,
    fault::{Fault, Kind},
    wire::Wire,
};

/// The way of the login.
pub(super) enum Login {
    /// No login.
    None,
    /// The server's password (PASS).
    Password(SecretString),
    /// The password of the account with our nick as its name (SASL PLAIN, RFC 4616).
    Sasl(SecretString),
}

/// The maximum number of bytes of base64 in an AUTHENTICATE. One with fewer, or with none (`+`), is the last.
const CHUNK: usize = 400;

/// Registers, and returns the nick.
pub(super) async fn login(wire: &mut Wire, config: &Config) -> Result<String, Fault> {
    let mut nicks = candidates(&config.nick).into_iter();
    let nick = nicks.next().unwrap_or_default();
    let first = match &config.login {
        Login::None => String::new(),
        Login::Password(password) => format!("PASS :{}\r\n", password.expose_secret()),
        Login::Sasl(_) => "CAP REQ :sasl\r\n".to_owned(),
    };
    wire.write(&format!(
        "{first}NICK {nick}\r\nUSER {} 0 * :{}\r\n",
        config.user, config.name
    ))
    .await?;
    let mut is_authenticated = !matches!(config.login, Login::Sasl(_));
    let mut is_another = false;
    loop {
        let line = wire.line().await?;
        match (line.command.as_str(), &config.login) {
            ("PING", _) => wire.write(&format!("PONG :{}\r\n", line.param(0))).await?,
            ("ERROR", _) => return Err(Fault::of_error(&line)),
            ("001", _) if is_authenticated => return Ok(line.param(0).to_owned()),
            ("001" | "421", Login::Sasl(_)) => return Err(no_sasl(wire)),
            // The configured nick is invalid: an operator has to choose another one.
            ("432", _) if !is_another => {
                return Err(Fault::of_login(&line).unwrap_or_else(|| no_nick(wire)));
            }
            ("432" | "433" | "436" | "437", _) => {
                is_another = true;
                let nick = nicks.next().ok_or_else(|| no_nick(wire))?;
                wire.write(&format!("NICK {nick}\r\n")).await?;
            }
            ("CAP", Login::Sasl(_)) => match line.param(1) {
                "ACK" => wire.write("AUTHENTICATE PLAIN\r\n").await?,
                _ => return Err(no_sasl(wire)),
            },
            ("AUTHENTICATE", Login::Sasl(password)) if line.param(0) == "+" => {
                wire.write(&plain(&config.nick, password)).await?;
            }
            ("903", Login::Sasl(_)) => {
                is_authenticated = true;
                wire.write("CAP END\r\n").await?;
            }
            _ => {
                if let Some(fault) = Fault::of_login(&line) {
                    return Err(fault);
                }
            }
        }
    }
}

/// The nicks to try, in this order: the configured one, with a longer end, and with another end of the same length.
fn candidates(nick: &str) -> Vec<String> {
    let shorter = |by: usize| {
        nick.get(..nick.len().saturating_sub(by))
            .unwrap_or_default()
    };
    let all = [
        nick.to_owned(),
        format!("{nick}_"),
        format!("{nick}__"),
        format!("{}_", shorter(1)),
        format!("{}__", shorter(2)),
        format!("{}___", shorter(3)),
    ];
    all.into()
}

/// The AUTHENTICATE lines with account and password.
fn plain(account: &str, password: &SecretString) -> String {
    let encoded = BASE64_STANDARD.encode(format!(
        "{account}\0{account}\0{}",
        password.expose_secret()
    ));
    let mut lines = String::new();
    let mut rest = encoded.as_str();
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
        lines.push_str(&format!(
            "AUTHENTICATE {}\r\n",
            if chunk.is_empty() { "+" } else { chunk }
        ));
        if chunk.len() < CHUNK {
            return lines;
        }
        rest = after;
    }
}

fn no_sasl(wire: &Wire) -> Fault {
    let problem = format!(
        "{} does not offer sasl: set notify.irc.auth to password",
        wire.server()
    );
    Fault::new(Kind::Credentials, problem)
}

fn no_nick(wire: &Wire) -> Fault {
    let problem = format!(
        "the nick and its alternatives are in use on {}: set notify.irc.nick to a free one",
        wire.server()
    );
    Fault::new(Kind::Unreachable, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_password_is_sent_in_chunks() {
        let lengths = |password: usize| {
            let lines = plain("n", &"p".repeat(password).into());
            lines
                .lines()
                .map(|line| line.len() - "AUTHENTICATE ".len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(8), [16]);
        // With 300 bytes in all, the last part is empty.
        assert_eq!(lengths(296), [400, 1]);
        assert_eq!(lengths(302), [400, 8]);
    }

    #[test]
    fn alternative_nick_resembles_configured_one() {
        let all = candidates("notifier");
        assert_eq!(
            all,
            [
                "notifier",
                "notifier_",
                "notifier__",
                "notifie_",
                "notifi__",
                "notif___"
            ]
        );
        assert!(
            candidates("a")
                .iter()
                .all(|nick| super::super::target::is_nick(nick))
        );
    }
}
