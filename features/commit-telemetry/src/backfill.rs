//! Pings of pushes that were missed: a part of a repository's pushlog is read, and worked off.
//!
//! # Where to go on
//!
//! Changesets are begun in the order of the pushlog, and done in any. What can be gone on from is a [`Place`]: everything
//! before it is done. It moves when the first changeset that was not done is. After a stop that let everything end which
//! was begun, everything that was begun is before it. After a death, what was done behind it is done again; its pings
//! have the same ids, so the ingestion drops them.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use runtime::{Clock, Shutdown};
use serde::{Deserialize, Serialize};

use crate::{NotDone, Patience, Pushlog, Repository, Telemetry, TelemetryError, names::Node};

/// How many pushes are asked for at once.
const STEP: u64 = 100;
/// How many answers about pushes are on their way, or wait to be worked off.
const STEPS_AHEAD: usize = 2;

/// A place in a pushlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Every push up to this one is before it.
    pub push: u64,
    /// And this number of changesets of the next push.
    pub changesets: usize,
}

/// What a backfill is to do.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// What is done already.
    pub from: Place,
    /// The last push.
    pub end: u64,
    /// How many changesets are worked on at once.
    pub at_once: usize,
}

/// A changeset of which nothing more is to be expected.
#[derive(Debug)]
pub struct Ended {
    /// The number of its push.
    pub push: u64,
    /// The changeset.
    pub node: Node,
    /// Whether it is the last one of its push.
    pub last: bool,
    /// Why its ping is not sent, if it is not.
    pub failure: Option<TelemetryError>,
    /// From where to go on after all that ended so far.
    pub place: Place,
}

/// A changeset that is to be worked on, and the place behind it.
struct Step {
    number: usize,
    push: u64,
    node: Node,
    behind: Place,
}

/// Sends the pings of a part of a pushlog.
pub struct Backfill<'a> {
    telemetry: &'a Telemetry,
    repository: &'a Repository,
    patience: Patience<'a>,
    shutdown: &'a Shutdown,
}

impl<'a> Backfill<'a> {
    /// Sends by `telemetry` for pushes to `repository`. Once `shutdown` has begun, nothing new is.
    pub fn new(
        telemetry: &'a Telemetry,
        repository: &'a Repository,
        clock: &'a dyn Clock,
        shutdown: &'a Shutdown,
    ) -> Self {
        Self {
            telemetry,
            repository,
            patience: Patience::new(clock, shutdown),
            shutdown,
        }
    }

    /// The number of the newest push.
    pub async fn newest(&self) -> Result<u64, NotDone> {
        let pushlog = self
            .patience
            .until_done(|| self.telemetry.hgweb().pushlog(self.repository, 0, 1))
            .await?;
        Ok(pushlog.newest)
    }

    /// Works off the pushes of `span`. Ends when all have ended, or when what was begun has ended after `shutdown`. An error
    /// is one that keeps everything from going on: nothing new is begun after it.
    pub fn run(&self, span: Span) -> impl Stream<Item = Result<Ended, TelemetryError>> {
        let mut ended = Line::new(span.from);
        let worked = self
            .steps(span)
            .take_until(self.shutdown.stopping())
            .map(move |step| async move {
                match step {
                    Ok(step) => self.work(step).await,
                    Err(NotDone::Failed(error) | NotDone::Away(error)) => self.end(error),
                    Err(NotDone::Stopped) => None,
                }
            })
            .buffer_unordered(span.at_once)
            .filter_map(std::future::ready);
        worked.map_ok(move |(step, failure)| {
            let last = step.behind.changesets == 0;
            let place = ended.end(step.number, step.behind);
            Ended {
                push: step.push,
                node: step.node,
                last,
                failure,
                place,
            }
        })
    }

