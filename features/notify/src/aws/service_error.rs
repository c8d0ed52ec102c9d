//! What a refusal of Amazon's means.
//!
//! Its services write them in XML (`Error` somewhere within, with `Code` and `Message`) or in JSON, where the code is in
//! a header. What counts is the code; statuses differ between services and between stores that are compatible with one.

use std::time::Duration;

use http_client::{Response, retry_after};
use reqwest::{StatusCode, header::HeaderName};
use roxmltree::Document;
use serde_json::Value;

use super::Service;
use crate::{ChannelError, text::one_line};

/// The longest words of a service that are kept, in bytes.
const MAX_WORDS: usize = 300;
/// The longest code, in bytes.
const MAX_CODE: usize = 80;

/// The credentials are none, are no longer any, or give no right to this.
const CREDENTIALS: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AccountProblem",
    "AccountSuspendedException",
    "AllAccessDisabled",
    "AuthFailure",
    "AuthorizationError",
    "AuthorizationErrorException",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotSignedUp",
    "OptInRequired",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
];
/// The credentials are accepted, and give no right to this.
const RIGHTS: &[&str] = &[
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
];
/// It is too much at once, or was too much for this day.
const BUSY: &[&str] = &[
    "AccountSendingPausedException",
    "Busy",
    "KMSThrottling",
    "KMSThrottlingException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "QuotaExceeded",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SendingPausedException",
    "SlowDown",
    "Throttled",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];
/// There is no such topic or bucket: somebody has to make it, or to set another.
const ABSENT: &[&str] = &[
    "InvalidBucketName",
    "NoSuchBucket",
    "NotFound",
    "NotFoundException",
];
/// The bucket takes no access control lists, which is how buckets are made since 2023.
const NO_ACL: &str = "AccessControlListNotSupported";
/// It is in another region than was asked.
const ELSEWHERE: &[&str] = &[
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
];

/// A refusal as a service writes it.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    /// Empty where there is none.
    code: String,
    words: String,
    retry_after: Option<Duration>,
}

/// Whether a body is that of a refusal, whatever its status.
pub(super) fn is_error(body: &[u8]) -> bool {
    let body = String::from_utf8_lossy(body);
    Document::parse(&body)
        .is_ok_and(|document| document.root_element().tag_name().name() == "Error")
}

/// What to do where credentials do not do.
pub(super) fn set_credentials(service: &Service) -> String {
    let channel = service.channel;
    format!(
        "set notify.{channel}.access_key_id and notify.{channel}.secret_access_key to those of a user who may do this, or \
         give this process a role that may"
    )
}

impl Refusal {
    pub(super) fn read(response: &Response) -> Self {
        let code = response.header(HeaderName::from_static("x-amzn-errortype"));
        let (mut code, mut words) = (code.unwrap_or_default().to_owned(), String::new());
        let body = String::from_utf8_lossy(&response.body);
        if let Ok(document) = Document::parse(&body) {
            let text = |name| {
                document
                    .descendants()
                    .find(|node| node.tag_name().name() == name)?
                    .text()
            };
            code = text("Code").unwrap_or_default().to_owned();
            words = text("Message").unwrap_or_default().to_owned();
        } else if let Ok(object) = serde_json::from_str::<Value>(&body) {
            let text = |name| object.get(name).and_then(Value::as_str);
            words = text("message")
                .or_else(|| text("Message"))
                .unwrap_or_default()
                .to_owned();
            if let Some(told) = text("__type").filter(|_| code.is_empty()) {
                told.clone_into(&mut code);
            }
        }
        // Such as `com.amazonaws.sesv2#NotFoundException:http://…`.
        let code = code
            .rsplit('#')
            .next()
            .unwrap_or_default()
            .split(':')
            .next()
            .unwrap_or_default();
        Self {
            status: response.status,
            code: one_line(code, MAX_CODE),
            words,
            retry_after: retry_after(&response.headers),
        }
    }

    /// Whether the service accepts our credentials, and they give no right to this.
    pub(super) fn is_for_a_right(&self) -> bool {
        RIGHTS.contains(&self.code.as_str())
    }

