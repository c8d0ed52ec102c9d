//! A call as it goes out, and as it comes back.

use http_client::{HttpError, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use secrecy::SecretString;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use super::TaskclusterError;

/// What is encoded in a segment of a path, and in a query: all but what never needs it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// The most of a server's words that is kept, in bytes.
const MAX_WORDS: usize = 500;

/// A call before it is signed.
pub(super) struct Call<'a> {
    /// Service and method as Taskcluster's manual names them, such as `queue.task`.
    pub(super) name: &'static str,
    pub(super) method: Method,
    /// The path within version 1 of the service: its segments, not encoded.
    pub(super) path: &'a [&'a str],
    pub(super) query: Vec<(&'a str, &'a str)>,
    pub(super) body: Option<&'a Value>,
}

/// An answer, with whatever status.
pub(super) struct Answer {
    pub(super) name: &'static str,
    pub(super) response: Response,
}

/// What every service says when it refuses.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// What the queue says of an artifact that stands for an error.
#[derive(Deserialize)]
struct NoContent {
    reason: String,
    message: String,
}

impl<'a> Call<'a> {
    pub(super) fn get(name: &'static str, path: &'a [&'a str]) -> Self {
        Self {
            name,
            method: Method::GET,
            path,
            query: Vec::new(),
            body: None,
        }
    }

    pub(super) fn with_body(
        name: &'static str,
        method: Method,
        path: &'a [&'a str],
        body: &'a Value,
    ) -> Self {
        Self {
            name,
            method,
            path,
            query: Vec::new(),
            body: Some(body),
        }
    }

    /// Where it goes. A name that would lead elsewhere is refused: `.` and `..` climb even when they are encoded.
    pub(super) fn url(&self, root: &Url) -> Result<Url, TaskclusterError> {
        let unusable = |problem: String| TaskclusterError::Unsendable {
            call: self.name,
            problem,
        };
        let (service, _) = self.name.split_once('.').unwrap_or((self.name, ""));
        let mut address = format!("{}/api/{service}/v1", root.as_str().trim_end_matches('/'));
        for segment in self.path {
            if matches!(*segment, "" | "." | "..") {
                return Err(unusable(format!("`{segment}` cannot be a name")));
            }
            address.push('/');
            address.extend(utf8_percent_encode(segment, ENCODED));
        }
        for (index, (key, value)) in self.query.iter().enumerate() {
            address.push(if index == 0 { '?' } else { '&' });
            address.extend(utf8_percent_encode(key, ENCODED));
            address.push('=');
            address.extend(utf8_percent_encode(value, ENCODED));
        }
        Url::parse(&address)
            .map_err(|problem| unusable(format!("the root url is unusable: {problem}")))
    }
}

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, TaskclusterError> {
        let failed = TaskclusterError::http(self.name);
        self.response.json().map_err(failed)
    }

    /// The error of an unsuccessful answer. It does not contain `secret`.
    ///
    /// Only Taskcluster's own words count as its verdict: a page of something between here and there, even if it is
    /// called 404, says nothing about tasks and hooks.
    pub(super) fn refusal(
        &self,
        source: HttpError,
        secret: Option<&SecretString>,
    ) -> TaskclusterError {
        let (call, status) = (self.name, self.response.status.as_u16());
        let words = |words: &str| scrub(words, secret);
        if source.is_outage() {
            return TaskclusterError::Http { call, source };
        }
        if status == 424
            && let Ok(NoContent { reason, message }) = self.json()
        {
            return TaskclusterError::ErrorArtifact {
                reason: words(&reason),
                message: words(&message),
            };
        }
        let Ok(Refusal { code, message }) = self.json() else {
            return TaskclusterError::Http { call, source };
        };
        let message = words(&message);
        match status {
            400 if code == "DenylistedAddress" => TaskclusterError::DenylistedAddress,
            401 => TaskclusterError::Credentials { call, message },
            403 => TaskclusterError::Scopes { call, message },
            404 => TaskclusterError::NotFound { call, message },
            409 => TaskclusterError::Conflict { call, message },
            _ => TaskclusterError::Input {
                call,
                code: words(&code),
                message,
            },
        }
    }
}

/// A server's words on one short line, without the secret, and without the list of facts that it puts below.
fn scrub(words: &str, secret: Option<&SecretString>) -> String {
    let words = words.split("\n\n---\n").next().unwrap_or_default().trim();
    http_client::redact(words, secret, MAX_WORDS)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::{StatusCode, header::HeaderMap};

    use super::*;

    #[test]
    fn names_are_encoded_and_cannot_change_the_path() {
        let address = |path: &[&str]| {
            let call = Call {
                query: vec![("continuationToken", "a/b=&?")],
                ..Call::get("hooks.x", path)
            };
            call.url(&Url::parse("https://tc.example.com/").unwrap())
                .map(String::from)
        };
        let expected = "https://tc.example.com/api/hooks/v1/hooks/project%2Frelman/a%20%3Fb%C3%BC?continuationToken=a%2Fb%3D%26%3F";
        assert_eq!(
            address(&["hooks", "project/relman", "a ?bü"]).unwrap(),
            expected
        );
        for name in ["", ".", ".."] {
            assert!(
                matches!(
                    address(&["hooks", name]),
                    Err(TaskclusterError::Unsendable { .. })
                ),
                "{name}"
            );
        }
        // A segment whose encoding is not a dot segment stays a name.
        assert!(address(&["%2e%2e"]).unwrap().contains("/%252e%252e?"));
    }

    #[test]
    fn error_text_is_one_short_line_without_token() {
        let token = SecretString::from(" t0ken\n");
        let table = [
            (
                "No such hook\n\n---\n\n* method:     triggerHook\n* errorCode:  ResourceNotFound",
                "No such hook",
            ),
            ("\nSchema\nfailed\u{202e}", "Schema failed"),
            ("is t0ken wrong?", "is (secret) wrong?"),
        ];
        for (words, expected) in table {
            assert_eq!(scrub(words, Some(&token)), expected);
        }
        let long = scrub(&"ü".repeat(400), Some(&SecretString::from("")));
        assert!(long.len() <= MAX_WORDS && long.ends_with("ü…"), "{long}");
    }

    #[test]
    fn status_counts_only_with_taskcluster_error_body() {
        let refusal = |status, body: &'static str| {
            let response = Response {
                status: StatusCode::from_u16(status).unwrap(),
                headers: HeaderMap::new(),
                body: Bytes::from(body),
            };
            let error = response.error().unwrap();
            let name = "queue.task";
            Answer { name, response }.refusal(error, None)
        };
        let known = r#"{"code": "ResourceNotFound", "message": "no such task"}"#;
        assert!(matches!(
            refusal(404, known),
            TaskclusterError::NotFound { .. }
        ));
        for status in [400, 401, 403, 404, 409, 424] {
            assert!(
                matches!(
                    refusal(status, "<html>not here</html>"),
                    TaskclusterError::Http { .. }
                ),
                "{status}"
            );
        }
        assert!(matches!(
            refusal(410, known),
            TaskclusterError::Input { .. }
        ));
        assert!(matches!(
            refusal(503, known),
            TaskclusterError::Http {
                source: HttpError::Busy { status: 503, .. },
                ..
            }
        ));
    }
}
