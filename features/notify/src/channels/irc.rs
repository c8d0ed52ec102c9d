//! `irc`: a coloured line for each channel, which mentions nicks.
//!
//! The text is the status and the template `irc.txt`, on one line; its colour shows the status: green for completed, red
//! for failed, purple for an exception, blue for an artifact. What is longer than IRC's 512 bytes is cut. `channels` of a
//! section are joined before their first message, rooms of Matrix among them are ignored, and the default channel
//! receives the message when a section names none. The `nicks` of a section are at the beginning of each line (`ann, bob: …`),
//! or get lines of their own if the setting `nicks` is `private`.
//!
//! A line begins with the nicks and then a fixed word: other programs read a line that begins with `!` or with their name
//! as a command.
//!
//! # One connection
//!
//! A process has one connection, owned by an actor ([`actor`]). The actor connects with the first line and stays connected:
//! it rejoins its channels after an error, answers the server's PINGs, sends its own to detect a dead server, and reclaims
//! its nick when that becomes free. After a failure it waits for one second, then two, up to a minute. A sending meanwhile
//! fails at once with the reason, so that the bus keeps the notification, not a process that may die.
//!
//! # When a line is sent
//!
//! IRC has no acknowledgements. But a server processes a client's lines in order, and answers a PING. So the actor sends a
//! PING after each line, and the line counts as sent when the PONG arrives without a refusal before it. That also prevents
//! flooding: the next line waits until the server has processed the last one, so its buffer never holds more than one, and
//! `Excess Flood` is about that buffer. In addition, a token bucket limits the rate. A server's answer about a nick on
//! *another* server of its network may arrive after the PONG, and is then missed.
//!
//! # Races
//!
//! * *Unknown outcome.* The connection breaks between a line and its PONG. The line may have been delivered or not. The
//!   attempt counts as failed, so the bus sends it again: at worst once for each attempt of a notification. When the
//!   process dies, it is delivered twice at worst.
//! * *Cancelled too late.* Dropping a future of [`Channel::send`] closes the reply channel of its job. The
//!   actor checks that last, in the same poll in which it begins to write the line, and drops a cancelled job in the queue
//!   or waiting for a token. Only a future that is dropped while the system accepts the bytes is too late, and its line has
//!   an unknown outcome. That takes no time, since only one line is in flight; after ten seconds the actor closes the
//!   connection.
//! * *Matching refusals.* Answers do not identify the line that they refuse. Only one line is in flight, and an answer before
//!   its PONG that names its target is about it. A PONG that does not arrive in time ends the connection, so a late answer is
//!   never matched with another line.
//! * *Membership.* Only the server's messages count: JOIN, PART, and KICK of our nick. A client that is kicked while its line
//!   is in flight is refused like one that may not speak. The KICK arrives before the PONG, so the actor detects it, and the
//!   line is retried after a JOIN, whereas a real refusal would mute the channel for a day.
//! * *Taken nick.* Our previous connection may still hold it. The actor uses another one, and tries again when the other
//!   client leaves, and each minute. Names are compared with the nick in the server's messages, never with the requested one.
//! * *Shutdown.* [`Channel::close`] drops the queue's only permanent sender: the actor sends the queued lines, and QUIT. Later
//!   sendings fail with the error that the process ends.

mod actor;
mod bucket;
mod fault;
mod line;
mod login;
mod presence;
mod session;
mod target;
mod wire;

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use parking_lot::{Mutex, MutexGuard};

use async_trait::async_trait;
use runtime::Clock;
use secrecy::ExposeSecret;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};

use self::{
    actor::Job,
    fault::{Fault, Kind},
    login::Login,
    target::{Target, is_channel, is_nick, same},
    wire::{Address, Wire},
};
use super::{is_this_machine, matrix::is_room};
use crate::{
    Channel, ChannelError, Checked, Key, Notification, Opened, Parts, Registration, Settings,
    SettingsError, Templates, flag, text::one_line,
};

const NAME: &str = "irc";
const TEMPLATE: &str = "irc.txt";

/// The ports of IRC, with TLS (RFC 7194) and without.
const PORTS: [u16; 2] = [6697, 6667];
/// The capacity of the actor's queue. Further senders wait.
const QUEUE: usize = 16;
/// The time limit of a sending, with its wait in the queue. After it, the bus defers the notification.
const SEND_TIMEOUT: Duration = Duration::from_secs(50);
/// The time limit of the last lines and QUIT.
const CLOSE: Duration = Duration::from_secs(5);

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[
        Key::new("host").or_variable("IRC_HOST"),
        Key::new("port").or_variable("IRC_PORT"),
        Key::new("tls"),
        Key::new("ca_file"),
        Key::new("nick").or_variable("IRC_NICK"),
        Key::new("name").or_variable("IRC_NAME"),
        Key::new("channel").or_variable("IRC_CHAN"),
        Key::new("password").or_variable("IRC_PASS"),
        Key::new("auth"),
        Key::new("nicks"),
    ],
    templates: &[(TEMPLATE, include_str!("../../templates/irc.txt"))],
    open,
};

