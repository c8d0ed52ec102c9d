//! Every script, called with too little, too much, or something else.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use redis::{Arg, RedisError, aio::MultiplexedConnection};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::*;
use crate::{
    Field, Lease, Message, MessageSelector, Outgoing, Policy, Queue, QueueSpec, RecordStore,
    RecordUpdate, SettleRequest, Settlement, encoding::encode,
};
use runtime::SystemClock;
use testkit::RedisServer;

const PREFIX: &str = "{test}:";

#[derive(Serialize, Deserialize)]
struct Note {
    text: String,
}

impl Message for Note {
    const VERSION: u16 = 1;
}

const NOTES: Queue<Note> = Queue::new(
    "notes",
    Policy {
        max_depth: Some(1000),
        ..Policy::DEFAULT
    },
);
const PARTITIONED: Queue<Note> =
    Queue::with_partitions("partitioned", Policy::DEFAULT, |_| "x".to_owned());
const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(60),
};

struct Server {
    connection: MultiplexedConnection,
    _server: RedisServer,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self {
            connection,
            _server: server,
            _directory: directory,
        }
    }

    async fn run<T: FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut self.connection).await.unwrap()
    }

    /// All keys with what they hold.
    async fn keyspace(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for key in self.run::<Vec<String>>(&["KEYS", "*"]).await {
            let dump = self.run(&["DUMP", &key]).await;
            found.insert(key, dump);
        }
        found
    }

    async fn call(
        &mut self,
        script: &Script,
        keys: &[&str],
        arguments: &[Vec<u8>],
    ) -> Result<redis::Value, RedisError> {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(script.get_hash())
            .arg(keys.len())
            .arg(keys)
            .arg(arguments);
        command.query_async(&mut self.connection).await
    }

    /// A call that must fail, and change nothing.
    async fn refuses(&mut self, name: &str, script: &Script, keys: &[&str], arguments: &[Vec<u8>]) {
        let before = self.keyspace().await;
        let answer = self.call(script, keys, arguments).await;
        let shown: Vec<_> = arguments
            .iter()
            .map(|argument| String::from_utf8_lossy(argument))
            .collect();
        assert!(answer.is_err(), "{name} takes {shown:?}: {answer:?}");
        assert!(
            self.keyspace().await == before,
            "{name} changes something and then fails with {shown:?}: {answer:?}"
        );
    }
}

/// Fills the queues with something of each kind, half of it held by `me`.
async fn fill(server: &mut Server) {
    for stream in ["{test}:notes:ready", "{test}:partitioned:partition:x"] {
        for entry in 1..=8 {
            server
                .run::<String>(&[
                    "XADD",
                    stream,
                    &format!("{entry}-0"),
                    "a",
                    "0",
                    "e",
                    "envelope",
                ])
                .await;
        }
        server
            .run::<String>(&["XGROUP", "CREATE", stream, GROUP, "0"])
            .await;
        let read = [
            "XREADGROUP",
            "GROUP",
            GROUP,
            "me",
            "COUNT",
            "4",
            "STREAMS",
            stream,
            ">",
        ];
        server.run::<redis::Value>(&read).await;
    }
    server
        .run::<u32>(&["SADD", "{test}:partitioned:partitions", "x"])
        .await;
    for queue in ["notes", "partitioned"] {
        for number in 0..5 {
            let (id, due) = (format!("letter-{number}"), format!("{}", 1000 + number));
            server
                .run::<u32>(&[
                    "ZADD",
                    &format!("{{test}}:{queue}:delayed"),
                    &due,
                    &format!("member {number}"),
                ])
                .await;
            server
                .run::<u32>(&["ZADD", &format!("{{test}}:{queue}:dead"), &due, &id])
                .await;
            server
                .run::<u32>(&["HSET", &format!("{{test}}:{queue}:letters"), &id, "why"])
                .await;
            server
                .run::<u32>(&["HSET", &format!("{{test}}:{queue}:bodies"), &id, "body"])
                .await;
        }
    }
}

fn lease(queue: &QueueSpec, partition: Option<&str>, entry: u64) -> Lease {
    let (queue, length) = (queue.name, queue.policy.lease);
    Lease {
        queue,
        length,
        partition: partition.map(str::to_owned),
        entry: (entry, 0),
        delivery: 1,
        spent: None,
    }
}

