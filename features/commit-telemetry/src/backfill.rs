//! Pings of past pushes: processes a range of a repository's pushlog.
//!
//! # Resuming
//!
//! Changesets begin in the order of the pushlog and end in any order. A [`Cursor`] is the position from which a run can
//! resume: everything before it is done. It advances when the first unfinished changeset ends. A shutdown lets every
//! changeset in flight end, so nothing is done behind its last cursor. After a crash the changesets done behind the cursor
//! are processed again; their pings have the same ids, so the ingestion drops them.

use std::collections::BTreeMap;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use runtime::{Clock, Shutdown};
use serde::{Deserialize, Serialize};

use crate::{OutageRetry, Pushlog, Repository, RetryError, Telemetry, TelemetryError, ids::Node};

/// The number of pushes in a request for a part of the pushlog.
const PUSHES_PER_REQUEST: u64 = 100;
/// The number of such requests that are in flight, or whose answers wait to be processed.
const REQUESTS_AHEAD: usize = 2;

/// A position in a pushlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// The last push that is completely before it.
    pub push: u64,
    /// The number of changesets of the next push that are before it.
    pub changesets: usize,
}

impl Cursor {
    /// The position behind a push.
    pub fn behind(push: u64) -> Self {
        Self {
            push,
            changesets: 0,
        }
    }
}

/// The work of a backfill.
#[derive(Debug, Clone, Copy)]
pub struct PushRange {
    /// The position to begin at.
    pub from: Cursor,
    /// The last push.
    pub end: u64,
    /// The number of changesets that are processed concurrently.
    pub concurrency: usize,
}

/// The final result of a changeset.
#[derive(Debug)]
pub struct ChangesetResult {
    /// The number of its push.
    pub push: u64,
    /// The changeset.
    pub node: Node,
    /// Whether it is the last changeset of its push.
    pub is_last_of_push: bool,
    /// The reason why its ping was not sent.
    pub failure: Option<TelemetryError>,
    /// The position to resume from after all results so far.
    pub cursor: Cursor,
}

/// A changeset to process.
struct Item {
    /// Its rank in the range, from 0.
    number: usize,
    push: u64,
    node: Node,
    /// The position behind it.
    behind: Cursor,
}

/// Sends the pings of a range of a pushlog.
pub struct Backfill<'a> {
    telemetry: &'a Telemetry,
    repository: &'a Repository,
    retry: OutageRetry<'a>,
    shutdown: &'a Shutdown,
}

impl<'a> Backfill<'a> {
    /// Sends the pings of pushes to `repository` by `telemetry`. Begins no changeset after `shutdown`.
    pub fn new(
        telemetry: &'a Telemetry,
        repository: &'a Repository,
        clock: &'a dyn Clock,
        shutdown: &'a Shutdown,
    ) -> Self {
        Self {
            telemetry,
            repository,
            retry: OutageRetry::new(clock, shutdown),
            shutdown,
        }
    }

    /// The number of the newest push.
    pub async fn newest(&self) -> Result<u64, RetryError> {
        let pushlog = self
            .retry
            .run(|| self.telemetry.hgweb().pushlog(self.repository, 0, 1))
            .await?;
        Ok(pushlog.newest)
    }

    /// Processes the pushes of `range`. The stream ends with the last result, or after a shutdown with the last changeset in
    /// flight. An error, such as an outage, stops the whole backfill: it begins no further changeset.
    pub fn run(
        &self,
        range: PushRange,
    ) -> impl Stream<Item = Result<ChangesetResult, TelemetryError>> {
        let mut tracker = CursorTracker::new(range.from);
        self.items(range)
            .take_until(self.shutdown.stopping())
            .map(move |item| async move {
                match item {
                    Ok(item) => self.process(item).await,
                    Err(RetryError::Failed(error) | RetryError::Outage(error)) => self.abort(error),
                    Err(RetryError::Shutdown) => None,
                }
            })
            .buffer_unordered(range.concurrency)
            .filter_map(std::future::ready)
            .map_ok(move |(item, failure)| ChangesetResult {
                push: item.push,
                node: item.node,
                is_last_of_push: item.behind.changesets == 0,
                failure,
                cursor: tracker.complete(item.number, item.behind),
            })
    }

