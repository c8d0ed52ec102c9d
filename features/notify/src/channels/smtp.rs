//! `smtp`: mails that are handed over to a relay.
//!
//! # How the relay is reached
//!
//! `tls` says how a connection is kept secret: `starttls` begins in plain text and goes no further unless the relay takes
//! up TLS; `tls` is TLS from the first byte, and what port 465 stands for; `none` is for a relay on the same machine or in
//! the same cluster, and no password is ever sent that way to another machine. The relay's certificate has to be for
//! `host`, and of an authority that this machine trusts, or of that in `ca_file`. There is a login where `password` is set:
//! with the name `login`, or with the address `email`.
//!
//! Connections are kept for the next mail. One is used again only when the relay has answered all that was said on it,
//! and forgets on request what a mail before left there: a mail that was broken off cannot get into another.

mod answers;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts},
};
use lettre::transport::smtp::{
    authentication::{Credentials, DEFAULT_MECHANISMS},
    client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
    commands::{Data, Mail as MailFrom, Rcpt, Rset},
    extension::ClientId,
};
use secrecy::{ExposeSecret, SecretString};

use self::answers::{Fault, Stage};
use super::is_this_machine;
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    SettingsError, Templates, flag,
    mail::{self, Mail, MailWriter},
    text::one_line,
};

const NAME: &str = "smtp";
/// How long a mail may take, with all that is needed for it.
const PATIENCE: Duration = Duration::from_secs(50);
/// How long each address of the relay may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the relay may take to say that a connection can be used again, and to hear that we leave.
const COURTESY: Duration = Duration::from_secs(5);
/// The most connections: relays count them.
const CONNECTIONS: usize = 4;

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("email").or_variable("SMTP_EMAIL"),
        Key::new("login"),
        Key::new("password").or_variable("SMTP_PASSWD"),
        Key::new("host").or_variable("SMTP_HOST"),
        Key::new("port").or_variable("SMTP_PORT"),
        Key::new("tls"),
        Key::new("ca_file"),
        Key::new("template").or_variable("SMTP_TEMPLATE"),
        mail::DEFAULT_RECIPIENT,
        mail::THREADING_DOMAIN,
    ],
    templates: mail::TEMPLATES,
    open,
};

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    // It began as a switch: with our HTML, or plain text alone.
    let template = settings.optional_text("template");
    let switch = template.as_deref().and_then(flag);
    let templates = match template.filter(|_| switch.is_none()) {
        Some(file) => Templates::with_file(parts.templates, mail::HTML, Path::new(&file))
            .map_err(|error| needs(runtime::error_chain(&error)))?,
        None => Arc::clone(parts.templates),
    };
    let mut writer = MailWriter::open(NAME, settings, templates, Arc::clone(parts.clock))?;
    if switch == Some(false) {
        writer = writer.without_html();
    }
    let relay = Relay::open(settings, &writer)?;
    let place = relay.place();
    let relay = Pool::builder(relay)
        .max_size(CONNECTIONS)
        .timeouts(Timeouts {
            wait: None,
            create: None,
            recycle: Some(COURTESY),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| needs(error.to_string()))?;
    Ok(Box::new(Smtp {
        writer,
        relay,
        place,
    }))
}

fn needs(problem: String) -> SettingsError {
    SettingsError::Needs {
        channel: NAME,
        problem: one_line(&problem, 400),
    }
}

struct Smtp {
    writer: MailWriter,
    relay: Pool<Relay>,
    /// Host and port, for those who read of faults.
    place: String,
}

#[async_trait]
impl Channel for Smtp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, notification: &Notification) -> Vec<String> {
        self.writer.recipients(notification)
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let mail = self.writer.write(notification, recipient)?;
        let is_given = AtomicBool::new(false);
        let handed_over = tokio::time::timeout(PATIENCE, self.hand_over(mail, &is_given)).await;
        let handed_over = handed_over.unwrap_or_else(|_| {
            let stage = if is_given.load(Ordering::Relaxed) {
                Stage::Content
            } else {
                Stage::Recipient
            };
            Err(Fault::new(
                stage,
                format!(
                    "it did not take the mail within {} seconds",
                    PATIENCE.as_secs()
                ),
            ))
        });
        handed_over.map_err(|fault| answers::judge(&fault, &self.place, recipient))
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let connected = tokio::time::timeout(PATIENCE, self.connect())
            .await
            .unwrap_or_else(|_| {
                Err(Fault::new(
                    Stage::Connect,
                    format!("it did not answer within {} seconds", PATIENCE.as_secs()),
                ))
            });
        // Nobody is the recipient of nothing.
        drop(connected.map_err(|fault| answers::judge(&fault, &self.place, "nobody"))?);
        let found = format!(
            "{} accepts a connection, and our login where one is set",
            self.place
        );
        let by_hand = format!(
            "whether it takes mails from {}, and its allowed recipients",
            self.writer.from()
        );
        Ok(Checked {
            found: Some(found),
            by_hand: Some(by_hand),
        })
    }

    async fn close(&self) {
        for mut session in self.relay.retain(|_, _| false).removed {
            // One that does not hear it will notice.
            let _ = tokio::time::timeout(COURTESY, session.connection.quit()).await;
        }
        self.relay.close();
    }
}

impl Smtp {
    async fn connect(&self) -> Result<Object<Relay>, Fault> {
        self.relay.get().await.map_err(|error| match error {
            PoolError::Backend(fault) => fault,
            other => Fault::new(Stage::Connect, other),
        })
    }