/// A call of each script that changes what it can, by name.
fn calls() -> Vec<(&'static str, &'static Script, Vec<Vec<u8>>)> {
    fn one<C: Call>(name: &'static str, call: &C) -> (&'static str, &'static Script, Vec<Vec<u8>>) {
        let command = call.command(PREFIX);
        let arguments = command.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("{name}: not bytes"),
        });
        // The command, the script, the number of keys and the key come before.
        (name, call.script(), arguments.skip(4).collect())
    }
    let (notes, partitioned) = (NOTES.spec(), PARTITIONED.spec());
    let message = |queue: &Queue<Note>| {
        queue
            .pack(
                &Note {
                    text: "x".to_owned(),
                },
                &SystemClock,
            )
            .unwrap()
    };
    let keyed = || Outgoing {
        key: Some("k".to_owned()),
        ..message(&NOTES)
    };
    let late = || Outgoing {
        after: Duration::from_secs(5),
        ..message(&PARTITIONED)
    };
    let updates = vec![
        BUILDS.erase("a"),
        BUILDS.set("a", Field::new("one"), &1).unwrap(),
        BUILDS.set("a", Field::new("two"), &2).unwrap(),
        BUILDS.add("a", &"entry").unwrap(),
        BUILDS.set_once("a", Field::new("end"), &1).unwrap(),
        BUILDS.open("a", Field::new("begin"), &1).unwrap(),
        BUILDS.tag("a", "all"),
        BUILDS.tag("b", "all"),
        BUILDS.untag("b", "open"),
    ];
    let first = BUILDS
        .compare_and_set("a", Field::new("by"), None, Some(&1))
        .unwrap();
    let compare_first: Vec<RecordUpdate> =
        [first.into()].into_iter().chain(updates.clone()).collect();
    let push = [
        Packed {
            messages: pack(vec![keyed(), late()]).unwrap(),
            updates: updates.clone(),
        },
        Packed {
            messages: pack(vec![message(&PARTITIONED)]).unwrap(),
            updates: vec![BUILDS.open("c", Field::new("begin"), &1).unwrap()],
        },
        Packed {
            messages: pack(vec![message(&PARTITIONED)]).unwrap(),
            updates: vec![BUILDS.open("d", Field::new("begin"), &1).unwrap()],
        },
    ];
    let dead = Settlement::Dead {
        id: message(&NOTES).envelope.id,
        reason: "why".into(),
        attempts: 1,
        emit: vec![late()],
    };
    let (done, plain) = (
        Settlement::Done {
            emit: vec![keyed()],
        },
        Settlement::Done { emit: Vec::new() },
    );
    let after = Duration::from_secs(1);
    let (retry, defer) = (
        Settlement::Retry { after },
        Settlement::Defer {
            after: Duration::ZERO,
        },
    );
    let leases: Vec<Lease> = (1..=4).map(|entry| lease(&notes, None, entry)).collect();
    let in_partition: Vec<Lease> = (1..=3)
        .map(|entry| lease(&partitioned, Some("x"), entry))
        .collect();
    let end = |lease, how, updates| {
        SettleOne::new(SettleRequest {
            lease,
            how,
            updates,
        })
        .unwrap()
    };
    let ended = [
        end(&leases[0], &plain, &[]),
        end(&leases[1], &plain, &[]),
        end(&leases[2], &done, &updates),
        end(&leases[3], &dead, &updates),
        end(&in_partition[0], &retry, &updates),
        end(&in_partition[1], &defer, &[]),
        end(&in_partition[2], &Settlement::Release, &[]),
    ];
    let from = ("1-0".to_owned(), String::new());
    let due = ("1000".to_owned(), "0".to_owned());
    let ids: Vec<String> = (0..3).map(|number| format!("letter-{number}")).collect();
    let walk = |over, what, from| Walk {
        over,
        queue: &notes,
        what,
        which: MessageSelector::All,
        wanted: 2,
        from,
    };
    vec![
        one("push", &Push { pushes: &push }),
        one(
            "compare_and_set",
            &CompareFirst {
                updates: &compare_first,
            },
        ),
        one(
            "look",
            &Look {
                queue: &notes,
                consumer: "me",
                max: 2,
            },
        ),
        one(
            "reserve",
            &TakeFromPartitions {
                queue: &partitioned,
                consumer: "me",
                max: 2,
                skip: &["y".to_owned()],
            },
        ),
        one("settle", &Settle::new("me", &ended).unwrap()),
        one(
            "extend",
            &Extend {
                lease: &leases[0],
                consumer: "me",
            },
        ),
        one("probe", &ProbeWrite { consumer: "me" }),
        one("status", &GetStatus { queue: &notes }),
        one("ready", &walk(Over::Ready, Do::Drop, &from)),
        one("delayed", &walk(Over::Delayed, Do::Requeue, &due)),
        one(
            "pause",
            &SetPaused {
                queue: &notes,
                paused: true,
            },
        ),
        one(
            "letters",
            &ListLetters {
                queue: &notes,
                from: &due,
            },
        ),
        one(
            "letter",
            &GetLetter {
                queue: &notes,
                id: "letter-1",
            },
        ),
        one(
            "take_letters",
            &TakeLetters {
                queue: &notes,
                requeue: true,
                ids: &ids,
            },
        ),
    ]
}

