//! Reads of records.

use std::{collections::HashMap, ops::Range};

use jiff::Timestamp;

use super::{
    RedisBus,
    scripts::{count, millis},
};
use crate::{BusError, Record, RecordStore};

/// The maximum number of records that one exchange reads.
const CHUNK: usize = 100;

impl RedisBus {
    fn store_key(&self, store: &RecordStore, part: &str, name: &str) -> String {
        format!("{}-record-:{}:{part}:{name}", self.prefix, store.name)
    }

    pub(super) async fn read_records(
        &self,
        store: &RecordStore,
        ids: &[String],
    ) -> Result<Vec<Record>, BusError> {
        let mut records = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for id in chunk {
                pipe.cmd("HGETALL").arg(self.store_key(store, "record", id));
            }
            let ask = async |connection: &mut _| pipe.query_async(connection).await;
            let found: Vec<HashMap<String, Vec<u8>>> =
                self.connections.run("reading records", ask).await?;
            records.extend(found.into_iter().map(record));
        }
        Ok(records)
    }

    /// The time of Redis, in ms.
    async fn now_ms(&self) -> Result<u64, BusError> {
        let (seconds, micros): (u64, u64) = self
            .connections
            .command("reading the time", &redis::cmd("TIME"))
            .await?;
        Ok(seconds * 1000 + micros / 1000)
    }

    pub(super) async fn read_index(
        &self,
        store: &RecordStore,
        index: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        if part.is_empty() {
            return Ok(Vec::new());
        }
        // Records beyond the retention are removed from time to time only.
        let oldest = self.now_ms().await?.saturating_sub(millis(store.retention));
        let mut range = redis::cmd("ZREVRANGEBYSCORE");
        range
            .arg(self.store_key(store, "index", index))
            .arg("+inf")
            .arg(format!("({oldest}"))
            .arg("WITHSCORES");
        range.arg("LIMIT").arg(part.start).arg(count(part.len()));
        let found: Vec<(String, i64)> =
            self.connections.command("reading an index", &range).await?;
        let at = |millis| Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(found
            .into_iter()
            .map(|(id, millis)| (id, at(millis)))
            .collect())
    }
}

fn record(stored: HashMap<String, Vec<u8>>) -> Record {
    let mut events = Vec::new();
    let mut fields = HashMap::new();
    for (field, value) in stored {
        if let Some(field) = field.strip_prefix('=') {
            fields.insert(field.to_owned(), value.into());
        } else if let Some(number) = field
            .strip_prefix('#')
            .and_then(|number| number.parse::<u64>().ok())
        {
            events.push((number, value.into()));
        }
    }
    events.sort_by_key(|(number, _)| *number);
    Record {
        events: events.into_iter().map(|(_, event)| event).collect(),
        fields,
    }
}
