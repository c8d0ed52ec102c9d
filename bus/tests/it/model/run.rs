//! One sequence on a bus, and on the model beside it.

use std::time::Duration;

use bus::{
    Blob, BusError, Delivery, Envelope, MessageSelector, MessageState, Outgoing, Reserve,
    SettleRequest, Settlement,
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    expected::{Checked, Model, Reserved, State, after, reason},
    steps::{How, KEYS, PARTITIONS, QUEUES, Send, Step},
    subject::{Backend, Subject},
};
use crate::world::written;

/// Takes the steps on both. The error is the first difference.
pub async fn run_one(backend: &Backend, steps: Vec<Step>) -> Checked {
    let mut run = Run {
        subject: backend.subject(),
        model: Model::default(),
        sent: 0,
        leases: Vec::new(),
    };
    for step in steps {
        run.step(step).await?;
    }
    for queue in 0..QUEUES.len() {
        run.inspect(queue, usize::MAX).await?;
        run.letters(queue).await?;
    }
    run.drain().await
}

/// A reservation that succeeded once.
struct Reservation {
    worker: usize,
    delivery: Delivery,
    forgotten: bool,
}

struct Run {
    subject: Subject,
    model: Model,
    /// How many messages were made; each has its number as its id.
    sent: u128,
    leases: Vec<Reservation>,
}

