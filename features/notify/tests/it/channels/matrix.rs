//! `matrix` against a fake homeserver.

use std::time::Duration;

use bus::{Retry, Retryable};
use notify::{ChannelError, Channels, DigestLine, Notification, Recipients, Status};
use serde_json::{Value, json};

use super::{checked, notification, open};
use crate::peers::{
    closed,
    matrix::{Access, Homeserver, TOKEN},
};

const ROOM: &str = "!a/b%20c:example.org";
const ALIAS: &str = "#rel/eng?#ü:example.org";

fn to(channels: &[&str]) -> Notification {
    let channels = channels.iter().map(|name| (*name).to_owned()).collect();
    notification(
        "matrix",
        Recipients {
            channels,
            ..Recipients::default()
        },
    )
}

async fn opened(url: &str) -> Channels {
    open(
        "matrix",
        &[("homeserver", url), ("access_token", TOKEN), ("room", ROOM)],
    )
    .await
    .unwrap()
}

async fn send(
    channels: &Channels,
    one: &Notification,
    recipient: &str,
) -> Result<(), ChannelError> {
    channels.get("matrix").unwrap().send(one, recipient).await
}

/// A homeserver with our room, and the channel to it.
async fn world() -> (Homeserver, Channels) {
    let home = Homeserver::start().await;
    home.room(ROOM, Access::Member);
    let channels = opened(&home.url).await;
    (home, channels)
}

async fn content(one: &Notification) -> Value {
    let (home, channels) = world().await;
    send(&channels, one, ROOM).await.unwrap();
    home.events(ROOM).pop().unwrap()
}

fn digest(lines: usize, subject: &str) -> Notification {
    let line = DigestLine {
        status: Status::TaskFailed,
        subject: subject.to_owned(),
        link: to(&[]).links.task,
    };
    let message = vec![format!("{subject}\n{}", line.link); lines].join("\n");
    Notification {
        digest: vec![line; lines],
        subject: format!("{lines} more notifications"),
        message,
        ..to(&[])
    }
}

#[tokio::test]
async fn texts_match_snapshots() {
    let artifact = Notification {
        status: Status::ArtifactCreated,
        artifact: Some("public/build/target.tar.bz2".to_owned()),
        ..to(&[])
    };
    for (name, one) in [
        ("failed", to(&[])),
        ("artifact", artifact),
        ("digest", digest(2, "test failed")),
    ] {
        insta::assert_snapshot!(
            format!("matrix {name}"),
            serde_json::to_string_pretty(&content(&one).await).unwrap()
        );
    }
}

#[tokio::test]
async fn foreign_text_is_not_interpreted() {
    let hostile = "<script>alert(1)</script> <!channel> &lt;b&gt; \"'\u{1b}[31m\u{202e} @room";
    let bad = Notification {
        subject: hostile.to_owned(),
        message: format!("{hostile}\r\n<br>{hostile}"),
        ..to(&[])
    };
    for one in [bad, digest(2, hostile)] {
        let content = content(&one).await;
        let (text, html) = (
            content["body"].as_str().unwrap(),
            content["formatted_body"].as_str().unwrap(),
        );
        assert!(
            !html.contains("<script") && !html.contains("<!") && html.contains("&amp;lt;b&amp;gt;"),
            "{html}"
        );
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text}");
        assert_eq!(
            (&content["msgtype"], &content["m.mentions"]),
            (&json!("m.notice"), &json!({}))
        );
    }
}

#[tokio::test]
async fn long_message_fits_into_matrix_event() {
    let lines = Notification {
        message: "\"\\\n".repeat(6600),
        ..to(&[])
    };
    let empty = Notification {
        message: "\n".repeat(20_000),
        ..to(&[])
    };
    for one in [digest(500, &"\"<&>\"".repeat(50)), lines, empty] {
        let content = content(&one).await;
        assert!(content["body"].as_str().unwrap().ends_with('…'));
        assert_eq!(
            (content.get("format"), content.get("formatted_body")),
            (None, None),
            "it cannot be cut"
        );
    }
    let counted = content(&digest(101, "failed")).await;
    assert!(
        counted["formatted_body"]
            .as_str()
            .unwrap()
            .contains("<li>and 1 more</li>"),
        "{counted}"
    );
}

#[tokio::test]
async fn repeated_sending_is_idempotent() {
    let (home, channels) = world().await;
    home.lose_responses(true);
    let error = send(&channels, &to(&[]), ROOM).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Backoff, "{error}");
    home.lose_responses(false);
    let reopened = opened(&home.url).await;
    for channels in [&channels, &reopened] {
        send(channels, &to(&[]), ROOM).await.unwrap();
    }
    assert_eq!(home.events(ROOM).len(), 1);

    let others = [
        Notification {
            status: Status::TaskCompleted,
            ..to(&[])
        },
        digest(1, "a"),
        digest(1, "b"),
        digest(2, "a"),
    ];
    for other in others {
        for _ in 0..2 {
            send(&channels, &other, ROOM).await.unwrap();
        }
    }
    assert_eq!(home.events(ROOM).len(), 5, "what is not the same is shown");
}