    /// What it means for whoever wanted to do `what`. The error holds none of the `secrets`.
    pub(super) fn judge(
        &self,
        what: &str,
        host: &str,
        service: &Service,
        secrets: &[&str],
    ) -> ChannelError {
        let (channel, code) = (service.channel, self.code.as_str());
        let mut words = self.words.clone();
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            words = words.replace(secret, "(a credential)");
        }
        let said = [code, &one_line(&words, MAX_WORDS)]
            .map(str::to_owned)
            .into_iter()
            .filter(|said| !said.is_empty());
        let said = said.collect::<Vec<_>>().join(": ");
        let told = if said.is_empty() {
            String::new()
        } else {
            format!(", {said}")
        };
        let problem = format!(
            "{host} answered with http status {}{told}, when asked to {what}",
            self.status.as_u16()
        );
        let is = |codes: &[&str]| codes.contains(&code);
        if is(BUSY) || self.status == StatusCode::TOO_MANY_REQUESTS {
            return ChannelError::Busy {
                channel,
                retry_after: self.retry_after,
                problem,
            };
        }
        if code == NO_ACL {
            let problem = format!(
                "{problem}: remove notify.{channel}.acl, the bucket takes no access control lists"
            );
            return ChannelError::Credentials { channel, problem };
        }
        if is(CREDENTIALS) {
            return ChannelError::Credentials {
                channel,
                problem: format!("{problem}: {}", set_credentials(service)),
            };
        }
        if is(ABSENT) {
            let problem = format!(
                "{problem}: set {} to one that there is, or make it",
                service.resource
            );
            return ChannelError::Unreachable { channel, problem };
        }
        if is(ELSEWHERE) || self.status.is_redirection() {
            let problem = format!("{problem}: set {} to where it is", service.region);
            return ChannelError::Unreachable { channel, problem };
        }
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ChannelError::Credentials {
                channel,
                problem: format!("{problem}: {}", set_credentials(service)),
            },
            StatusCode::REQUEST_TIMEOUT => ChannelError::Failed { channel, problem },
            // A store takes any log: what it refuses is how this one came, such as a part of an upload that is over.
            status if status.is_client_error() && !service.is_store => {
                ChannelError::Refused { channel, problem }
            }
            // Any other status may come from a proxy, and be temporary.
            _ => ChannelError::Failed { channel, problem },
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::{Retry, Retryable};

    use super::*;

    const SERVICE: Service = Service {
        channel: "sns",
        name: "sns",
        host: "sns",
        resource: "notify.sns.arn",
        region: "notify.sns.arn",
        is_store: false,
    };

    fn judged(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> ChannelError {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        let refusal = Refusal::read(&Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.to_owned().into(),
        });
        refusal.judge(
            "publish to the topic",
            "sns.example.com",
            &SERVICE,
            &["AKIA1", "hunter2", ""],
        )
    }

    fn xml(code: &str, words: &str) -> String {
        format!(
            "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>{words}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
        )
    }

    #[test]
    fn refusals_are_classified_by_code() {
        const DAYS: fn(u64) -> Retry = |seconds| Retry::Defer(Duration::from_secs(seconds));
        for (status, code, expected, words) in [
            (
                403,
                "InvalidClientTokenId",
                DAYS(60),
                "set notify.sns.access_key_id",
            ),
            (400, "ExpiredToken", DAYS(60), "rejects our credentials"),
            (
                403,
                "NoneThatIsKnown",
                DAYS(60),
                "set notify.sns.access_key_id",
            ),
            (400, "Throttling", DAYS(30), "sns is busy"),
            (503, "SlowDown", DAYS(30), "sns is busy"),
            (
                404,
                "NotFound",
                DAYS(30),
                "set notify.sns.arn to one that there is",
            ),
            (
                301,
                "PermanentRedirect",
                DAYS(30),
                "set notify.sns.arn to where it is",
            ),
            (
                400,
                "MessageRejected",
                Retry::Never,
                "sns refused the notification",
            ),
            (500, "InternalFailure", Retry::Backoff, "sns failed"),
        ] {
            let error = judged(status, &[], &xml(code, "Because."));
            assert_eq!(error.retry(), expected, "{error}");
            let told = format!(
                "sns.example.com answered with http status {status}, {code}: Because., when asked to publish"
            );
            assert!(
                error.to_string().contains(words) && error.to_string().contains(&told),
                "{error}"
            );
        }
    }

    #[test]
    fn refusal_is_read_as_xml_and_json() {
        let json = r#"{"message": "Email address is not verified."}"#;
        let error = judged(
            400,
            &[("x-amzn-errortype", "MessageRejected:http://internal/")],
            json,
        )
        .to_string();
        assert!(
            error.contains("MessageRejected: Email address is not verified., when"),
            "{error}"
        );
        let error = judged(
            400,
            &[],
            r#"{"__type": "com.amazonaws.sesv2#TooManyRequestsException"}"#,
        );
        assert!(matches!(error, ChannelError::Busy { .. }), "{error}");
        let error = judged(502, &[("retry-after", "7")], "<html>Bad gateway").to_string();
        assert_eq!(
            error,
            "sns failed: sns.example.com answered with http status 502, when asked to publish to the topic"
        );
        let error = judged(429, &[("retry-after", "7")], "");
        assert_eq!(error.retry(), Retry::Defer(Duration::from_secs(7)));
    }

    #[test]
    fn error_has_one_line_without_credentials() {
        let error = judged(400, &[], &xml("InvalidParameter", "AKIA1 hunter2\nnext")).to_string();
        assert!(
            error.contains("(a credential) (a credential) next"),
            "{error}"
        );
    }
}
