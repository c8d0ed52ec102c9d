//! IRC against a real `ngircd`, with another client that reads.

mod connection;

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use notify::{
    Channel, ChannelError, Channels, DigestLine, Notification, Recipients, Status, Templates,
};
use runtime::{Clock, ManualClock, SystemClock};
use tempfile::TempDir;
use testkit::Authority;

use super::{checked, notification, open, open_at};
use crate::{
    peers::{irc_client::Reader, ngircd::Ngircd},
    world::NOW,
};

const LINK: &str = "https://taskcluster.example/tasks/bGmvC3EFTSWLcp5Kb5E12A";

pub(super) async fn channel(port: u16, more: &[(&str, &str)]) -> Channels {
    channel_by(Arc::new(SystemClock), port, more).await
}

pub(super) async fn channel_by(
    clock: Arc<dyn Clock>,
    port: u16,
    more: &[(&str, &str)],
) -> Channels {
    let port = port.to_string();
    let mut file = vec![
        ("host", "localhost"),
        ("port", &port),
        ("nick", "notifier"),
        ("channel", "#ci"),
    ];
    if !more.iter().any(|(key, _)| *key == "ca_file") {
        file.push(("tls", "off"));
    }
    file.extend(more);
    open_at(clock, "irc", &file, &|_| None, None).await.unwrap()
}

pub(super) fn irc(channels: &Channels) -> &dyn Channel {
    channels.get("irc").unwrap()
}

pub(super) fn to(channels: &[&str], nicks: &[&str]) -> Notification {
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    notification(
        "irc",
        Recipients {
            nicks: all(nicks),
            channels: all(channels),
            ..Recipients::default()
        },
    )
}

fn with_subject(subject: &str) -> Notification {
    Notification {
        subject: subject.to_owned(),
        ..to(&[], &[])
    }
}

pub(super) async fn send(
    channels: &Channels,
    one: &Notification,
    recipient: &str,
) -> Result<(), ChannelError> {
    irc(channels).send(one, recipient).await
}

