//! The requests to Lando.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_client::{HttpError, Limits, Response};
use reqwest::StatusCode;
use runtime::{FailureLog, error_chain};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::mail;
use crate::{
    Barrier, LandoSettings, Peer, RepositorySettings, WorkerError, text, vcs::CommitPatch,
};

/// The most bytes of a submission: the limit of the nginx before Lando.
const LONGEST: usize = 20 << 20;

/// The most bytes of patches that a submission can hold, in base64.
pub(crate) const MOST_BYTES: usize = LONGEST / 4 * 3;

/// An error of a job can quote the rejected hunks.
const LIMITS: Limits = Limits::body(1 << 20);

/// A Lando, as one repository uses it.
pub(crate) struct Lando {
    pub(crate) settings: LandoSettings,
    /// The version control of the bases.
    vcs: &'static str,
    http: reqwest::Client,
    pub(crate) failures: FailureLog,
}

#[derive(Serialize)]
struct Submission<'a> {
    repo_name: &'a str,
    base_commit: &'a str,
    base_commit_vcs: &'a str,
    patches: &'a [String],
    patch_format: &'a str,
}

#[derive(Deserialize)]
struct Submitted {
    id: u64,
}

/// Problem details (RFC 7807), as Lando writes them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// A job.
#[derive(Debug, Deserialize)]
pub(crate) struct Job {
    pub(crate) status: Status,
    #[serde(default)]
    commit_id: Option<String>,
    #[serde(default)]
    landed_commit_id: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    requester: Option<String>,
}

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Status {
    Created,
    Submitted,
    InProgress,
    Deferred,
    Landed,
    Failed,
    Cancelled,
    /// One that Lando did not have when this was written.
    #[serde(other)]
    Other,
}

/// The failure of a submission.
#[derive(Debug)]
pub(crate) enum SubmitError {
    /// Lando made no job, for this reason.
    Refused(Refusal),
    /// Lando was not reached, or cannot take submissions now: it made no job.
    Away(HttpError),
    /// Lando may have made a job.
    Unclear(HttpError),
}

/// The reason for which Lando made no job. The words are one line for people.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The submission is too large.
    TooLarge,
    /// The base is not mapped to the version control of the repository, at least not yet.
    UnknownBase(String),
    /// The patches did not pass the checks.
    Patches(String),
    /// An operator has to act.
    Operators(Barrier, String),
}

impl Job {
    /// The head that it pushed.
    pub(crate) fn head(&self) -> Option<&str> {
        [&self.commit_id, &self.landed_commit_id]
            .into_iter()
            .find_map(|id| id.as_deref().filter(|id| text::is_hash(id)))
    }

    /// Its error in one line, which can be empty.
    pub(crate) fn error(&self) -> String {
        text::one_line(self.error.as_deref().unwrap_or_default().as_bytes())
    }

    /// Whether its error is about its patches.
    pub(crate) fn is_fault_of_patches(&self) -> bool {
        const PATCHES: [&str; 4] = [
            "Problem while applying patch",
            "Aborting, could not apply patch buffer",
            "Lando encountered a malformed patch",
            "Some checks failed before attempting to land",
        ];
        let error = self.error.as_deref().unwrap_or_default();
        PATCHES.iter().any(|beginning| error.starts_with(beginning))
    }
}

impl Lando {
    /// The Lando that a repository submits to, if it does.
    pub(crate) fn of(repository: &RepositorySettings) -> Result<Option<Self>, WorkerError> {
        let Some(settings) = repository.lando.clone() else {
            return Ok(None);
        };
        Ok(Some(Self {
            vcs: match repository.vcs.git() {
                Some(_) => "git",
                None => "hg",
            },
            http: http_client::client(settings.timeout)?,
            settings,
            failures: FailureLog::default(),
        }))
    }

    /// The page of a job, for people.
    pub(crate) fn page(&self, job: u64) -> String {
        self.address(&format!("landings/{job}/"))
    }

    pub(crate) fn is_ours(&self, job: &Job) -> bool {
        job.requester.as_deref() == Some(self.settings.user.as_str())
    }

    /// The body of a submission on `base`, or the number of the first commit that is no text.
    pub(crate) fn submission(&self, base: &str, commits: &[CommitPatch]) -> Result<Vec<u8>, usize> {
        let patches = commits.iter().enumerate().map(|(number, commit)| {
            let mail = mail::format(commit).ok_or(number)?;
            Ok::<_, usize>(STANDARD.encode(mail))
        });
        let patches = patches.collect::<Result<Vec<_>, _>>()?;
        Ok(self.body(base, &patches))
    }

    fn body(&self, base: &str, patches: &[String]) -> Vec<u8> {
        let submission = Submission {
            repo_name: &self.settings.repository,
            base_commit: base,
            base_commit_vcs: self.vcs,
            patches,
            patch_format: "git-format-patch",
        };
        // Texts and a list of them can always be written.
        serde_json::to_vec(&submission).unwrap_or_default()
    }

