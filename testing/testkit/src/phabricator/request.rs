//! The request that Harbormaster sends to the web when a build begins.

use std::{io, net::SocketAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use build::Phid;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// What a build plan puts into its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildVariables {
    /// `${{buildable.diff}}`
    pub diff_id: u64,
    /// `${{repository.phid}}`
    pub repository: Phid,
    /// `${{buildable.revision}}`
    pub revision_id: u64,
    /// `${{target.phid}}`
    pub target: Phid,
}

/// The bytes that Harbormaster's "make HTTP request" step sends: everything in the query, an empty form as the body,
/// and credentials without being asked.
fn request_bytes(
    web: SocketAddr,
    build: &BuildVariables,
    credentials: Option<(&str, &str)>,
) -> String {
    let BuildVariables {
        diff_id,
        repository,
        revision_id,
        target,
    } = build;
    let authorization = credentials.map_or_else(String::new, |(user, password)| {
        format!(
            "Authorization: Basic {}\r\n",
            BASE64_STANDARD.encode(format!("{user}:{password}"))
        )
    });
    format!(
        "POST /codereview/new?diff={diff_id}&repo={repository}&revision={revision_id}&target={target} HTTP/1.1\r\n\
         Host: {web}\r\n\
         User-Agent: Arcanist/1.0 cURL/7.88.1\r\n\
         Accept: */*\r\n\
         {authorization}\
         Accept-Encoding: gzip\r\n\
         Content-Length: 0\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         \r\n"
    )
}

/// Sends Harbormaster's request to `web`, byte for byte, with HTTP basic `credentials` when given. Returns status and
/// body; the body must have a `Content-Length`.
pub async fn harbormaster_request(
    web: SocketAddr,
    build: &BuildVariables,
    credentials: Option<(&str, &str)>,
) -> io::Result<(u16, String)> {
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
    let mut stream = TcpStream::connect(web).await?;
    stream
        .write_all(request_bytes(web, build, credentials).as_bytes())
        .await?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let status = head
                .split(' ')
                .nth(1)
                .and_then(|status| status.parse().ok());
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let status = status.ok_or_else(|| invalid("the answer has no status"))?;
            let length: usize =
                length.ok_or_else(|| invalid("the answer has no content-length"))?;
            if body.len() >= length {
                return Ok((status, body.to_owned()));
            }
        }
        if answer.len() > MAX_ANSWER {
            return Err(invalid("the answer is too long"));
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, extract::RawQuery, http::StatusCode, routing::post};

    use super::*;

    #[test]
    fn request_equals_the_recorded_one() {
        let recorded =
            include_str!("../../../../phabricator/tests/fixtures/phorge/raw_request.txt");
        let build = |target: &str| BuildVariables {
            diff_id: 3,
            repository: Phid::parse("PHID-REPO-gheyr7w2d2ab3qg236ha").unwrap(),
            revision_id: 1,
            target: Phid::parse(target).unwrap(),
        };
        let web = "127.0.0.1:9998".parse().unwrap();
        let plain = request_bytes(web, &build("PHID-HMBT-6om2iuajepxcv7v6poue"), None);
        let credentials = Some(("phab-user", "s3cr3t:pä ss"));
        let with_credentials =
            request_bytes(web, &build("PHID-HMBT-pfo2to7xzddsxlazab6f"), credentials);
        assert_eq!(plain + &with_credentials, recorded);
    }

    #[tokio::test]
    async fn response_is_read_to_its_end_on_keep_alive_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let web = listener.local_addr().unwrap();
        let echo = async |RawQuery(query): RawQuery| {
            (StatusCode::ACCEPTED, format!("got {}", query.unwrap()))
        };
        let routes = Router::new().route("/codereview/new", post(echo));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let build = BuildVariables {
            diff_id: 7,
            repository: Phid::parse("PHID-REPO-a").unwrap(),
            revision_id: 8,
            target: Phid::parse("PHID-HMBT-b").unwrap(),
        };
        let answer = harbormaster_request(web, &build, None).await.unwrap();
        assert_eq!(
            answer,
            (
                202,
                "got diff=7&repo=PHID-REPO-a&revision=8&target=PHID-HMBT-b".to_owned()
            )
        );
    }
}
