//! What Redis answers when messages are taken.

use redis::{ErrorKind, FromRedisValue, ParsingError, RedisError, RedisResult, Value};

/// An entry that is now ours.
pub(super) struct RawEntry {
    pub(super) partition: Option<String>,
    pub(super) entry: (u64, u64),
    pub(super) delivery: u64,
    /// How many attempts were counted before this entry was made.
    pub(super) attempts: u32,
    /// The envelope, or whatever somebody put in its place.
    pub(super) bytes: Vec<u8>,
}

/// As the scripts return it: partition, entry, delivery, attempts, envelope.
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

/// The new entries in the answer to an `XREADGROUP` of one stream.
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
        // Not ours, but its bytes are kept.
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

/// Reads `milliseconds-number`.
fn name(id: &[u8]) -> Option<(u64, u64)> {
    let (millis, number) = std::str::from_utf8(id).ok()?.split_once('-')?;
    Some((millis.parse().ok()?, number.parse().ok()?))
}
