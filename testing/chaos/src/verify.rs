//! Observes each message outside the bus, and checks that it was neither lost nor doubled.

mod check;

use std::collections::HashMap;

use jiff::Timestamp;

pub use self::check::{Dead, Kind, Remains, Violation};
use crate::{
    chain::TestMessage,
    redelivery::Redelivery,
    side_effects::{Entry, Event, Work},
};

/// The observations of one message in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    begun: u32,
    effects: u32,
    tag: Option<u64>,
    /// The number of messages with another tag than the first: the bus stored them for one step.
    senders: u32,
    last: Option<(u32, Timestamp)>,
}

/// The observations outside the bus.
#[derive(Debug)]
pub struct Observations {
    messages: Vec<(TestMessage, [Seen; 3])>,
    /// The number of messages that took effect in the last step.
    pub finished: usize,
    /// The number of effects that were refused, since they had been made before.
    pub refused: u64,
    /// The times that messages of dead workers waited.
    pub redelivery: Redelivery,
}

impl Observations {
    /// No observations yet, of these messages.
    pub fn new(messages: &[TestMessage]) -> Self {
        let messages = messages
            .iter()
            .map(|message| (message.clone(), Default::default()))
            .collect();
        Self {
            messages,
            finished: 0,
            refused: 0,
            redelivery: Redelivery::default(),
        }
    }

    /// Records one line of the log. `deaths` holds the times at which workers were killed.
    pub fn record(&mut self, at: Timestamp, entry: &Entry, deaths: &HashMap<u32, Timestamp>) {
        let Entry { worker, event } = entry;
        match event {
            Event::Ready => {}
            Event::Begun(work) => self.begun(at, *worker, *work, deaths),
            Event::Effect(work) => {
                let Some((_, seen)) = self.seen(*work) else {
                    return;
                };
                seen.effects += 1;
                if work.step.next().is_none() && seen.effects == 1 {
                    self.finished += 1;
                }
            }
            Event::Repeat(_) => self.refused += 1,
        }
    }

    fn seen(&mut self, work: Work) -> Option<(&TestMessage, &mut Seen)> {
        let (message, steps) = self.messages.get_mut(work.number as usize)?;
        Some((message, &mut steps[work.step as usize]))
    }

    fn begun(&mut self, at: Timestamp, worker: u32, work: Work, deaths: &HashMap<u32, Timestamp>) {
        let Some((message, seen)) = self.seen(work) else {
            return;
        };
        seen.begun += 1;
        if *seen.tag.get_or_insert(work.tag) != work.tag {
            seen.senders += 1;
        }
        let before = seen.last.replace((worker, at));
        let Some((holder, since)) = before.filter(|(holder, _)| *holder != worker) else {
            return;
        };
        // A poison message is delayed on purpose.
        let died = deaths
            .get(&holder)
            .filter(|died| **died < at && message.trouble.is_none());
        if let Some(died) = died {
            self.redelivery.add(since.max(*died), at);
        }
    }

    /// The number of executions of a step beyond its first.
    pub fn repeated(&self) -> u64 {
        self.messages
            .iter()
            .flat_map(|(_, steps)| steps)
            .map(|seen| u64::from(seen.begun.saturating_sub(1)))
            .sum()
    }
}

#[cfg(test)]
mod tests;
