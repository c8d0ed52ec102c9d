//! Records: what is known of one thing (a build, say) beside the messages about it, for whoever asks later.
//!
//! A message is gone when it is handled. Its outcome is written into a record, in the same atomic step in which the
//! message is stored or settled: a crash can neither lose a step from the record nor tell of one that did not happen.
//!
//! A record has *entries*, which are added one after another and stay, and *fields*, which are named and hold one
//! value. A field that is [set once](RecordStore::set_once) keeps its first value, whoever else tries. Who has to know
//! at once whether its value is the one uses [`Context::compare_and_set`](crate::Context::compare_and_set). Records are
//! found again by their *tags*.
//!
//! A record may be its own deduplication key: a push whose updates begin with [`RecordStore::open`] stores its messages
//! only if it makes the record.

use std::{borrow::Cow, collections::HashMap, fmt, marker::PhantomData, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Blob, BusError, DecodeError, blob, encoding::encode};

/// Where records of one kind are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordStore {
    /// The name, unique in a deployment.
    pub name: &'static str,
    /// A record is forgotten this long after its last change, see [`RecordStore::open`] for the first one.
    pub retention: Duration,
}

/// A named value of records, and its type.
pub struct Field<T> {
    name: &'static str,
    // A value that borrows may be written where one that owns is read.
    value: PhantomData<fn() -> T>,
}

impl<T> Field<T> {
    /// The field with this name, unique in its records.
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

/// A change of a record, to be written together with what is sent or settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordUpdate {
    pub(crate) store: RecordStore,
    pub(crate) record: String,
    pub(crate) change: Change,
}

/// A change of one field that is made only where the field holds what is expected. See [`Bus::compare_and_set`]; as a
/// [`RecordUpdate`] it is written with something else, and nobody learns whether it was made.
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
    /// A name that is written in the program is common to many records.
    Tag(Cow<'static, str>),
    Untag(Cow<'static, str>),
    Erase,
}

impl Change {
    /// How many bytes of values it has.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Open { value, .. } | Self::Add(value) | Self::Set { value, .. } => value.len(),
            Self::Swap { from, to, .. } => [from, to]
                .into_iter()
                .flatten()
                .map(|value| value.len())
                .sum(),
            Self::Tag(_) | Self::Untag(_) | Self::Erase => 0,
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

    /// Puts a value into a field, unless there is one. A push whose updates begin with it depends on it: when the field
    /// has a value, its messages count as stored before, and nothing is recorded.
    ///
    /// It does not begin the retention: a record that holds nothing else is kept until its next change, and from then on for
    /// the retention. So what was accepted is not forgotten before it was handled, however long it waits.
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
                value: encode(self.name, value)?.into(),
            },
        ))
    }

    /// Adds an entry behind those that are there.
    pub fn add<T: Serialize>(&self, record: &str, entry: &T) -> Result<RecordUpdate, BusError> {
        Ok(self.update(record, Change::Add(encode(self.name, entry)?.into())))
    }

    /// Puts a value into a field.
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
                value: encode(self.name, value)?.into(),
            },
        ))
    }

    /// Puts a value into a field, unless there is one.
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

    /// Has a field hold `new` if it holds `expected`, and changes nothing otherwise; `None` is an empty field. Of several
    /// who try at once one succeeds.
    pub fn compare_and_set<T: Serialize>(
        &self,
        record: &str,
        field: Field<T>,
        expected: Option<&T>,
        new: Option<&T>,
    ) -> Result<CompareAndSet, BusError> {
        let bytes = |value: Option<&T>| {
            value
                .map(|value| encode(self.name, value).map(Blob::from))
                .transpose()
        };
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

    /// Lets the record be found by `tag`. Tagging it again changes nothing.
    pub fn tag(&self, record: &str, tag: impl Into<Cow<'static, str>>) -> RecordUpdate {
        self.update(record, Change::Tag(tag.into()))
    }

    /// Takes a tag away.
    pub fn untag(&self, record: &str, tag: impl Into<Cow<'static, str>>) -> RecordUpdate {
        self.update(record, Change::Untag(tag.into()))
    }

    /// Removes all entries and fields. The tags stay.
    pub fn erase(&self, record: &str) -> RecordUpdate {
        self.update(record, Change::Erase)
    }
}

/// What is known of one thing. Empty when there is no such record, or none any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    pub(crate) entries: Vec<Blob>,
    pub(crate) fields: HashMap<String, Blob>,
}

impl Record {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.fields.is_empty()
    }

    /// The entries in the order in which they were added.
    pub fn entries<T: DeserializeOwned>(&self) -> Result<Vec<T>, DecodeError> {
        self.entries
            .iter()
            .map(|entry| blob::decode(entry).map_err(DecodeError::Body))
            .collect()
    }

    /// The value of a field.
    pub fn field<T: DeserializeOwned>(&self, field: Field<T>) -> Result<Option<T>, DecodeError> {
        self.fields
            .get(field.name)
            .map(|value| blob::decode(value).map_err(DecodeError::Body))
            .transpose()
    }
}
