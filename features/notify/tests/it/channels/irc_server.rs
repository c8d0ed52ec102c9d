//! IRC against a server that the test plays: for SASL, which `ngircd` does not support, and to check each of our lines.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bus::{Retry, Retryable};
use notify::{ChannelError, Channels, Recipients};
use runtime::{Clock, ManualClock, SystemClock};
use tokio::net::TcpListener;

use super::{
    irc::{irc, send, to},
    open_at, open_with,
};
use crate::{
    peers::irc_client::{Lines, accept, listener},
    world::NOW,
};

async fn channel(clock: Arc<dyn Clock>, port: &str, more: &[(&str, &str)]) -> Arc<Channels> {
    let mut file = vec![
        ("host", "127.0.0.1"),
        ("port", port),
        ("nick", "notifier"),
        ("channel", "#ci"),
        ("tls", "off"),
    ];
    file.extend(more);
    Arc::new(open_at(clock, "irc", &file, &|_| None, None).await.unwrap())
}

fn sending(channels: &Arc<Channels>) -> tokio::task::JoinHandle<Result<(), ChannelError>> {
    let channels = channels.clone();
    tokio::spawn(async move { send(&channels, &to(&[], &[]), "ann").await })
}

/// Completes the registration of a client, and responds until it has joined its channel.
async fn welcome(client: &mut Lines) {
    client.send_line(":s 001 notifier :Welcome").await;
    assert_eq!(client.line().await.unwrap(), "JOIN #ci");
    client.send_line(":notifier!n@host JOIN #ci").await;
    pong(client).await;
}

async fn pong(client: &mut Lines) {
    let ping = client.line().await.unwrap();
    client
        .send_line(&format!(
            ":s PONG s :{}",
            ping.strip_prefix("PING ").unwrap()
        ))
        .await;
}

async fn connected(listener: &TcpListener) -> Lines {
    let mut client = accept(listener).await;
    assert_eq!(client.line().await.unwrap(), "NICK notifier");
    assert_eq!(client.line().await.unwrap(), "USER notifier 0 * :notifier");
    welcome(&mut client).await;
    client
}

