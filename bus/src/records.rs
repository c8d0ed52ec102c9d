//! Records: the state and history of one thing, such as a build, beside the messages about it.
//!
//! A message is gone when it is done. So its outcome is written into a record, in the same atomic step in which the message
//! is stored or settled: after a crash, the record has each step that happened, and no other.
//!
//! A record has *events*, which are appended and stay, and *fields*, which have a name and one value. A field that is
//! [set once](RecordStore::set_once) keeps its first value. A caller that must know whether its value was the first uses
//! [`Context::compare_and_set`](crate::Context::compare_and_set). An *index* lists records, the newest first.
//!
//! A record may be a deduplication key: a push whose updates begin with [`RecordStore::open`] stores its messages only if
//! nobody has opened the record before.

use std::{borrow::Cow, collections::HashMap, fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Blob, BusError, DecodeError, blob, encoding::encode};

/// The records of one kind, and their retention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordStore {
    /// Unique in a deployment.
    pub name: &'static str,
    /// The time from the last change of a record until it expires; see [`RecordStore::open`] for the first change.
    pub retention: Duration,
}

/// A field of records, with the type of its value.
pub struct Field<T> {
    name: &'static str,
    // A field may be written as a borrowed value, and read as an owned one.
    value: PhantomData<fn() -> T>,
}

impl<T> Field<T> {
    /// The field with this name, which is unique in its records.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

impl<T> fmt::Debug for Field<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Field").field(&self.name).finish()
    }
}

/// A change of a record. It is written in one step with a push or a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordUpdate {
    pub(crate) store: RecordStore,
    pub(crate) record: String,
    pub(crate) change: Change,
}

/// A change of one field that is made only if the field holds the expected value. See [`Bus::compare_and_set`]. As a
/// [`RecordUpdate`] it is written with other changes, and nobody learns whether it was made.
///
/// [`Bus::compare_and_set`]: crate::Bus::compare_and_set
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareAndSet(pub(crate) RecordUpdate);

impl From<CompareAndSet> for RecordUpdate {
    fn from(CompareAndSet(update): CompareAndSet) -> Self {
        update
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Open {
        field: &'static str,
        value: Blob,
    },
    Add(Blob),
    Set {
        field: &'static str,
        value: Blob,
    },
    Swap {
        field: &'static str,
        from: Option<Blob>,
        to: Option<Blob>,
    },
    /// A borrowed name is a constant of the program, which many records share.
    Index(Cow<'static, str>),
    Unindex(Cow<'static, str>),
    Erase,
}

impl Change {
    /// The size of its values in bytes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Open { value, .. } | Self::Add(value) | Self::Set { value, .. } => value.len(),
            Self::Swap { from, to, .. } => [from, to]
                .into_iter()
                .flatten()
                .map(|value| value.len())
                .sum(),
            Self::Index(_) | Self::Unindex(_) | Self::Erase => 0,
        }
    }
}

impl RecordStore {
    fn update(&self, record: &str, change: Change) -> RecordUpdate {
        RecordUpdate {
            store: *self,
            record: record.to_owned(),
            change,
        }
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Blob, BusError> {
        Ok(encode(self.name, value)?.into())
    }

    /// Sets a field that is empty. A push whose updates begin with it depends on it: when the field has a value, the messages
    /// are duplicates, and nothing is recorded.
    ///
    /// It does not start the retention: a record that was only opened is kept until its next change, and for the retention
    /// after that. So it does not expire before its message was handled, however long that waits.
    pub fn open<T: Serialize>(
        &self,
        record: &str,
        field: Field<T>,
        value: &T,
    ) -> Result<RecordUpdate, BusError> {
        Ok(self.update(
            record,
            Change::Open {
                field: field.name,
                value: self.encode(value)?,
            },
        ))
    }

    /// Appends an event.
    pub fn add<T: Serialize>(&self, record: &str, event: &T) -> Result<RecordUpdate, BusError> {
        Ok(self.update(record, Change::Add(self.encode(event)?)))
    }

    /// Sets a field, whatever it holds.
    pub fn set<T: Serialize>(
        &self,
        record: &str,
        field: Field<T>,
        value: &T,
    ) -> Result<RecordUpdate, BusError> {
        Ok(self.update(
            record,
            Change::Set {
                field: field.name,
                value: self.encode(value)?,
            },
        ))
    }

    /// Sets a field that is empty, and changes nothing otherwise.
    pub fn set_once<T: Serialize>(
        &self,
        record: &str,
        field: Field<T>,
        value: &T,
    ) -> Result<RecordUpdate, BusError> {
        Ok(self
            .compare_and_set(record, field, None, Some(value))?
            .into())
    }

    /// Sets a field to `new` if it holds `expected`, and changes nothing otherwise; `None` is an empty field. Of several such
    /// changes at once, one succeeds.
    pub fn compare_and_set<T: Serialize>(
        &self,
        record: &str,
        field: Field<T>,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<CompareAndSet, BusError> {
        let bytes = |value: Option<&T>| value.map(|value| self.encode(value)).transpose();
        Ok(self.compare_and_set_bytes(record, field.name, bytes(expected)?, bytes(new)?))
    }

    pub(crate) fn compare_and_set_bytes(
        &self,
        record: &str,
        field: &'static str,
        from: Option<Blob>,
        to: Option<Blob>,
    ) -> CompareAndSet {
        CompareAndSet(self.update(record, Change::Swap { field, from, to }))
    }

    /// Adds the record to an index. It keeps its place when it is there already.
    pub fn add_to_index(&self, record: &str, index: impl Into<Cow<'static, str>>) -> RecordUpdate {
        self.update(record, Change::Index(index.into()))
    }

    /// Removes the record from an index.
    pub fn remove_from_index(
        &self,
        record: &str,
        index: impl Into<Cow<'static, str>>,
    ) -> RecordUpdate {
        self.update(record, Change::Unindex(index.into()))
    }

    /// Removes all events and fields. The record stays in its indexes.
    pub fn erase(&self, record: &str) -> RecordUpdate {
        self.update(record, Change::Erase)
    }
}

/// The events and fields of a record. Empty when the record does not exist, or has expired.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub(crate) events: Vec<Blob>,
    pub(crate) fields: HashMap<String, Blob>,
}

impl Record {
    /// Whether it has neither events nor fields.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.fields.is_empty()
    }

    /// All events, the oldest first. [`DecodeError`] when one has another type.
    pub fn events<T: DeserializeOwned>(&self) -> Result<Vec<T>, DecodeError> {
        self.events
            .iter()
            .map(|event| blob::decode(event).map_err(DecodeError::Body))
            .collect()
    }

    /// The value of a field; `None` when it is empty. [`DecodeError`] when it has another type.
    pub fn field<T: DeserializeOwned>(&self, field: Field<T>) -> Result<Option<T>, DecodeError> {
        self.fields
            .get(field.name)
            .map(|value| blob::decode(value).map_err(DecodeError::Body))
            .transpose()
    }
}