impl Run {
    async fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Push(sends) => self.push(sends).await,
            Step::Reserve {
                worker,
                queue,
                max,
                skip,
            } => {
                let skip: Vec<&str> = skip
                    .into_iter()
                    .map(|partition| PARTITIONS[partition])
                    .collect();
                self.reserve(worker, queue, max, &skip).await.map(|_| ())
            }
            Step::Extend { lease } => self.extend(lease).await,
            Step::Settle(ended) => self.settle(ended).await,
            Step::Pass { hours } => {
                self.pass(hours).await;
                Ok(())
            }
            Step::Crash { worker } => {
                self.subject.crash(worker);
                let leases = self
                    .leases
                    .iter_mut()
                    .filter(|reservation| reservation.worker == worker);
                leases.for_each(|reservation| reservation.forgotten = true);
                Ok(())
            }
            Step::Pause { queue, paused } => {
                self.model.paused[queue] = paused;
                self.subject.workers[0]
                    .set_paused(&QUEUES[queue], paused)
                    .await
                    .unwrap();
                Ok(())
            }
            Step::Requeue { queue, one } => {
                let one = one.map(|back| self.sent.saturating_sub(back as u128));
                let count = self.subject.workers[0]
                    .requeue(&QUEUES[queue], which(one))
                    .await
                    .unwrap();
                prop_assert_eq!(count, self.model.requeue(queue, one));
                Ok(())
            }
            Step::DropWaiting { queue, one } => {
                let one = one.map(|back| self.sent.saturating_sub(back as u128));
                let count = self.subject.workers[0]
                    .drop_waiting(&QUEUES[queue], which(one))
                    .await
                    .unwrap();
                prop_assert_eq!(count, self.model.drop_waiting(queue, one));
                Ok(())
            }
            Step::RequeueDead { queue, letters } => {
                self.take_dead_letters(queue, &letters, true).await
            }
            Step::DropDead { queue, letters } => {
                self.take_dead_letters(queue, &letters, false).await
            }
            Step::Inspect { queue, max } => self.inspect(queue, max).await,
        }
    }

    fn number(&mut self) -> u128 {
        self.sent += 1;
        self.sent
    }

    fn numbered(&mut self, sends: &[Send]) -> Vec<(u128, Send)> {
        sends
            .iter()
            .map(|send| (self.number(), send.clone()))
            .collect()
    }

    async fn pass(&mut self, hours: u64) {
        self.model.pass(hours * 3600);
        self.subject.pass(Duration::from_secs(hours * 3600)).await;
    }

    async fn push(&mut self, sends: Vec<Send>) -> Checked {
        let sends = self.numbered(&sends);
        let answer = match self.subject.workers[0].push(outgoing(&sends)).await {
            Ok(pushed) => Ok(pushed),
            Err(BusError::Full { queue, .. }) => Err(queue),
            Err(error) => panic!("{error}"),
        };
        prop_assert_eq!(
            answer,
            self.model.push(&sends).map_err(|queue| QUEUES[queue].name)
        );
        Ok(())
    }

    /// The places of the new leases.
    async fn reserve(
        &mut self,
        worker: usize,
        queue: usize,
        max: usize,
        skip: &[&str],
    ) -> Checked<Vec<usize>> {
        let skip_partitions = skip
            .iter()
            .map(|partition| (*partition).to_owned())
            .collect();
        let request = Reserve {
            skip_partitions,
            ..Reserve::now(max)
        };
        let deliveries = self.subject.workers[worker]
            .reserve(&QUEUES[queue], request)
            .await
            .unwrap();
        let reserved = |delivery: &Delivery| Reserved {
            id: delivery.envelope.id.as_u128(),
            attempt: delivery.attempt,
            unsettled_deliveries: delivery.unsettled_deliveries,
        };
        let reserved: Vec<Reserved> = deliveries.iter().map(reserved).collect();
        let first = self.leases.len();
        self.model.reserve(queue, max, skip, &reserved, first)?;
        self.leases
            .extend(deliveries.into_iter().map(|delivery| Reservation {
                worker,
                delivery,
                forgotten: false,
            }));
        Ok((first..self.leases.len()).collect())
    }

    /// The lease that is meant, unless there is none.
    fn lease(&self, back: usize) -> Option<usize> {
        let known: Vec<usize> = (0..self.leases.len())
            .rev()
            .filter(|at| !self.leases[*at].forgotten)
            .collect();
        known.get(back % known.len().max(1)).copied()
    }

    async fn extend(&mut self, back: usize) -> Checked {
        let Some(at) = self.lease(back) else {
            return Ok(());
        };
        let reservation = &self.leases[at];
        let extended = match self.subject.workers[reservation.worker]
            .extend(&reservation.delivery.lease)
            .await
        {
            Ok(()) => true,
            Err(BusError::LeaseLost { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        prop_assert_eq!(
            extended,
            self.model.extend(at),
            "extended reservation {}",
            at
        );
        Ok(())
    }

    async fn settle(&mut self, ended: Vec<(usize, How)>) -> Checked {
        let mut ended: Vec<(usize, How)> = ended
            .into_iter()
            .filter_map(|(back, how)| Some((self.lease(back)?, how)))
            .collect();
        let Some(worker) = ended.first().map(|(at, _)| self.leases[*at].worker) else {
            return Ok(());
        };
        ended.retain(|(at, _)| self.leases[*at].worker == worker);
        self.settle_these(worker, ended).await
    }

    async fn settle_these(&mut self, worker: usize, ended: Vec<(usize, How)>) -> Checked {
        let (mut settlements, mut expected) = (Vec::new(), Vec::new());
        for (at, how) in &ended {
            let number = self.number();
            let emit = match how {
                How::Done(emit) | How::Dead(emit) => self.numbered(emit),
                _ => Vec::new(),
            };
            expected.push(self.model.settle(*at, how, number, &emit));
            let Delivery {
                envelope, attempt, ..
            } = &self.leases[*at].delivery;
            settlements.push(match how {
                How::Done(_) => Settlement::Done {
                    emit: outgoing(&emit),
                },
                How::Retry { hours } => Settlement::Retry {
                    after: Duration::from_secs(after(*hours, number)),
                },
                How::Defer { hours } => Settlement::Defer {
                    after: Duration::from_secs(after(*hours, number)),
                },
                How::Dead(_) => {
                    let (id, attempts, reason) = (envelope.id, *attempt, reason(*at));
                    Settlement::Dead {
                        id,
                        reason,
                        attempts,
                        emit: outgoing(&emit),
                    }
                }
                How::Release => Settlement::Release,
            });
        }
        let leases = ended.iter().map(|(at, _)| &self.leases[*at].delivery.lease);
        let ended: Vec<_> = leases
            .zip(&settlements)
            .map(|(lease, how)| SettleRequest::new(lease, how))
            .collect();
        let results = self.subject.workers[worker]
            .settle_all(&ended)
            .await
            .unwrap();
        prop_assert_eq!(written(results), expected, "which settlements were written");
        Ok(())
    }

    async fn take_dead_letters(
        &mut self,
        queue: usize,
        letters: &[usize],
        requeue: bool,
    ) -> Checked {
        let dead = self.model.dead(queue);
        let ids: Vec<u128> = letters
            .iter()
            .map(|at| dead.get(*at).map_or(0, |(id, ..)| *id))
            .collect();
        let names: Vec<String> = ids
            .iter()
            .map(|id| Uuid::from_u128(*id).to_string())
            .collect();
        let bus = &self.subject.workers[0];
        let count = if requeue {
            bus.requeue_dead(&QUEUES[queue], &names).await.unwrap()
        } else {
            bus.drop_dead(&QUEUES[queue], &names).await.unwrap()
        };
        prop_assert_eq!(count, self.model.take_dead_letters(queue, &ids, requeue));
        Ok(())
    }

    /// Compares what an operator sees of a queue.
    async fn inspect(&self, queue: usize, max: usize) -> Checked {
        let status = self.subject.workers[1]
            .status(&QUEUES[queue])
            .await
            .unwrap();
        prop_assert_eq!(
            (status.depth, status.paused),
            (self.model.depth(queue), self.model.paused[queue])
        );

        // Messages of different partitions may have become ready at the same moment.
        let max = if QUEUES[queue].partitions {
            usize::MAX
        } else {
            max
        };
        let found = self.subject.workers[1]
            .peek(&QUEUES[queue], max)
            .await
            .unwrap();
        let mut found: Vec<_> = found
            .iter()
            .map(|waiting| {
                let place = match waiting.state {
                    MessageState::Ready { .. } => "ready",
                    MessageState::InFlight { .. } => "in flight",
                    MessageState::Delayed { .. } => "delayed",
                };
                let Envelope { id, partition, .. } = &waiting.envelope;
                (
                    place == "delayed",
                    partition.as_deref(),
                    id.as_u128(),
                    place,
                    waiting.attempts,
                )
            })
            .collect();
        let mut expected: Vec<_> = self
            .model
            .peek(queue)
            .into_iter()
            .take(max)
            .map(|message| {
                let place = match message.state {
                    State::Ready => "ready",
                    State::InFlight { .. } => "in flight",
                    _ => "delayed",
                };
                (
                    place == "delayed",
                    message.partition,
                    message.id,
                    place,
                    message.attempts,
                )
            })
            .collect();
        for shown in [&mut found, &mut expected] {
            shown
                .sort_by_key(|(delayed, partition, ..)| (*delayed, partition.filter(|_| !delayed)));
        }
        prop_assert_eq!(
            found,
            expected,
            "what a peek into {} shows",
            QUEUES[queue].name
        );
        Ok(())
    }

    /// Compares the dead letters. Those that died within one millisecond have no order.
    async fn letters(&self, queue: usize) -> Checked {
        let found = self.subject.workers[1]
            .dead(&QUEUES[queue], "", usize::MAX)
            .await
            .unwrap();
        let expected = self.model.dead(queue);
        prop_assert_eq!(found.len(), expected.len());
        prop_assert!(
            found.is_sorted_by(|one, next| one.died_at >= next.died_at),
            "the newest first: {found:?}"
        );
        let mut in_order = Vec::new();
        for (id, reason, attempts) in expected {
            let id = Uuid::from_u128(id).to_string();
            let letter = found.iter().find(|letter| letter.id == id);
            prop_assert_eq!(
                letter.map(|letter| (&letter.reason[..], letter.attempts)),
                Some((reason, attempts))
            );
            in_order.extend(letter);
        }
        prop_assert!(
            in_order.is_sorted_by(|one, next| one.died_at >= next.died_at),
            "in this order: {in_order:?}"
        );
        Ok(())
    }

    /// Handles all that is left, after every lease has run out: no stored message is lost.
    async fn drain(&mut self) -> Checked {
        self.pass(100).await;
        for queue in 0..QUEUES.len() {
            self.step(Step::Pause {
                queue,
                paused: false,
            })
            .await?;
            loop {
                let deliveries = self.reserve(0, queue, 10, &[]).await?;
                if deliveries.is_empty() {
                    break;
                }
                self.settle_these(
                    0,
                    deliveries
                        .into_iter()
                        .map(|at| (at, How::Done(Vec::new())))
                        .collect(),
                )
                .await?;
            }
            self.inspect(queue, usize::MAX).await?;
        }
        let has_ended =
            |state: &State| matches!(state, State::Dead { .. } | State::Done | State::Dropped);
        prop_assert!(
            self.model
                .messages
                .iter()
                .all(|message| has_ended(&message.state)),
            "{:?}",
            self.model.messages
        );
        Ok(())
    }
}

fn which(one: Option<u128>) -> MessageSelector {
    one.map_or(MessageSelector::All, |id| {
        MessageSelector::One(Uuid::from_u128(id))
    })
}

fn outgoing(sends: &[(u128, Send)]) -> Vec<Outgoing> {
    let outgoing = |(number, send): &(u128, Send)| {
        let queue = QUEUES[send.queue];
        let partition = queue
            .partitions
            .then(|| PARTITIONS[send.partition].to_owned());
        let created_at = "2026-11-21T12:00:00Z".parse().unwrap();
        let envelope = Envelope {
            id: Uuid::from_u128(*number),
            version: 1,
            created_at,
            partition,
            body: Blob::default(),
        };
        let after = Duration::from_secs(after(send.hours, *number));
        Outgoing {
            queue,
            envelope,
            after,
            key: send.key.map(|key| KEYS[key].to_owned()),
        }
    };
    sends.iter().map(outgoing).collect()
}