#[tokio::test]
async fn sasl_authenticates_before_other_commands() {
    let (listener, port) = listener().await;
    let sasl = [
        ("auth", "sasl"),
        ("password", "opensesame"),
        ("name", "Release Notifier"),
    ];
    let channels = channel(Arc::new(SystemClock), &port, &sasl).await;
    let sent = sending(&channels);
    let mut client = accept(&listener).await;
    for expected in [
        "CAP REQ :sasl",
        "NICK notifier",
        "USER releaseno 0 * :Release Notifier",
    ] {
        assert_eq!(client.line().await.unwrap(), expected);
    }
    client.send_line(":s CAP * ACK :sasl").await;
    assert_eq!(client.line().await.unwrap(), "AUTHENTICATE PLAIN");
    client.send_line("AUTHENTICATE +").await;
    let plain = BASE64_STANDARD.encode("notifier\0notifier\0opensesame");
    assert_eq!(
        client.line().await.unwrap(),
        format!("AUTHENTICATE {plain}")
    );
    client
        .send_line(":s 903 * :SASL authentication successful")
        .await;
    assert_eq!(client.line().await.unwrap(), "CAP END");
    welcome(&mut client).await;
    client.until(&["PRIVMSG ann :"]).await;
    pong(&mut client).await;
    sent.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_sasl_nothing_is_sent() {
    for (answer, words) in [
        (
            ":s CAP * NAK :sasl",
            "does not offer sasl: set notify.irc.auth to password",
        ),
        (":s 421 * CAP :Unknown command", "does not offer sasl"),
        (":s 001 notifier :Welcome", "does not offer sasl"),
        (
            ":s 904 * :SASL authentication failed",
            "answered 904 (SASL authentication failed): set notify.irc.nick",
        ),
        (":s 465 * :You are banned", "answered 465 (You are banned)"),
    ] {
        let (listener, port) = listener().await;
        let sasl = [("auth", "sasl"), ("password", "hunter2")];
        let channels = channel(Arc::new(SystemClock), &port, &sasl).await;
        let sent = sending(&channels);
        let mut client = accept(&listener).await;
        client.until(&["USER "]).await;
        client.send_line(answer).await;
        let error = sent.await.unwrap().unwrap_err();
        assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn throttling_server_defers_message() {
    let (listener, port) = listener().await;
    let channels = channel(Arc::new(SystemClock), &port, &[]).await;
    let sent = sending(&channels);
    accept(&listener)
        .await
        .send_line("ERROR :Trying to reconnect too fast")
        .await;
    let error = sent.await.unwrap().unwrap_err();
    assert!(matches!(error, ChannelError::Busy { .. }), "{error}");
    assert!(matches!(error.retry(), Retry::Defer(_)));
}

#[tokio::test]
async fn cancelled_line_is_not_sent() {
    let (listener, port) = listener().await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = channel(clock.clone(), &port, &[]).await;
    let mut sent = sending(&channels);
    let mut client = connected(&listener).await;
    for _ in 0..3 {
        client.until(&["PRIVMSG ann :"]).await;
        pong(&mut client).await;
        sent.await.unwrap().unwrap();
        sent = sending(&channels);
    }
    // The sending waits for a token, since the clock stands still: the client responds to a PING, and sends no message.
    let one = to(&[], &[]);
    let mut begun = Box::pin(send(&channels, &one, "bob"));
    assert!(poll_fn(|cx| Poll::Ready(begun.as_mut().poll(cx).is_pending())).await);
    client.send_line("PING :are you there").await;
    assert_eq!(client.line().await.unwrap(), "PONG :are you there");
    drop(begun);
    clock.advance(Duration::from_secs(2));
    let next = client.line().await.unwrap();
    assert!(
        next.starts_with("PRIVMSG ann :"),
        "nobody waits for the line to bob: {next}"
    );
    pong(&mut client).await;
    sent.await.unwrap().unwrap();
    clock.advance(Duration::from_secs(10));
    let last = sending(&channels);
    let next = client.line().await.unwrap();
    assert!(
        next.starts_with("PRIVMSG ann :"),
        "nobody waited for the line to bob: {next}"
    );
    pong(&mut client).await;
    last.await.unwrap().unwrap();
}

#[tokio::test]
async fn silent_loss_of_server_is_detected() {
    let (listener, port) = listener().await;
    let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = channel(clock.clone(), &port, &[]).await;
    let sent = sending(&channels);
    let mut client = connected(&listener).await;
    client.until(&["PRIVMSG ann :"]).await;
    pong(&mut client).await;
    sent.await.unwrap().unwrap();
    let pinged = passing(&clock, 61, client.line()).await.unwrap();
    assert!(pinged.starts_with("PING "), "{pinged}");
    assert_eq!(
        passing(&clock, 21, client.line()).await,
        None,
        "it closes the connection"
    );
    // It reconnects.
    passing(&clock, 2, connected(&listener)).await;
}

#[tokio::test]
async fn connection_lost_before_answer_counts_an_attempt() {
    let (listener, port) = listener().await;
    let channels = channel(Arc::new(SystemClock), &port, &[]).await;
    let sent = sending(&channels);
    let mut client = connected(&listener).await;
    client.until(&["PRIVMSG ann :"]).await;
    drop(client);
    let error = sent.await.unwrap().unwrap_err();
    assert_eq!(
        error.retry(),
        Retry::Backoff,
        "a server that always does so is not told it all day: {error}"
    );
    assert!(
        error
            .to_string()
            .ends_with("the line may have been delivered"),
        "{error}"
    );
}

#[tokio::test]
async fn kicked_during_send_is_retried() {
    let (listener, port) = listener().await;
    let channels = channel(Arc::new(SystemClock), &port, &[]).await;
    let telling = |channels: &Arc<Channels>| {
        let channels = channels.clone();
        tokio::spawn(async move { send(&channels, &to(&[], &[]), "#ci").await })
    };
    let sent = telling(&channels);
    let mut client = connected(&listener).await;
    client.until(&["PRIVMSG #ci :"]).await;
    client
        .send_line(
            ":ann!a@host KICK #ci notifier :enough\r\n:s 404 notifier #ci :Cannot send to channel",
        )
        .await;
    pong(&mut client).await;
    let error = sent.await.unwrap().unwrap_err();
    assert!(matches!(error, ChannelError::Failed { .. }), "{error}");
    let sent = telling(&channels);
    assert_eq!(client.line().await.unwrap(), "JOIN #ci");
    client.send_line(":notifier!n@host JOIN #ci").await;
    pong(&mut client).await;
    client.until(&["PRIVMSG #ci :"]).await;
    pong(&mut client).await;
    sent.await.unwrap().unwrap();
}

/// Advances the clock until the future is ready.
async fn passing<T>(clock: &ManualClock, seconds: u64, awaited: impl Future<Output = T>) -> T {
    let mut awaited = std::pin::pin!(awaited);
    loop {
        tokio::select! {
            biased;
            came = &mut awaited => return came,
            () = SystemClock.sleep(Duration::from_millis(50)) => clock.advance(Duration::from_secs(seconds)),
        }
    }
}

#[tokio::test]
async fn invalid_settings_are_named() {
    let good = [
        ("host", "irc.example.net"),
        ("nick", "notifier"),
        ("channel", "#ci"),
    ];
    for (key, value, expected) in [
        (
            "nick",
            "two words",
            "notify.irc.nick (or IRC_NICK in the environment) is not a nick",
        ),
        (
            "channel",
            "#a,#b",
            "notify.irc.channel (or IRC_CHAN in the environment) is not the name of one channel",
        ),
        (
            "port",
            "0x",
            "notify.irc.port (or IRC_PORT in the environment) is not a port",
        ),
        ("tls", "maybe", "notify.irc.tls is not on or off"),
        (
            "ca_file",
            "/nonexistent",
            "notify.irc.ca_file is not a readable file",
        ),
        (
            "nicks",
            "both",
            "notify.irc.nicks is not channel or private",
        ),
        (
            "auth",
            "sasl",
            "set notify.irc.password (or IRC_PASS in the environment)",
        ),
        (
            "password",
            "a\r\nQUIT",
            "notify.irc.password (or IRC_PASS in the environment) is not on one line",
        ),
    ] {
        let file: Vec<_> = good
            .into_iter()
            .filter(|(name, _)| *name != key)
            .chain([(key, value)])
            .collect();
        let error = open_with("irc", &file, &|_| None, None)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
    let clear = [("auth", "sasl"), ("password", "x"), ("tls", "off")];
    let file: Vec<_> = good.into_iter().chain(clear).collect();
    let error = open_with("irc", &file, &|_| None, None)
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("notify.irc.tls is not on, which sasl needs"),
        "{error}"
    );
}

#[tokio::test]
async fn environment_alone_configures_channel() {
    let environment = |name: &str| {
        let value = match name {
            "IRC_HOST" => "irc.example.net",
            "IRC_NICK" | "IRC_NAME" => "notifier",
            "IRC_PORT" => "6697",
            "IRC_CHAN" => "#ci",
            "IRC_PASS" => "opensesame",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let channels = open_with("irc", &[], &environment, None).await.unwrap();
    let nobody = super::notification("irc", Recipients::default());
    assert_eq!(irc(&channels).recipients(&nobody), ["#ci"]);
}
