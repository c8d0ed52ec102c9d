//! The meaning of a relay's replies.
//!
//! The same code has one meaning for a recipient and another for a sender or a mail, so the command counts. If a reply has
//! an enhanced status (RFC 3463), that decides: a recipient that is refused by a rule (`5.7.1`, relaying denied) exists.

use lettre::transport::smtp;
use thiserror::Error;

use super::NAME;
use crate::{ChannelError, text::one_line};

/// The maximum length of a quoted reply, in bytes.
const MAX_REPLY: usize = 300;

/// The step of a mail that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection, and EHLO.
    Connect,
    /// STARTTLS.
    Starttls,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Content,
}

/// The failure of a mail.
#[derive(Debug, Error)]
#[error("{text}")]
pub(super) struct Fault {
    stage: Stage,
    /// The code of the reply, if there was one.
    code: Option<u16>,
    /// Whether no command was sent, since the relay does not offer it.
    is_not_offered: bool,
    text: String,
}

impl Fault {
    pub(super) fn new(stage: Stage, error: impl Into<Box<dyn std::error::Error>>) -> Self {
        let error = error.into();
        let smtp = error.downcast_ref::<smtp::Error>();
        let code = smtp.and_then(smtp::Error::status).map(u16::from);
        // The text of the error contains that of its source.
        let source = smtp
            .and_then(std::error::Error::source)
            .unwrap_or(error.as_ref());
        let text = one_line(&runtime::error_chain(source), MAX_REPLY);
        Self {
            stage,
            code,
            is_not_offered: smtp.is_some_and(smtp::Error::is_client),
            text,
        }
    }

    /// Whether the relay replied, and keeps the connection open.
    pub(super) fn is_reply(&self) -> bool {
        self.code.is_some_and(|code| code != 421)
    }

    /// The subject and the detail of the enhanced status at the beginning of the reply.
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

/// The error of a notification to `recipient` whose mail the relay at `address` did not accept.
pub(super) fn channel_error(fault: &Fault, address: &str, recipient: &str) -> ChannelError {
    let Some(code) = fault.code else {
        return without_reply(fault, address);
    };
    let subject = match fault.stage {
        Stage::Connect => "a connection",
        Stage::Starttls => "starttls",
        Stage::Login => "the login",
        Stage::Sender => "the sender",
        Stage::Recipient => "the recipient",
        Stage::Content => "the mail",
    };
    let problem = format!("{address} answered {subject} with {code} {}", fault.text);
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
                "set notify.smtp.login (or email) and notify.smtp.password to a valid login",
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
                "set notify.smtp.host and notify.smtp.port to a relay that accepts our mails",
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
        // A full mailbox, with any code, also if the relay notices it only after the mail.
        (Stage::Recipient | Stage::Content, _, Some((2, 2))) | (Stage::Recipient, 552, _) => {
            ChannelError::Failed {
                channel: NAME,
                problem,
            }
        }
        // The mailbox does not exist, or is closed.
        (Stage::Recipient | Stage::Content, _, Some((1, 1..=6 | 10) | (2, 1))) => bounced(),
        // Relays check the sender after RCPT TO.
        (Stage::Recipient, _, Some((1, 7 | 8))) => ChannelError::Credentials {
            channel: NAME,
            problem: advised("set notify.smtp.email to an address that may be sent from"),
        },
        (Stage::Recipient, _, Some((7, _))) => ChannelError::Refused {
            channel: NAME,
            problem: advised(
                "allow relaying for our address there, or set notify.smtp.password if it needs a login",
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

/// The error of a mail without a reply, or with one that cannot be parsed.
fn without_reply(fault: &Fault, address: &str) -> ChannelError {
    let text = &fault.text;
    let unreachable = |problem| ChannelError::Unreachable {
        channel: NAME,
        problem,
    };
    match fault.stage {
        Stage::Login if fault.is_not_offered => ChannelError::Credentials {
            channel: NAME,
            problem: format!(
                "{address} offers no login with a password: remove notify.smtp.password, or enable it there"
            ),
        },
        Stage::Starttls if fault.is_not_offered => unreachable(format!(
            "{address} offers no STARTTLS, and nothing is sent in plain text: set notify.smtp.tls and notify.smtp.port \
             to what it offers"
        )),
        Stage::Connect | Stage::Starttls if text.contains("invalid peer certificate") => {
            unreachable(format!(
                "{address} is not trusted, {text}: set notify.smtp.ca_file to the certificate (PEM) of its authority, and \
             notify.smtp.host to the name that its certificate is for"
            ))
        }
        Stage::Connect | Stage::Starttls => unreachable(format!(
            "cannot connect to {address}: {text}: check notify.smtp.host, notify.smtp.port and notify.smtp.tls"
        )),
        // The relay may have accepted the mail, so this counts as an attempt: a deferral would repeat the mail for a day.
        Stage::Content => ChannelError::Failed {
            channel: NAME,
            problem: format!(
                "the connection to {address} failed during the mail, which it may have accepted: {text}"
            ),
        },
        Stage::Sender | Stage::Recipient | Stage::Login => {
            unreachable(format!("the connection to {address} failed: {text}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(stage: Stage, code: u16, text: &str) -> ChannelError {
        let fault = Fault {
            stage,
            code: Some(code),
            is_not_offered: false,
            text: text.to_owned(),
        };
        channel_error(&fault, "relay:25", "ann@example.com")
    }

    #[test]
    fn reply_is_classified_by_its_command() {
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
            let error = error_of(stage, code, text);
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
            is_not_offered: false,
            text: String::new(),
        };
        assert!(fault(Some(550)).is_reply());
        assert!(!fault(Some(421)).is_reply() && !fault(None).is_reply());
    }
}
