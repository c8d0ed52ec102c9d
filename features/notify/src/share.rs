//! What one task may ask for, so that it leaves room for the others.
//!
//! * The notifications of a channel are in several partitions. A task's are all in one, so it has one of the places that a
//!   channel sends in.
//! * A notification makes one for each recipient, one after the other: behind each it queues again for the next. So one
//!   with a hundred recipients lets the others of its partition pass.
//! * What a task asks for beyond [`MAX_ARTIFACTS`] and [`MAX_RECIPIENTS`] is left out, which the log and the last
//!   notification say.

use bus::{BusError, Context, Field, RecordStore};
use sha2::{Digest as _, Sha256};

use crate::memory::{DAY, name, unreadable};

/// How many artifacts of a task lead to notifications.
pub(crate) const MAX_ARTIFACTS: usize = 100;
/// How many recipients of one kind a section may name.
pub(crate) const MAX_RECIPIENTS: usize = 50;
/// With how many recipients on one channel the identities of a section end.
pub(crate) const MAX_IDENTIFIED: usize = 200;
/// How many partitions a channel has.
const PARTITIONS: u8 = 8;

/// The artifacts that led to notifications, by task.
const ARTIFACTS: RecordStore = RecordStore {
    name: "notify-artifacts",
    retention: DAY,
};
const FULL: Field<bool> = Field::new("full");

/// The partition of a task's notifications on a channel.
pub(crate) fn partition(channel: &str, task: &str) -> String {
    format!("{channel}/{}", Sha256::digest(task)[0] % PARTITIONS)
}

/// Whether an artifact leads to notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is.
    Free,
    /// It is, as the last one.
    Last,
    /// It is not, and is the first.
    Over,
    /// It is not, and it was said before.
    FarOver,
}

/// Takes the place of an artifact. The same artifact has the same one whenever it asks.
pub(crate) async fn place(
    cx: &Context,
    task: &str,
    run: Option<u32>,
    artifact: &str,
) -> Result<Place, BusError> {
    let id = name(&[task]);
    let own = name(&[
        &run.map(|run| run.to_string()).unwrap_or_default(),
        artifact,
    ]);
    let taken = async || {
        let record = cx.recorded(&ARTIFACTS, &id).await?;
        let taken: Vec<String> = record.events().map_err(unreadable(&id))?;
        let is_full: Option<bool> = record.field(FULL).map_err(unreadable(&id))?;
        Ok::<_, BusError>((taken, is_full))
    };
    let (mut places, is_full) = taken().await?;
    if !places.contains(&own) && places.len() < MAX_ARTIFACTS {
        cx.record_now(vec![ARTIFACTS.add(&id, &own)?]).await?;
        places = taken().await?.0;
    }
    match places.iter().position(|place| *place == own) {
        Some(place) if place + 1 < MAX_ARTIFACTS => Ok(Place::Free),
        Some(place) if place + 1 == MAX_ARTIFACTS => Ok(Place::Last),
        _ if is_full.is_none() => {
            cx.record(ARTIFACTS.set(&id, FULL, &true)?);
            Ok(Place::Over)
        }
        _ => Ok(Place::FarOver),
    }
}
