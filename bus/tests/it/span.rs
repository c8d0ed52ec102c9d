//! The span of a delivery: each log line of a handler shows its queue, message and subject, whoever writes it.

use async_trait::async_trait;
use bus::{BusError, Consumer, Context, Handler, Message, Outcome, Queue};
use serde::{Deserialize, Serialize};
use testkit::capture_logs;
use tracing::{Span, info};

use crate::world::{POLICY, World};

#[derive(Serialize, Deserialize)]
struct Job {
    build: String,
}

impl Message for Job {
    const VERSION: u16 = 1;

    fn describe(&self, span: &Span) {
        span.record("build", self.build.as_str());
    }
}

const JOBS: Queue<Job> = Queue::new("jobs", POLICY);

struct Deep;

#[async_trait]
impl Handler<Job> for Deep {
    type Error = BusError;

    async fn handle(&self, _: Job, _: &Context) -> Result<Outcome, BusError> {
        tokio::task::yield_now().await;
        info!("deep in the work");
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn log_lines_of_a_delivery_show_its_build_once() {
    let (_guard, logs) = capture_logs();
    let world = World::memory().await;
    for build in ["PHID-1", "PHID-2"] {
        let job = Job {
            build: build.to_owned(),
        };
        let packed = JOBS.pack(&job, world.clock.as_ref()).unwrap();
        bus::Bus::push(world.bus.as_ref(), vec![packed])
            .await
            .unwrap();
    }
    let consumer = Consumer::new(world.bus.clone(), world.clock.clone(), JOBS, Deep);
    assert_eq!(consumer.step().await.unwrap(), 2);
    let text = logs.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    for build in ["PHID-1", "PHID-2"] {
        let line = lines.iter().find(|line| line.contains(build)).unwrap();
        for part in ["queue=\"jobs\"", "attempt=1", "deep in the work"] {
            assert!(line.contains(part), "{line}");
        }
        assert_eq!(line.matches("build=").count(), 1, "{line}");
    }
}

#[test]
fn docs_show_the_example_as_it_is_compiled() {
    testkit::assert_page_shows("docs/extend/queue.md", "bus/tests/it/example.rs");
}
