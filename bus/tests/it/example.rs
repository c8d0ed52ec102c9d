use std::{sync::Arc, time::Duration};

use bus::{
    BusError, Consumer, Context, Handler, MemoryBus, Message, Outcome, Policy, Producer, Queue,
    QueueAdmin,
};
use jiff::Timestamp;
use runtime::ManualClock;

#[derive(serde::Serialize, serde::Deserialize)]
struct Reminder(Timestamp);

impl Message for Reminder {
    const VERSION: u16 = 1;
}

const REMINDERS: Queue<Reminder> = Queue::new("reminders", Policy::DEFAULT);
const DUE: Queue<Reminder> = Queue::new("due", Policy::DEFAULT);

struct Remind;

#[async_trait::async_trait]
impl Handler<Reminder> for Remind {
    type Error = BusError;

    async fn handle(&self, reminder: Reminder, cx: &Context) -> Result<Outcome, BusError> {
        let wait = reminder.0.duration_since(cx.clock().now());
        if wait.is_positive() {
            return Ok(Outcome::defer(wait.unsigned_abs(), "it is not due"));
        }
        cx.send(&DUE, &reminder)?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn reminder_waits_until_it_is_due() {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let reminder = Reminder(Timestamp::UNIX_EPOCH + Duration::from_secs(60));
    let producer = Producer::new(bus.clone(), clock.clone());
    producer.send(&REMINDERS, &reminder).await.unwrap();
    let consumer = Consumer::new(bus.clone(), clock.clone(), REMINDERS, Remind);
    assert_eq!(consumer.step().await.unwrap(), 1, "it is deferred");
    assert_eq!(consumer.step().await.unwrap(), 0);
    clock.advance(Duration::from_secs(60));
    assert_eq!(consumer.step().await.unwrap(), 1, "it is handled");
    let left = bus.depth(&REMINDERS.spec()).await.unwrap();
    assert_eq!(left.unfinished(), 0);
    assert_eq!(bus.depth(&DUE.spec()).await.unwrap().ready, 1);
}
