//! Only an operator can help: they do not let us in, or there is nothing at the address.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use testkit::HgWeb;

use crate::outcomes::{listener::Listener, over_http, over_ssh};

const FINAL: &str = "1: cannot push to try, and trying again will not help; check the address, keys and permissions: ";

#[tokio::test]
async fn repository_that_is_not_there_ends_the_build() {
    let (mut world, sshd) = over_ssh().await;
    let web = HgWeb::start(&world.destination.path, world.path("web"))
        .await
        .unwrap();
    let nowhere = world.path("nowhere");
    world.start();
    for (url, expected) in [
        (
            sshd.url(&nowhere),
            "remote: abort: repository HOME/nowhere not found; abort: no suitable response from remote hg",
        ),
        (
            format!("{}-not", web.url()),
            "abort: HTTP Error 404: Not Found",
        ),
        (
            nowhere.to_str().unwrap().to_owned(),
            "abort: repository HOME/nowhere does not exist",
        ),
        (
            "htps://bob:secret@example.org/try".to_owned(),
            "abort: repository htps://bob:***@example.org/try not found",
        ),
        (
            format!("ssh://bob:secret@127.0.0.1:{}/try", sshd.port()),
            "abort: password in URL not supported",
        ),
    ] {
        world
            .restart_with(|world| world.repository().try_url = url)
            .await;
        assert_eq!(
            world.failed(&world.simple_build(7)).await,
            format!("{FINAL}{expected}")
        );
    }
    world.nothing_has_landed();
    world.stop().await;
}

#[tokio::test]
async fn web_server_that_does_not_let_us_push_ends_the_build() {
    let (mut world, _web) = over_http().await;
    world.destination.configure("[web]\ndeny_push = *\n");
    world.start();
    // Mercurial's own server says 401.
    let unauthorized = "abort: authorization failed";
    assert_eq!(
        world.failed(&world.simple_build(7)).await,
        format!("{FINAL}{unauthorized}")
    );

    world
        .destination
        .configure("[web]\ndeny_push =\ndeny_read = *\n");
    assert_eq!(
        world.failed(&world.simple_build(7)).await,
        format!("{FINAL}{unauthorized}")
    );

    let forbidding =
        Listener::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://bob:secret@127.0.0.1:{}/try", forbidding.port());
    world
        .restart_with(|world| world.repository().try_url = url)
        .await;
    assert_eq!(
        world.failed(&world.simple_build(7)).await,
        format!("{FINAL}abort: HTTP Error 403: Forbidden")
    );
    world.nothing_has_landed();
    world.stop().await;
}

#[tokio::test]
async fn tls_that_is_not_what_it_should_be_ends_the_build() {
    let (mut world, web) = over_http().await;
    let stranger = Stranger::start(world.home.path()).await;
    let plain = web.url().replace("http://", "https://");
    world.repository().try_url = plain;
    world.start();
    let no_tls = world.failed(&world.simple_build(7)).await;
    let expected = format!("{FINAL}abort: error: [SSL: WRONG_VERSION_NUMBER] wrong version number");
    assert!(no_tls.starts_with(&expected), "{no_tls}");

    world
        .restart_with(|world| {
            world.repository().try_url = format!("https://127.0.0.1:{}/try", stranger.port)
        })
        .await;
    let unknown = world.failed(&world.simple_build(7)).await;
    let words = "abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate";
    assert!(unknown.starts_with(&format!("{FINAL}{words}")), "{unknown}");
    world.stop().await;
}

/// A TLS server with a certificate of its own making.
struct Stranger {
    child: Child,
    port: u16,
}

impl Stranger {
    async fn start(directory: &Path) -> Self {
        let make = [
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=127.0.0.1",
            "-days",
            "2",
        ];
        let files = ["-keyout", "tls.key", "-out", "tls.crt"];
        let made = Command::new("openssl")
            .args(make)
            .args(files)
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let port = Listener::free_port();
        let child = Command::new("openssl")
            .args([
                "s_server",
                "-quiet",
                "-key",
                "tls.key",
                "-cert",
                "tls.crt",
                "-accept",
                &port.to_string(),
            ])
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::world::until("the TLS server", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        Self { child, port }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
