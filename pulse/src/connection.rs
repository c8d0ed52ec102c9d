//! A connection to RabbitMQ.
//!
//! The client runs each connection in a thread of its own, which ends when its socket does. So each connection keeps a
//! handle on the socket and shuts it down when it is dropped: no thread waits for a server that does not respond, and
//! messages that were not acknowledged return to their queue at once.

use std::{
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use lapin::{
    AsyncTcpStream, Channel, ConnectionProperties, ExchangeKind,
    options::ExchangeDeclareOptions,
    tcp::{AMQPUriTcpExt, RustlsConnector, RustlsConnectorConfig},
    types::{FieldTable, ShortString},
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::{PulseError, PulseSettings, error::check_name};

/// The time limit for a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// The time limit until RabbitMQ has accepted the user.
const LOGIN: Duration = Duration::from_secs(20);
/// The time limit for closing a connection.
const CLOSE: Duration = Duration::from_secs(2);
/// Seconds without traffic after which each side takes the other for dead.
const HEARTBEAT: u16 = 30;

/// One connection, which is closed when this is dropped.
pub(crate) struct Connection {
    settings: PulseSettings,
    connection: lapin::Connection,
    _socket: Socket,
}

impl Connection {
    /// Connects. RabbitMQ's list of connections shows `name`.
    pub(crate) async fn open(settings: &PulseSettings, name: &str) -> Result<Self, PulseError> {
        let socket = Socket::default();
        let connector = settings
            .address
            .tls
            .then(|| connector(settings))
            .transpose()?;
        let (kept, host) = (Arc::clone(&socket.0), settings.address.host.clone());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let opening = async {
            let runtime = lapin::runtime::default_runtime()?;
            let connect = lapin::Connection::connector(
                uri(settings),
                runtime,
                async move |uri, runtime| {
                    let connect = async {
                        let plain = AMQPUri {
                            scheme: AMQPScheme::AMQP,
                            ..uri
                        };
                        let stream = plain.connect_async(&runtime).await?;
                        if let AsyncTcpStream::Plain(stream) = &stream {
                            let handle =
                                TcpStream::from(stream.get_ref().as_fd().try_clone_to_owned()?);
                            *kept.lock() = Some(handle);
                        }
                        match &connector {
                            Some(connector) => stream.into_rustls(connector, &host).await,
                            None => Ok(stream),
                        }
                    };
                    Ok(timeout(CONNECT, connect)
                        .await
                        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
                },
                properties,
            );
            connect.await
        };
        let connection = timeout(LOGIN, opening)
            .await
            .map_err(|_| silent(settings, "connect", LOGIN))?;
        let connection = connection.map_err(|error| PulseError::connecting(settings, error))?;
        Ok(Self {
            settings: settings.clone(),
            connection,
            _socket: socket,
        })
    }

    pub(crate) fn settings(&self) -> &PulseSettings {
        &self.settings
    }

    pub(crate) fn is_open(&self) -> bool {
        self.connection.status().connected()
    }

    /// Opens a channel. RabbitMQ closes a channel on which it refuses something.
    pub(crate) async fn channel(&self) -> Result<Channel, PulseError> {
        self.connection
            .create_channel()
            .await
            .map_err(PulseError::doing(&self.settings, "open a channel"))
    }

    /// Finds an exchange, or declares it if it is one of this user's own: only their owner may declare exchanges.
    pub(crate) async fn find_exchange(
        &self,
        channel: &Channel,
        exchange: &str,
    ) -> Result<(), PulseError> {
        let own = self.settings.owns(exchange);
        let options = ExchangeDeclareOptions {
            passive: !own,
            durable: own,
            ..ExchangeDeclareOptions::default()
        };
        let name = short("the exchange", exchange)?;
        let doing = format!(
            "{} the exchange {exchange}",
            if own { "declare" } else { "find" }
        );
        let declared = channel
            .exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default())
            .await;
        declared.map_err(PulseError::doing(&self.settings, doing))
    }

    /// Closes the connection, and waits for the server's response.
    pub(crate) async fn close(self) {
        let _ = timeout(CLOSE, self.connection.close(200, "done".into())).await;
    }
}

/// The error of a server that did not respond.
pub(crate) fn silent(settings: &PulseSettings, doing: &str, within: Duration) -> PulseError {
    PulseError::Silent {
        address: settings.address.clone(),
        doing: doing.to_owned(),
        within,
    }
}

/// A name or a key as AMQP carries it; `what` names it in the error.
pub(crate) fn short(what: &str, name: &str) -> Result<ShortString, PulseError> {
    check_name(what, name)?;
    ShortString::try_new(name).map_err(|error| PulseError::Unusable {
        reason: error.to_string(),
    })
}

/// Checks that the server responds and accepts the user.
pub async fn check(settings: &PulseSettings) -> Result<(), PulseError> {
    let connection = Connection::open(settings, "a check").await?;
    connection.channel().await.map(|_| ())
}

fn uri(settings: &PulseSettings) -> AMQPUri {
    let (username, password) = (
        settings.user.clone(),
        settings.password.expose_secret().to_owned(),
    );
    let address = &settings.address;
    AMQPUri {
        scheme: if address.tls {
            AMQPScheme::AMQPS
        } else {
            AMQPScheme::AMQP
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username, password },
            host: address.host.clone(),
            port: address.port,
        },
        vhost: settings.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT),
            ..AMQPQueryString::default()
        },
    }
}

fn connector(settings: &PulseSettings) -> Result<RustlsConnector, PulseError> {
    let unusable = |reason: String| PulseError::Unusable { reason };
    let config = match &settings.ca {
        None => RustlsConnectorConfig::new_with_platform_verifier(),
        Some(pem) => {
            let trusted: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
            let trusted =
                trusted.map_err(|error| unusable(format!("its ca is no PEM file: {error}")))?;
            let mut config = RustlsConnectorConfig::default();
            config.add_parsable_certificates(trusted);
            config
        }
    };
    config
        .connector_with_no_client_auth()
        .map_err(|error| unusable(format!("its ca cannot be trusted: {error}")))
}

/// The socket of a connection, once there is one. It is shut down when this is dropped.
#[derive(Default)]
struct Socket(Arc<Mutex<Option<TcpStream>>>);

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(socket) = self.0.lock().take() {
            // It may be closed before.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}
