//! What the answers of a relay mean.
//!
//! The same number means one thing for a recipient and another for a sender or a text, so it counts what was asked. Where a
//! relay says more in an enhanced status (RFC 3463), that decides: a recipient who is refused by a rule (`5.7.1`, relaying
//! denied) exists all the same.

use lettre::transport::smtp;
use thiserror::Error;

use super::NAME;
use crate::{ChannelError, text::one_line};

/// The longest answer that is quoted, in bytes.
const MAX_ANSWER: usize = 300;

/// What was asked when it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// For a connection.
    Connect,
    /// To take up TLS.
    Starttls,
    /// To believe that we are who we are.
    Login,
    /// Whether we may send from our address.
    Sender,
    /// Whether the recipient takes mails.
    Recipient,
    /// To take the mail.
    Content,
}

/// Why a mail was not taken.
#[derive(Debug, Error)]
#[error("{text}")]
pub(super) struct Fault {
    stage: Stage,
    /// The number of the answer, if there was one.
    code: Option<u16>,
    /// Whether nothing was asked, since the relay does not offer it.
    unasked: bool,
    text: String,
}

impl Fault {
    pub(super) fn new(stage: Stage, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        let error = error.into();
        let smtp = error.downcast_ref::<smtp::Error>();
        let code = smtp.and_then(smtp::Error::status).map(u16::from);
        // The error itself says its source as well.
        let source = smtp
            .and_then(std::error::Error::source)
            .unwrap_or(error.as_ref());
        let text = one_line(&runtime::error_chain(source), MAX_ANSWER);
        Self {
            stage,
            code,
            unasked: smtp.is_some_and(smtp::Error::is_client),
            text,
        }
    }

    /// Whether the relay answered, and goes on listening.
    pub(super) fn is_answer(&self) -> bool {
        self.code.is_some_and(|code| code != 421)
    }

    /// The subject and the detail of the enhanced status that the answer begins with.
    fn enhanced(&self) -> Option<(u16, u16)> {
        let mut numbers = self
            .text
            .split_whitespace()
            .next()?
            .split('.')
            .map(str::parse);
        let (Some(Ok(4 | 5)), Some(Ok(subject)), Some(Ok(detail)), None) = (
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        ) else {
            return None;
        };
        Some((subject, detail))
    }
}

/// What comes of a mail to `recipient` that the relay at `place` did not take.
pub(super) fn judge(fault: &Fault, place: &str, recipient: &str) -> ChannelError {
    let Some(code) = fault.code else {
        return unanswered(fault, place);
    };
    let asked = match fault.stage {
        Stage::Connect => "a connection",
        Stage::Starttls => "starttls",
        Stage::Login => "the login",
        Stage::Sender => "the sender",
        Stage::Recipient => "the recipient",
        Stage::Content => "the mail",
    };
    let problem = format!("{place} answered {asked} with {code} {}", fault.text);
    let advised = |advice: &str| format!("{problem}: {advice}");
    let bounced = || ChannelError::HardBounce {
        channel: NAME,
        recipient: recipient.to_owned(),
        problem: problem.clone(),
    };
    match (fault.stage, code, fault.enhanced()) {
        (_, 421, _) => ChannelError::Busy {
            channel: NAME,
            retry_after: None,
            problem,
        },
        (_, 530 | 534 | 535 | 538, _) | (Stage::Login, 500.., _) => ChannelError::Credentials {
            channel: NAME,
            problem: advised(
                "set notify.smtp.login (or email) and notify.smtp.password to what it expects",
            ),
        },
        (Stage::Connect | Stage::Starttls | Stage::Login, ..500, _) => ChannelError::Busy {
            channel: NAME,
            retry_after: None,
            problem,
        },
        (Stage::Connect | Stage::Starttls, ..) => ChannelError::Unreachable {
            channel: NAME,
            problem: advised(
                "set notify.smtp.host and notify.smtp.port to a relay that takes our mails",
            ),
        },
        (_, ..500, _) => ChannelError::Failed {
            channel: NAME,
            problem,
        },
        (Stage::Sender, 550 | 551 | 553 | 554, _) => ChannelError::Credentials {
            channel: NAME,
            problem: advised("set notify.smtp.email to an address that may be sent from"),
        },
        // A full mailbox, whatever number it has, and if it is seen only when the mail is there.
        (Stage::Recipient | Stage::Content, _, Some((2, 2))) | (Stage::Recipient, 552, _) => {
            ChannelError::Failed {
                channel: NAME,
                problem,
            }
        }
        // The mailbox does not exist, or is closed.
        (Stage::Recipient | Stage::Content, _, Some((1, 1..=6 | 10) | (2, 1))) => bounced(),
        // Relays check the sender when they are given the recipient.
        (Stage::Recipient, _, Some((1, 7 | 8))) => ChannelError::Credentials {
            channel: NAME,
            problem: advised("set notify.smtp.email to an address that may be sent from"),
        },
        (Stage::Recipient, _, Some((7, _))) => ChannelError::Refused {
            channel: NAME,
            problem: advised(
                "if it relays nothing for us, let it, or set notify.smtp.password for a login",
            ),
        },
        // The arms above handle the enhanced statuses that are about the recipient: the others are not.
        (Stage::Recipient, 521 | 550 | 551 | 553 | 556, None | Some((0, 0))) => bounced(),
        _ => ChannelError::Refused {
            channel: NAME,
            problem,
        },
    }
}