    /// Submits patches; returns the number of the job.
    pub(crate) async fn submit(&self, body: Vec<u8>) -> Result<u64, SubmitError> {
        if body.len() > LONGEST {
            return Err(SubmitError::Refused(Refusal::TooLarge));
        }
        let response = match self.post(body).await {
            Ok(response) => response,
            Err(error) if error.had_no_effect() => return Err(SubmitError::Away(error)),
            Err(error) => return Err(SubmitError::Unclear(error)),
        };
        match response.status.as_u16() {
            201 => match response.json::<Submitted>() {
                Ok(submitted) => Ok(submitted.id),
                Err(error) => Err(SubmitError::Unclear(error)),
            },
            408 | 429 | 503 => Err(SubmitError::Away(of_status(&response))),
            300..500 => Err(refusal(&response)),
            _ => Err(SubmitError::Unclear(of_status(&response))),
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<Response, HttpError> {
        let request = self
            .http
            .post(self.address("api/try/patches"))
            .bearer_auth(self.settings.token.expose_secret())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        http_client::send(request, LIMITS).await
    }

    /// The job with this number; `None` if there is none.
    pub(crate) async fn job(&self, number: u64) -> Result<Option<Job>, HttpError> {
        let request = self
            .http
            .get(self.address(&format!("landing_jobs/{number}/")));
        let response = http_client::send(request, LIMITS).await?;
        if response.status == StatusCode::NOT_FOUND {
            // Another server responds with a page.
            response.json::<Problem>()?;
            return Ok(None);
        }
        response.check()?.json().map(Some)
    }

    fn address(&self, path: &str) -> String {
        format!(
            "{}/{path}",
            self.settings.url.as_str().trim_end_matches('/')
        )
    }
}

fn of_status(response: &Response) -> HttpError {
    let status = response.status.as_u16();
    response.error().unwrap_or(HttpError::Rejected { status })
}

/// Reads a response with a status from 300 to 499: there is no job.
fn refusal(response: &Response) -> SubmitError {
    let problem: Problem = response.json().unwrap_or_default();
    let status = response.status.as_u16();
    let words = if problem.title.is_empty() {
        text::one_line(format!("http status {status}").as_bytes())
    } else {
        let all = format!("{}\n{}", problem.title, problem.detail);
        text::one_line(all.as_bytes())
    };
    let refusal = match (status, problem.title.as_str()) {
        (413, _) => Refusal::TooLarge,
        (400, "Error converting SCM commit IDs") => Refusal::UnknownBase(words),
        // The checks themselves failed.
        (400, _)
            if problem
                .detail
                .contains("Unexpected error while performing pre-submission") =>
        {
            return SubmitError::Away(of_status(response));
        }
        (400, "Errors found in pre-submission patch checks.") => Refusal::Patches(words),
        (401 | 403, _) => Refusal::Operators(Barrier::Credentials, words),
        _ => Refusal::Operators(Barrier::NoRepository, words),
    };
    SubmitError::Refused(refusal)
}

/// Checks Lando, the token and its rights for `events config check --online`: by a submission that Lando has to refuse, since
/// its patch is none.
pub async fn probe(repository: &RepositorySettings) -> Option<Result<String, WorkerError>> {
    let lando = match Lando::of(repository) {
        Ok(lando) => lando?,
        Err(error) => return Some(Err(error)),
    };
    let body = lando.body(&"0".repeat(40), &[STANDARD.encode([0; 3])]);
    let name = &lando.settings.repository;
    let doing = format!("submit patches to {name}");
    let words = match lando.submit(body).await {
        Err(SubmitError::Refused(Refusal::UnknownBase(_))) => None,
        Err(SubmitError::Refused(Refusal::Operators(_, words)))
            if words.starts_with("Invalid patch data") =>
        {
            None
        }
        Err(SubmitError::Refused(Refusal::Operators(barrier, words))) => Some((barrier, words)),
        Err(SubmitError::Refused(Refusal::Patches(words))) => Some((Barrier::ReadOnly, words)),
        Err(SubmitError::Refused(Refusal::TooLarge)) => {
            Some((Barrier::Quota, "it is too large".to_owned()))
        }
        Err(SubmitError::Away(error) | SubmitError::Unclear(error)) => {
            return Some(Err(away(doing, &error)));
        }
        Ok(job) => {
            let words = format!("it made the job {job}, although the submission holds no patch");
            Some((Barrier::NoRepository, words))
        }
    };
    Some(match words {
        None => Ok(format!("it accepts the token, and submissions to {name}")),
        Some((barrier, words)) => Err(barred(doing, barrier, words)),
    })
}

/// The error while Lando is away.
pub(crate) fn away(doing: String, error: &HttpError) -> WorkerError {
    WorkerError::Remote {
        peer: Peer::Destination,
        doing,
        words: error_chain(error),
    }
}

/// The error when an operator has to act.
pub(crate) fn barred(doing: String, barrier: Barrier, words: String) -> WorkerError {
    WorkerError::Forbidden {
        peer: Peer::Destination,
        barrier,
        doing,
        words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(error: &str) -> Job {
        serde_json::from_value(serde_json::json!({
            "commit_id": "", "landed_commit_id": "1".repeat(40), "error": error, "status": "NEW",
        }))
        .expect("a job")
    }

    #[test]
    fn faults_of_patches_are_those_of_applying_and_of_checks() {
        for (error, of_patches) in [
            (
                "Problem while applying patch in revision None:\n\nerror: patch failed",
                true,
            ),
            ("Some checks failed before attempting to land:\nx", true),
            ("Unexpected error while pushing to try.\nabort", false),
            ("", false),
        ] {
            assert_eq!(job(error).is_fault_of_patches(), of_patches, "{error}");
        }
        assert_eq!(job("").head(), Some("1".repeat(40).as_str()));
        assert_eq!(job("").status, Status::Other);
    }
}
