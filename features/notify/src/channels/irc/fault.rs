//! Failures on IRC, by the numeric replies of servers (RFC 2812, section 5; <https://modern.ircdocs.horse>).

use super::{NAME, line::Line};
use crate::{ChannelError, text::one_line};

/// The kind of [`ChannelError`] that a fault becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Refused,
    HardBounce,
    Failed,
    Busy,
    Unreachable,
    Credentials,
}

/// The reason why a line was not sent, or why there is no connection. Without a connection, all sendings that wait get it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) problem: String,
}

impl Fault {
    pub(super) fn new(kind: Kind, problem: impl Into<String>) -> Self {
        Self {
            kind,
            problem: problem.into(),
        }
    }

    /// The fault for a line that was written before the connection broke. The line may have been delivered, so this counts
    /// as an attempt: with a server that never responds to PING, a deferral would repeat the line for a day.
    pub(super) fn with_unknown_outcome(self) -> Self {
        Self::new(
            Kind::Failed,
            format!("{}: the line may have been delivered", self.problem),
        )
    }

    /// As the error of a notification to `recipient`.
    pub(super) fn for_recipient(self, recipient: &str) -> ChannelError {
        let (channel, problem) = (NAME, self.problem);
        match self.kind {
            Kind::Refused => ChannelError::Refused { channel, problem },
            Kind::HardBounce => ChannelError::HardBounce {
                channel,
                recipient: one_line(recipient, 100),
                problem,
            },
            Kind::Failed => ChannelError::Failed { channel, problem },
            Kind::Busy => ChannelError::Busy {
                channel,
                retry_after: None,
                problem,
            },
            Kind::Unreachable => ChannelError::Unreachable { channel, problem },
            Kind::Credentials => ChannelError::Credentials { channel, problem },
        }
    }

    /// The fault that the answer `line` reports about `target`, a nick or channel that we write to or join. None when
    /// it is about something else.
    ///
    /// A nick that is not in use is not muted: people come back. The line is not retried either: they seldom come back within
    /// the minutes of five attempts, and each attempt would delay a line to somebody who is there.
    pub(super) fn of_answer(line: &Line, target: &str) -> Option<Self> {
        let (kind, advice) = match line.command.as_str() {
            "401" | "402" | "406" => (
                Kind::Refused,
                "nobody uses that nick now, and the line is not retried: requeue the dead letter with `events dead-letters requeue` when the nick is in use",
            ),
            "403" | "476" | "479" => (
                Kind::HardBounce,
                "the channel cannot exist: correct its name in the task",
            ),
            // The reply of a moderated channel, of a ban, and of a filter for words or colours.
            "404" => (
                Kind::Refused,
                "it refuses this line: have its operators give us voice, lift the ban, or check its filters",
            ),
            "405" => (Kind::Failed, "the server allows no more channels"),
            "407" | "408" | "412" | "417" | "492" => {
                (Kind::Refused, "the server refuses this line permanently")
            }
            "437" => (Kind::Failed, "it is unavailable for a while"),
            "441" | "442" => (
                Kind::Failed,
                "we were no longer in it; the next attempt joins it again",
            ),
            "470" => (
                Kind::HardBounce,
                "it forwards to another channel: name that one in the task",
            ),
            "471" => (Kind::Failed, "it is full"),
            "473" => (
                Kind::HardBounce,
                "it is for invited users only: have its operators add our nick to its invite exceptions (mode +I)",
            ),
            "474" => (
                Kind::HardBounce,
                "it has banned us: have its operators lift the ban",
            ),
            "475" => (
                Kind::HardBounce,
                "it needs a key, which this client does not support: have its operators remove the key",
            ),
            "477" | "486" => (
                Kind::HardBounce,
                "it needs an account: set notify.irc.auth to sasl, and notify.irc.nick to a registered nick",
            ),
            "489" | "520" => (Kind::HardBounce, "it needs TLS: set notify.irc.tls to on"),
            "531" => (
                Kind::Refused,
                "its user refuses this line, or all lines from us",
            ),
            "716" => (
                Kind::HardBounce,
                "its user accepts messages from known nicks only: ask them to accept ours",
            ),
            "263" | "439" | "707" => (Kind::Busy, "the server limits our rate"),
            _ => return None,
        };
        let about = line.param(1);
        // A numeric without a target has the command, or nothing, in the place of the target.
        let ours = line.params.len() < 3
            || matches!(about, "PRIVMSG" | "JOIN")
            || super::target::same(about, target);
        ours.then(|| {
            let (code, words) = (&line.command, line.words());
            Self::new(
                kind,
                format!(
                    "{} answered {code} ({words}) for {target}: {advice}",
                    server(line)
                ),
            )
        })
    }