    /// The item with its failure, if its ping cannot be sent; `None` if a shutdown interrupted it; an error for an outage.
    async fn process(
        &self,
        item: Item,
    ) -> Option<Result<(Item, Option<TelemetryError>), TelemetryError>> {
        let result = self.retry.run(|| async {
            let ping = self
                .telemetry
                .ping_for(self.repository, item.node.as_str())
                .await?;
            self.telemetry.send(&ping).await
        });
        match result.await {
            Ok(()) => Some(Ok((item, None))),
            Err(RetryError::Failed(error)) => Some(Ok((item, Some(error)))),
            Err(RetryError::Outage(error)) => self.abort(error),
            Err(RetryError::Shutdown) => None,
        }
    }

    /// Stops the backfill.
    fn abort<T>(&self, error: TelemetryError) -> Option<Result<T, TelemetryError>> {
        self.shutdown.stop();
        Some(Err(error))
    }

    /// The changesets of `range`, in the order of the pushlog.
    fn items(&self, range: PushRange) -> impl Stream<Item = Result<Item, RetryError>> {
        let starts = (range.from.push..range.end).step_by(PUSHES_PER_REQUEST as usize);
        stream::iter(starts)
            .map(move |start| async move {
                let end = range.end.min(start + PUSHES_PER_REQUEST);
                self.retry
                    .run(|| self.telemetry.hgweb().pushlog(self.repository, start, end))
                    .await
            })
            .buffered(REQUESTS_AHEAD)
            .map_ok(move |Pushlog { pushes, .. }| {
                let items = pushes
                    .into_iter()
                    .flat_map(move |(push, nodes)| items_of(push, nodes, range.from));
                stream::iter(items.map(Ok))
            })
            .try_flatten()
            .enumerate()
            .map(|(number, item)| Ok(Item { number, ..item? }))
    }
}

/// The changesets of a push that are not before `from`. [`Backfill::items`] sets their numbers.
fn items_of(push: u64, nodes: Vec<Node>, from: Cursor) -> impl Iterator<Item = Item> {
    let count = nodes.len();
    let previous = push.saturating_sub(1);
    let done = if from.push == previous {
        from.changesets
    } else {
        0
    };
    nodes
        .into_iter()
        .enumerate()
        .skip(done)
        .map(move |(at, node)| {
            let behind = if at + 1 == count {
                Cursor::behind(push)
            } else {
                Cursor {
                    push: previous,
                    changesets: at + 1,
                }
            };
            Item {
                number: 0,
                push,
                node,
                behind,
            }
        })
}

/// Derives the cursor from items that complete in any order.
struct CursorTracker {
    cursor: Cursor,
    /// The number of the first item that is not complete.
    next: usize,
    /// The positions behind the items that completed before an earlier one.
    early: BTreeMap<usize, Cursor>,
}

impl CursorTracker {
    fn new(cursor: Cursor) -> Self {
        Self {
            cursor,
            next: 0,
            early: BTreeMap::new(),
        }
    }

    /// Adds a complete item, and returns the position before which all items are complete.
    fn complete(&mut self, number: usize, behind: Cursor) -> Cursor {
        self.early.insert(number, behind);
        while let Some(cursor) = self.early.remove(&self.next) {
            self.cursor = cursor;
            self.next += 1;
        }
        self.cursor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u64) -> Node {
        Node::try_from(format!("{number:040x}")).unwrap()
    }

    #[test]
    fn cursor_advances_when_oldest_item_completes() {
        let cursor = Cursor::behind;
        let mut tracker = CursorTracker::new(cursor(10));
        assert_eq!(tracker.complete(1, cursor(12)), cursor(10));
        assert_eq!(tracker.complete(2, cursor(13)), cursor(10));
        assert_eq!(tracker.complete(0, cursor(11)), cursor(13));
        assert_eq!(tracker.complete(3, cursor(14)), cursor(14));
        assert!(tracker.early.is_empty());
    }

    #[test]
    fn resumed_push_skips_completed_changesets() {
        let nodes: Vec<_> = (0..3).map(node).collect();
        let left = |push, changesets| -> Vec<_> {
            items_of(8, nodes.clone(), Cursor { push, changesets })
                .map(|item| (item.node, item.behind.push, item.behind.changesets))
                .collect()
        };
        let all = [(node(0), 7, 1), (node(1), 7, 2), (node(2), 8, 0)];
        assert_eq!(left(7, 0), all);
        assert_eq!(left(7, 2), all[2..]);
        assert_eq!(left(3, 2), all, "those were of another push");
    }
}
