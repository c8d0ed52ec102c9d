//! A real InfluxDB 1.x: a child process with files of its own, which ends with this value.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    time::Duration,
};

use notify::InfluxSettings;
use runtime::{Clock, SystemClock};
use serde_json::Value;
use tempfile::TempDir;
use testkit::Port;

use crate::world::{http, response_to};

/// The database that is made at start.
const DATABASE: &str = "notify";
/// The administrator of one that wants a login.
pub(crate) const USER: &str = "events";
pub(crate) const PASSWORD: &str = "hunter2";

pub(crate) struct Influx {
    directory: TempDir,
    port: Port,
    _backup: Port,
    server: Child,
    login: bool,
}

impl Influx {
    /// One that takes lines of everybody.
    pub(crate) async fn start() -> Self {
        Self::start_with(false).await
    }

    /// One that wants to know who writes.
    pub(crate) async fn start_with_login() -> Self {
        let influx = Self::start_with(true).await;
        let created = influx
            .ask(&format!(
                "CREATE USER {USER} WITH PASSWORD '{PASSWORD}' WITH ALL PRIVILEGES"
            ))
            .await;
        assert!(created.is_some());
        influx
            .ask(&format!("CREATE DATABASE {DATABASE}"))
            .await
            .unwrap();
        influx
    }

    async fn start_with(login: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, backup) = (Port::claim().unwrap(), Port::claim().unwrap());
        let files = directory.path().display();
        let configuration = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{}\"\n\
             [meta]\ndir = \"{files}/meta\"\n\
             [data]\ndir = \"{files}/data\"\nwal-dir = \"{files}/wal\"\n\
             [monitor]\nstore-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{}\"\nauth-enabled = {login}\nlog-enabled = false\n",
            backup.number(),
            port.number()
        );
        fs::write(directory.path().join("influxdb.conf"), configuration).unwrap();
        let server = spawn(&directory);
        let mut influx = Self {
            directory,
            port,
            _backup: backup,
            server,
            login,
        };
        influx.wait().await;
        if !login {
            influx
                .ask(&format!("CREATE DATABASE {DATABASE}"))
                .await
                .unwrap();
        }
        influx
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// How to write to it.
    pub(crate) fn settings(&self, password: Option<&str>) -> InfluxSettings {
        InfluxSettings {
            url: self.url().parse().unwrap(),
            database: DATABASE.to_owned(),
            login: password.map(|password| (USER.to_owned(), password.into())),
        }
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it on the same files and port.
    pub(crate) async fn restart(&mut self) {
        self.server = spawn(&self.directory);
        self.wait().await;
    }

    /// The points that it holds, oldest first: channel, outcome, milliseconds.
    pub(crate) async fn points(&self) -> Vec<(String, String, f64)> {
        let rows = self
            .ask("SELECT channel, outcome, duration_ms FROM notify")
            .await
            .unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = rows["results"][0]["series"][0]["values"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        rows.iter()
            .map(|row| (text(&row[1]), text(&row[2]), row[3].as_f64().unwrap()))
            .collect()
    }

    /// Waits until it holds `count` points.
    pub(crate) async fn holds(&self, count: usize) -> Vec<(String, String, f64)> {
        loop {
            let points = self.points().await;
            if points.len() >= count {
                return points;
            }
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it answers to a statement, if it does not refuse it.
    async fn ask(&self, statement: &str) -> Option<Value> {
        let mut request = http().post(format!("{}/query", self.url())).form(&[
            ("q", statement),
            ("db", DATABASE),
            ("epoch", "ns"),
        ]);
        if self.login {
            request = request.basic_auth(USER, Some(PASSWORD));
        }
        let answer = response_to(request).await.unwrap();
        if answer.status.is_success() {
            Some(answer.json().unwrap())
        } else {
            None
        }
    }

    async fn wait(&mut self) {
        while response_to(http().get(format!("{}/ping", self.url())))
            .await
            .is_err()
        {
            let ended = self.server.try_wait().unwrap();
            let said = fs::read_to_string(self.directory.path().join("log")).unwrap();
            assert!(ended.is_none(), "influxd ended: {said}");
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Influx {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(directory: &TempDir) -> Child {
    let log = File::create(directory.path().join("log")).unwrap();
    let mut command = Command::new("influxd");
    command
        .arg("-config")
        .arg(directory.path().join("influxdb.conf"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory.path());
    // Debian's package influxdb has it.
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