/// Sends until it succeeds: after an outage, the client reconnects with a pause.
pub(super) async fn send_at_last(channels: &Channels, one: &Notification, recipient: &str) {
    while let Err(error) = send(channels, one, recipient).await {
        assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn each_status_has_its_colour() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = channel_by(clock.clone(), server.port, &[]).await;
    for (status, begin, end) in [
        (Status::TaskCompleted, "\u{3}03", "\u{f}"),
        (Status::TaskFailed, "\u{3}04", "\u{f}"),
        (Status::TaskException, "\u{3}06", "\u{f}"),
        (Status::ArtifactCreated, "\u{3}02", "\u{f}"),
        (Status::TaskDefined, "", ""),
        (Status::TaskPending, "", ""),
        (Status::TaskRunning, "", ""),
    ] {
        clock.advance(Duration::from_secs(10));
        send(
            &channels,
            &Notification {
                status,
                ..to(&[], &[])
            },
            "#ci",
        )
        .await
        .unwrap();
        let text = format!(
            "{begin}{status}: build-linux64/opt failed - {LINK} - The build failed. See its log.{end}"
        );
        assert_eq!(ann.message().await, ("#ci".to_owned(), text), "{status}");
    }
}

#[tokio::test]
async fn channels_and_nicks_get_message_and_channels_are_joined_once() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci", "#builds"]).await;
    let channels = channel(server.port, &[]).await;
    for recipient in ["#builds", "#Builds", "Ann"] {
        send(&channels, &to(&[], &[]), recipient).await.unwrap();
    }
    let joined = ann.until(&[":notifier!", " JOIN "]).await;
    assert!(
        joined.ends_with("#ci"),
        "the default channel first: {joined}"
    );
    let joined = ann.until(&[":notifier!", " JOIN "]).await;
    assert!(joined.ends_with("#builds"), "{joined}");
    // From then on, only messages arrive.
    for expected in [" PRIVMSG #builds :", " PRIVMSG #Builds :", " PRIVMSG ann :"] {
        let line = ann.until(&[":notifier!"]).await;
        assert!(
            line.to_lowercase().contains(&expected.to_lowercase()),
            "{line}"
        );
    }
    irc(&channels).close().await;
    ann.until(&[":notifier!", " QUIT "]).await;
    let error = send(&channels, &to(&[], &[]), "#ci").await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn recipients_are_channels_and_nicks_or_the_default() {
    let channels = open(
        "irc",
        &[
            ("host", "h"),
            ("nick", "n"),
            ("channel", "ci"),
            ("tls", "off"),
        ],
    )
    .await
    .unwrap();
    let recipients =
        |channels_: &[&str], nicks: &[&str]| irc(&channels).recipients(&to(channels_, nicks));
    assert_eq!(recipients(&[], &[]), ["#ci"]);
    assert_eq!(
        recipients(&["builds", "#Builds", "&x"], &["ann", "Ann", "bob"]),
        ["#builds (ann, bob)", "&x (ann, bob)"]
    );
    assert_eq!(recipients(&[], &["ann"]), ["#ci (ann)"]);
    assert_eq!(recipients(&[], &["#ci"]), ["nick #ci"]);
    assert_eq!(recipients(&[], &["#ci", "ann"]), ["#ci (ann)", "nick #ci"]);
    assert_eq!(
        recipients(&["#builds", "#builds:example.org", "!x:example.org"], &[]),
        ["#builds"]
    );
    assert_eq!(recipients(&["!x:example.org"], &[]), ["#ci"]);
    assert_eq!(
        irc(&channels).address("#ci (ann)"),
        "#ci",
        "it is muted and counted as the channel"
    );
    let private = [
        ("host", "h"),
        ("nick", "n"),
        ("channel", "ci"),
        ("tls", "off"),
        ("nicks", "private"),
    ];
    let channels = open("irc", &private).await.unwrap();
    let recipients =
        |channels_: &[&str], nicks: &[&str]| irc(&channels).recipients(&to(channels_, nicks));
    assert_eq!(recipients(&["builds"], &["ann", "Ann"]), ["#builds", "ann"]);
    assert_eq!(recipients(&[], &["ann"]), ["ann"]);
}

#[tokio::test]
async fn nicks_are_addressed_in_channel_and_no_author_starts_line() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let channels = channel(server.port, &[]).await;
    let one = Notification {
        subject: "!op mallory".to_owned(),
        ..to(&[], &["ann", "bob"])
    };
    let recipients = irc(&channels).recipients(&one);
    assert_eq!(recipients, ["#ci (ann, bob)"]);
    send(&channels, &one, &recipients[0]).await.unwrap();
    let text = format!(
        "ann, bob: \u{3}04task-failed: !op mallory - {LINK} - The build failed. See its log.\u{f}"
    );
    assert_eq!(ann.message().await, ("#ci".to_owned(), text));
}

