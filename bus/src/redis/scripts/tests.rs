//! Calls of every script with too few, too many and wrong arguments, and with what the builders give.

mod calls;
mod server;

use std::collections::HashMap;

use rmpv::Value;

use self::{
    calls::{BUILDS, NOTES, Note, PARTITIONED, calls, packed},
    server::Server,
};
use super::{Call, Packed, Push, PushAnswer, Settle, pack};
use crate::{Field, Queue, encoding::encode};

const PREFIX: &str = "{test}:";

#[tokio::test]
async fn call_with_a_missing_or_wrong_argument_changes_nothing() {
    let mut server = Server::start().await;
    for (name, script, arguments) in calls() {
        server.refill().await;
        script.load_async(&mut server.connection).await.unwrap();
        server.refuses(name, script, &[], &arguments).await;
        for length in 0..arguments.len() {
            server
                .refuses(name, script, &[PREFIX], &arguments[..length])
                .await;
        }
        let more: Vec<Vec<u8>> = arguments.iter().cloned().chain([b"1".to_vec()]).collect();
        server.refuses(name, script, &[PREFIX], &more).await;
        for place in 0..arguments.len() {
            for garbage in ["", "-1", "x y", "1.5", "99999999999999999999", "0"] {
                let mut wrong = arguments.clone();
                wrong[place] = garbage.into();
                let before = server.keyspace().await;
                // Many an argument may be anything.
                if server.call(script, &[PREFIX], &wrong).await.is_err() {
                    assert!(
                        server.keyspace().await == before,
                        "{name}: {garbage:?} as argument {}",
                        place + 1
                    );
                }
            }
        }
    }
}

/// The variants of a value: each of its parts left out, or replaced by another value.
fn mutations(value: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match value {
        Value::Map(fields) => {
            for (at, (name, inner)) in fields.iter().enumerate() {
                let mut without = fields.clone();
                without.remove(at);
                found.push(Value::Map(without));
                for inner in mutations(inner) {
                    let mut with = fields.clone();
                    with[at] = (name.clone(), inner);
                    found.push(Value::Map(with));
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                for item in mutations(item) {
                    let mut with = items.clone();
                    with[at] = item;
                    found.push(Value::Array(with));
                }
            }
        }
        _ => {}
    }
    let others = [
        Value::from(""),
        Value::from(-1),
        Value::from(1.5),
        Value::Nil,
    ];
    found.extend(others);
    found.push(Value::Map(Vec::new()));
    found
}

#[tokio::test]
async fn settlement_request_of_another_form_changes_nothing() {
    let mut server = Server::start().await;
    let (_, script, arguments) = calls()
        .into_iter()
        .find(|(name, ..)| *name == "settle")
        .unwrap();
    script.load_async(&mut server.connection).await.unwrap();
    server.refill().await;
    let mut before = server.keyspace().await;
    let request: Value = rmpv::decode::read_value(&mut &arguments[0][..]).unwrap();
    let mut refused = 0;
    for mutation in mutations(&request) {
        let mut wrong = arguments.clone();
        wrong[0].clear();
        rmpv::encode::write_value(&mut wrong[0], &mutation).unwrap();
        if server.call(script, &[PREFIX], &wrong).await.is_err() {
            refused += 1;
            assert!(server.keyspace().await == before, "{mutation}");
        } else {
            // Text and numbers may be others; then it settles what it names, or nothing.
            server.refill().await;
            before = server.keyspace().await;
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn every_script_accepts_the_arguments_of_its_builder() {
    let mut server = Server::start().await;
    for (name, script, arguments) in calls() {
        server.refill().await;
        script.load_async(&mut server.connection).await.unwrap();
        let answer = server.call(script, &[PREFIX], &arguments).await;
        assert!(answer.is_ok(), "{name}: {answer:?}");
        if name == "settle" {
            let (lost, refused): <Settle<'_> as Call>::Answer =
                redis::from_redis_value(answer.unwrap()).unwrap();
            assert_eq!((lost, refused), (Vec::new(), Vec::new()));
            let record: HashMap<String, Vec<u8>> = server
                .command(&["HGETALL", "{test}:-record-:builds:record:a"])
                .await;
            let mut fields: Vec<_> = record.into_keys().collect();
            fields.sort_unstable();
            assert_eq!(fields, ["#1", "=begin", "=end", "=one", "=two", "n"]);
        }
    }
}

#[tokio::test]
async fn pushes_of_one_kind_share_its_description_and_keep_their_values() {
    let push = |queue: &Queue<Note>, record: &str, index: &str| {
        let updates = vec![
            BUILDS.open(record, Field::new("begin"), &record).unwrap(),
            BUILDS.add_to_index(record, "all"),
            BUILDS.add_to_index(record, index.to_owned()),
        ];
        Packed {
            messages: pack(vec![packed(queue, record)]).unwrap(),
            updates,
        }
    };
    let size = |pushes: &[Packed]| Push { pushes }.command(PREFIX).args_iter().len();
    let (one, other) = (push(&NOTES, "a", "D1"), push(&PARTITIONED, "d", "D1"));
    let alone = size(std::slice::from_ref(&one));
    let pushes = [
        one,
        push(&NOTES, "b", "D2"),
        push(&NOTES, "a", "D3"),
        other,
        push(&NOTES, "c", "D1"),
    ];
    // The envelope, the record, the field's value and its own index.
    assert_eq!(size(&pushes[..2]), alone + 4);
    assert_eq!(size(&pushes[..3]), alone + 8);

    let mut server = Server::start().await;
    let call = Push { pushes: &pushes };
    call.script()
        .load_async(&mut server.connection)
        .await
        .unwrap();
    let answers: Vec<PushAnswer> = call
        .command(PREFIX)
        .query_async(&mut server.connection)
        .await
        .unwrap();
    let stored: Vec<_> = answers
        .iter()
        .map(|answer| matches!(answer, PushAnswer::Stored(1)))
        .collect();
    assert_eq!(
        stored,
        [true, true, false, true, true],
        "a record is opened once"
    );
    assert_eq!(
        server
            .command::<usize>(&["XLEN", "{test}:notes:ready"])
            .await,
        3
    );
    assert_eq!(
        server
            .command::<usize>(&["XLEN", "{test}:partitioned:partition:x"])
            .await,
        1
    );
    for (index, expected) in [
        ("all", &["a", "b", "c", "d"][..]),
        ("D1", &["a", "c", "d"]),
        ("D2", &["b"]),
        ("D3", &[]),
    ] {
        let key = format!("{{test}}:-record-:builds:index:{index}");
        let mut found: Vec<String> = server.command(&["ZRANGE", &key, "0", "-1"]).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{index}");
    }
    for record in ["a", "b", "c", "d"] {
        let key = format!("{{test}}:-record-:builds:record:{record}");
        let value: Vec<u8> = server.command(&["HGET", &key, "=begin"]).await;
        assert_eq!(value, encode("test", &record).unwrap());
        // An expiry begins with the next change.
        assert_eq!(server.command::<i64>(&["PTTL", &key]).await, -1);
    }
}
