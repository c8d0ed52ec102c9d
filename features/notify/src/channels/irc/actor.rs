//! The actor that owns the connection: it connects, reconnects, and sends the lines of all sendings.

use std::{sync::Arc, time::Duration};

use runtime::Clock;
use tokio::{
    select,
    sync::{mpsc, oneshot},
};
use tracing::{debug, warn};

use super::{
    Config, NAME,
    fault::Fault,
    presence::Presence,
    session::{LineOutcome, Session},
    target::Target,
};

/// The pause before the first reconnection. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The interval of PINGs on an idle connection.
const CHECK: Duration = Duration::from_secs(60);

/// A line to send.
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) line: String,
    /// Closed when the sending is cancelled: then the line is not sent.
    pub(super) reply: oneshot::Sender<Result<(), Fault>>,
}

impl Job {
    fn answer(self, answer: Result<(), Fault>) {
        // The sending may be cancelled.
        let _ = self.reply.send(answer);
    }
}

/// Keeps a connection from the first job on, until all senders are dropped.
pub(super) async fn run(config: Arc<Config>, clock: Arc<dyn Clock>, mut jobs: mpsc::Receiver<Job>) {
    let mut presence = Presence::new(&config.channel);
    let Some(first) = jobs.recv().await else {
        return;
    };
    let mut waiting = Some(first);
    let mut pause = FIRST_PAUSE;
    let mut is_outage = false;
    loop {
        let (fault, has_served) = match Session::open(&config, Arc::clone(&clock), &mut presence)
            .await
        {
            Err(fault) => (fault, false),
            Ok(mut session) => match serve(&mut session, &mut jobs, waiting.take(), &clock).await {
                Err(fault) => (fault, session.has_served),
                Ok(()) => return session.close().await,
            },
        };
        if has_served {
            (pause, is_outage) = (FIRST_PAUSE, false);
        }
        let Fault { kind, problem } = &fault;
        if is_outage {
            debug!(
                channel = NAME,
                ?kind,
                problem,
                "still not connected; retrying"
            );
        } else {
            warn!(channel = NAME, ?kind, problem, "cannot connect; retrying");
        }
        is_outage = true;
        if let Some(job) = waiting.take() {
            job.answer(Err(fault.clone()));
        }
        if !wait(&mut jobs, &fault, jittered(pause, &*clock), &clock).await {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Sends the lines of jobs, `first` and then one after the other. `Ok` when all senders are dropped.
async fn serve(
    session: &mut Session<'_>,
    jobs: &mut mpsc::Receiver<Job>,
    first: Option<Job>,
    clock: &Arc<dyn Clock>,
) -> Result<(), Fault> {
    let mut next = first;
    loop {
        if let Some(job) = next.take() {
            send(session, job).await?;
        }
        let mut check = clock.sleep(CHECK);
        next = loop {
            select! {
                biased;
                line = session.line() => session.handle(&line?).await?,
                job = jobs.recv() => match job {
                    None => return Ok(()),
                    job => break job,
                },
                () = &mut check => {
                    session.check().await?;
                    break None;
                }
            }
        };
    }
}

/// Sends one line. When the connection breaks meanwhile, the job receives the reason.
async fn send(session: &mut Session<'_>, job: Job) -> Result<(), Fault> {
    let Job {
        target,
        line,
        mut reply,
    } = job;
    let answer = match session.send(&target, &line, reply.closed()).await {
        Ok(LineOutcome::Cancelled) => return Ok(()),
        Ok(LineOutcome::Sent) => Ok(()),
        Ok(LineOutcome::Refused(fault)) => Err(fault),
        Ok(LineOutcome::Unknown(fault)) => {
            let _ = reply.send(Err(fault.clone().with_unknown_outcome()));
            return Err(fault);
        }
        Err(fault) => {
            let _ = reply.send(Err(fault.clone()));
            return Err(fault);
        }
    };
    let _ = reply.send(answer);
    Ok(())
}

/// Waits before the next attempt, and fails jobs meanwhile with the reason. False when all senders are dropped.
async fn wait(
    jobs: &mut mpsc::Receiver<Job>,
    fault: &Fault,
    pause: Duration,
    clock: &Arc<dyn Clock>,
) -> bool {
    let mut over = clock.sleep(pause);
    loop {
        select! {
            biased;
            () = &mut over => return true,
            job = jobs.recv() => match job {
                Some(job) => job.answer(Err(fault.clone())),
                None => return false,
            }
        }
    }
}

/// Up to a quarter longer, so that the clients of one outage do not all reconnect at once.
fn jittered(pause: Duration, clock: &dyn Clock) -> Duration {
    let quarter = u64::try_from(pause.as_millis() / 4)
        .unwrap_or_default()
        .max(1);
    pause + Duration::from_millis(clock.random() % quarter)
}