#[tokio::test]
async fn a_call_with_a_missing_or_wrong_argument_changes_nothing() {
    let mut server = Server::start().await;
    for (name, script, arguments) in calls() {
        let _: redis::Value = server.run(&["FLUSHALL"]).await;
        fill(&mut server).await;
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

/// The value with each of its parts once left out, and once replaced by each of some others.
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
    fill(&mut server).await;
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
            let _: redis::Value = server.run(&["FLUSHALL"]).await;
            fill(&mut server).await;
            before = server.keyspace().await;
        }
    }
    assert!(refused > 100, "{refused}");
}

#[tokio::test]
async fn every_script_takes_what_its_builder_gives_it() {
    let mut server = Server::start().await;
    for (name, script, arguments) in calls() {
        let _: redis::Value = server.run(&["FLUSHALL"]).await;
        fill(&mut server).await;
        script.load_async(&mut server.connection).await.unwrap();
        let answer = server.call(script, &[PREFIX], &arguments).await;
        assert!(answer.is_ok(), "{name}: {answer:?}");
        if name == "settle" {
            let (lost, refused): <Settle<'_> as Call>::Answer =
                redis::from_redis_value(answer.unwrap()).unwrap();
            assert_eq!((lost, refused), (Vec::new(), Vec::new()));
            let record: HashMap<String, Vec<u8>> = server
                .run(&["HGETALL", "{test}:-record-:builds:record:a"])
                .await;
            let mut fields: Vec<_> = record.into_keys().collect();
            fields.sort_unstable();
            assert_eq!(fields, ["#1", "=begin", "=end", "=one", "=two", "n"]);
        }
    }
}

#[tokio::test]
async fn pushes_of_one_kind_share_its_description_and_keep_their_values() {
    let push = |queue: &Queue<Note>, record: &str, tag: &str| {
        let note = Note {
            text: record.to_owned(),
        };
        let updates = vec![
            BUILDS.open(record, Field::new("begin"), &record).unwrap(),
            BUILDS.tag(record, "all"),
            BUILDS.tag(record, tag.to_owned()),
        ];
        Packed {
            messages: pack(vec![queue.pack(&note, &SystemClock).unwrap()]).unwrap(),
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
    // The envelope, the record, the field's value and the tag of its own.
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
        server.run::<usize>(&["XLEN", "{test}:notes:ready"]).await,
        3
    );
    assert_eq!(
        server
            .run::<usize>(&["XLEN", "{test}:partitioned:partition:x"])
            .await,
        1
    );
    for (tag, expected) in [
        ("all", &["a", "b", "c", "d"][..]),
        ("D1", &["a", "c", "d"]),
        ("D2", &["b"]),
        ("D3", &[]),
    ] {
        let key = format!("{{test}}:-record-:builds:tag:{tag}");
        let mut found: Vec<String> = server.run(&["ZRANGE", &key, "0", "-1"]).await;
        found.sort_unstable();
        assert_eq!(found, expected, "{tag}");
    }
    for record in ["a", "b", "c", "d"] {
        let key = format!("{{test}}:-record-:builds:record:{record}");
        let value: Vec<u8> = server.run(&["HGET", &key, "=begin"]).await;
        assert_eq!(value, encode("test", &record).unwrap());
        // An expiry begins with the next change.
        assert_eq!(server.run::<i64>(&["PTTL", &key]).await, -1);
    }
}
