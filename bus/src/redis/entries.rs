//! Entries of streams, in the replies to reservations.

use redis::{ErrorKind, FromRedisValue, ParsingError, RedisError, RedisResult, Value};

/// An entry that this process has reserved.
pub(super) struct RawEntry {
    pub(super) partition: Option<String>,
    pub(super) entry: (u64, u64),
    pub(super) delivery: u64,
    /// The number of attempts that were counted when the entry was written.
    pub(super) attempts: u32,
    /// The encoded envelope, or other bytes when the entry is not the bus's.
    pub(super) bytes: Vec<u8>,
}

/// Parses the form of the scripts: partition, entry, delivery, attempts, envelope.
impl FromRedisValue for RawEntry {
    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let (partition, entry, delivery, attempts, bytes): (String, String, u64, u32, Vec<u8>) =
            FromRedisValue::from_redis_value(value)?;
        let entry = name(entry.as_bytes())
            .ok_or_else(|| ParsingError::from(format!("no entry's name: {entry}")))?;
        Ok(Self {
            partition: Some(partition).filter(|partition| !partition.is_empty()),
            entry,
            delivery,
            attempts,
            bytes,
        })
    }
}

/// Parses the reply to an `XREADGROUP` of one stream.
pub(super) fn read(answer: Value) -> RedisResult<Vec<RawEntry>> {
    let unexpected = || {
        RedisError::from((
            ErrorKind::UnexpectedReturnType,
            "not the answer to XREADGROUP",
        ))
    };
    let Value::Array(mut streams) = answer else {
        return if answer == Value::Nil {
            Ok(Vec::new())
        } else {
            Err(unexpected())
        };
    };
    let Some(Value::Array(mut stream)) = streams.pop() else {
        return Err(unexpected());
    };
    let Some(Value::Array(entries)) = stream.pop() else {
        return Err(unexpected());
    };
    entries
        .into_iter()
        .map(|entry| fresh(entry).ok_or_else(unexpected))
        .collect()
}

fn fresh(entry: Value) -> Option<RawEntry> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [Value::BulkString(id), Value::Array(fields)] = <[Value; 2]>::try_from(entry).ok()? else {
        return None;
    };
    let mut fields: Vec<Vec<u8>> = fields
        .into_iter()
        .map(FromRedisValue::from_redis_value)
        .collect::<Result<_, _>>()
        .ok()?;
    let (attempts, bytes) = match &mut fields[..] {
        [a, attempts, e, bytes] if a == b"a" && e == b"e" => (
            std::str::from_utf8(attempts).ok()?.parse().unwrap_or(0),
            std::mem::take(bytes),
        ),
        // The entry is not the bus's; its bytes are kept.
        _ => (0, fields.join(&b' ')),
    };
    Some(RawEntry {
        partition: None,
        entry: name(&id)?,
        delivery: 1,
        attempts,
        bytes,
    })
}

/// Parses an id: `milliseconds-number`.
fn name(id: &[u8]) -> Option<(u64, u64)> {
    let (millis, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}