/// The settings of the connection.
struct Config {
    address: Address,
    /// The nick that we want, and the account for SASL.
    nick: String,
    /// The user's name: letters and digits.
    user: String,
    /// The real name, shown beside the nick.
    name: String,
    login: Login,
    /// The recipient of a section without recipients.
    channel: String,
}

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let config = Arc::new(config(settings)?);
    let is_private = match settings.optional_text("nicks").as_deref() {
        None | Some("channel") => false,
        Some("private") => true,
        Some(_) => return Err(settings.invalid("nicks", "channel or private")),
    };
    let (templates, clock) = (Arc::clone(parts.templates), Arc::clone(parts.clock));
    Ok(Box::new(Irc {
        config,
        is_private,
        templates,
        clock,
        state: Mutex::new(State::Unused),
    }))
}

fn config(settings: &Settings) -> Result<Config, SettingsError> {
    let host = settings.text("host")?;
    let nick = settings.text("nick")?;
    if !is_nick(&nick) {
        return Err(settings.invalid(
            "nick",
            "a nick: a letter, then letters, digits and - _ [ ] \\ ` ^ { | }, 32 in all",
        ));
    }
    let channel = target::channel(&settings.text("channel")?);
    if !is_channel(&channel) {
        return Err(settings.invalid("channel", "the name of one channel, such as #ci"));
    }
    let Switch(is_tls) = settings
        .optional_value("tls", "on or off")?
        .unwrap_or(Switch(true));
    let ca_file = settings.optional_text("ca_file");
    let tls = is_tls
        .then(|| wire::tls(ca_file.as_deref().map(Path::new)))
        .transpose();
    let tls = tls.map_err(|_| {
        settings.invalid(
            "ca_file",
            "a readable file with certificates to trust (PEM)",
        )
    })?;
    let port = settings
        .optional_value("port", "a port from 1 to 65535")?
        .unwrap_or(PORTS[usize::from(!is_tls)]);
    let name = one_line(
        &settings
            .optional_text("name")
            .unwrap_or_else(|| nick.clone()),
        50,
    );
    let login = login(settings, is_tls, &host)?;
    Ok(Config {
        user: user(&name),
        address: Address { host, port, tls },
        nick,
        name,
        login,
        channel,
    })
}

fn login(settings: &Settings, is_tls: bool, host: &str) -> Result<Login, SettingsError> {
    let auth = settings.optional_text("auth");
    let Some(password) = settings.optional_secret("password") else {
        // `auth` without a password is an error.
        return auth.map_or(Ok(Login::None), |_| {
            settings.secret("password").map(Login::Password)
        });
    };
    if password.expose_secret().contains(['\r', '\n', '\0']) {
        return Err(settings.invalid("password", "on one line"));
    }
    match auth.as_deref() {
        None | Some("password") => Ok(Login::Password(password)),
        Some("sasl") if is_tls || is_this_machine(host) => Ok(Login::Sasl(password)),
        Some("sasl") => {
            Err(settings.invalid("tls", "on, which sasl needs for all hosts but this one"))
        }
        Some(_) => Err(settings.invalid("auth", "password or sasl")),
    }
}

/// The user's name, derived from the real one: servers accept only some letters.
fn user(name: &str) -> String {
    let user: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(9)
        .collect();
    if user.is_empty() {
        "notify".to_owned()
    } else {
        user.to_ascii_lowercase()
    }
}

/// Each name once.
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        if !distinct.iter().any(|known| same(known, &name)) {
            distinct.push(name);
        }
    }
    distinct
}

struct Switch(bool);

impl FromStr for Switch {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        flag(text).map(Self).ok_or(())
    }
}

