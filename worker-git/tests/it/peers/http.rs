//! `git http-backend` behind a small server, which wants a token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Method, Request, Response, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use testkit::capture_logs;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    task::JoinHandle,
};

use super::{REF, assert_barred};
use crate::world::World;

pub(super) const TOKEN: &str = "s3cret-t0ken";

/// A server for the repositories below a directory. It lets in who has the token.
pub(super) struct Server {
    pub(super) port: u16,
    /// A status to answer each push with, in place of the result; 0 for none.
    status: Arc<AtomicU16>,
    /// The credentials of each request; empty where there were none.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Served {
    root: PathBuf,
    conduct: Conduct,
    status: Arc<AtomicU16>,
    seen: Arc<Mutex<Vec<String>>>,
}

/// What a server does with requests.
#[derive(Clone, PartialEq)]
pub(super) enum Conduct {
    /// It lets in who has the token.
    Closed,
    /// It lets in everybody.
    Open,
    /// It sends everybody to another server, with this beginning of an address.
    Redirects(String),
}

impl Server {
    pub(super) async fn start(root: &Path, conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::<AtomicU16>::default();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let served = Served {
            root: root.to_owned(),
            conduct,
            status: Arc::clone(&status),
            seen: Arc::clone(&seen),
        };
        let routes = Router::new().fallback(serve).with_state(served);
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            port,
            status,
            seen,
            task,
        }
    }

    fn url(&self, token: &str, name: &str) -> String {
        format!("http://bot:{token}@127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn only(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

async fn serve(State(served): State<Served>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let credentials = parts.headers.get(header::AUTHORIZATION);
    let credentials = credentials.map_or("", |value| value.to_str().unwrap());
    served.seen.lock().push(credentials.to_owned());
    if let Conduct::Redirects(there) = &served.conduct {
        let mut response = only(StatusCode::PERMANENT_REDIRECT);
        let location = format!("{there}{}", parts.uri).parse().unwrap();
        response.headers_mut().insert(header::LOCATION, location);
        return response;
    }
    if served.conduct == Conduct::Closed && credentials != basic(TOKEN) {
        let mut response = only(StatusCode::UNAUTHORIZED);
        let realm = "Basic realm=\"git\"".parse().unwrap();
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, realm);
        return response;
    }
    let status = served.status.load(Ordering::SeqCst);
    if status != 0 && parts.method == Method::POST {
        return only(StatusCode::from_u16(status).unwrap());
    }
    let text = |name: header::HeaderName| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    let mut command = Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_PROJECT_ROOT", &served.root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_USER", "bot")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", text(header::CONTENT_TYPE))
        .env("HTTP_CONTENT_ENCODING", text(header::CONTENT_ENCODING))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let body: Bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&body).await.unwrap();
    drop(stdin);
    let mut answer = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_end(&mut answer).await.unwrap();
    child.wait().await.unwrap();
    cgi(&answer)
}

/// The credentials of the bot with this token.
pub(super) fn basic(token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("bot:{token}")))
}

