//! The child process of a server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use lapin::uri::{AMQPAuthority, AMQPUri, AMQPUserInfo};
use pulse::{Address, PulseSettings};
use runtime::{Clock, SystemClock};

use super::definitions::{PASSWORD, Tls, USER, configuration, definitions};
use crate::{Authority, Port, process::Group};

/// Where Debian has the script that starts a server as whoever calls it. The one on the PATH is for root alone.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Where a server keeps its queues, in its directory.
const DATA: &str = "data";
/// How long a server may take to start: an idle machine needs about four seconds.
const START: Duration = Duration::from_secs(90);
/// How long a server may take to end.
const END: Duration = Duration::from_secs(30);

/// A server, which runs or not. It ends with this value.
pub(super) struct Process {
    directory: PathBuf,
    ca: Option<Vec<u8>>,
    ports: Ports,
    /// Erlang's directory of names, one for this server alone.
    names: Option<Group>,
    server: Option<Group>,
}

/// Where a server listens.
#[derive(Debug)]
struct Ports {
    amqp: Port,
    names: Port,
    /// Of Erlang's own protocol.
    distribution: Port,
}

impl Process {
    pub(super) async fn start(
        directory: PathBuf,
        authority: Option<&Authority>,
    ) -> io::Result<Self> {
        let mut process = Self::new(directory, &["/".to_owned()], authority)?;
        process.spawn("/").await?;
        Ok(process)
    }

    /// One that does not run yet.
    pub(super) fn new(
        directory: PathBuf,
        vhosts: &[String],
        authority: Option<&Authority>,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let ports = Ports {
            amqp: Port::claim()?,
            names: Port::claim()?,
            distribution: Port::claim()?,
        };
        let files = authority
            .map(|authority| authority.certify(&directory, "localhost"))
            .transpose()?;
        let tls = authority
            .zip(files.as_ref())
            .map(|(authority, (certificate, key))| Tls {
                ca: authority.file(),
                certificate,
                key,
            });
        let users = directory.join("definitions.json");
        fs::write(&users, definitions(vhosts).to_string())?;
        fs::write(
            directory.join("rabbitmq.conf"),
            configuration(&users, ports.amqp.number(), tls.as_ref()),
        )?;
        fs::write(directory.join("enabled_plugins"), "[].\n")?;
        let ca = authority.map(Authority::certificate).transpose()?;
        Ok(Self {
            directory,
            ca,
            ports,
            names: None,
            server: None,
        })
    }

    pub(super) fn is_running(&self) -> bool {
        self.server.is_some()
    }

    pub(super) async fn restart(&mut self, vhost: &str) -> io::Result<()> {
        self.kill()?;
        self.spawn(vhost).await
    }

    pub(super) fn kill(&mut self) -> io::Result<()> {
        for group in [&mut self.server, &mut self.names] {
            if let Some(mut group) = group.take() {
                group.kill()?;
            }
        }
        Ok(())
    }

    pub(super) async fn stop_gently(&mut self) -> io::Result<()> {
        if let Some(server) = self.server.take() {
            server.end(END).await?;
        }
        self.kill()
    }

    pub(super) async fn spawn(&mut self, vhost: &str) -> io::Result<()> {
        let mut names = Command::new("epmd");
        names.args([
            "-address",
            "127.0.0.1",
            "-port",
            &self.ports.names.number().to_string(),
        ]);
        names.current_dir(&self.directory);
        self.names = Some(Group::spawn(&mut names, &self.directory)?);
        let mut server = Group::spawn(&mut self.command(), &self.directory)?;
        let pause = Duration::from_millis(50);
        for _ in 0..START.as_millis() / pause.as_millis() {
            if pulse::check(&self.settings(USER, vhost)).await.is_ok() {
                self.server = Some(server);
                return Ok(());
            }
            server.check(&self.directory)?;
            SystemClock.sleep(pause).await;
        }
        let reason = format!(
            "rabbitmq-server did not answer within {} s",
            START.as_secs()
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }

    /// Ends it, and removes all that it keeps.
    pub(super) fn forget(&mut self) -> io::Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.directory.join(DATA))
    }

    pub(super) fn settings(&self, user: &str, vhost: &str) -> PulseSettings {
        PulseSettings {
            address: Address {
                tls: self.ca.is_some(),
                host: "localhost".to_owned(),
                port: self.ports.amqp.number(),
            },
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            password: PASSWORD.into(),
            ca: self.ca.clone(),
        }
    }

    pub(super) fn uri(&self, user: &str, vhost: &str) -> AMQPUri {
        AMQPUri {
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: user.to_owned(),
                    password: PASSWORD.to_owned(),
                },
                host: "localhost".to_owned(),
                port: self.ports.amqp.number(),
            },
            vhost: vhost.to_owned(),
            ..AMQPUri::default()
        }
    }

    fn command(&self) -> Command {
        let names = self.ports.names.number();
        let distribution = self.ports.distribution.number();
        let mut command = Command::new(if Path::new(SCRIPT).exists() {
            SCRIPT
        } else {
            "rabbitmq-server"
        });
        command
            .current_dir(&self.directory)
            .env("HOME", &self.directory)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("pulse-{names}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", self.directory.join("rabbitmq.conf"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                self.directory.join("enabled_plugins"),
            )
            .env("RABBITMQ_MNESIA_BASE", self.directory.join(DATA))
            .env("RABBITMQ_LOG_BASE", &self.directory)
            // None but those that the version requires: to enable the others takes half of the time of a start.
            .env("RABBITMQ_FEATURE_FLAGS", "")
            // One scheduler that sleeps when it has nothing to do: many servers share the machine.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }
}