struct Irc {
    config: Arc<Config>,
    /// Whether nicks get lines of their own.
    is_private: bool,
    templates: Arc<Templates>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

enum State {
    Unused,
    Running(mpsc::Sender<Job>, JoinHandle<()>),
    Closed,
}

#[async_trait]
impl Channel for Irc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, notification: &Notification) -> Vec<String> {
        let (channels, nicks) = (&notification.to.channels, &notification.to.nicks);
        // A section may name rooms of Matrix too. No room is a valid channel here: names on IRC hold no colon, and channels
        // of the kind `!` are not supported.
        let mut channels = distinct(
            channels
                .iter()
                .filter(|name| !is_room(name))
                .map(|name| target::channel(name)),
        );
        let nicks = distinct(nicks.iter().map(|name| target::nick(name)));
        let (addressed, others): (Vec<_>, Vec<_>) = nicks
            .into_iter()
            .partition(|name| !self.is_private && is_nick(name));
        if channels.is_empty() && (others.is_empty() || !addressed.is_empty()) {
            channels.push(self.config.channel.clone());
        }
        let addressing = channels
            .into_iter()
            .map(|channel| target::addressing(&channel, &addressed));
        addressing.chain(others).collect()
    }

    fn address<'a>(&self, recipient: &'a str) -> &'a str {
        target::place(recipient)
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let refused = |problem| ChannelError::Refused {
            channel: NAME,
            problem,
        };
        let target = Target::parse(target::place(recipient)).map_err(|problem| {
            refused(format!(
                "no line is sent to {}: {problem}; correct it in the task",
                one_line(recipient, 100)
            ))
        })?;
        let text = self.templates.render(NAME, TEMPLATE, notification)?;
        let begin = if notification.digest.is_empty() {
            notification.status.name()
        } else {
            "digest"
        };
        let begin = (target::addressed(recipient), begin);
        let line = line::privmsg(target.name(), line::colour(notification), begin, &text)
            .ok_or_else(|| refused(format!("the template {TEMPLATE} wrote nothing")))?;
        self.send_line(target, line)
            .await
            .map_err(|fault| fault.for_recipient(recipient))
    }

    /// Logs in on a separate connection, which joins no channel.
    async fn check(&self) -> Result<Checked, ChannelError> {
        let checking = async {
            let mut wire = Wire::open(&self.config.address).await?;
            let nick = login::login(&mut wire, &self.config).await?;
            let found = format!(
                "{} accepts our login, with the nick {}",
                wire.server(),
                one_line(&nick, 32)
            );
            // Without QUIT, the server notices the end of the connection.
            let _ = timeout(CLOSE, wire.close()).await;
            Ok(found)
        };
        let checked = timeout(SEND_TIMEOUT, checking).await.unwrap_or_else(|_| {
            let problem = format!(
                "the server did not complete the login within {} s",
                SEND_TIMEOUT.as_secs()
            );
            Err(Fault::new(Kind::Unreachable, problem))
        });
        // Nothing was sent, so there is no recipient.
        let found = checked.map_err(|fault| fault.for_recipient("nobody"))?;
        let by_hand = format!(
            "whether we may join {} and speak there: a trial would be seen there",
            self.config.channel
        );
        Ok(Checked {
            found: Some(found),
            by_hand: Some(by_hand),
        })
    }

    async fn close(&self) {
        let state = std::mem::replace(&mut *self.state(), State::Closed);
        if let State::Running(jobs, mut actor) = state {
            drop(jobs);
            if timeout(CLOSE, &mut actor).await.is_err() {
                actor.abort();
            }
        }
    }
}

impl Irc {
    async fn send_line(&self, target: Target, line: String) -> Result<(), Fault> {
        let jobs = self.jobs()?;
        let (reply, answer) = oneshot::channel();
        let sending = async {
            jobs.send(Job {
                target,
                line,
                reply,
            })
            .await
            .map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        timeout(SEND_TIMEOUT, sending).await.unwrap_or_else(|_| {
            let problem = format!(
                "lines before this one took more than {} s",
                SEND_TIMEOUT.as_secs()
            );
            Err(Fault::new(Kind::Busy, problem))
        })
    }

    /// A sender to the actor, which the first call starts.
    fn jobs(&self) -> Result<mpsc::Sender<Job>, Fault> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Closed) {
            State::Unused => {
                let (jobs, waiting) = mpsc::channel(QUEUE);
                let actor = tokio::spawn(actor::run(
                    Arc::clone(&self.config),
                    Arc::clone(&self.clock),
                    waiting,
                ));
                *state = State::Running(jobs.clone(), actor);
                Ok(jobs)
            }
            State::Running(jobs, actor) => {
                *state = State::Running(jobs.clone(), actor);
                Ok(jobs)
            }
            State::Closed => Err(ended()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

fn ended() -> Fault {
    Fault::new(
        Kind::Unreachable,
        "the connection is closed, since this process ends",
    )
}