/// The response that a program of CGI has written.
fn cgi(answer: &[u8]) -> Response<Body> {
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("headers");
    let mut response = Response::new(Body::from(answer[end + 4..].to_vec()));
    for line in String::from_utf8_lossy(&answer[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        if name == "Status" {
            let code = value.split(' ').next().unwrap().parse().unwrap();
            *response.status_mut() = StatusCode::from_u16(code).unwrap();
        } else {
            let name: header::HeaderName = name.parse().unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
    }
    response
}

/// A world whose destination is behind HTTP.
async fn over_http(token: &str) -> (World, Server) {
    let mut world = World::new();
    let server = Server::start(world.home.path(), Conduct::Closed).await;
    world
        .destination
        .git(&["config", "http.receivepack", "true"]);
    world.repository().try_url = server.url(token, "destination");
    (world, server)
}

/// The files below a directory that hold one of these texts.
fn files_with(directory: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            found.extend(files_with(&path, texts));
        } else if let Ok(content) = fs::read(&path) {
            let has = |text: &&str| {
                content
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            found.extend(texts.iter().any(has).then_some(path));
        }
    }
    found
}

#[tokio::test]
async fn token_is_in_no_argument_log_or_file() {
    let (_capture, logs) = capture_logs();
    let (mut world, _server) = over_http(TOKEN).await;
    world.start_ready().await;
    // While a push is under way, the server reads the arguments of all processes and the files of the clones.
    let (seen, copied) = (world.path("arguments"), world.path("copied"));
    let script = format!(
        "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' >> {}; cp -a {} {}",
        seen.display(),
        world.settings.clones_dir.display(),
        copied.display()
    );
    world.destination.hook("pre-receive", &script);
    world.lands(&world.destination).await;
    let encoded = BASE64_STANDARD.encode(format!("bot:{TOKEN}"));
    let secrets = [TOKEN, encoded.as_str()];
    let arguments = fs::read_to_string(&seen).unwrap();
    assert!(
        arguments.contains("--force-with-lease") && arguments.contains("remote-http"),
        "the push was seen: {arguments}"
    );
    for secret in secrets {
        assert!(!arguments.contains(secret));
        assert!(!logs.text().contains(secret));
    }
    assert_eq!(files_with(&copied, &secrets), Vec::<PathBuf>::new());
    // Its environment has it, which only our user can read.
    world.stop().await;
}

#[tokio::test]
async fn words_of_a_hook_are_received() {
    let (mut world, _server) = over_http(TOKEN).await;
    world.start_ready().await;
    world
        .destination
        .hook("pre-receive", "echo CLOSED TREE; exit 1");
    let words = world.fails(3).await;
    assert_eq!(
        words,
        "push to try was refused by a hook there: remote: CLOSED TREE; pre-receive hook declined"
    );
    world.destination.unhook();
    let other = world.destination.strange_commit(REF);
    assert_barred(
        world.is_barred().await,
        "The branch of this build at try has commits of somebody else.",
        &other,
    );
    world.stop().await;
}

#[tokio::test]
async fn token_that_is_not_accepted_is_for_operators() {
    let (_capture, logs) = capture_logs();
    let (mut world, _server) = over_http("wr0ng-t0ken").await;
    world.start_ready().await;
    let (summary, words) = world.is_barred().await;
    assert_eq!(summary, "Our credentials were not accepted by try.");
    assert!(!words.contains("wr0ng") && !logs.text().contains("wr0ng"));
    world.stop().await;
}

#[tokio::test]
async fn statuses_of_a_server_are_distinguished() {
    let (mut world, server) = over_http(TOKEN).await;
    world.start_ready().await;
    for (status, summary) in [
        (403, "Our credentials were not accepted by try."),
        (
            413,
            "The push is too large for try, or our quota there is used up.",
        ),
    ] {
        server.status.store(status, Ordering::SeqCst);
        let (found, words) = world.is_barred().await;
        assert_eq!(found, summary, "{words}");
    }
    server.status.store(502, Ordering::SeqCst);
    let words = world.fails(3).await;
    assert!(words.starts_with("cannot push to try: "), "{words}");
    server.status.store(0, Ordering::SeqCst);
    world.lands(&world.destination).await;
    world.stop().await;
}

#[tokio::test]
async fn server_that_takes_no_pushes_and_missing_repository_are_for_operators() {
    let (mut world, server) = over_http(TOKEN).await;
    let disable = ["config", "http.receivepack", "false"];
    world.destination.git(&disable);
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "Our credentials were not accepted by try.",
        "403",
    );
    world.stop().await;
    world.repository().try_url = server.url(TOKEN, "nowhere");
    world.start_ready().await;
    assert_barred(
        world.is_barred().await,
        "The address that we have for try leads to no repository.",
        "not found",
    );
    world.stop().await;
}
