//! `smtp`: mails that are sent to a relay.
//!
//! # Connections
//!
//! `tls` sets the encryption of a connection:
//! * `starttls` begins in plain text, and sends no mail unless the relay accepts STARTTLS;
//! * `tls` uses TLS from the first byte, and is the default for port 465;
//! * `none` is for a relay on the same machine or in the same cluster. The channel sends a password without TLS to this
//!   machine only.
//!
//! The relay's certificate must be for `host`, and be signed by the authority in `ca_file`, or by one that this machine
//! trusts. With `password`, the channel logs in as `login`, or as the address `email`.
//!
//! Connections are reused. A connection is reused only if the relay has replied to every command on it, and accepts RSET:
//! so no part of an interrupted mail gets into the next one.

mod replies;

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

use self::replies::{Fault, Stage};
use super::is_this_machine;
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    SettingsError, Templates, flag,
    mail::{self, Mail, MailWriter},
    text::one_line,
};

const NAME: &str = "smtp";
/// The time limit of a mail, with its connection.
const SEND_TIMEOUT: Duration = Duration::from_secs(50);
/// The time limit of a connection, for each address of the relay.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of RSET and of QUIT.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of connections: relays limit it.
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
    // The predecessor's values are a switch: HTML too, or text alone.
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
    let address = relay.address();
    let relay = Pool::builder(relay)
        .max_size(CONNECTIONS)
        .timeouts(Timeouts {
            wait: None,
            create: None,
            recycle: Some(RESET_TIMEOUT),
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| needs(error.to_string()))?;
    Ok(Box::new(Smtp {
        writer,
        relay,
        address,
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
    /// Host and port, for errors.
    address: String,
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
        let is_in_content = AtomicBool::new(false);
        let sending = self.send_mail(mail, &is_in_content);
        let sent = tokio::time::timeout(SEND_TIMEOUT, sending).await;
        let sent = sent.unwrap_or_else(|_| {
            let stage = if is_in_content.load(Ordering::Relaxed) {
                Stage::Content
            } else {
                Stage::Recipient
            };
            Err(Fault::new(
                stage,
                format!(
                    "it did not accept the mail within {} s",
                    SEND_TIMEOUT.as_secs()
                ),
            ))
        });
        sent.map_err(|fault| replies::channel_error(&fault, &self.address, recipient))
    }

    async fn check(&self) -> Result<Checked, ChannelError> {
        let connected = tokio::time::timeout(SEND_TIMEOUT, self.connect())
            .await
            .unwrap_or_else(|_| {
                Err(Fault::new(
                    Stage::Connect,
                    format!("it did not respond within {} s", SEND_TIMEOUT.as_secs()),
                ))
            });
        // No mail is sent, so there is no recipient.
        drop(connected.map_err(|fault| replies::channel_error(&fault, &self.address, "nobody"))?);
        let found = format!(
            "{} accepts a connection, and our login where one is set",
            self.address
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
            // Without QUIT, the relay notices the end of the connection.
            let _ = tokio::time::timeout(RESET_TIMEOUT, session.connection.quit()).await;
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

    async fn send_mail(&self, mail: Mail, is_in_content: &AtomicBool) -> Result<(), Fault> {
        let mut session = self.connect().await?;
        session.is_idle = false;
        let sent = session.send_mail(mail, is_in_content).await;
        // After an explicit refusal, the state of the session is known.
        session.is_idle = sent.as_ref().err().is_none_or(Fault::is_reply);
        sent
    }
}

/// A connection to the relay.
struct Session {
    connection: AsyncSmtpConnection,
    /// Whether the relay has replied to every command. False while a mail is sent, since its future may be dropped.
    is_idle: bool,
}

impl Session {
    /// Sends a mail. Sets `is_in_content` when the relay may have received all of it.
    async fn send_mail(&mut self, mail: Mail, is_in_content: &AtomicBool) -> Result<(), Fault> {
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
        is_in_content.store(true, Ordering::Relaxed);
        connection
            .message(&mail.bytes)
            .await
            .map_err(|error| Fault::new(Stage::Content, error))?;
        Ok(())
    }
}

/// The encryption of connections.
enum Security {
    Starttls(TlsParameters),
    Tls(TlsParameters),
    None,
}

/// The relay. Makes connections to it.
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
                return Err(settings.invalid("tls", "starttls or tls, which a password needs"));
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

    fn address(&self) -> String {
        format!("{}:{}", one_line(&self.host, 100), self.port)
    }
}

/// TLS with certificates for `host`, of the authority in `ca_file`, or of those that the machine trusts.
fn trust(settings: &Settings, host: &str) -> Result<TlsParameters, SettingsError> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = settings.optional_text("ca_file") {
        let invalid = || settings.invalid("ca_file", "a readable file with certificates (PEM)");
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
        let implicit_tls = if let Security::Tls(parameters) = &self.security {
            Some(parameters.clone())
        } else {
            None
        };
        let address = (self.host.as_str(), self.port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(
            address,
            Some(CONNECT_TIMEOUT),
            &self.hello,
            implicit_tls,
            None,
        )
        .await
        .map_err(|error| Fault::new(Stage::Connect, error))?;
        if let Security::Starttls(parameters) = &self.security {
            let encrypted = connection.starttls(parameters.clone(), &self.hello).await;
            encrypted.map_err(|error| Fault::new(Stage::Starttls, error))?;
        }
        if let Some((login, password)) = &self.login {
            let credentials = Credentials::new(login.clone(), password.expose_secret().to_owned());
            let logged_in = connection.auth(DEFAULT_MECHANISMS, &credentials).await;
            logged_in.map_err(|error| Fault::new(Stage::Login, error))?;
        }
        Ok(Session {
            connection,
            is_idle: true,
        })
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<Fault> {
        if !session.is_idle || session.connection.has_broken() {
            return Err(RecycleError::message(
                "a mail was interrupted on this connection",
            ));
        }
        let reset = session.connection.command(Rset).await;
        reset
            .map(drop)
            .map_err(|error| Fault::new(Stage::Connect, error).into())
    }
}