/// Nothing came back, or nothing that could be understood.
fn unanswered(fault: &Fault, place: &str) -> ChannelError {
    let text = &fault.text;
    let unreachable = |problem| ChannelError::Unreachable {
        channel: NAME,
        problem,
    };
    match fault.stage {
        Stage::Login if fault.unasked => ChannelError::Credentials {
            channel: NAME,
            problem: format!(
                "{place} offers no login with a password: remove notify.smtp.password, or enable it there"
            ),
        },
        Stage::Starttls if fault.unasked => unreachable(format!(
            "{place} offers no STARTTLS, and nothing is sent in plain text: set notify.smtp.tls and notify.smtp.port \
             to what it offers"
        )),
        Stage::Connect | Stage::Starttls if text.contains("invalid peer certificate") => {
            unreachable(format!(
                "{place} is not trusted, {text}: set notify.smtp.ca_file to the certificate (PEM) of its authority, and \
             notify.smtp.host to the name that its certificate is for"
            ))
        }
        Stage::Connect | Stage::Starttls => unreachable(format!(
            "connect to {place}: {text}: check notify.smtp.host, notify.smtp.port and notify.smtp.tls"
        )),
        // It may have taken the mail. One that always does and never says so must not be given it for a whole day.
        Stage::Content => ChannelError::Failed {
            channel: NAME,
            problem: format!(
                "{place} broke off when it was given the mail, which it may have taken: {text}"
            ),
        },
        Stage::Sender | Stage::Recipient | Stage::Login => {
            unreachable(format!("{place} broke off: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(stage: Stage, code: u16, text: &str) -> ChannelError {
        let fault = Fault {
            stage,
            code: Some(code),
            unasked: false,
            text: text.to_owned(),
        };
        judge(&fault, "relay:25", "ann@example.com")
    }

    #[test]
    fn answer_is_attributed_to_its_command() {
        use Stage::{Connect, Content, Login, Recipient, Sender};
        for (stage, code, text, expected) in [
            (Connect, 421, "too many connections", "Busy"),
            (Connect, 450, "later", "Busy"),
            (Connect, 554, "no service", "Unreachable"),
            (Login, 535, "5.7.8 no", "Credentials"),
            (Login, 454, "4.7.0 not now", "Busy"),
            (Login, 504, "no such mechanism", "Credentials"),
            (Sender, 530, "5.7.0 log in", "Credentials"),
            (Sender, 553, "5.7.1 not yours", "Credentials"),
            (Sender, 452, "4.3.1 no space", "Failed"),
            (Sender, 501, "5.1.7 bad sender", "Refused"),
            (Recipient, 550, "5.1.1 unknown", "HardBounce"),
            (Recipient, 550, "unknown", "HardBounce"),
            (Recipient, 551, "", "HardBounce"),
            (Recipient, 553, "5.1.3 bad address", "HardBounce"),
            (Recipient, 554, "5.1.2 bad host", "HardBounce"),
            (Recipient, 550, "5.2.1 mailbox disabled", "HardBounce"),
            (Recipient, 550, "5.0.0 unknown", "HardBounce"),
            (
                Recipient,
                550,
                "5.1.8 sender address rejected: domain not found",
                "Credentials",
            ),
            (
                Recipient,
                553,
                "5.1.7 sender address rejected",
                "Credentials",
            ),
            (
                Recipient,
                550,
                "5.3.2 system not accepting messages",
                "Refused",
            ),
            (
                Recipient,
                550,
                "5.4.1 recipient address rejected: access denied",
                "Refused",
            ),
            (Recipient, 550, "5.7.1 relaying denied", "Refused"),
            (Recipient, 554, "relay access denied", "Refused"),
            (Recipient, 452, "4.2.2 full", "Failed"),
            (Recipient, 552, "5.2.2 full", "Failed"),
            (Recipient, 550, "5.2.2 full", "Failed"),
            (Recipient, 450, "4.7.1 greylisted", "Failed"),
            (Recipient, 421, "closing", "Busy"),
            (Content, 552, "5.2.2 full", "Failed"),
            (Content, 552, "5.3.4 too big", "Refused"),
            (Content, 554, "5.7.1 spam", "Refused"),
            (Content, 550, "spam", "Refused"),
            (Content, 550, "5.1.1 unknown after all", "HardBounce"),
            (Content, 451, "later", "Failed"),
        ] {
            let error = judged(stage, code, text);
            assert!(
                format!("{error:?}").starts_with(expected),
                "{stage:?} {code} {text}: {error:?}"
            );
        }
    }

    #[test]
    fn connection_closed_by_relay_is_not_reused() {
        let fault = |code| Fault {
            stage: Stage::Recipient,
            code,
            unasked: false,
            text: String::new(),
        };
        assert!(fault(Some(550)).is_answer());
        assert!(!fault(Some(421)).is_answer() && !fault(None).is_answer());
    }
}
