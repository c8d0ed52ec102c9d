//! Mails: a notification in the form of RFC 5322, as text and as HTML, for whichever channel hands it over.
//!
//! # Threads
//!
//! Each mail replies to `<task group's id@domain>`, a mail that nobody ever sent, so that a reader's program shows those of
//! one group together. A mail that has to be handed over once more, since nobody saw that it was taken, bears the same
//! `Message-ID`, by which servers drop the second.
//!
//! # What strangers cannot do
//!
//! A subject is one line before it becomes a header, and is encoded where it is not ASCII. An address with anything but
//! plain letters in it is none. The border between the parts is not to be guessed, so no text can begin a part of its own.

use std::{sync::Arc, time::SystemTime};

use bus::Clock;
use lettre::{
    Address, Message,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

use crate::{
    ChannelError, Key, Notification, Settings, SettingsError, Templates, memory::name, notification::MAX_RECIPIENT,
    text::one_line,
};

/// The templates of a mail, for the [`crate::Registration`] of a channel that sends some.
pub(crate) const TEMPLATES: &[(&str, &str)] =
    &[(TEXT, include_str!("../templates/mail.txt")), (HTML, include_str!("../templates/mail.html"))];
/// The text.
const TEXT: &str = "mail.txt";
/// The same in HTML.
pub(crate) const HTML: &str = "mail.html";

/// What comes behind the `@` of a mail's id, and of the thread's.
pub(crate) const THREADING_DOMAIN: Key = Key::new("threading_domain").or_variable("EMAIL_THREADING_DOMAIN");

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 400;

/// A mail that is ready to be handed over, from one to one.
pub(crate) struct Mail {
    /// Who sends it.
    pub(crate) from: Address,
    /// Whom it is for.
    pub(crate) to: Address,
    /// All of it, in ASCII.
    pub(crate) bytes: Vec<u8>,
}

/// Writes the mails of a channel.
pub(crate) struct MailWriter {
    channel: &'static str,
    from: Address,
    domain: String,
    templates: Arc<Templates>,
    clock: Arc<dyn Clock>,
    has_html: bool,
}

impl MailWriter {
    /// Writes for `channel`, from the address that its key `email` is set to. Threads are of the domain that
    /// [`THREADING_DOMAIN`] is set to, and of the address's own otherwise.
    pub(crate) fn open(
        channel: &'static str,
        settings: &Settings,
        templates: Arc<Templates>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SettingsError> {
        let from = address(&settings.text("email")?).ok_or_else(|| settings.unfit("email", "a mail address"))?;
        let domain = settings.optional_text(THREADING_DOMAIN.name).unwrap_or_else(|| from.domain().to_owned());
        if address(&format!("a@{domain}")).is_none() {
            return Err(settings.unfit(THREADING_DOMAIN.name, "the name of a domain"));
        }
        Ok(Self { channel, from, domain, templates, clock, has_html: true })
    }

    /// The same for mails without HTML.
    pub(crate) fn without_html(self) -> Self {
        Self { has_html: false, ..self }
    }

    /// Who sends the mails.
    pub(crate) fn from(&self) -> &Address {
        &self.from
    }

    /// The mail to `recipient`, who is unreachable by any if that is no mail address.
    pub(crate) fn write(&self, notification: &Notification, recipient: &str) -> Result<Mail, ChannelError> {
        let to = address(recipient).ok_or_else(|| ChannelError::HardBounce {
            channel: self.channel,
            recipient: one_line(recipient, MAX_RECIPIENT),
            problem: "it is no mail address: write another one into the task's section".to_owned(),
        })?;
        let part = |kind, template| {
            let text = self.templates.render(self.channel, template, notification)?;
            Ok::<_, ChannelError>(SinglePart::builder().header(kind).body(text))
        };
        let text = part(ContentType::TEXT_PLAIN, TEXT)?;
        let thread = format!("<{}@{}>", name_of_thread(&notification.task.group_id), self.domain);
        let message = Message::builder()
            .from(Mailbox::new(None, self.from.clone()))
            .to(Mailbox::new(None, to.clone()))
            .subject(one_line(&notification.subject, MAX_SUBJECT))
            .date(SystemTime::from(self.clock.now()))
            .message_id(Some(self.id(notification, recipient)))
            .in_reply_to(thread.clone())
            .references(thread)
            // Nobody's out-of-office note is to answer this (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ));
        let message = if self.has_html {
            let border = format!("{:016x}{:016x}", self.clock.random(), self.clock.random());
            let html = part(ContentType::TEXT_HTML, HTML)?;
            message.multipart(MultiPart::alternative().boundary(border).singlepart(text).singlepart(html))
        } else {
            message.singlepart(text)
        };
        let message = message.map_err(|error| ChannelError::Refused {
            channel: self.channel,
            problem: format!("cannot write the mail: {error}"),
        })?;
        Ok(Mail { from: self.from.clone(), to, bytes: message.formatted() })
    }

    /// The same for the same to the same one.
    fn id(&self, notification: &Notification, recipient: &str) -> String {
        // What came too late for a digest makes a second one, which must not be taken for the first.
        let listed = if notification.digest.is_empty() { "" } else { &notification.message };
        format!("<{}@{}>", name(&[&notification.key(), recipient, listed]), self.domain)
    }
}

/// A group's id as a header can hold it, which is the id itself.
fn name_of_thread(group: &str) -> String {
    group.chars().filter(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_')).collect()
}

/// Reads the address of a mailbox: plain letters, digits and such. What would need quotes, or more than ASCII, is none.
pub(crate) fn address(text: &str) -> Option<Address> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !br#"()<>[]:;,\""#.contains(&byte);
    if !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok()
}
