//! Amazon's services as moto plays them: a process of its own, which ends with this value.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use http_client::Response;
use reqwest::header::AUTHORIZATION;
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::Port;

use crate::world::{http, response_to};

pub(crate) const REGION: &str = "us-west-2";
/// How often it is looked whether it has started: an idle machine needs a second.
const LOOKS: usize = 600;

pub(crate) struct Moto {
    port: Port,
    server: Child,
}

impl Moto {
    pub(crate) async fn start() -> Self {
        let port = Port::claim().unwrap();
        let server = spawn(&port);
        let mut moto = Self { port, server };
        moto.until_up().await;
        moto
    }

    async fn until_up(&mut self) {
        for _ in 0..LOOKS {
            assert_eq!(self.server.try_wait().unwrap(), None, "moto has ended");
            let request = http().get(self.address("/moto-api/"));
            if response_to(request).await.is_ok() {
                return;
            }
            SystemClock.sleep(Duration::from_millis(100)).await;
        }
        panic!("moto does not start");
    }

    /// Ends it, as a power cut would. It forgets everything.
    pub(crate) fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Restarts it, at the same address.
    pub(crate) async fn restart(&mut self) {
        self.server = spawn(&self.port);
        self.until_up().await;
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint())
    }

    /// Makes it check the credentials of a call, and what they allow.
    pub(crate) async fn demand_credentials(&self) {
        let request = http().post(self.address("/moto-api/reset-auth")).body("0");
        let answer = response_to(request).await.unwrap();
        assert!(answer.status.is_success());
    }

    /// A user who may do `action` and nothing else: the id of its access key, and the secret.
    pub(crate) async fn user(&self, action: &str) -> (String, String) {
        let statement = json!({ "Effect": "Allow", "Action": action, "Resource": "*" });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let user = ("UserName", "ci");
        self.form("iam", &[("Action", "CreateUser"), user]).await;
        let grant = [
            ("Action", "PutUserPolicy"),
            user,
            ("PolicyName", "may"),
            ("PolicyDocument", policy.as_str()),
        ];
        self.form("iam", &grant).await;
        let key = self
            .form("iam", &[("Action", "CreateAccessKey"), user])
            .await;
        (within(&key, "AccessKeyId"), within(&key, "SecretAccessKey"))
    }

    /// Calls a service that is spoken to by forms.
    pub(crate) async fn form(&self, service: &str, form: &[(&str, &str)]) -> String {
        let request = http().post(self.endpoint()).form(form);
        let answer = self.signed(request, service).await;
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// A call with credentials that it does not check.
    pub(crate) async fn signed(&self, request: reqwest::RequestBuilder, service: &str) -> Response {
        let scope = format!("Credential=AKIATEST/20261121/{REGION}/{service}/aws4_request");
        let signature = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
        let request = request.header(AUTHORIZATION, signature);
        let answer = response_to(request).await.unwrap();
        assert!(
            answer.status.is_success(),
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        answer
    }

    /// Everything of one kind that a service holds, as moto sees it.
    pub(crate) async fn held(&self, service: &str, kind: &str) -> Vec<Value> {
        let request = http().get(self.address("/moto-api/data.json"));
        let data: Value = response_to(request).await.unwrap().json().unwrap();
        data[service][kind].as_array().cloned().unwrap_or_default()
    }
}

fn spawn(port: &Port) -> Child {
    Command::new(program("moto_server"))
        .args(["--host", "127.0.0.1", "--port", &port.number().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A program that `./dev test` has installed beside what is built.
fn program(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .with_file_name("peers")
        .join("bin")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run ./dev test once, which installs it",
        path.display()
    );
    path
}

/// The text of the first `element` of an answer.
pub(crate) fn within(answer: &str, element: &str) -> String {
    let (_, rest) = answer
        .split_once(&format!("<{element}>"))
        .unwrap_or_else(|| panic!("{answer}"));
    rest.split_once("</").unwrap().0.to_owned()
}
