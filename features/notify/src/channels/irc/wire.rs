//! The connection to the server: TCP, TLS, and lines in both directions.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    fault::{Fault, Kind},
    line::Line,
};

/// The time limit of a connection, with TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// The time limit of a write.
const WRITE: Duration = Duration::from_secs(10);
/// The maximum length of a received line in bytes: 8,191 for tags (IRCv3) and 512 for the rest, doubled for servers that
/// exceed these limits.
const MAX_READ: usize = 16 * 1024;

/// The address of the server.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` without TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// The TLS configuration. It verifies the server by the certificates in `ca_file`, or else by those that this machine
/// trusts.
pub(super) fn tls(ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match ca_file {
        None => config.with_platform_verifier().map_err(io::Error::other)?,
        Some(file) => {
            let mut trusted = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(&fs::read(file)?) {
                trusted
                    .add(certificate.map_err(io::Error::other)?)
                    .map_err(io::Error::other)?;
            }
            if trusted.is_empty() {
                return Err(io::Error::other("it holds no certificate"));
            }
            config.with_root_certificates(trusted)
        }
    };
    Ok(Arc::new(config.with_no_client_auth()))
}

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// An open connection.
pub(super) struct Wire {
    /// The server, for errors.
    server: String,
    stream: Box<dyn Stream>,
    /// The beginning of a line whose end has not arrived.
    read: Vec<u8>,
}

impl Wire {
    pub(super) async fn open(address: &Address) -> Result<Self, Fault> {
        let server = format!("{}:{}", address.host, address.port);
        let opened = timeout(CONNECT, connect(address)).await;
        let stream = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|error| {
            let advice = match address.tls {
                Some(_) => {
                    "check notify.irc.host and port, whether that port uses TLS (notify.irc.tls), and ca_file"
                }
                None => "check notify.irc.host and port",
            };
            Fault::new(Kind::Unreachable, format!("cannot connect to {server}: {}: {advice}", runtime::error_chain(&error)))
        })?;
        Ok(Self {
            server,
            stream,
            read: Vec::new(),
        })
    }

    /// The server's host and port, as they are configured.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// The next line. Cancel-safe.
    pub(super) async fn line(&mut self) -> Result<Line, Fault> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let bytes: Vec<u8> = self.read.drain(..=end).collect();
                if let Some(line) = Line::read(bytes.trim_ascii_end()) {
                    return Ok(line);
                }
            }
            if self.read.len() > MAX_READ {
                return Err(self.broken(&format!(
                    "a line has more than {MAX_READ} bytes, which is not irc"
                )));
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Err(self.broken("the server closed it")),
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
    }

    /// Writes lines, each with its end. The connection is unusable when this future is dropped.
    pub(super) async fn write(&mut self, lines: &str) -> Result<(), Fault> {
        let writing = async {
            self.stream.write_all(lines.as_bytes()).await?;
            self.stream.flush().await
        };
        let written = timeout(WRITE, writing)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        written.map_err(|error| self.broken(&error.to_string()))
    }

    /// Sends QUIT, and waits until the server has closed the connection.
    pub(super) async fn close(mut self) {
        if self.write("QUIT :done\r\n").await.is_ok() {
            while self.line().await.is_ok() {}
        }
    }

    fn broken(&self, problem: &str) -> Fault {
        Fault::new(
            Kind::Unreachable,
            format!("the connection to {} broke: {problem}", self.server),
        )
    }
}

async fn connect(address: &Address) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = &address.tls else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(
        TlsConnector::from(Arc::clone(tls))
            .connect(name, stream)
            .await?,
    ))
}