#[tokio::test]
async fn every_room_gets_the_same_text() {
    let (home, channels) = world().await;
    home.room("!other:example.org", Access::Member);
    for room in [ROOM, "!other:example.org"] {
        send(&channels, &to(&[]), room).await.unwrap();
    }
    assert_eq!(
        (
            home.events(ROOM).len(),
            home.events("!other:example.org").len()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn rooms_are_for_matrix_and_other_channels_for_irc() {
    let (home, channels) = world().await;
    let channel = channels.get("matrix").unwrap();
    assert_eq!(
        channel.recipients(&to(&["#build", ALIAS, "!x:example.org", "build"])),
        [ALIAS, "!x:example.org"]
    );
    assert_eq!(
        channel.recipients(&to(&["#build"])),
        [ROOM],
        "none of these is a room"
    );
    assert_eq!(channel.recipients(&to(&[])), [ROOM]);
    let roomless = open(
        "matrix",
        &[("homeserver", &home.url), ("access_token", TOKEN)],
    )
    .await
    .unwrap();
    assert_eq!(
        roomless.get("matrix").unwrap().recipients(&to(&[])),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn alias_is_resolved_once() {
    let (home, channels) = world().await;
    home.alias(ALIAS, ROOM);
    send(&channels, &to(&[]), ALIAS).await.unwrap();
    send(&channels, &digest(1, "a"), ALIAS).await.unwrap();
    send(&channels, &to(&[]), ROOM).await.unwrap();
    assert_eq!(
        (home.events(ROOM).len(), home.resolutions()),
        (2, 1),
        "by its alias or its id, it is the same room"
    );
}

#[tokio::test]
async fn moved_alias_is_resolved_again() {
    let (home, channels) = world().await;
    home.alias(ALIAS, ROOM);
    send(&channels, &to(&[]), ALIAS).await.unwrap();
    home.room(ROOM, Access::InviteOnly);
    home.room("!new:example.org", Access::Public);
    home.alias(ALIAS, "!new:example.org");
    for lines in 1..3 {
        send(&channels, &digest(lines, "a"), ALIAS).await.unwrap();
    }
    assert_eq!(
        (home.events("!new:example.org").len(), home.resolutions()),
        (2, 1),
        "joining it says which room it is"
    );

    home.room("!new:example.org", Access::InviteOnly);
    send(&channels, &to(&[]), ALIAS).await.unwrap_err();
    home.room("!newest:example.org", Access::Member);
    home.alias(ALIAS, "!newest:example.org");
    send(&channels, &to(&[]), ALIAS).await.unwrap();
    assert_eq!(
        (home.events("!newest:example.org").len(), home.resolutions()),
        (1, 2),
        "what took nothing is asked for again"
    );
}

#[tokio::test]
async fn room_open_to_us_is_joined() {
    let (home, channels) = world().await;
    home.room("!open:example.org", Access::Public);
    home.alias(ALIAS, "!open:example.org");
    send(&channels, &to(&[]), ALIAS).await.unwrap();
    assert_eq!(home.events("!open:example.org").len(), 1);
}

#[tokio::test]
async fn unreachable_room_is_hard_bounce() {
    let (home, channels) = world().await;
    home.room("!closed:example.org", Access::InviteOnly);
    for (room, words) in [
        (
            "!closed:example.org",
            "with http status 403: M_FORBIDDEN: You are not invited to this room.: invite our account",
        ),
        (
            "#none:example.org",
            "404: M_NOT_FOUND: Room alias #none:example.org not found.: give a room this alias",
        ),
    ] {
        let error = send(&channels, &to(&[]), room).await.unwrap_err();
        let ChannelError::HardBounce {
            recipient, problem, ..
        } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(recipient, room);
        assert!(problem.contains(words), "{problem}");
    }
}

/// A mute of the room would concern all other tasks.
#[tokio::test]
async fn refused_message_mutes_no_room() {
    let (home, channels) = world().await;
    home.room("!quiet:example.org", Access::ReadOnly);
    for (room, words) in [
        (
            "!quiet:example.org",
            "M_FORBIDDEN: You don't have permission to post that to the room.: allow our account to send",
        ),
        (
            "!none:example.org",
            "404: M_UNKNOWN: Can't join remote room",
        ),
    ] {
        let error = send(&channels, &to(&[]), room).await.unwrap_err();
        let ChannelError::Refused { problem, .. } = error else {
            panic!("{error:?}")
        };
        assert!(problem.contains(words), "{problem}");
    }
}

#[tokio::test]
async fn responses_are_classified() {
    let wait = |milliseconds| Retry::Defer(Duration::from_millis(milliseconds));
    let error = |code| json!({ "errcode": code, "error": "so it is" });
    for (status, body, expected, words) in [
        (
            429,
            json!({ "errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests", "retry_after_ms": 2500 }),
            wait(2500),
            "matrix is busy: 127.0.0.1 answered a message with http status 429: M_LIMIT_EXCEEDED",
        ),
        (
            429,
            error("M_LIMIT_EXCEEDED"),
            wait(30_000),
            "matrix is busy",
        ),
        (
            401,
            error("M_UNKNOWN_TOKEN"),
            wait(60_000),
            "M_UNKNOWN_TOKEN: so it is: set notify.matrix.access_token",
        ),
        (
            403,
            error("M_USER_DEACTIVATED"),
            wait(60_000),
            "matrix rejects our credentials",
        ),
        (
            413,
            error("M_TOO_LARGE"),
            Retry::Never,
            "matrix refused the notification: 127.0.0.1 answered a message",
        ),
        (
            400,
            error("M_BAD_JSON\n\u{1b}"),
            Retry::Never,
            "M_BAD_JSON: so it is",
        ),
        (
            400,
            json!({ "errcode": "M_UNKNOWN", "error": format!("no {TOKEN}") }),
            Retry::Never,
            "M_UNKNOWN: no (secret)",
        ),
        (
            404,
            json!("a page"),
            Retry::Never,
            "set notify.matrix.homeserver to the address of one",
        ),
        (302, json!({}), Retry::Never, "http status 302"),
        (
            502,
            json!({}),
            Retry::Backoff,
            "matrix failed: 127.0.0.1 answered a message with http status 502",
        ),
        (
            200,
            json!({}),
            Retry::Backoff,
            "answered with success and no event_id",
        ),
    ] {
        let (home, channels) = world().await;
        home.fail_next(status, body);
        let error = send(&channels, &to(&[]), ROOM).await.unwrap_err();
        assert_eq!(error.retry(), expected, "{error}");
        let text = error.to_string();
        assert!(
            text.contains(words) && !text.contains(['\n', '\u{1b}']),
            "{text}"
        );
    }
}

#[tokio::test]
async fn revoked_token_is_reported_without_showing_it() {
    let (home, channels) = world().await;
    home.revoke();
    let error = send(&channels, &to(&[]), ROOM).await.unwrap_err();
    assert!(
        matches!(error, ChannelError::Credentials { .. }),
        "{error:?}"
    );
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}

#[tokio::test]
async fn closed_port_is_outage() {
    let error = send(&opened(&closed()).await, &to(&[]), ROOM)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ChannelError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("a message to 127.0.0.1: "),
        "{error}"
    );
}

#[tokio::test]
async fn missing_or_invalid_settings_are_named() {
    let (url, token) = (
        ("homeserver", "https://matrix.example.org"),
        ("access_token", "hunter2"),
    );
    for (file, expected) in [
        (
            &[token][..],
            "matrix cannot be used: set notify.matrix.homeserver",
        ),
        (
            &[url],
            "matrix cannot be used: set notify.matrix.access_token",
        ),
        (
            &[("homeserver", "http://matrix.example.org"), token],
            "notify.matrix.homeserver is not an address that begins",
        ),
        (
            &[url, ("access_token", "hunter2\n")],
            "notify.matrix.access_token is not a token without spaces",
        ),
        (
            &[url, token, ("room", "releng")],
            "notify.matrix.room is not the id (!…:server) or an alias (#…:server)",
        ),
    ] {
        let error = open("matrix", file).await.err().unwrap().to_string();
        assert!(
            error.contains(expected) && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn check_requests_identity_and_sends_nothing() {
    let (home, _) = world().await;
    let ask = async |url: &str| {
        checked(
            "matrix",
            &[("homeserver", url), ("access_token", TOKEN), ("room", ROOM)],
        )
        .await
    };
    assert_eq!(
        ask(&home.url).await.unwrap(),
        "127.0.0.1 accepts the token, our account is @events:example.org"
    );
    assert_eq!(home.events(ROOM), Vec::<Value>::new());
    home.revoke();
    let fault = ask(&home.url).await.unwrap_err();
    assert!(
        fault.contains("M_UNKNOWN_TOKEN") && fault.contains("set notify.matrix.access_token"),
        "{fault}"
    );
    assert!(!fault.contains(TOKEN), "{fault}");
    let fault = ask(&closed()).await.unwrap_err();
    assert!(fault.starts_with("matrix cannot be reached: "), "{fault}");
}