    /// The fault that the reply `line` reports during the login; `None` if it is no refusal. [`Fault::of_error`] is for
    /// `ERROR`.
    pub(super) fn of_login(line: &Line) -> Option<Self> {
        let advice = match line.command.as_str() {
            "463" | "465" => {
                "the server has banned us: ask its operators, and check notify.irc.host"
            }
            "464" => "set notify.irc.password (or IRC_PASS in the environment)",
            "902" | "904" | "905" | "906" | "908" => {
                "set notify.irc.nick to the account's name and notify.irc.password to its password"
            }
            "432" => {
                "set notify.irc.nick (or IRC_NICK in the environment) to a nick that the server allows"
            }
            _ => return None,
        };
        let problem = format!(
            "{} answered {} ({}): {advice}",
            server(line),
            line.command,
            line.words()
        );
        Some(Self::new(Kind::Credentials, problem))
    }

    /// The fault of an `ERROR`, with which a server closes the connection. It has no number, so its text decides.
    pub(super) fn of_error(line: &Line) -> Self {
        let words = line.words();
        let lower = words.to_ascii_lowercase();
        let holds = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
        let (kind, advice) = if holds(&[
            "password",
            "unauthorized",
            "not authorized",
            "lined",
            "banned",
        ]) {
            (
                Kind::Credentials,
                ": set notify.irc.password, or ask the operators of the server",
            )
        } else if holds(&["throttl", "too fast", "too many", "flood"]) {
            (Kind::Busy, "")
        } else {
            (Kind::Unreachable, "")
        };
        Self::new(
            kind,
            format!("the server closed the connection ({words}){advice}"),
        )
    }
}

fn server(line: &Line) -> String {
    if line.from.is_empty() {
        "the server".to_owned()
    } else {
        one_line(&line.from, 80)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn reply_is_attributed_to_the_target_it_names() {
        for (text, target, expected) in [
            (":s 401 me ann :No such nick", "Ann", Some(Kind::Refused)),
            (":s 401 me bob :No such nick", "ann", None),
            (
                ":s 474 me #ci :Cannot join (+b)",
                "#ci",
                Some(Kind::HardBounce),
            ),
            (
                ":s 404 me #ci :Cannot send to channel (+G)",
                "#ci",
                Some(Kind::Refused),
            ),
            (
                ":s 531 me ann :You cannot send this to ann",
                "ann",
                Some(Kind::Refused),
            ),
            (
                ":s 716 me ann :is in +g mode",
                "ann",
                Some(Kind::HardBounce),
            ),
            (":s 471 me #ci :Cannot join (+l)", "#ci", Some(Kind::Failed)),
            (":s 412 me :No text to send", "#ci", Some(Kind::Refused)),
            (":s 263 me PRIVMSG :Please wait", "#ci", Some(Kind::Busy)),
            (":s 301 me ann :I am away", "ann", None),
            (":s 433 me ann :Nick in use", "ann", None),
        ] {
            assert_eq!(
                Fault::of_answer(&line(text), target).map(|fault| fault.kind),
                expected,
                "{text}"
            );
        }
        let fault =
            Fault::of_answer(&line(":irc.example.net 473 me #ci :Invite only"), "#ci").unwrap();
        let expected =
            "irc.example.net answered 473 (Invite only) for #ci: it is for invited users only";
        assert!(fault.problem.starts_with(expected), "{}", fault.problem);
    }

    #[test]
    fn error_message_is_classified() {
        for (text, expected) in [
            ("ERROR :Access denied: Bad password?", Kind::Credentials),
            (
                "ERROR :Closing Link: 192.0.2.1 (K-Lined)",
                Kind::Credentials,
            ),
            (
                "ERROR :Your host is trying to (re)connect too fast -- throttled.",
                Kind::Busy,
            ),
            ("ERROR :Closing Link: me (Excess Flood)", Kind::Busy),
            ("ERROR :Server going down", Kind::Unreachable),
        ] {
            assert_eq!(Fault::of_error(&line(text)).kind, expected, "{text}");
        }
    }
}
