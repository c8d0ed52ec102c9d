//! One registered connection: it reacts to the server's messages, joins channels, and sends lines.

use std::{
    future::pending,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use runtime::Clock;
use tokio::select;
use tracing::{debug, info, warn};

use super::{
    Config, NAME,
    fault::{Fault, Kind},
    line::Line,
    login::login,
    presence::Presence,
    target::{Target, same},
    wire::Wire,
};

/// The time limit of registration: some servers query our host (ident), and wait for the answer.
const LOGIN: Duration = Duration::from_secs(25);
/// The time limit of a PONG. The server processes lines in order, so earlier lines and throttling by the server count too.
const ANSWER: Duration = Duration::from_secs(20);
/// The outcome of a line.
pub(super) enum LineOutcome {
    /// The server has accepted it.
    Sent,
    /// Its sending was cancelled before the line was written.
    Cancelled,
    /// The server refused it.
    Refused(Fault),
    /// The connection broke before the PONG, and is unusable.
    Unknown(Fault),
}

/// A registered connection. After an `Err` of any method, or [`LineOutcome::Unknown`], it is unusable.
pub(super) struct Session<'a> {
    config: &'a Config,
    clock: Arc<dyn Clock>,
    presence: &'a mut Presence,
    wire: Wire,
    /// Our nick in the server's messages.
    nick: String,
    /// The channels that we are in, according to the server.
    joined: Vec<String>,
    pings: u64,
    /// Whether the server accepted more than the registration.
    pub(super) has_served: bool,
}

impl<'a> Session<'a> {
    /// Connects, and joins the channels that we were in before, and the default one.
    pub(super) async fn open(
        config: &'a Config,
        clock: Arc<dyn Clock>,
        presence: &'a mut Presence,
    ) -> Result<Self, Fault> {
        let mut wire = Wire::open(&config.address).await?;
        let nick = within(
            &clock,
            LOGIN,
            "complete the login",
            login(&mut wire, config),
        )
        .await?;
        let server = wire.server().to_owned();
        let joined = Vec::new();
        let mut session = Self {
            config,
            clock,
            presence,
            wire,
            nick,
            joined,
            pings: 0,
            has_served: false,
        };
        session.rejoin().await?;
        let (nick, channels) = (&session.nick, session.joined.join(" "));
        info!(channel = NAME, server, nick, channels, "connected");
        if !same(nick, &config.nick) {
            warn!(
                channel = NAME,
                server,
                nick,
                wanted = config.nick,
                "the nick is in use; using another one until it is free"
            );
        }
        Ok(session)
    }

    /// The next line of the server, for [`Session::handle`]. Cancel-safe.
    pub(super) async fn line(&mut self) -> Result<Line, Fault> {
        self.wire.line().await
    }

    /// Checks that the server responds, and whether our nick is free.
    pub(super) async fn check(&mut self) -> Result<(), Fault> {
        if !same(&self.nick, &self.config.nick) {
            self.reclaim_nick().await?;
        }
        self.finish("", |_| {}).await?;
        self.has_served = true;
        Ok(())
    }

    /// Sends `line` to `target`, unless `cancelled` resolves before that.
    pub(super) async fn send(
        &mut self,
        target: &Target,
        line: &str,
        cancelled: impl Future<Output = ()>,
    ) -> Result<LineOutcome, Fault> {
        let mut cancelled = pin!(cancelled);
        let channel = match target {
            Target::Channel(channel) => Some(channel.as_str()),
            Target::Nick(_) => None,
        };
        if let Some(channel) = channel.filter(|channel| !self.is_in(channel)) {
            if !self.wait_for_token(&mut cancelled).await? {
                return Ok(LineOutcome::Cancelled);
            }
            if let Some(fault) = self.join(channel).await? {
                return Ok(LineOutcome::Refused(fault));
            }
        }
        if !self.wait_for_token(&mut cancelled).await? {
            return Ok(LineOutcome::Cancelled);
        }
        let was_in = channel.is_some_and(|channel| self.is_in(channel));
        let refusal = match self.request(line, target.name()).await {
            Ok(refusal) => refusal,
            Err(fault) => return Ok(LineOutcome::Unknown(fault)),
        };
        self.has_served = true;
        let Some(fault) = refusal else {
            channel
                .into_iter()
                .for_each(|channel| self.presence.mark_used(channel));
            return Ok(LineOutcome::Sent);
        };
        if was_in && channel.is_some_and(|channel| !self.is_in(channel)) {
            let problem = format!("we were kicked from {target}; the next attempt joins it again");
            return Ok(LineOutcome::Refused(Fault::new(Kind::Failed, problem)));
        }
        Ok(LineOutcome::Refused(fault))
    }

    /// Sends QUIT.
    pub(super) async fn close(self) {
        self.wire.close().await;
    }

