//! `irc`: a coloured line for each channel, in which nicks are addressed.
//!
//! The text is the status and the template `irc.txt`, on one line; its colour tells the status: green for completed, red
//! for failed, purple for an exception, blue for an artifact. What is longer than IRC's 512 bytes is cut. `channels` of a
//! section are joined before their first message, rooms of Matrix among them are left alone, and the default channel
//! gets the message when a section names none. The `nicks` of a section stand at the begin of each line (`ann, bob: …`), or get
//! lines of their own where `nicks` is set to `private`.
//!
//! A line begins with a word of ours, behind the nicks: other programs take what begins with `!` or with their name for a
//! command.
//!
//! # One connection
//!
//! All that a process sends goes over one connection, which an actor has ([`actor`]). It is made with the first line, and
//! kept: it joins its channels again after it broke, answers the server's PINGs, sends some of its own to notice a server
//! that is gone without a word, and takes its nick back from whoever has it, when that one leaves. After a failure it
//! waits for one second, then two, up to a minute; a sending meanwhile fails at once with the reason, so that the
//! bus keeps the notification, not a process that may die.
//!
//! # When a line is sent
//!
//! IRC acknowledges nothing. But a server works on what a client sends in order, and answers a PING: so each line is
//! followed by one, and is taken when the PONG has come without a refusal before it. That also keeps us from flooding: the
//! next line waits for the server to have worked on the last one, so no more than one is ever in its buffers, and `Excess
//! Flood` is about those. A bucket of tokens besides keeps to the pace that servers count with. What a server says of a
//! nick on *another* server of its network may come after the PONG, and is then missed.
//!
//! # The races
//!
//! * *Sent, and nobody knows.* The connection breaks between a line and its PONG. It may have been read by people or not:
//!   we say that this try failed, so the bus sends it again, and at worst it is read once for each of the attempts that a
//!   notification has. When the process dies, it is read twice at worst.
//! * *Given up, and sent all the same.* A future of [`Channel::send`] that is dropped closes the way back of its job. The
//!   actor checks that last, in the same poll in which it begins to write the line: a job that nobody waits for by then
//!   is thrown away, be it in the queue or waiting for a token. Only a future that is dropped while the bytes go to the
//!   system is too late, and its line is as one of the first race. They go at once, since no more than a line is ever on
//!   its way; where they do not within ten seconds, the connection is given up.
//! * *Whose refusal?* Answers bear no mark of what they are about. Only one thing is asked at a time, and whatever comes
//!   before its PONG and names its target is about it. A PONG that does not come in time breaks the connection, so no late
//!   answer is ever taken for that of another line.
//! * *In a channel, or not?* The server's word counts: JOIN, PART, and KICK of our nick. One who is put out of a channel
//!   while a line for it is on its way is refused as one who may not speak there. The KICK comes before the PONG, so that
//!   is seen, and the line tried again after joining, where a real refusal would mute the channel for a day.
//! * *Taken nick.* Our own ghost may hold it after a connection broke. We go by another one, and try again when the ghost
//!   leaves and each minute. Names are compared with what the server last called us, never with what we asked for.
//! * *Closing.* [`Channel::close`] takes the queue's only lasting end: the actor says what is still in it, and QUIT. What
//!   is sent after that fails with the error that the process ends.

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
/// The most lines that wait in the actor's queue. More wait before it.
const QUEUE: usize = 16;
/// How long a line may wait and be sent. What takes longer is given back to the bus.
const PATIENCE: Duration = Duration::from_secs(50);
/// How long the last lines and the leave-taking may take.
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

/// What the connection is made of.
struct Config {
    address: Address,
    /// The nick that we want, and the account for SASL.
    nick: String,
    /// The user's name: letters and digits.
    user: String,
    /// What stands beside the nick for people to read.
    name: String,
    login: Login,
    /// The recipient when nobody else is named.
    channel: String,
}

