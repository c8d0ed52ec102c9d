//! Records in memory.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use jiff::Timestamp;

use super::state::later;
use crate::{CompareAndSet, Record, RecordStore, RecordUpdate, records::Change};

/// The records of all stores of a bus.
#[derive(Debug, Default)]
pub(super) struct Records {
    records: HashMap<(&'static str, String), Kept>,
    indexes: HashMap<(&'static str, String), Index>,
    /// The records by the time at which they may expire. One that was changed since is listed again.
    forget: BTreeMap<(Timestamp, u64), (&'static str, String)>,
    serial: u64,
}

/// The records of an index, each with the time and the serial number of its addition.
type Index = HashMap<String, (Timestamp, u64)>;

#[derive(Debug)]
struct Kept {
    record: Record,
    /// The time at which it expires, unless it changes before. `None` when it was only opened.
    until: Option<Timestamp>,
}

impl Records {
    pub(super) fn write(&mut self, updates: &[RecordUpdate], now: Timestamp) {
        for RecordUpdate {
            store,
            record: id,
            change,
        } in updates
        {
            self.serial += 1;
            match change {
                Change::Index(index) => {
                    let records = self
                        .indexes
                        .entry((store.name, index.to_string()))
                        .or_default();
                    records.entry(id.clone()).or_insert((now, self.serial));
                }
                Change::Unindex(index) => {
                    if let Some(records) = self.indexes.get_mut(&(store.name, index.to_string())) {
                        records.remove(id);
                    }
                }
                Change::Erase => {
                    self.records.remove(&(store.name, id.clone()));
                }
                Change::Open { .. } | Change::Add(_) | Change::Set { .. } | Change::Swap { .. } => {
                    self.change(store, id, change, now);
                }
            }
        }
        self.forget(now);
    }

    /// Whether these updates begin by opening a field that has a value.
    pub(super) fn is_open(&mut self, updates: &[RecordUpdate], now: Timestamp) -> bool {
        let Some(RecordUpdate {
            store,
            record,
            change: Change::Open { field, .. },
        }) = updates.first()
        else {
            return false;
        };
        self.forget(now);
        self.records
            .get(&(store.name, record.clone()))
            .is_some_and(|kept| kept.record.fields.contains_key(*field))
    }

    /// Whether a field holds the value that this change expects.
    pub(super) fn finds_expected(
        &mut self,
        CompareAndSet(update): &CompareAndSet,
        now: Timestamp,
    ) -> bool {
        let Change::Swap { field, from, .. } = &update.change else {
            return false;
        };
        self.forget(now);
        let kept = self
            .records
            .get(&(update.store.name, update.record.clone()));
        kept.and_then(|kept| kept.record.fields.get(*field)) == from.as_ref()
    }

    fn change(&mut self, store: &RecordStore, id: &str, change: &Change, now: Timestamp) {
        let name = (store.name, id.to_owned());
        // A record that was only opened expires after its next change.
        let until = match change {
            Change::Open { .. } => None,
            _ => Some(later(now, store.retention)),
        };
        let kept = self.records.entry(name.clone()).or_insert_with(|| Kept {
            record: Record::default(),
            until,
        });
        if let Some(until) = until {
            kept.until = Some(until);
            self.forget.insert((until, self.serial), name);
        }
        match change {
            Change::Open { field, value } => {
                kept.record
                    .fields
                    .entry((*field).to_owned())
                    .or_insert_with(|| value.clone());
            }
            Change::Add(event) => kept.record.events.push(event.clone()),
            Change::Set { field, value } => {
                kept.record
                    .fields
                    .insert((*field).to_owned(), value.clone());
            }
            Change::Swap { field, from, to } if kept.record.fields.get(*field) == from.as_ref() => {
                match to {
                    Some(to) => _ = kept.record.fields.insert((*field).to_owned(), to.clone()),
                    None => _ = kept.record.fields.remove(*field),
                }
            }
            Change::Swap { .. } => {}
            Change::Index(_) | Change::Unindex(_) | Change::Erase => {}
        }
    }

    /// Removes expired records, from their indexes too.
    fn forget(&mut self, now: Timestamp) {
        while let Some(oldest) = self
            .forget
            .first_entry()
            .filter(|oldest| oldest.key().0 <= now)
        {
            let name = oldest.remove();
            if self
                .records
                .get(&name)
                .is_some_and(|kept| kept.until.is_some_and(|until| until <= now))
            {
                self.records.remove(&name);
                for (_, records) in self
                    .indexes
                    .iter_mut()
                    .filter(|((store, _), _)| *store == name.0)
                {
                    records.remove(&name.1);
                }
                self.indexes.retain(|_, records| !records.is_empty());
            }
        }
    }

    pub(super) fn read(
        &mut self,
        store: &RecordStore,
        ids: &[String],
        now: Timestamp,
    ) -> Vec<Record> {
        self.forget(now);
        let read = |id: &String| {
            self.records
                .get(&(store.name, id.clone()))
                .map(|kept| kept.record.clone())
        };
        ids.iter().map(|id| read(id).unwrap_or_default()).collect()
    }

    pub(super) fn indexed(
        &mut self,
        store: &RecordStore,
        index: &str,
        part: Range<usize>,
        now: Timestamp,
    ) -> Vec<(String, Timestamp)> {
        self.forget(now);
        let records = self
            .indexes
            .get(&(store.name, index.to_owned()))
            .into_iter()
            .flatten();
        let mut found: Vec<_> = records
            .map(|(id, (since, serial))| (*serial, id.clone(), *since))
            .collect();
        found.sort_by_key(|(serial, ..)| std::cmp::Reverse(*serial));
        let found = found.into_iter().map(|(_, id, since)| (id, since));
        found.skip(part.start).take(part.len()).collect()
    }
}
