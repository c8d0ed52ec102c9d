//! Calls of the operator's operations.

use redis::{Cmd, Script};

use super::{Call, count};
use crate::{MessageSelector, QueueSpec};

/// Reads the state of a queue.
pub(in crate::redis) struct GetStatus<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
}

impl Call for GetStatus<'_> {
    type Answer = (
        (usize, usize, usize, usize),
        (bool, i64, i64),
        (u64, u64, u64),
        u64,
    );

    fn script(&self) -> &'static Script {
        admin!("queue_admin/status")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name);
    }
}

/// The place at which a walk ended, and a second part for messages in the same place. Both are empty at the end.
pub(in crate::redis) type Cursor = (String, String);

/// A message in the form of the scripts that walk: state, since or until when (ms), attempts, envelope.
pub(in crate::redis) type Found = (String, i64, u32, Vec<u8>);

/// The messages that a walk goes over.
#[derive(Clone, Copy)]
pub(in crate::redis) enum Over {
    Ready,
    Delayed,
}

/// The operation on the selected messages.
#[derive(Clone, Copy)]
pub(in crate::redis) enum Do {
    Read,
    Drop,
    /// For delayed messages only.
    Requeue,
}

/// One step of a walk over the messages of a queue.
pub(in crate::redis) struct Walk<'a> {
    pub(in crate::redis) over: Over,
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) what: Do,
    pub(in crate::redis) which: MessageSelector,
    pub(in crate::redis) wanted: usize,
    pub(in crate::redis) from: &'a Cursor,
}

impl Call for Walk<'_> {
    type Answer = (String, String, usize, Vec<Found>);

    fn script(&self) -> &'static Script {
        match self.over {
            Over::Ready => admin!("queue_admin/ready"),
            Over::Delayed => admin!("queue_admin/delayed"),
        }
    }

    fn arguments(&self, call: &mut Cmd) {
        let what = match self.what {
            Do::Read => "read",
            Do::Drop => "drop",
            Do::Requeue => "requeue",
        };
        let id: &[u8] = match &self.which {
            MessageSelector::All => &[],
            MessageSelector::One(id) => id.as_bytes(),
        };
        call.arg(self.queue.name)
            .arg(what)
            .arg(id)
            .arg(count(self.wanted))
            .arg(&self.from.0)
            .arg(&self.from.1);
    }
}

/// Pauses or resumes reservations.
pub(in crate::redis) struct SetPaused<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) paused: bool,
}

impl Call for SetPaused<'_> {
    type Answer = ();

    fn script(&self) -> &'static Script {
        admin!("queue_admin/pause")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(if self.paused { "1" } else { "0" });
    }
}

/// Lists dead letters, the newest first.
pub(in crate::redis) struct ListLetters<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) from: &'a Cursor,
}

impl Call for ListLetters<'_> {
    type Answer = (String, String, Vec<(String, i64, Vec<u8>)>);

    fn script(&self) -> &'static Script {
        admin!("queue_admin/letters")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(&self.from.0)
            .arg(&self.from.1);
    }
}

/// Reads one dead letter: its time (ms), its description, its envelope.
pub(in crate::redis) struct GetLetter<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) id: &'a str,
}

impl Call for GetLetter<'_> {
    type Answer = Option<(i64, Vec<u8>, Vec<u8>)>;

    fn script(&self) -> &'static Script {
        admin!("queue_admin/letter")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name).arg(self.id);
    }
}

/// Removes dead letters.
pub(in crate::redis) struct TakeLetters<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    /// Whether their messages become ready again.
    pub(in crate::redis) requeue: bool,
    pub(in crate::redis) ids: &'a [String],
}

impl Call for TakeLetters<'_> {
    type Answer = (usize, usize);

    fn script(&self) -> &'static Script {
        admin!("queue_admin/take_letters")
    }

    fn arguments(&self, call: &mut Cmd) {
        let how = if self.requeue { "requeue" } else { "drop" };
        call.arg(self.queue.name)
            .arg(how)
            .arg(self.ids.len())
            .arg(self.ids);
    }
}