    async fn hand_over(&self, mail: Mail, is_given: &AtomicBool) -> Result<(), Fault> {
        let mut session = self.connect().await?;
        session.settled = false;
        let handed_over = session.hand_over(mail, is_given).await;
        // An explicit refusal settles the session: nothing is in doubt.
        session.settled = handed_over.as_ref().err().is_none_or(Fault::is_answer);
        handed_over
    }
}

/// A connection to the relay.
struct Session {
    connection: AsyncSmtpConnection,
    /// Whether every command was answered. Not while a mail is handed over, which may be dropped at any time.
    settled: bool,
}

impl Session {
    /// Hands a mail over. `is_given` says whether the relay may have all of it.
    async fn hand_over(&mut self, mail: Mail, is_given: &AtomicBool) -> Result<(), Fault> {
        let connection = &mut self.connection;
        let (from, to) = (
            MailFrom::new(Some(mail.from), Vec::new()),
            Rcpt::new(mail.to, Vec::new()),
        );
        connection
            .command(from)
            .await
            .map_err(|error| Fault::new(Stage::Sender, error))?;
        connection
            .command(to)
            .await
            .map_err(|error| Fault::new(Stage::Recipient, error))?;
        connection
            .command(Data)
            .await
            .map_err(|error| Fault::new(Stage::Content, error))?;
        is_given.store(true, Ordering::Relaxed);
        connection
            .message(&mail.bytes)
            .await
            .map_err(|error| Fault::new(Stage::Content, error))?;
        Ok(())
    }
}

/// How connections are kept secret.
enum Security {
    Starttls(TlsParameters),
    Tls(TlsParameters),
    None,
}

/// Where the mails go. Makes connections.
struct Relay {
    host: String,
    port: u16,
    security: Security,
    login: Option<(String, SecretString)>,
    hello: ClientId,
}

impl Relay {
    fn open(settings: &Settings, writer: &MailWriter) -> Result<Self, SettingsError> {
        let host = settings.text("host")?;
        let port: Option<u16> = settings.optional_value("port", "a port from 1 to 65535")?;
        if port == Some(0) {
            return Err(settings.invalid("port", "a port from 1 to 65535"));
        }
        let login = match (
            settings.optional_text("login"),
            settings.optional_secret("password"),
        ) {
            (Some(login), _) => Some((login, settings.secret("password")?)),
            (None, Some(password)) => Some((writer.from().to_string(), password)),
            (None, None) => None,
        };
        let tls = settings.optional_text("tls");
        let default = if port == Some(465) { "tls" } else { "starttls" };
        let (security, usual_port) = match tls.as_deref().unwrap_or(default) {
            "starttls" => (Security::Starttls(trust(settings, &host)?), 587),
            "tls" => (Security::Tls(trust(settings, &host)?), 465),
            "none" if login.is_some() && !is_this_machine(&host) => {
                return Err(settings.invalid(
                    "tls",
                    "starttls or tls, which it has to be where a password is sent",
                ));
            }
            "none" => (Security::None, 25),
            _ => return Err(settings.invalid("tls", "starttls, tls or none")),
        };
        let hello = ClientId::Domain(writer.from().domain().to_owned());
        Ok(Self {
            host,
            port: port.unwrap_or(usual_port),
            security,
            login,
            hello,
        })
    }

    fn place(&self) -> String {
        format!("{}:{}", one_line(&self.host, 100), self.port)
    }
}

/// Which certificates are trusted: those for `host`, of the authority in `ca_file` or of those that the machine trusts.
fn trust(settings: &Settings, host: &str) -> Result<TlsParameters, SettingsError> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = settings.optional_text("ca_file") {
        let invalid = || {
            settings.invalid(
                "ca_file",
                "a file that can be read and holds certificates (PEM)",
            )
        };
        let pem = std::fs::read_to_string(&file).map_err(|_| invalid())?;
        if !pem.contains("-----BEGIN CERTIFICATE-----") {
            return Err(invalid());
        }
        let authority = Certificate::from_pem(pem.as_bytes()).map_err(|_| invalid())?;
        parameters = parameters
            .certificate_store(CertificateStore::None)
            .add_root_certificate(authority);
    }
    parameters.build().map_err(|error| {
        needs(format!(
            "no certificate can be trusted: {}",
            runtime::error_chain(&error)
        ))
    })
}

impl Manager for Relay {
    type Type = Session;
    type Error = Fault;

    async fn create(&self) -> Result<Session, Fault> {
        let at_once = if let Security::Tls(parameters) = &self.security {
            Some(parameters.clone())
        } else {
            None
        };
        let place = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, Some(CONNECT), &self.hello, at_once, None)
                .await
                .map_err(|error| Fault::new(Stage::Connect, error))?;
        if let Security::Starttls(parameters) = &self.security {
            let begun = connection.starttls(parameters.clone(), &self.hello).await;
            begun.map_err(|error| Fault::new(Stage::Starttls, error))?;
        }
        if let Some((login, password)) = &self.login {
            let credentials = Credentials::new(login.clone(), password.expose_secret().to_owned());
            let admitted = connection.auth(DEFAULT_MECHANISMS, &credentials).await;
            admitted.map_err(|error| Fault::new(Stage::Login, error))?;
        }
        Ok(Session {
            connection,
            settled: true,
        })
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Fault> {
        if !session.settled || session.connection.has_broken() {
            return Err(RecycleError::message("a mail was broken off there"));
        }
        let forgotten = session.connection.command(Rset).await;
        forgotten
            .map(drop)
            .map_err(|error| Fault::new(Stage::Connect, error).into())
    }
}