    /// Waits for a token; false when `cancelled` resolves first.
    async fn wait_for_token(
        &mut self,
        cancelled: &mut Pin<&mut impl Future<Output = ()>>,
    ) -> Result<bool, Fault> {
        let clock = Arc::clone(&self.clock);
        let mut pause = clock.sleep(self.presence.bucket.wait(clock.now()));
        loop {
            select! {
                // In this order: the last check before a line is sent is whether it was cancelled.
                biased;
                () = &mut *cancelled => return Ok(false),
                () = &mut pause => break,
                line = self.line() => self.handle(&line?).await?,
            }
        }
        self.presence.bucket.take(clock.now());
        Ok(true)
    }

    /// Sends `lines` about `target`, waits until the server has processed them, and returns its refusal.
    async fn request(&mut self, lines: &str, target: &str) -> Result<Option<Fault>, Fault> {
        let mut fault = None;
        self.finish(lines, |line| {
            fault = fault.take().or_else(|| Fault::of_answer(line, target))
        })
        .await?;
        Ok(fault)
    }

    /// The same, with a callback for each line until then.
    async fn finish(
        &mut self,
        lines: &str,
        mut on_line: impl FnMut(&Line) + Send,
    ) -> Result<(), Fault> {
        self.pings += 1;
        let token = format!("n{}", self.pings);
        let clock = Arc::clone(&self.clock);
        let finishing = async {
            self.wire.write(&format!("{lines}PING {token}\r\n")).await?;
            loop {
                let line = self.wire.line().await?;
                if line.command == "PONG" && line.params.last() == Some(&token) {
                    return Ok(());
                }
                on_line(&line);
                self.handle(&line).await?;
            }
        };
        within(&clock, ANSWER, "respond", finishing).await
    }

    /// Joins the channels of earlier connections, and logs those that refuse us.
    async fn rejoin(&mut self) -> Result<(), Fault> {
        for list in self.presence.lists() {
            self.wait_for_token(&mut pin!(pending())).await?;
            let mut refused = Vec::new();
            let each = |line: &Line| {
                refused.extend(
                    list.split(',')
                        .find_map(|channel| Some((channel, Fault::of_answer(line, channel)?))),
                );
            };
            self.finish(&format!("JOIN {list}\r\n"), each).await?;
            for (refusing, Fault { problem, .. }) in refused {
                warn!(channel = NAME, refusing, problem, "cannot join a channel");
                self.presence.forget(refusing);
            }
        }
        Ok(())
    }

    async fn join(&mut self, channel: &str) -> Result<Option<Fault>, Fault> {
        let leaving = self
            .presence
            .make_room()
            .map(|left| format!("PART {left}\r\n"))
            .unwrap_or_default();
        let fault = self
            .request(&format!("{leaving}JOIN {channel}\r\n"), channel)
            .await?;
        if fault.is_none() {
            self.presence.mark_used(channel);
        }
        Ok(fault)
    }

    fn is_in(&self, channel: &str) -> bool {
        self.joined.iter().any(|joined| same(joined, channel))
    }

    fn left(&mut self, channel: &str) {
        self.joined.retain(|joined| !same(joined, channel));
        self.presence.forget(channel);
    }

    /// Reacts to an unsolicited line.
    pub(super) async fn handle(&mut self, line: &Line) -> Result<(), Fault> {
        let (is_us, first) = (same(&line.from, &self.nick), line.param(0));
        match line.command.as_str() {
            "PING" => self.wire.write(&format!("PONG :{first}\r\n")).await?,
            "ERROR" => return Err(Fault::of_error(line)),
            "NICK" if is_us => first.clone_into(&mut self.nick),
            "NICK" | "QUIT" if !is_us && same(&line.from, &self.config.nick) => {
                self.reclaim_nick().await?
            }
            "JOIN" if is_us && !self.is_in(first) => self.joined.push(first.to_owned()),
            "PART" if is_us => self.left(first),
            "405" => self.presence.limit_to_current(),
            "442" => self.left(line.param(1)),
            "KICK" if same(line.param(1), &self.nick) => {
                warn!(
                    channel = NAME,
                    kicked_from = first,
                    words = line.words(),
                    "kicked from a channel; joining it again with the next notification"
                );
                self.left(first);
            }
            _ => {}
        }
        Ok(())
    }

    async fn reclaim_nick(&mut self) -> Result<(), Fault> {
        debug!(
            channel = NAME,
            wanted = self.config.nick,
            "reclaiming the nick"
        );
        self.wire
            .write(&format!("NICK {}\r\n", self.config.nick))
            .await
    }
}

/// The result of `doing`, or a fault after `at_most`. `what` completes "the server did not …".
async fn within<T>(
    clock: &Arc<dyn Clock>,
    at_most: Duration,
    what: &str,
    doing: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    select! {
        biased;
        done = doing => done,
        () = clock.sleep(at_most) => {
            let problem = format!("the server did not {what} within {} s", at_most.as_secs());
            Err(Fault::new(Kind::Unreachable, problem))
        }
    }
}
