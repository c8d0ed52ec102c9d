//! The RabbitMQ of these tests allows what Pulse allows.

use lapin::{
    ErrorKind, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
        QueuePurgeOptions,
    },
    types::FieldTable,
};
use serde::Deserialize;
use tempfile::TempDir;
use testkit::RabbitServer;

use crate::world::{World, connect};

/// The results on a RabbitMQ whose users PulseGuardian's code had created.
#[derive(Deserialize)]
struct Seen {
    op: String,
    result: String,
}

async fn attempt(channel: &lapin::Channel, what: &str) -> lapin::Result<()> {
    let none = FieldTable::default;
    let exchange = |name: &str, passive| {
        let options = ExchangeDeclareOptions {
            passive,
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel.exchange_declare(name.into(), ExchangeKind::Topic, options, none())
    };
    let queue = async |name: &str, durable| {
        let options = QueueDeclareOptions {
            durable,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(name.into(), options, none())
            .await
            .map(|_| ())
    };
    let own = "queue/pulseuser/q";
    let bind = |to: &str| {
        channel.queue_bind(
            own.into(),
            to.into(),
            "#".into(),
            QueueBindOptions::default(),
            none(),
        )
    };
    let publish = async |to: &str| {
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let (options, properties) = (
            BasicPublishOptions::default(),
            lapin::BasicProperties::default(),
        );
        channel
            .basic_publish(to.into(), "key".into(), options, b"{}", properties)
            .await?
            .await
            .map(|_| ())
    };
    match what {
        "exchange.declare passive exchange/hgpushes/v2" => {
            exchange("exchange/hgpushes/v2", true).await
        }
        "exchange.declare active exchange/hgpushes/v2 (same args)" => {
            exchange("exchange/hgpushes/v2", false).await
        }
        "exchange.declare passive missing exchange/nope" => exchange("exchange/nope", true).await,
        "exchange.declare exchange/pulseuser/x" => exchange("exchange/pulseuser/x", false).await,
        "exchange.declare other name foo" => exchange("foo", false).await,
        "queue.declare queue/pulseuser/q durable" => queue(own, true).await,
        "queue.declare again non-durable (406?)" => queue(own, false).await,
        "queue.declare queue/other/q" => queue("queue/other/q", true).await,
        "queue.declare server-named" => queue("", true).await,
        "queue.bind to exchange/hgpushes/v2" => bind("exchange/hgpushes/v2").await,
        "queue.bind to missing exchange" => bind("exchange/nope").await,
        "queue.bind to amq.topic" => bind("amq.topic").await,
        "basic.get own queue" => channel
            .basic_get(own.into(), BasicGetOptions::default())
            .await
            .map(|_| ()),
        "publish to exchange/hgpushes/v2" => publish("exchange/hgpushes/v2").await,
        "publish to exchange/pulseuser/x" => publish("exchange/pulseuser/x").await,
        "publish to default exchange" => publish("").await,
        "queue.purge own" => channel
            .queue_purge(own.into(), QueuePurgeOptions::default())
            .await
            .map(|_| ()),
        "queue.delete own" => channel
            .queue_delete(own.into(), QueueDeleteOptions::default())
            .await
            .map(|_| ()),
        "consume other queue" => {
            let options = BasicConsumeOptions::default();
            channel
                .basic_consume("queue/admin/rec".into(), "".into(), options, none())
                .await
                .map(|_| ())
        }
        other => panic!("{other} is not known here"),
    }
}

/// Names that a server makes up differ each time.
fn without_made_up_names(text: &str) -> String {
    text.split('\'')
        .map(|part| {
            if part.starts_with("amq.gen-") {
                "amq.gen-…"
            } else {
                part
            }
        })
        .collect::<Vec<_>>()
        .join("'")
}

#[tokio::test]
async fn every_operation_is_allowed_or_refused_as_on_pulse() {
    // Refusals name the virtual host, which is / on Pulse.
    let directory = TempDir::new().unwrap();
    let world = World::of(RabbitServer::start(directory.path()).await.unwrap()).await;
    world
        .rabbit
        .declare_exchange("exchange/hgpushes/v2")
        .await
        .unwrap();
    let seen: Vec<Seen> =
        serde_json::from_str(include_str!("../fixtures/permission-results.json")).unwrap();
    assert_eq!(seen.len(), 19);
    let connection = connect(&world.rabbit.settings()).await;
    for Seen { op, result } in seen {
        // A refusal closes the channel.
        let channel = connection.create_channel().await.unwrap();
        let found = match attempt(&channel, &op).await {
            Ok(()) => "ok".to_owned(),
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(error) => {
                    format!("{} {}", error.get_id(), error.get_message())
                }
                _ => panic!("{op}: {error}"),
            },
        };
        // The fixture has the name of an exception before the code.
        let expected = result.split_once(' ').map_or(&*result, |(_, rest)| rest);
        assert_eq!(
            without_made_up_names(&found),
            without_made_up_names(expected),
            "{op}"
        );
    }
}
