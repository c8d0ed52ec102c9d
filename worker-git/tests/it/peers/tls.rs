//! `https_token`, on servers with TLS.

use std::{path::Path, sync::Arc};

use testkit::Authority;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::{
    assert_barred,
    http::{Conduct, Server, TOKEN, basic},
};
use crate::world::World;

/// A server whose connections have TLS.
struct TlsServer {
    port: u16,
    server: Server,
    task: JoinHandle<()>,
}

impl TlsServer {
    async fn start(world: &World, name: &str, authority: &Authority, conduct: Conduct) -> Self {
        let server = Server::start(world.home.path(), conduct).await;
        let (certificate, key) = authority.certify(&world.path(name), "127.0.0.1").unwrap();
        let acceptor = acceptor(&certificate, &key);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = server.port;
        let task = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // A client that does not accept the certificate hangs up.
                    let Ok(mut connection) = acceptor.accept(connection).await else {
                        return;
                    };
                    let mut plain = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut connection, &mut plain).await;
                });
            }
        });
        Self { port, server, task }
    }

    fn url(&self, name: &str) -> String {
        format!("https://bot@127.0.0.1:{}/{name}", self.port)
    }

    /// The credentials of the requests so far.
    fn seen(&self) -> Vec<String> {
        self.server.seen.lock().clone()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(certificate: &Path, key: &Path) -> TlsAcceptor {
    let certificates = CertificateDer::pem_file_iter(certificate).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A world with a token for https, and an authority that its `git` trusts.
fn with_token() -> (World, Authority) {
    let mut world = World::new();
    let authority = Authority::new(world.home.path()).unwrap();
    world.wrap_git(&format!(
        "export GIT_SSL_CAINFO={}",
        authority.file().display()
    ));
    world.git_settings().https_token = Some(TOKEN.into());
    world
        .destination
        .git(&["config", "http.receivepack", "true"]);
    (world, authority)
}

#[tokio::test]
async fn token_is_sent_to_the_server_of_the_destination_alone() {
    let (mut world, authority) = with_token();
    let source = TlsServer::start(&world, "open", &authority, Conduct::Open).await;
    let destination = TlsServer::start(&world, "closed", &authority, Conduct::Closed).await;
    world.repository().url = source.url("source/.git");
    world.repository().try_url = destination.url("destination");
    world.start_ready().await;
    world.lands(&world.destination).await;
    world.stop().await;
    assert!(destination.seen().contains(&basic(TOKEN)));
    let seen = source.seen();
    assert!(
        !seen.is_empty() && seen.iter().all(String::is_empty),
        "{seen:?}"
    );
}

#[tokio::test]
async fn redirection_to_another_server_is_not_followed() {
    let (mut world, authority) = with_token();
    let other = TlsServer::start(&world, "other", &authority, Conduct::Open).await;
    let there = format!("https://127.0.0.1:{}", other.port);
    let named = TlsServer::start(&world, "named", &authority, Conduct::Redirects(there)).await;
    world.repository().try_url = named.url("destination");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The address that we have for try leads to no repository.",
        "error: 308",
    );
    world.stop().await;
    assert!(named.seen().contains(&basic(TOKEN)));
    assert_eq!(other.seen(), [""; 0], "it received a request");
    assert_eq!(world.destination.branches(), [""; 0]);
}

#[tokio::test]
async fn token_is_not_sent_to_a_server_whose_certificate_is_not_accepted() {
    let (mut world, _trusted) = with_token();
    std::fs::create_dir(world.path("stranger")).unwrap();
    let stranger = Authority::new(&world.path("stranger")).unwrap();
    let destination = TlsServer::start(&world, "closed", &stranger, Conduct::Closed).await;
    world.repository().try_url = destination.url("destination");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The certificate of try is not one that we accept.",
        "certificate",
    );
    world.stop().await;
    assert_eq!(destination.seen(), [""; 0]);
}
