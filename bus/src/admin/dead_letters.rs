//! The operator's actions on dead letters.

use std::{cmp::Reverse, collections::HashSet};

use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, Contents, DeadLetterContents, DeadLetterReport};
use crate::{DeadLetter, DeadLetterPayload, QueueSpec};

/// An operator's choice of dead letters: by ids, by reason, or all, and not two of these.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterFilter {
    /// The only queue to search; `None` searches each.
    pub queue: Option<String>,
    /// The ids of the dead letters.
    pub ids: Vec<String>,
    /// A part of their reasons; upper and lower case differ.
    pub reason: Option<String>,
    /// Every dead letter.
    pub all: bool,
}

/// The dead letters that [`Admin::choose`] found, the oldest of each queue first.
#[derive(Debug)]
pub struct SelectedDeadLetters {
    letters: Vec<(QueueSpec, Vec<DeadLetter>)>,
    /// Whether the operator named their ids.
    named: bool,
}

impl SelectedDeadLetters {
    /// The number of dead letters in all queues.
    pub fn count(&self) -> usize {
        self.letters.iter().map(|(_, letters)| letters.len()).sum()
    }
}

/// The outcome of [`Admin::requeue_dead`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Requeued {
    /// The number of dead letters that are back in their queues.
    pub requeued: usize,
    /// Dead letters that stay, since the handling of their messages has no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<KeptDeadLetter>,
    /// Ids of dead letters that stay, since this release cannot read their messages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}

/// A dead letter that was not requeued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptDeadLetter {
    /// The name of its queue.
    pub queue: &'static str,
    /// Its id within the queue.
    pub id: String,
    /// The cause, and what to do instead.
    pub reason: String,
}

impl Admin {
    /// The newest `limit` dead letters of one queue or all whose reason contains `reason`.
    pub async fn dead(
        &self,
        queue: Option<&str>,
        reason: &str,
        limit: usize,
    ) -> Result<Vec<DeadLetterReport>, AdminError> {
        let mut reports = Vec::new();
        for queue in self.scope(queue)? {
            let letters = self.bus.dead(queue, reason, limit).await?;
            reports.extend(letters.into_iter().map(|letter| DeadLetterReport {
                queue: queue.name,
                letter,
            }));
        }
        reports.sort_by_key(|report| Reverse(report.letter.died_at));
        reports.truncate(limit);
        Ok(reports)
    }

    /// The dead letter `id` with its message. Without a `queue`, each queue is searched.
    pub async fn dead_letter(
        &self,
        queue: Option<&str>,
        id: &str,
    ) -> Result<DeadLetterContents, AdminError> {
        for queue in self.scope(queue)? {
            if let Some((letter, payload)) = self.bus.dead_letter(queue, id).await? {
                let contents = match payload {
                    DeadLetterPayload::Message(envelope) => Contents::whole(&envelope),
                    DeadLetterPayload::Unreadable(bytes) => Contents::unreadable(&bytes),
                };
                return Ok(DeadLetterContents {
                    report: DeadLetterReport {
                        queue: queue.name,
                        letter,
                    },
                    contents,
                });
            }
        }
        Err(AdminError::NoDeadLetters {
            ids: vec![id.to_owned()],
        })
    }

    /// Finds the dead letters that a filter selects.
    ///
    /// [`AdminError::NoDeadLetters`] when one is named that no queue has.
    pub async fn choose(
        &self,
        letters: &DeadLetterFilter,
    ) -> Result<SelectedDeadLetters, AdminError> {
        let DeadLetterFilter {
            queue,
            ids,
            reason,
            all,
        } = letters;
        if reason.as_ref().is_some_and(String::is_empty) {
            return Err(AdminError::Empty("reason"));
        }
        let criteria = [!ids.is_empty(), reason.is_some(), *all];
        if criteria.into_iter().filter(|given| *given).count() != 1 {
            return Err(AdminError::Unclear(
                "dead letters: name either their ids, or a reason, or all",
            ));
        }
        let wanted: HashSet<&str> = ids.iter().map(String::as_str).collect();
        let mut missing = wanted.clone();
        let mut chosen = Vec::new();
        for queue in self.scope(queue.as_deref())? {
            let found = self
                .bus
                .dead(queue, reason.as_deref().unwrap_or_default(), usize::MAX)
                .await?;
            let found = found.into_iter().rev();
            let found: Vec<DeadLetter> = found
                .filter(|letter| wanted.is_empty() || wanted.contains(letter.id.as_str()))
                .collect();
            for letter in &found {
                missing.remove(letter.id.as_str());
            }
            chosen.push((*queue, found));
        }
        if missing.is_empty() {
            return Ok(SelectedDeadLetters {
                letters: chosen,
                named: !ids.is_empty(),
            });
        }
        let mut ids: Vec<_> = missing.into_iter().map(str::to_owned).collect();
        ids.sort();
        Err(AdminError::NoDeadLetters { ids })
    }

    /// Puts dead letters back into their queues. Those stay whose handling has no effect, and those whose message this
    /// release cannot read.
    ///
    /// [`AdminError::Unreadable`] when one of the latter was named. Then none is requeued.
    pub async fn requeue_dead(&self, chosen: &SelectedDeadLetters) -> Result<Requeued, AdminError> {
        let mut outcome = Requeued::default();
        let mut useful = Vec::new();
        for (queue, letters) in &chosen.letters {
            let mut ids = Vec::with_capacity(letters.len());
            for letter in letters {
                let id = letter.id.clone();
                // Another release may have written what this one cannot read.
                let must_be_read = letter.unreadable || self.usefulness.is_some();
                let found = if must_be_read {
                    self.bus.dead_letter(queue, &id).await?
                } else {
                    None
                };
                match found {
                    Some((_, DeadLetterPayload::Unreadable(_))) => outcome.unreadable.push(id),
                    Some((_, DeadLetterPayload::Message(envelope))) => {
                        match self.useless(queue, &envelope).await? {
                            Some(reason) => outcome.kept.push(KeptDeadLetter {
                                queue: queue.name,
                                id,
                                reason,
                            }),
                            None => ids.push(id),
                        }
                    }
                    None => ids.push(id),
                }
            }
            useful.push((queue, ids));
        }
        if chosen.named && !outcome.unreadable.is_empty() {
            return Err(AdminError::Unreadable {
                ids: outcome.unreadable,
            });
        }
        for (queue, ids) in useful {
            outcome.requeued += self.bus.requeue_dead(queue, &ids).await?;
        }
        Ok(outcome)
    }

    /// Drops dead letters. Returns the number of those that were still there.
    pub async fn drop_dead(&self, chosen: &SelectedDeadLetters) -> Result<usize, AdminError> {
        let mut count = 0;
        for (queue, letters) in &chosen.letters {
            let ids: Vec<String> = letters.iter().map(|letter| letter.id.clone()).collect();
            count += self.bus.drop_dead(queue, &ids).await?;
        }
        Ok(count)
    }
}