    /// `None` if it was given up because of the stop; an error if a server is away.
    async fn work(
        &self,
        step: Step,
    ) -> Option<Result<(Step, Option<TelemetryError>), TelemetryError>> {
        let done = self.patience.until_done(|| async {
            let ping = self
                .telemetry
                .ping_for(self.repository, step.node.as_str())
                .await?;
            self.telemetry.send(&ping).await
        });
        match done.await {
            Ok(()) => Some(Ok((step, None))),
            Err(NotDone::Failed(error)) => Some(Ok((step, Some(error)))),
            Err(NotDone::Away(error)) => self.end(error),
            Err(NotDone::Stopped) => None,
        }
    }

    /// Nothing new is begun.
    fn end<T>(&self, error: TelemetryError) -> Option<Result<T, TelemetryError>> {
        self.shutdown.stop();
        Some(Err(error))
    }

    /// The changesets in the order of the pushlog.
    fn steps(&self, span: Span) -> impl Stream<Item = Result<Step, NotDone>> {
        let starts = (span.from.push..span.end).step_by(STEP as usize);
        let pushes = stream::iter(starts)
            .map(move |start| async move {
                let end = span.end.min(start + STEP);
                self.patience
                    .until_done(|| self.telemetry.hgweb().pushlog(self.repository, start, end))
                    .await
            })
            .buffered(STEPS_AHEAD);
        let changesets = pushes.map_ok(move |Pushlog { pushes, .. }| {
            let steps = pushes
                .into_iter()
                .flat_map(move |(push, nodes)| steps_of(push, nodes, span.from));
            stream::iter(steps.map(Ok))
        });
        changesets
            .try_flatten()
            .enumerate()
            .map(|(number, step)| Ok(Step { number, ..step? }))
    }
}

/// The changesets of a push that are not done. They get their numbers later.
fn steps_of(push: u64, nodes: Vec<Node>, from: Place) -> impl Iterator<Item = Step> {
    let (count, before) = (nodes.len(), push.saturating_sub(1));
    let done = if from.push == before {
        from.changesets
    } else {
        0
    };
    nodes
        .into_iter()
        .enumerate()
        .skip(done)
        .map(move |(at, node)| {
            let last = at + 1 == count;
            let behind = if last {
                Place {
                    push,
                    changesets: 0,
                }
            } else {
                Place {
                    push: before,
                    changesets: at + 1,
                }
            };
            Step {
                number: 0,
                push,
                node,
                behind,
            }
        })
}

/// What has ended, in the order in which it was begun.
struct Line {
    place: Place,
    next: usize,
    /// What ended before its turn.
    early: BTreeMap<usize, Place>,
}

impl Line {
    fn new(place: Place) -> Self {
        Self {
            place,
            next: 0,
            early: BTreeMap::new(),
        }
    }

    /// Notes an end; returns the place before which everything has ended.
    fn end(&mut self, number: usize, behind: Place) -> Place {
        self.early.insert(number, behind);
        while let Some(place) = self.early.remove(&self.next) {
            (self.place, self.next) = (place, self.next + 1);
        }
        self.place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> Node {
        Node::try_from(format!("{number:040x}")).unwrap()
    }

    #[test]
    fn position_advances_when_oldest_push_completes() {
        let place = |push| Place {
            push,
            changesets: 0,
        };
        let mut line = Line::new(place(10));
        assert_eq!(line.end(1, place(12)), place(10));
        assert_eq!(line.end(2, place(13)), place(10));
        assert_eq!(line.end(0, place(11)), place(13));
        assert_eq!(line.end(3, place(14)), place(14));
        assert!(line.early.is_empty());
    }

    #[test]
    fn resumed_push_skips_completed_changesets() {
        let nodes: Vec<_> = (0..3).map(node).collect();
        let left = |from| -> Vec<_> {
            steps_of(8, nodes.clone(), from)
                .map(|step| (step.node, step.behind.push, step.behind.changesets))
                .collect()
        };
        let all = [(node(0), 7, 1), (node(1), 7, 2), (node(2), 8, 0)];
        assert_eq!(
            left(Place {
                push: 7,
                changesets: 0
            }),
            all
        );
        assert_eq!(
            left(Place {
                push: 7,
                changesets: 2
            }),
            all[2..]
        );
        assert_eq!(
            left(Place {
                push: 3,
                changesets: 2
            }),
            all,
            "those were of another push"
        );
    }
}