#[tokio::test]
async fn hostile_recipients_are_reported_and_get_no_line() {
    let channels = open(
        "irc",
        &[
            ("host", "h"),
            ("nick", "n"),
            ("channel", "ci"),
            ("tls", "off"),
        ],
    )
    .await
    .unwrap();
    for (named, words) in [
        (
            to(&[], &["x PRIVMSG #other :hi"]),
            "no line is sent to x PRIVMSG #other :hi: it is neither",
        ),
        (to(&[], &["a,b"]), "no line is sent to a,b:"),
        (to(&[], &["#chan"]), "no line is sent to nick #chan:"),
        (to(&["#a,#b"], &[]), "no line is sent to #a,#b:"),
        (to(&["a key"], &[]), "no line is sent to #a key:"),
    ] {
        let recipient = irc(&channels).recipients(&named).pop().unwrap();
        let error = send(&channels, &named, &recipient).await.unwrap_err();
        assert!(matches!(error, ChannelError::Refused { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = send(&channels, &to(&[], &[]), "NickServ")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("it is the nick of a service"),
        "{error}"
    );
}

#[tokio::test]
async fn hostile_texts_stay_one_line_and_are_cut_between_characters() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let channels = channel(server.port, &[]).await;
    send(
        &channels,
        &with_subject("a\r\nQUIT :bye\u{1}\u{3}12,4\u{0}\u{f}\u{202e}"),
        "#ci",
    )
    .await
    .unwrap();
    let text = format!(
        "\u{3}04task-failed: a QUIT :bye12,4 - {LINK} - The build failed. See its log.\u{f}"
    );
    assert_eq!(ann.message().await, ("#ci".to_owned(), text));
    send(&channels, &with_subject(&"✓".repeat(600)), "#ci")
        .await
        .unwrap();
    let line = ann.until(&[" PRIVMSG "]).await;
    assert!(
        line.ends_with("✓…\u{f}") && line.len() <= 510,
        "{} bytes",
        line.len()
    );
}

#[test]
fn text_of_each_kind_matches_snapshot() {
    let failed = to(&[], &[]);
    let fallback = Notification {
        subject: "build-linux64/opt: task-failed".to_owned(),
        message: format!(
            "Task build-linux64/opt (bGmvC3EFTSWLcp5Kb5E12A), run 1: task-failed\n{LINK}"
        ),
        ..failed.clone()
    };
    let artifact = Notification {
        status: Status::ArtifactCreated,
        artifact: Some("public/build/target.tar.bz2".to_owned()),
        subject: "build-linux64/opt: artifact-created".to_owned(),
        ..fallback.clone()
    };
    let line = |subject: &str| DigestLine {
        status: Status::TaskFailed,
        subject: subject.to_owned(),
        link: LINK.parse().unwrap(),
    };
    let digest = Notification {
        subject: "2 more notifications".to_owned(),
        digest: vec![line("a failed"), line("b failed")],
        ..fallback.clone()
    };
    let templates = Templates::ours().unwrap();
    let texts = [failed, fallback, artifact, digest]
        .map(|one| templates.render("irc", "irc.txt", &one).unwrap());
    insta::assert_snapshot!(texts.join("\n"));
}

#[tokio::test]
async fn digest_is_one_line() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let channels = channel(server.port, &[]).await;
    let line = |status, subject: &str| DigestLine {
        status,
        subject: subject.to_owned(),
        link: LINK.parse().unwrap(),
    };
    let mut digest = with_subject("2 more notifications");
    for (second, begin, end) in [
        (Status::TaskFailed, "\u{3}04", "\u{f}"),
        (Status::TaskCompleted, "", ""),
    ] {
        digest.digest = vec![
            line(Status::TaskFailed, "a failed"),
            line(second, "b ended"),
        ];
        send(&channels, &digest, "#ci").await.unwrap();
        assert_eq!(
            ann.message().await.1,
            format!("{begin}digest: 2 more notifications: a failed; b ended{end}")
        );
    }
}

#[tokio::test]
async fn burst_arrives_complete_in_order_within_rate_limit() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = Arc::new(channel_by(clock.clone(), server.port, &[]).await);
    let sending = {
        let (channels, long) = (channels.clone(), "x".repeat(300));
        tokio::spawn(async move {
            let all = (0..12)
                .map(|number| with_subject(&format!("{number:02} {long}")))
                .collect::<Vec<_>>();
            let mut sends: Vec<_> = all
                .iter()
                .map(|one| Box::pin(send(&channels, one, "#ci")))
                .collect();
            for sent in &mut sends {
                // All sendings begin before the first one is done.
                assert!(poll_fn(|cx| Poll::Ready(sent.as_mut().poll(cx).is_pending())).await);
            }
            for sent in sends {
                sent.await.unwrap();
            }
        })
    };
    for number in 0..12 {
        // The JOIN took a token.
        if number >= 3 {
            clock.advance(Duration::from_secs(2));
        }
        let (_, text) = ann.message().await;
        assert!(
            text.starts_with(&format!("\u{3}04task-failed: {number:02} x")),
            "{text}"
        );
    }
    sending.await.unwrap();
}
