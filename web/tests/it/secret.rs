//! The shared secret of `/codereview/new`.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bus::{MemoryBus, Producer};
use jiff::Timestamp;
use runtime::ManualClock;
use secrecy::SecretString;
use testkit::capture_logs;
use web::{Version, WebSettings};

use crate::{GOOD, World, memory, recorded, settings};

/// The password of the credential in the recorded request, whose user is phab-user.
const SECRET: &str = "s3cr3t:pä ss";
const TOKEN: &str = "token=s3cr3t%3Ap%C3%A4%20ss";

async fn world() -> World {
    World::start(memory(), Some(SECRET), Version::load(None).unwrap()).await
}

fn basic(credential: &str) -> String {
    format!(
        "Authorization: Basic {}\r\n",
        BASE64_STANDARD.encode(credential)
    )
}

/// A request with these parameters in the query, these in a form, and these header lines.
fn request(query: &str, form: &str, headers: &str) -> Vec<u8> {
    format!(
        "POST /codereview/new?{query} HTTP/1.1\r\nHost: x\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn recorded_credential_is_accepted_and_a_request_without_one_refused() {
    let world = world().await;
    let requests = recorded();
    assert_eq!(world.raw(&requests[0]).await.0, 401);
    assert_eq!(world.raw(&requests[1]).await.0, 200);
    assert_eq!(world.stored().await.len(), 1);
}

#[tokio::test]
async fn secret_is_accepted_as_password_and_as_parameter() {
    let world = world().await;
    let right = basic(&format!("anybody:{SECRET}"));
    let other_case = right.replace("Authorization: Basic", "authorization: bAsIc");
    for (query, form, headers) in [
        (GOOD.to_owned(), "", &*right),
        (GOOD.to_owned(), "", &*basic(&format!(":{SECRET}"))),
        (GOOD.to_owned(), "", &*other_case),
        (format!("{GOOD}&{TOKEN}"), "", ""),
        (GOOD.to_owned(), TOKEN, ""),
        (TOKEN.to_owned(), GOOD, ""),
        // One right one of each will do.
        (format!("{GOOD}&{TOKEN}"), "", &*basic("x:y")),
        (format!("{GOOD}&token=y"), "", &*right),
    ] {
        let (status, text) = world.raw(&request(&query, form, headers)).await;
        assert_eq!(status, 200, "{query} {form} {headers}: {text}");
    }
    assert_eq!(world.stored().await.len(), 1, "all of them are one target");
}

#[tokio::test]
async fn wrong_secret_is_refused() {
    let right = basic(&format!("phab-user:{SECRET}"));
    let without_padding = right.replace('=', "");
    let table = [
        ("", "", String::new()),
        ("&token=", "", String::new()),
        ("&token=s3cr3t", "", String::new()),
        ("&token=s3cr3t%3Ap%C3%A4%20sss", "", String::new()),
        // Latin-1, and the letter made of two characters.
        ("&token=s3cr3t%3Ap%E4%20ss", "", String::new()),
        ("&token=s3cr3t%3Apa%CC%88%20ss", "", String::new()),
        ("&Token=s3cr3t%3Ap%C3%A4%20ss", "", String::new()),
        ("", "", basic("phab-user:")),
        ("", "", basic(":")),
        ("", "", basic("")),
        // The user is not the password.
        ("", "", basic(&format!("{SECRET}:"))),
        ("", "", basic(SECRET)),
        ("", "", right.replace("Basic", "Bearer")),
        ("", "", right.replace("Basic ", "Basic")),
        ("", "", "Authorization: Basic ????\r\n".to_owned()),
        ("", "", "Authorization: Basic \u{e4}\r\n".to_owned()),
        ("", "", without_padding),
        // What is repeated counts as none.
        ("&token=s3cr3t%3Ap%C3%A4%20ss", TOKEN, String::new()),
        ("&token=x&token=s3cr3t%3Ap%C3%A4%20ss", "", String::new()),
    ];
    let world = world().await;
    for (token, form, headers) in table {
        let (status, text) = world
            .raw(&request(&format!("{GOOD}{token}"), form, &headers))
            .await;
        assert_eq!(status, 401, "{token} {form} {headers}");
        assert!(!text.contains("s3cr3t"), "{text}");
        for remedy in ["webhook_secret", "Authorization: Basic", "`token`"] {
            assert!(text.contains(remedy), "{text}");
        }
        assert!(world.stored().await.is_empty());
    }
}

#[tokio::test]
async fn repeated_credentials_are_refused_even_if_one_is_right() {
    let (right, wrong) = (
        basic(&format!("phab-user:{SECRET}")),
        basic("phab-user:wrong"),
    );
    let world = world().await;
    for headers in [
        format!("{right}{right}"),
        format!("{wrong}{right}"),
        format!("{right}{wrong}"),
    ] {
        assert_eq!(
            world.raw(&request(GOOD, "", &headers)).await.0,
            400,
            "{headers}"
        );
    }
    assert!(world.stored().await.is_empty());
}

#[tokio::test]
async fn each_wrong_secret_is_refused_and_one_line_a_minute_is_logged() {
    let (_guard, logs) = capture_logs();
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let producer = Producer::new(bus.clone(), clock.clone());
    let world = World::serve(WebSettings {
        producer,
        secret: Some(SecretString::from(SECRET)),
        api_token: Some(SecretString::from("api-t0ken")),
        ..settings(bus)
    })
    .await;
    let wrong = format!("{GOOD}&token=guess");
    for _ in 0..6 {
        assert_eq!(world.post(&wrong).await.0, 401);
        assert_eq!(world.get("/api/v1/queues").await.0, 401);
    }
    assert_eq!(
        world.post(&format!("{GOOD}&{TOKEN}")).await.0,
        200,
        "whose address may be the proxy's"
    );
    let call = "GET /api/v1/queues HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer api-t0ken\r\n\r\n";
    assert_eq!(world.raw(call.as_bytes()).await.0, 200);
    let refused = "refused a request without the secret";
    let lines = |count: &str| {
        let text = logs.text();
        text.lines()
            .filter(|line| line.contains(refused) && line.contains(count))
            .count()
    };
    assert_eq!((lines(""), lines(" count=1 ")), (1, 1), "{}", logs.text());

    clock.advance(Duration::from_secs(60));
    assert_eq!(world.post(&wrong).await.0, 401);
    assert_eq!((lines(""), lines(" count=12 ")), (2, 1), "{}", logs.text());

    clock.advance(Duration::from_secs(60));
    let misplaced = "/api/v1/queues/api-t0ken/messages";
    assert_eq!(world.get(misplaced).await.0, 401);
    let whole = logs.text().lines().last().map(str::to_owned).unwrap();
    assert!(
        whole.contains(refused) && whole.contains("/api/v1/queues/{queue}/messages"),
        "{whole}"
    );
    assert!(!logs.text().contains("api-t0ken"), "{}", logs.text());
}
