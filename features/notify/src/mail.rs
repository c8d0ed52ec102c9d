//! Mails: a notification in the form of RFC 5322, as text and as HTML, for the channels that send mail.
//!
//! # Threads
//!
//! Each mail replies to `<task group's id@domain>`, a mail that does not exist, so that mail programs show the mails of
//! one group together. A mail that is sent again after a lost answer has the same `Message-ID`, by which servers drop the
//! duplicate.
//!
//! # Foreign text cannot add headers or parts
//!
//! A subject is one line before it becomes a header, and is encoded where it is not ASCII. Of a recipient only the address
//! is kept, and an address with other than plain characters is refused. The boundary between the parts cannot be guessed, so
//! no text can begin a part.

use std::{sync::Arc, time::SystemTime};

use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use runtime::Clock;

use crate::{
    ChannelError, Key, Notification, Settings, SettingsError, Templates,
    notification::MAX_RECIPIENT, records::hash_id, text::one_line,
};

/// The templates of a mail, for the [`crate::Registration`] of a channel that sends some.
pub(crate) const TEMPLATES: &[(&str, &str)] = &[
    (TEXT, include_str!("../templates/mail.txt")),
    (HTML, include_str!("../templates/mail.html")),
];
/// The text.
const TEXT: &str = "mail.txt";
/// The same in HTML.
pub(crate) const HTML: &str = "mail.html";

/// The domain in the ids of mails and threads.
pub(crate) const THREADING_DOMAIN: Key =
    Key::new("threading_domain").or_variable("EMAIL_THREADING_DOMAIN");

/// The recipient of a section without recipients.
pub(crate) const DEFAULT_RECIPIENT: Key = Key::new("default_recipient");

/// The longest name of a mailbox, in bytes.
const MAX_NAME: usize = 100;
/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 400;

/// A rendered mail to one recipient.
pub(crate) struct Mail {
    /// The sender.
    pub(crate) from: Address,
    /// The recipient.
    pub(crate) to: Address,
    /// Headers and body, in ASCII.
    pub(crate) bytes: Vec<u8>,
}

/// Renders the mails of a channel.
pub(crate) struct MailWriter {
    channel: &'static str,
    from: Mailbox,
    /// The recipient of a section without recipients.
    default: Address,
    domain: String,
    templates: Arc<Templates>,
    clock: Arc<dyn Clock>,
    has_html: bool,
}

impl MailWriter {
    /// Renders for `channel`, from the address in its key `email`. The domain of threads is [`THREADING_DOMAIN`], or else
    /// that of the address.
    pub(crate) fn open(
        channel: &'static str,
        settings: &Settings,
        templates: Arc<Templates>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        let from = mailbox(&settings.text("email")?)
            .ok_or_else(|| settings.invalid("email", "a mail address"))?;
        let default = match settings.optional_text(DEFAULT_RECIPIENT.name) {
            Some(default) => {
                mailbox(&default)
                    .ok_or_else(|| settings.invalid(DEFAULT_RECIPIENT.name, "a mail address"))?
                    .email
            }
            None => from.email.clone(),
        };
        let domain = settings
            .optional_text(THREADING_DOMAIN.name)
            .unwrap_or_else(|| from.email.domain().to_owned());
        if address(&format!("a@{domain}")).is_none() {
            return Err(settings.invalid(THREADING_DOMAIN.name, "the name of a domain"));
        }
        Ok(Self {
            channel,
            from,
            default,
            domain,
            templates,
            clock,
            has_html: true,
        })
    }

    /// Disables the HTML part.
    pub(crate) fn without_html(self) -> Self {
        Self {
            has_html: false,
            ..self
        }
    }

    /// The sender of the mails.
    pub(crate) fn from(&self) -> &Address {
        &self.from.email
    }

    /// The recipients of a notification, each by its address alone: an address under two names gets one mail.
    /// Invalid addresses are included, so that they are reported like those that do not exist. A section without
    /// recipients goes to the default.
    pub(crate) fn recipients(&self, notification: &Notification) -> Vec<String> {
        let mut recipients: Vec<String> = Vec::new();
        for name in &notification.to.emails {
            let name =
                mailbox(name).map_or_else(|| name.clone(), |mailbox| mailbox.email.to_string());
            if !recipients.contains(&name) {
                recipients.push(name);
            }
        }
        if recipients.is_empty() {
            recipients.push(self.default.to_string());
        }
        recipients
    }

