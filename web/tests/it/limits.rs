//! Clients that are slow, many, or not speaking HTTP. Where time has to pass, it is that of the test's runtime, which
//! moves on when nothing else is left to do.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{GOOD, World};

const FORM: &str = "POST /codereview/new HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";

async fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.address).await.unwrap()
}

/// What the server sends until it closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is closed before all of it was read is reset.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn client_that_sends_no_whole_head_is_disconnected() {
    let world = World::open().await;
    for sent in [
        "",
        "POST /code",
        "GET /ping HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    ] {
        let mut stream = connect(&world).await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(until_closed(&mut stream).await, "", "{sent}");
    }
    assert_eq!(world.get("/ping").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn connection_that_is_idle_after_a_response_is_closed() {
    let world = World::open().await;
    let mut stream = connect(&world).await;
    stream
        .write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("pong"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn slow_body_is_cut_off_and_stores_nothing() {
    let world = World::open().await;
    let mut stream = connect(&world).await;
    let head = format!("{FORM}Content-Length: {}\r\n\r\n", GOOD.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut from, mut to) = stream.split();
    let drip = async {
        let mut drips = tokio::time::interval(std::time::Duration::from_secs(5));
        for byte in GOOD.as_bytes().chunks(1) {
            drips.tick().await;
            if to.write_all(byte).await.is_err() {
                break;
            }
        }
    };
    let mut answer = Vec::new();
    let (_, _) = tokio::join!(drip, from.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(world.stored().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn client_that_does_not_read_its_responses_is_disconnected() {
    let world = World::open().await;
    let mut stream = connect(&world).await;
    let requests = "GET /__version__ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    // Once all buffers are full this waits, until the server has waited long enough.
    while stream.write_all(requests.as_bytes()).await.is_ok() {}
    assert_eq!(world.get("/ping").await.0, 200);
}

#[tokio::test]
async fn oldest_of_256_waiting_connections_is_evicted_for_a_request() {
    let world = World::open().await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        idle.push(connect(&world).await);
    }
    // Its answer says that the server has taken all before it, and it waits for its client from then on.
    let mut last = connect(&world).await;
    last.write_all(format!("POST /codereview/new?{GOOD} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_eq!(until_closed(&mut idle[0]).await, "");
    assert_eq!(world.get("/ping").await.0, 200);
    assert_eq!(until_closed(&mut idle[1]).await, "");
    for stream in &mut idle[2..] {
        let mut byte = [0];
        let read = std::pin::pin!(stream.read(&mut byte));
        assert!(futures::poll!(read).is_pending(), "others stay");
    }
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn heads_bodies_and_garbage_beyond_the_limits_are_refused() {
    let world = World::open().await;
    let body = "x".repeat(20_000);
    let chunk = format!("{:x}\r\n{}\r\n", 4000, "x".repeat(4000));
    let chunked = |chunks: &str| format!("{FORM}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let fields: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    let long = "x".repeat(20_000);
    // So that the fault is in the head alone.
    let valid = format!("POST /codereview/new?{GOOD} HTTP/1.1\r\nHost: x\r\n");
    for (status, sent) in [
        (
            413,
            format!("{FORM}Content-Length: {}\r\n\r\n{body}", body.len()),
        ),
        (413, chunked(&format!("{}0\r\n\r\n", chunk.repeat(10)))),
        // It never ends.
        (413, chunked(&chunk.repeat(10))),
        (400, chunked("ffffffffffffffffff\r\nx")),
        (400, chunked("nonsense\r\nx\r\n")),
        (
            431,
            format!("GET /ping HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"),
        ),
        (
            431,
            format!("GET /ping HTTP/1.1\r\nHost: x\r\n{fields}\r\n"),
        ),
        (
            431,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000)),
        ),
        (400, "\x16\x03\x01\0nonsense\r\n\r\n".to_owned()),
        (400, "GET /ping\r\n\r\n".to_owned()),
        (400, "GET /ping HTTP/1.1\r\nHost x\r\n\r\n".to_owned()),
        (400, "GET /ping HTTP/1.1\r\nX-Nul: \0\r\n\r\n".to_owned()),
        (
            400,
            format!("{valid}Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        ),
        (400, format!("{valid}Content-Length: -1\r\n\r\n")),
        (
            400,
            format!("{valid}Content-Length: 18446744073709551616\r\n\r\n"),
        ),
        (400, format!("{valid}Transfer-Encoding: gzip\r\n\r\nx")),
        (
            400,
            format!("{valid}Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            format!("{valid}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            400,
            format!(
                "{valid}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            400,
            "POST /ping HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .to_owned(),
        ),
        (
            400,
            format!("{valid}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        ),
        (400, chunked("1\nx\r\n0\r\n\r\n")),
        (400, "GET /ping HTTP/1.1\nHost: x\n\n".to_owned()),
        (
            400,
            "GET /ping HTTP/1.1\r\nHost: x\nX: y\r\n\r\n".to_owned(),
        ),
        (400, "GET /ping HTTP/1.1\r\nHost: x\r\n\n".to_owned()),
        (400, "\nGET /ping HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (400, "GET /ping HTTP/1.1\r\n\r\n".to_owned()),
        (
            400,
            "GET /ping HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n".to_owned(),
        ),
        (
            400,
            "GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n"
                .to_owned(),
        ),
    ] {
        let mut stream = connect(&world).await;
        // A server that has seen enough may close the connection before it has all.
        let _ = stream.write_all(sent.as_bytes()).await;
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer).await;
        let shown = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            read.is_ok() && shown == format!("HTTP/1.1 {status}"),
            "{shown} for {:.200}",
            sent
        );
    }
    assert_eq!(world.get("/ping").await.0, 200, "it still serves");
    assert!(world.stored().await.is_empty());
}

#[tokio::test]
async fn head_without_end_is_cut_off() {
    let world = World::open().await;
    let mut stream = connect(&world).await;
    stream.write_all(b"GET /ping HTTP/1.1\r\n").await.unwrap();
    while stream.write_all(b"X-More: of the same\r\n").await.is_ok() {}
    assert_eq!(world.get("/ping").await.0, 200);
}

#[tokio::test]
async fn request_with_two_lengths_hides_no_other_request() {
    let world = World::open().await;
    let request = format!("POST /codereview/new?{GOOD} HTTP/1.1\r\nHost: x\r\n");
    // By its length all of this is one request, by its chunks two.
    let chunks = format!("0\r\n\r\n{request}\r\n");
    let length = format!("Content-Length: {}\r\n", chunks.len());
    let encoding = "Transfer-Encoding: chunked\r\n";
    for lengths in [
        format!("{length}{encoding}"),
        format!("{encoding}{length}"),
        format!("{encoding}Content-Length: 0\r\n"),
    ] {
        let mut stream = connect(&world).await;
        let smuggling = format!("{request}{lengths}\r\n{chunks}");
        stream.write_all(smuggling.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{lengths}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(world.stored().await.is_empty());
    }
}

#[tokio::test]
async fn valid_heads_are_served_request_after_request() {
    let world = World::open().await;
    let form = GOOD.replace("target=", "ignored=%0A\n&target=");
    let chunks = form.as_bytes().chunks(9).map(|chunk| {
        format!(
            "{:x};name=value\r\n{}\r\n",
            chunk.len(),
            String::from_utf8_lossy(chunk)
        )
    });
    let sent = [
        "GET /ping HTTP/1.0\r\n\r\n".replace("1.0\r\n", "1.0\r\nConnection: keep-alive\r\n"),
        format!("{FORM}Content-Length: {}\r\n\r\n{form}", form.len()),
        format!(
            "{FORM}transfer-encoding: Chunked\r\n\r\n{}0\r\nX-Trailer: y\r\n\r\n",
            chunks.collect::<String>()
        ),
        "GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(),
    ];
    let mut stream = connect(&world).await;
    stream.write_all(sent.concat().as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert_eq!(answer.matches(" 200 OK").count(), 4, "{answer}");
    assert_eq!(world.stored().await.len(), 1);
}
