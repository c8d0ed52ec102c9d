use std::error::Error as _;

use runtime::{ManualClock, Retry, Retryable, SystemClock, error_chain};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(10);

/// A server that sends `response` on its first connection, then holds the connection open if `holds`.
async fn server(response: impl Into<Vec<u8>>, holds: bool) -> RequestBuilder {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let response = response.into();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(&response).await;
        if holds {
            std::future::pending::<()>().await;
        }
    });
    let url = format!("http://user:passw0rd@{address}/?token=s3cret");
    crate::client(TIMEOUT).unwrap().get(url)
}

fn http(head: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn received(head: &str, body: &str) -> Response {
    let request = server(http(head, body), false).await;
    send(request, Limits::body(100)).await.unwrap()
}

#[tokio::test]
async fn body_is_read_up_to_its_limit() {
    let body = "x".repeat(100);
    assert_eq!(received("200 OK", &body).await.body, body);
    let request = server(http("200 OK", &"x".repeat(101)), false).await;
    let error = send(request, Limits::body(100)).await.err().unwrap();
    assert!(matches!(error, HttpError::TooLarge { limit: 100 }));
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn beginning_of_long_or_broken_body_is_kept() {
    for (length, expected, is_whole) in [(500, 100, true), (100, 100, true), (60, 60, false)] {
        let broken = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Length: 1000\r\n\r\n{}",
            "x".repeat(length)
        );
        let opened = open(server(broken.clone(), false).await, Limits::body(100)).await;
        let response = opened.unwrap().beginning().await;
        assert_eq!(
            (response.status.as_u16(), response.body.len()),
            (400, expected)
        );
        let opened = open(server(broken, false).await, Limits::body(100)).await;
        match opened.unwrap().truncated().await {
            Ok(response) => assert!(is_whole && response.body.len() == expected),
            Err(error) => assert!(!is_whole && error.is_outage(), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn status_decides_about_the_next_attempt() {
    let minute = Duration::from_secs(60);
    for (head, retry, pause, had_no_effect) in [
        ("503 Away", Retry::Defer(minute / 2), Some(0), true),
        ("500 Oops", Retry::Defer(minute / 2), Some(0), false),
        (
            "429 Slow\r\nRetry-After: 7",
            Retry::Defer(Duration::from_secs(7)),
            Some(7),
            true,
        ),
        (
            "429 Slow\r\nRetry-After: 86400",
            Retry::Defer(minute * 10),
            None,
            true,
        ),
        ("401 Who", Retry::Defer(minute), None, true),
        ("404 Gone", Retry::Backoff, None, true),
        ("302 There", Retry::Backoff, None, false),
    ] {
        let error = received(head, "").await.check().err().unwrap();
        assert_eq!(error.retry(), retry, "{head}");
        let expected = pause.map(Duration::from_secs);
        assert_eq!(error.pause(Duration::from_secs(10)), expected, "{head}");
        assert_eq!(error.had_no_effect(), had_no_effect, "{head}");
    }
    assert!(received("204 Done", "").await.check().is_ok());
}

#[tokio::test]
async fn other_success_than_the_required_one_is_an_error() {
    for (head, expected) in [
        ("201 Made", Ok(())),
        ("200 OK", Err((Retry::Backoff, false))),
        (
            "503 Away",
            Err((Retry::Defer(Duration::from_secs(30)), true)),
        ),
    ] {
        let opened = open(server(http(head, ""), false).await, Limits::body(100)).await;
        let required = opened.unwrap().require(StatusCode::CREATED);
        let result = required
            .map(|_| ())
            .map_err(|error| (error.retry(), error.had_no_effect()));
        assert_eq!(result, expected, "{head}");
    }
}

#[tokio::test]
async fn malformed_body_is_not_quoted() {
    let response = received("200 OK", "{\"key\": s3cret}").await;
    let error = response.json::<serde_json::Value>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the response cannot be read: syntax error at line 1, column 9"
    );
}

#[tokio::test]
async fn failed_connection_is_an_outage_whose_error_has_no_address() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let url = format!("http://user:passw0rd@{address}/?token=s3cret");
    let refused = crate::client(TIMEOUT).unwrap().get(url);
    let cut = server("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx", false).await;
    let late = server("", true).await.timeout(Duration::from_millis(50));
    for (request, had_no_effect) in [(refused, true), (cut, false), (late, false)] {
        let error = send(request, Limits::body(100)).await.err().unwrap();
        assert!(error.is_outage() && error.source().is_some(), "{error:?}");
        assert_eq!(error.had_no_effect(), had_no_effect, "{error:?}");
        let shown = format!("{} {error:?}", error_chain(&error));
        for secret in ["passw0rd", "s3cret", "http://"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

#[tokio::test]
async fn request_that_cannot_be_made_is_not_repeated() {
    let request = crate::client(TIMEOUT).unwrap().get("http://");
    let error = send(request, Limits::body(100)).await.err().unwrap();
    assert!(matches!(error, HttpError::Unsendable(_)), "{error:?}");
    assert_eq!(error.retry(), Retry::Never);
    assert_eq!(error.pause(TIMEOUT), None);
}

#[tokio::test]
async fn silent_server_is_not_waited_for() {
    let limits = Limits {
        silence: Duration::from_millis(50),
        ..Limits::body(100)
    };
    for response in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"] {
        let error = send(server(response, true).await, limits).await;
        assert!(matches!(error.err(), Some(HttpError::Silent { .. })));
    }
}

/// A clock that moves by a minute each time it is read.
#[derive(Debug)]
struct Hurried(ManualClock);

#[async_trait::async_trait]
impl Clock for Hurried {
    fn now(&self) -> jiff::Timestamp {
        self.0.advance(Duration::from_secs(60));
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.sleep(duration).await;
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

#[tokio::test]
async fn body_below_the_lowest_rate_is_an_error() {
    let hurried = Hurried(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let clocks: [Arc<dyn Clock>; 2] = [Arc::new(hurried), Arc::new(SystemClock)];
    let results = clocks.map(|clock| async {
        let request = server(http("200 OK", "slow"), false).await;
        let opened = open(request, Limits::body(100)).await.unwrap();
        let grace = Duration::from_secs(30);
        opened.with_lowest_rate(1000, grace, clock).collect().await
    });
    let [slow, quick] = results;
    assert!(matches!(
        slow.await.err(),
        Some(HttpError::Slow { rate: 1000 })
    ));
    assert_eq!(quick.await.unwrap().body, "slow");
}