fn open(settings: &Settings, parts: &Parts<'_>) -> Opened {
    let config = Arc::new(config(settings)?);
    let is_private = match settings.optional_text("nicks").as_deref() {
        None | Some("channel") => false,
        Some("private") => true,
        Some(_) => return Err(settings.unfit("nicks", "channel or private")),
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
        return Err(settings.unfit(
            "nick",
            "a nick: a letter, then letters, digits and - _ [ ] \\ ` ^ { | }, 32 in all",
        ));
    }
    let channel = target::channel(&settings.text("channel")?);
    if !is_channel(&channel) {
        return Err(settings.unfit("channel", "the name of one channel, such as #ci"));
    }
    let Switch(is_tls) = settings
        .optional_value("tls", "on or off")?
        .unwrap_or(Switch(true));
    let ca_file = settings.optional_text("ca_file");
    let tls = is_tls
        .then(|| wire::tls(ca_file.as_deref().map(Path::new)))
        .transpose();
    let tls = tls.map_err(|_| {
        settings.unfit(
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
        // What is set to prove who we are needs something to prove it with.
        return auth.map_or(Ok(Login::None), |_| {
            settings.secret("password").map(Login::Password)
        });
    };
    if password.expose_secret().contains(['\r', '\n', '\0']) {
        return Err(settings.unfit("password", "on one line"));
    }
    match auth.as_deref() {
        None | Some("password") => Ok(Login::Password(password)),
        Some("sasl") if is_tls || is_this_machine(host) => Ok(Login::Sasl(password)),
        Some("sasl") => {
            Err(settings.unfit("tls", "on, which sasl needs for all hosts but this one"))
        }
        Some(_) => Err(settings.unfit("auth", "password or sasl")),
    }
}

/// The user's name, made of the real one: servers take no more than some letters.
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
        // Of a section that is for Matrix too. None of those rooms can be a channel: of IRC's names none holds a colon, and
        // the kind `!` is not spoken here.
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

    fn place<'a>(&self, recipient: &'a str) -> &'a str {
        target::place(recipient)
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let refused = |problem| ChannelError::Refused {
            channel: NAME,
            problem,
        };
        let target = Target::parse(target::place(recipient)).map_err(|problem| {
            refused(format!(
                "{} gets no line: {problem}, correct it in the task",
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
        self.say(target, line)
            .await
            .map_err(|fault| fault.for_recipient(recipient))
    }

    /// On a connection of its own, which joins nothing.
    async fn check(&self) -> Result<Checked, ChannelError> {
        let checking = async {
            let mut wire = Wire::open(&self.config.address).await?;
            let nick = login::login(&mut wire, &self.config).await?;
            let found = format!(
                "{} accepts our login, with the nick {}",
                wire.server(),
                one_line(&nick, 32)
            );
            // A server that does not receive QUIT notices that the connection ends.
            let _ = timeout(CLOSE, wire.close()).await;
            Ok(found)
        };
        let checked = timeout(PATIENCE, checking).await.unwrap_or_else(|_| {
            let problem = format!(
                "the server did not let us in within {} s",
                PATIENCE.as_secs()
            );
            Err(Fault::new(Kind::Unreachable, problem))
        });
        // Nothing was sent, so there is no recipient.
        let found = checked.map_err(|fault| fault.for_recipient("nobody"))?;
        let by_hand = format!(
            "whether we may join {} and speak there, which people there would see",
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
    async fn say(&self, target: Target, line: String) -> Result<(), Fault> {
        let jobs = self.jobs()?;
        let (reply, answer) = oneshot::channel();
        let asking = async {
            jobs.send(Job {
                target,
                line,
                reply,
            })
            .await
            .map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| {
            let problem = format!(
                "a line could not be sent within {} s of waiting for others",
                PATIENCE.as_secs()
            );
            Err(Fault::new(Kind::Busy, problem))
        })
    }

    /// The way to the actor, which begins to work with the first of these.
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