    /// The mail to `recipient`; a hard bounce where that is not a mail address.
    pub(crate) fn write(
        &self,
        notification: &Notification,
        recipient: &str,
    ) -> Result<Mail, ChannelError> {
        let to = mailbox(recipient)
            .map(|mailbox| mailbox.email)
            .ok_or_else(|| ChannelError::HardBounce {
                channel: self.channel,
                recipient: one_line(recipient, MAX_RECIPIENT),
                problem: "it is not a mail address: write another one into the task's section"
                    .to_owned(),
            })?;
        let part = |kind, template| {
            let text = self
                .templates
                .render(self.channel, template, notification)?;
            Ok::<_, ChannelError>(SinglePart::builder().header(kind).body(text))
        };
        let text = part(ContentType::TEXT_PLAIN, TEXT)?;
        let thread = format!(
            "<{}@{}>",
            name_of_thread(&notification.task.group_id),
            self.domain
        );
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(&notification.subject, MAX_SUBJECT))
            .date(SystemTime::from(self.clock.now()))
            .message_id(Some(self.id(notification, recipient)))
            .in_reply_to(thread.clone())
            .references(thread)
            // Prevents out-of-office replies (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let message = if self.has_html {
            let border = format!("{:016x}{:016x}", self.clock.random(), self.clock.random());
            let html = part(ContentType::TEXT_HTML, HTML)?;
            message.multipart(
                MultiPart::alternative()
                    .boundary(border)
                    .singlepart(text)
                    .singlepart(html),
            )
        } else {
            message.singlepart(text)
        };
        let message = message.map_err(|error| ChannelError::Refused {
            channel: self.channel,
            problem: format!("cannot write the mail: {error}"),
        })?;
        Ok(Mail {
            from: self.from.email.clone(),
            to,
            bytes: message.formatted(),
        })
    }

    /// The `Message-ID`: the same for the same notification to the same recipient.
    fn id(&self, notification: &Notification, recipient: &str) -> String {
        // Late lines make a second digest, which must not look like a duplicate of the first.
        let listed = if notification.digest.is_empty() {
            ""
        } else {
            &notification.message
        };
        format!(
            "<{}@{}>",
            hash_id(&[&notification.key(), recipient, listed]),
            self.domain
        )
    }
}

/// A group's id, without characters that a header cannot hold. A valid id has none.
fn name_of_thread(group: &str) -> String {
    group
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_'))
        .collect()
}

/// Parses a mailbox of RFC 5322: an address alone, or with a name, `Ann <ann@example.com>`, which may be quoted; and
/// comments in round brackets, which are removed.
pub(crate) fn mailbox(text: &str) -> Option<Mailbox> {
    let text = without_comments(text)?;
    let text = text.trim();
    let Some((name, rest)) = text.rsplit_once('<') else {
        return Some(Mailbox::new(None, address(text)?));
    };
    let email = address(rest.strip_suffix('>')?.trim())?;
    let name = name.trim();
    let is_quoted = name.len() >= 2 && name.starts_with('"') && name.ends_with('"');
    let name = if is_quoted {
        name[1..name.len() - 1]
            .replace("\\\"", "\"")
            .replace("\\\\", "\\")
    } else if name.contains(['<', '>', ',', ';', ':', '@', '"']) {
        return None;
    } else {
        name.to_owned()
    };
    let name = one_line(&name, MAX_NAME);
    Some(Mailbox::new(
        Some(name).filter(|name| !name.is_empty()),
        email,
    ))
}

/// `text` without its comments; `None` where a comment or a quoted text is not closed.
fn without_comments(text: &str) -> Option<String> {
    let (mut depth, mut is_quoted, mut kept) = (0_usize, false, String::new());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if depth > 0 || is_quoted => {
                let escaped = characters.next()?;
                if depth == 0 {
                    kept.extend([character, escaped]);
                }
            }
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.checked_sub(1)?,
            _ if depth > 0 => {}
            _ => {
                is_quoted ^= character == '"';
                kept.push(character);
            }
        }
    }
    (depth == 0 && !is_quoted).then_some(kept)
}

/// Parses the address of a mailbox. One that needs quotes, or more than ASCII, is rejected.
pub(crate) fn address(text: &str) -> Option<Address> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !br#"()<>[]:;,\""#.contains(&byte);
    if !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_follows_rfc_5322() {
        for (text, name, email) in [
            ("ann@example.com", None, "ann@example.com"),
            (" ann@example.com ", None, "ann@example.com"),
            ("<ann@example.com>", None, "ann@example.com"),
            ("Ann <ann@example.com>", Some("Ann"), "ann@example.com"),
            (
                "Ann B. Example <ann.b+ci@mail.example.com>",
                Some("Ann B. Example"),
                "ann.b+ci@mail.example.com",
            ),
            (
                "\"Example, Ann\" <ann@example.com>",
                Some("Example, Ann"),
                "ann@example.com",
            ),
            (
                "\"Ann \\\"A\\\" <x@y>\" <ann@example.com>",
                Some("Ann \"A\" <x@y>"),
                "ann@example.com",
            ),
            (
                "Ann (releng (west)) <ann@example.com> (work)",
                Some("Ann"),
                "ann@example.com",
            ),
            ("ann@example.com (Ann)", None, "ann@example.com"),
            ("Änn <ann@example.com>", Some("Änn"), "ann@example.com"),
            (
                "\"\u{202e}Ann\r\nBcc: x\" <ann@example.com>",
                Some("Ann Bcc: x"),
                "ann@example.com",
            ),
        ] {
            let found = mailbox(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(
                (found.name.as_deref(), found.email.to_string().as_str()),
                (name, email),
                "{text}"
            );
        }
        for text in [
            "",
            "ann",
            "Ann <ann>",
            "Ann <ann@example.com",
            "Ann ann@example.com>",
            "ann@example.com, bob@example.com",
            "Ann <ann@example.com>, Bob <bob@example.com>",
            "a <b@example.com> <c@example.com>",
            "team: ann@example.com;",
            "Ann (x <ann@example.com>",
            "\"Ann <ann@example.com>",
            "änn@example.com",
            "ann@example.com\r\nRCPT TO:<x@example.com>",
        ] {
            assert!(mailbox(text).is_none(), "{text}");
        }
    }
}
