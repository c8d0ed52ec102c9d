//! Messages that are given up: why, and what their dead-letter handlers do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Cause, Consumer, Context, Envelope, Handler, Outcome, Outgoing, Policy, Queue};
use parking_lot::Mutex;

use super::{QUICK, ScriptedError, ScriptedHandler, WORK};
use crate::{
    on_both,
    world::{LEASE, Note, OUT, World, note},
};

on_both!(
    message_whose_workers_died_is_a_dead_letter_without_another_attempt,
    unsettled_deliveries_are_fewer_than_attempts_where_there_are_many,
    failed_dead_letter_handler_is_called_again_before_the_dead_letter,
    undecodable_message_is_a_dead_letter_and_the_others_flow,
    dead_letter_handler_gets_the_typed_cause,
);

async fn message_whose_workers_died_is_a_dead_letter_without_another_attempt(world: World) {
    let handler = ScriptedHandler::default();
    world.send(&WORK, "ok").await;
    for _ in 0..3 {
        // A worker reserves it and dies.
        world.reserve(&WORK).await;
        world.pass(LEASE).await;
    }
    world.consumer(WORK, &handler).step().await.unwrap();
    assert_eq!(handler.seen("ok"), 0);
    assert_eq!(
        world.texts(&OUT).await,
        [
            "gave up ok: delivered 3 times in a row and never settled: its worker died, or lost its lease"
        ]
    );
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

async fn unsettled_deliveries_are_fewer_than_attempts_where_there_are_many(world: World) {
    const PATIENT: Queue<Note> = Queue::new(
        "patient",
        Policy {
            attempts: 1000,
            max_unsettled_deliveries: 2,
            ..QUICK
        },
    );
    let handler = ScriptedHandler::default();
    world.send(&PATIENT, "retry").await;
    let consumer = world.consumer(PATIENT, &handler);
    for _ in 0..4 {
        assert_eq!(consumer.step().await.unwrap(), 1);
        world.pass(Duration::from_millis(30)).await;
    }
    for _ in 0..2 {
        world.reserve(&PATIENT).await;
        world.pass(LEASE).await;
    }
    consumer.step().await.unwrap();
    assert_eq!(handler.seen("retry"), 4);
    assert_eq!(world.depth(&PATIENT).await, (0, 0, 0, 1));
    let letter = world
        .bus
        .dead(&PATIENT.spec(), "", 1)
        .await
        .unwrap()
        .remove(0);
    assert!(
        letter.reason.starts_with("delivered 2 times in a row"),
        "{letter:?}"
    );
}

async fn failed_dead_letter_handler_is_called_again_before_the_dead_letter(world: World) {
    let handler = ScriptedHandler::default();
    world.send(&WORK, "speechless").await;
    let consumer = world.consumer(WORK, &handler);
    for _ in 0..3 {
        assert!(world.texts(&OUT).await.is_empty());
        assert_eq!(world.depth(&WORK).await.3, 0);
        assert_eq!(consumer.step().await.unwrap(), 1);
        world.pass(Duration::from_millis(30)).await;
    }
    assert_eq!(world.texts(&OUT).await, ["gave up speechless: error dead"]);
    assert_eq!(world.depth(&WORK).await, (0, 0, 0, 1));
}

async fn undecodable_message_is_a_dead_letter_and_the_others_flow(world: World) {
    let handler = ScriptedHandler::default();
    let packed = WORK.pack(&note("ok"), world.clock.as_ref()).unwrap();
    for (version, body) in [
        (1, b"\xc1garbage".to_vec().into()),
        (9, packed.envelope.body.clone()),
    ] {
        let id = world.clock.new_id();
        let envelope = Envelope {
            id,
            version,
            body,
            ..packed.envelope.clone()
        };
        world
            .bus
            .push(vec![Outgoing {
                envelope,
                ..packed.clone()
            }])
            .await
            .unwrap();
    }
    world.send(&WORK, "ok").await;
    world.consumer(WORK, &handler).step().await.unwrap();
    assert_eq!(world.texts(&OUT).await, ["ok 1"]);
    let letters = world.bus.dead(&WORK.spec(), "", 10).await.unwrap();
    let reasons: String = letters
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(letters.len(), 2);
    assert!(
        reasons.contains("unknown message version 9")
            && reasons.contains("undecodable message body"),
        "{reasons}"
    );
}

/// Fails as its message says, and keeps the cause that its dead-letter handler got.
#[derive(Clone, Default)]
struct Causes(Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Handler<Note> for Causes {
    type Error = ScriptedError;

    async fn handle(&self, message: Note, _: &Context) -> Result<Outcome, ScriptedError> {
        assert_ne!(message.text, "panic", "on request");
        Err(ScriptedError { text: message.text })
    }

    async fn on_dead_letter(
        &self,
        message: Note,
        cause: Cause<'_, ScriptedError>,
        cx: &Context,
    ) -> Result<(), ScriptedError> {
        let cause = match cause {
            Cause::Failed(ScriptedError { text }) => format!("failed with {text}"),
            Cause::AttemptsExhausted {
                attempts,
                last: Some(ScriptedError { text }),
            } => format!("{attempts} attempts, the last with {text}"),
            Cause::AttemptsExhausted {
                attempts,
                last: None,
            } => format!("{attempts} attempts, the last one is not known"),
            Cause::WorkerDied { times } => format!("worker died {times} times"),
            Cause::Panicked(_) => "panicked".to_owned(),
        };
        self.0.lock().push(cause);
        // The first dead-letter handler of this one fails.
        if message.text == "mute" && cx.attempt() == 3 {
            return Err(ScriptedError { text: message.text });
        }
        Ok(())
    }
}

async fn dead_letter_handler_gets_the_typed_cause(world: World) {
    let handler = Causes::default();
    let consumer = Consumer::new(
        world.bus.clone(),
        world.clock.clone(),
        WORK,
        handler.clone(),
    );
    let mut causes = Vec::new();
    for text in ["dead", "retry", "panic", "mute"] {
        world.send(&WORK, text).await;
        for _ in 0..5 {
            while consumer.step().await.unwrap() > 0 {}
            world.pass(Duration::from_millis(50)).await;
        }
        causes.append(&mut handler.0.lock());
    }
    assert_eq!(
        causes,
        [
            "failed with dead",
            "3 attempts, the last with retry",
            "panicked",
            "3 attempts, the last with mute",
            "3 attempts, the last one is not known",
        ]
    );
}
