//! A real `ngircd`, as a child process.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use runtime::{Clock, SystemClock};
use tempfile::TempDir;
use testkit::{Authority, Port};
use tokio::net::TcpStream;

/// A server on a port of its own. Ends with this value.
pub(crate) struct Ngircd {
    directory: TempDir,
    pub(crate) port: u16,
    /// The port that speaks TLS, where there is one.
    pub(crate) tls_port: u16,
    server: Child,
    _ports: [Port; 2],
}

impl Ngircd {
    pub(crate) async fn start() -> Self {
        Self::start_with("", None).await
    }

    pub(crate) async fn start_with_password(password: &str) -> Self {
        Self::start_with(&format!("Password = {password}"), None).await
    }

    /// With a certificate for localhost, from `authority`.
    pub(crate) async fn start_with_tls(authority: &Authority) -> Self {
        Self::start_with("", Some(authority)).await
    }

    async fn start_with(global: &str, authority: Option<&Authority>) -> Self {
        let directory = TempDir::new().unwrap();
        let ports = [(); 2].map(|()| Port::claim().unwrap());
        let [port, tls_port] = ports.each_ref().map(Port::number);
        let tls = authority.map_or_else(String::new, |authority| {
            let (certificate, key) = authority.certify(directory.path(), "localhost").unwrap();
            format!(
                "[SSL]\nCertFile = {}\nKeyFile = {}\nPorts = {tls_port}\n",
                certificate.display(),
                key.display()
            )
        });
        let configuration = format!(
            "[Global]\nName = irc.example.net\nInfo = a test\nAdminEMail = dev@example.com\nMotdPhrase = hello\n\
             Listen = 127.0.0.1\nPorts = {port}\n{global}\n\
             [Limits]\nMaxConnectionsIP = 0\nMaxJoins = 4\nMaxNickLength = 16\n\
             [Options]\nPAM = no\nIdent = no\nDNS = no\n{tls}\
             [Channel]\nName = #banned\nModes = +b *!*@*\n[Channel]\nName = #silent\nModes = +mn\n\
             [Channel]\nName = #invited\nModes = +i\n[Channel]\nName = #key\nModes = +k secret\n"
        );
        fs::write(directory.path().join("ngircd.conf"), configuration).unwrap();
        let server = spawn(directory.path());
        let mut server = Self {
            directory,
            port,
            tls_port,
            server,
            _ports: ports,
        };
        server.until_up().await;
        server
    }

    /// Kills it, as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again, on the same port.
    pub(crate) async fn start_again(&mut self) {
        self.server = spawn(self.directory.path());
        self.until_up().await;
    }

    async fn until_up(&mut self) {
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            let ended = self.server.try_wait().unwrap();
            let said = fs::read_to_string(self.directory.path().join("output")).unwrap();
            assert!(
                ended.is_none(),
                "ngircd ended at its start: {ended:?}\n{said}"
            );
            SystemClock
                .sleep(std::time::Duration::from_millis(20))
                .await;
        }
    }
}

impl Drop for Ngircd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(directory: &Path) -> Child {
    let output = File::options()
        .create(true)
        .append(true)
        .open(directory.join("output"))
        .unwrap();
    let path = "/usr/sbin/ngircd";
    let mut command = Command::new(if Path::new(path).exists() {
        path
    } else {
        "ngircd"
    });
    command
        .args(["--nodaemon", "--config"])
        .arg(directory.join("ngircd.conf"))
        .stdin(Stdio::null());
    let spawned = command
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn();
    spawned.unwrap_or_else(|error| panic!("cannot start ngircd (is it installed?): {error}"))
}
