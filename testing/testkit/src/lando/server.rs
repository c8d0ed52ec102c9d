//! The fake's HTTP side.

use std::{future, io, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State as Shared},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parking_lot::{Mutex, MutexGuard};
use runtime::Clock;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::{
    faults::{Fault, Traffic},
    mail::MailedPatch,
    state::{JobStatus, LandingJob, State, TryRepository, User},
};
use crate::fake::{self, Fake, Reserved};

/// The limit of the nginx before Lando.
const LONGEST_BODY: usize = 20 << 20;

/// The token of the user who may push, and of one who may not.
const TOKEN: &str = "lando-token-of-the-bot";
const WEAK_TOKEN: &str = "lando-token-without-rights";

/// A running Lando; it ends when this is dropped.
pub struct FakeLando {
    url: Url,
    inner: Arc<Inner>,
    pub(super) fake: Fake<String, Fault>,
}

struct Inner {
    state: Mutex<State>,
    traffic: Arc<Mutex<Traffic>>,
}

impl FakeLando {
    /// The mail address of the user whose token is [`FakeLando::token`].
    pub const USER: &str = "bot@example.org";

    /// Serves a Lando on a free port of this machine. It has the repository `try`, with Mercurial, whose commits are those of
    /// `firefox`, and no job.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let reserved = Reserved::take_any()?;
        let url = reserved.url()?;
        let user = |mail: &str, may_push| User {
            mail: mail.to_owned(),
            may_push,
        };
        let state = State {
            clock,
            commits: Vec::new(),
            users: [
                (TOKEN.to_owned(), user(Self::USER, true)),
                (WEAK_TOKEN.to_owned(), user("weak@example.org", false)),
            ]
            .into(),
            repositories: [(
                "try".to_owned(),
                TryRepository {
                    scm: "hg",
                    mapping: "firefox".to_owned(),
                },
            )]
            .into(),
            jobs: [].into(),
            next_id: 1,
            check_errors: Vec::new(),
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            traffic: Arc::default(),
        });
        let routes = Router::new()
            .route("/api/git2hg/{repository}/{hash}", get(git2hg))
            .route("/api/hg2git/{repository}/{hash}", get(hg2git))
            .route("/api/try/patches", post(patches))
            .route("/landing_jobs/{id}/", get(landing_job))
            .fallback(unknown)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&inner));
        let fake = Fake::new(reserved.serve(routes)?, Arc::clone(&inner.traffic));
        Ok(Self { url, inner, fake })
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address that maps the Git hashes of a repository.
    pub fn git2hg(&self, repository: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("api/git2hg/{repository}"));
        url
    }

    /// The token of the user who may push.
    pub fn token(&self) -> SecretString {
        SecretString::from(TOKEN)
    }

    /// The token of a user who may not.
    pub fn weak_token(&self) -> SecretString {
        SecretString::from(WEAK_TOKEN)
    }

    /// Maps a commit of `firefox`.
    pub fn map(&self, git: &str, hg: &str) {
        let commit = ["firefox", git, hg].map(str::to_owned);
        self.state().commits.push(commit);
    }

    /// Has `try` hold Git.
    pub fn try_has_git(&self) {
        for repository in self.state().repositories.values_mut() {
            repository.scm = "git";
        }
    }

    /// Has the checks before each later submission find this.
    pub fn find_in_checks(&self, errors: &[&str]) {
        self.state().check_errors = errors.iter().map(|error| (*error).to_owned()).collect();
    }

    /// The jobs, oldest first.
    pub fn jobs(&self) -> Vec<LandingJob> {
        self.state().jobs.values().cloned().collect()
    }

    /// Submits an empty job for another user.
    pub fn submit_for(&self, user: &str) -> u64 {
        self.state().submit("try", user, String::new(), Vec::new())
    }

    /// Skips a number, as a transaction that is rolled back does.
    pub fn skip_number(&self) {
        self.state().next_id += 1;
    }

    /// Begins to work on a job.
    pub fn start_job(&self, id: u64) {
        self.state()
            .change(id, |job| job.status = JobStatus::InProgress);
    }

    /// Ends a job with this head.
    pub fn land(&self, id: u64, commit: &str) {
        self.state().change(id, |job| {
            job.status = JobStatus::Landed;
            job.commit_id = commit.to_owned();
        });
    }

    /// Defers a job.
    pub fn defer(&self, id: u64, error: &str) {
        self.end(id, JobStatus::Deferred, error);
    }

    /// Fails a job.
    pub fn fail(&self, id: u64, error: &str) {
        self.end(id, JobStatus::Failed, error);
    }

    /// Cancels a job.
    pub fn cancel(&self, id: u64) {
        self.end(id, JobStatus::Cancelled, "");
    }

    fn end(&self, id: u64, status: JobStatus, error: &str) {
        self.state().change(id, |job| {
            job.status = status;
            job.error = error.to_owned();
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }
}

/// Answers a call, with the fault that is planned for it.
async fn answered(
    inner: &Inner,
    call: &str,
    answer: impl FnOnce(&mut State) -> Response,
) -> Response {
    let fault = inner.traffic.lock().received(call, call.to_owned());
    match fault {
        Some(Fault::Status(status, body)) => return (fake::status(status), body).into_response(),
        Some(Fault::Cut) => return fake::cut(),
        Some(Fault::Silent) => return future::pending().await,
        _ => {}
    }
    let answer = answer(&mut inner.state.lock());
    match fault {
        Some(Fault::StatusAfter(status)) => (fake::status(status), page()).into_response(),
        Some(Fault::CutAfter) => fake::cut(),
        Some(Fault::SilentAfter) => future::pending().await,
        _ => answer,
    }
}

/// Django appends the slash that a path lacks.
async fn unknown(uri: Uri) -> Response {
    let path = uri.path();
    if path.starts_with("/landing_jobs/") && !path.ends_with('/') {
        let to = [(header::LOCATION, format!("{path}/"))];
        return (StatusCode::MOVED_PERMANENTLY, to).into_response();
    }
    (StatusCode::NOT_FOUND, page()).into_response()
}

async fn git2hg(
    Shared(inner): Shared<Arc<Inner>>,
    Path((repository, hash)): Path<(String, String)>,
) -> Response {
    answered(&inner, "git2hg", |state| {
        mapped(state, "git", 7, &repository, &hash)
    })
    .await
}

async fn hg2git(
    Shared(inner): Shared<Arc<Inner>>,
    Path((repository, hash)): Path<(String, String)>,
) -> Response {
    answered(&inner, "hg2git", |state| {
        mapped(state, "hg", 40, &repository, &hash)
    })
    .await
}

fn mapped(state: &State, scm: &str, shortest: usize, repository: &str, hash: &str) -> Response {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if hash.len() < shortest || !hash.bytes().all(is_hex) {
        return (StatusCode::NOT_FOUND, page()).into_response();
    }
    let (status, body) = match state.mapped(repository, scm, hash).as_slice() {
        [[_, git, hg]] => (200, json!({ "git_hash": git, "hg_hash": hg })),
        [] => (
            404,
            json!({
                "error": "No commits found",
                "detail": format!("No commit found in {scm} for {hash} in {repository}: CommitMap matching query does not exist."),
            }),
        ),
        _ => (
            400,
            json!({
                "error": "Multiple commits found",
                "detail": format!("Multiple commits found in {scm} for {hash} in {repository}: get() returned more than one CommitMap"),
            }),
        ),
    };
    (fake::status(status), Json(body)).into_response()
}

async fn landing_job(Shared(inner): Shared<Arc<Inner>>, Path(id): Path<u64>) -> Response {
    answered(&inner, "landing_jobs", |state| match state.jobs.get(&id) {
        Some(job) => Json(job.json()).into_response(),
        None => problem(
            404,
            "Landing job not found",
            &format!("A landing job with ID {id} was not found."),
        ),
    })
    .await
}

/// The body of a submission.
#[derive(Deserialize)]
struct Submission {
    #[serde(default = "usual_repository")]
    repo_name: String,
    base_commit: String,
    #[serde(default = "usual_scm")]
    base_commit_vcs: String,
    patches: Vec<String>,
    patch_format: String,
}

fn usual_repository() -> String {
    "try".to_owned()
}

fn usual_scm() -> String {
    "hg".to_owned()
}

async fn patches(Shared(inner): Shared<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    answered(&inner, "patches", |state| {
        if body.len() > LONGEST_BODY {
            return (StatusCode::PAYLOAD_TOO_LARGE, page()).into_response();
        }
        match submitted(state, &headers, &body) {
            Ok(id) => (StatusCode::CREATED, Json(json!({ "id": id }))).into_response(),
            Err(refusal) => *refusal,
        }
    })
    .await
}

fn submitted(state: &mut State, headers: &HeaderMap, body: &[u8]) -> Result<u64, Box<Response>> {
    let authorization = headers.get(header::AUTHORIZATION);
    let token = authorization
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .unwrap_or_default();
    let Some(user) = state.users.get(token) else {
        let body = Json(json!({ "detail": "Unauthorized" }));
        return Err(Box::new((StatusCode::UNAUTHORIZED, body).into_response()));
    };
    let invalid = |detail: Value| {
        let body = Json(json!({ "detail": [detail] }));
        Box::new((StatusCode::UNPROCESSABLE_ENTITY, body).into_response())
    };
    let sent: Submission = serde_json::from_slice(body)
        .map_err(|error| invalid(json!({ "msg": error.to_string() })))?;
    if sent.base_commit.len() != 40 || !["hg", "git"].contains(&sent.base_commit_vcs.as_str()) {
        return Err(invalid(
            json!({ "loc": ["body", "patches_request", "base_commit"] }),
        ));
    }
    let name = &sent.repo_name;
    let Some(repository) = state.repositories.get(name) else {
        let detail = format!("Repo {name} does not exist.");
        return Err(refused(400, "Repository not found", &detail));
    };
    if !user.may_push {
        let detail = "Missing permissions: main.scm_level_1";
        return Err(refused(403, "Forbidden", detail));
    }
    let mut base = sent.base_commit.clone();
    if sent.base_commit_vcs != repository.scm {
        let mapping = &repository.mapping;
        match state.mapped(mapping, &sent.base_commit_vcs, &base).first() {
            Some([_, git, hg]) => base = if repository.scm == "git" { git } else { hg }.clone(),
            None => {
                let detail = format!(
                    "Could not determine the equivalent base commit for {base} in {} for {mapping}. Please try again later.",
                    repository.scm
                );
                return Err(refused(400, "Error converting SCM commit IDs", &detail));
            }
        }
    }
    if sent.patch_format != "git-format-patch" {
        // `from_bytes_io` is not implemented for `hgexport`.
        return Err(Box::new(
            (StatusCode::INTERNAL_SERVER_ERROR, page()).into_response(),
        ));
    }
    let mut patches = Vec::new();
    for (number, patch) in sent.patches.iter().enumerate() {
        let bytes = STANDARD.decode(patch).map_err(|_| {
            let detail = format!("Invalid base64 data for patch {number}");
            refused(400, "Invalid base64 patch data", &detail)
        })?;
        patches.push(MailedPatch::read(&bytes).ok_or_else(|| {
            let detail = format!("Invalid patch data for patch {number}");
            refused(400, "Invalid patch data", &detail)
        })?);
    }
    if !state.check_errors.is_empty() {
        let errors = state.check_errors.join("\n  - ");
        return Err(refused(
            400,
            "Errors found in pre-submission patch checks.",
            &format!("Patch failed checks:\n\n  - {errors}"),
        ));
    }
    let mail = user.mail.clone();
    Ok(state.submit(name, &mail, base, patches))
}

fn refused(status: u16, title: &str, detail: &str) -> Box<Response> {
    Box::new(problem(status, title, detail))
}

/// Problem details (RFC 7807).
fn problem(status: u16, title: &str, detail: &str) -> Response {
    let body = json!({
        "title": title,
        "status": status,
        "detail": detail,
        "type": format!("https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/{status}"),
    });
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (fake::status(status), kind, body.to_string()).into_response()
}

/// A page for people, as nginx and Django show it.
fn page() -> Html<&'static str> {
    Html("<!doctype html><title>Lando</title>")
}
