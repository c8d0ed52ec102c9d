use anyhow::bail;
use bus::Admin;
use clap::Args;
use serde_json::json;

use super::{counted, print_json};

/// Options of `events queues depth`.
#[derive(Debug, Args)]
pub struct Depth {
    /// Name of the queue, such as build:push
    pub queue: String,
    /// Largest number of messages that is no failure
    #[arg(long, value_name = "N")]
    pub most: Option<usize>,
}

/// Prints the number of messages of a queue that are not settled yet. Fails when there are too many.
pub(super) async fn depth(admin: &Admin, options: &Depth, json: bool) -> anyhow::Result<()> {
    let Depth { queue, most } = options;
    let count = admin.queue(queue).await?.depth.unfinished();
    let text = format!("{queue} has {}", counted(count, "message"));
    if let Some(most) = most.filter(|most| count > *most) {
        bail!("{text}, more than the {most} of --most: see `events queues peek {queue}`");
    }
    if json {
        return print_json(&json!({"queue": queue, "depth": count}));
    }
    crate::print(&text)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{MemoryBus, Producer};
    use clap::Parser;
    use runtime::SystemClock;
    use triggers::{HookName, Trigger};

    use super::*;
    use crate::features::hooks::HOOKS;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Depth,
    }

    #[tokio::test]
    async fn depth_fails_when_a_queue_has_too_many_messages() {
        let clock = Arc::new(SystemClock);
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        let admin = Admin::new(bus.clone(), &[HOOKS.spec()]);
        let run = async |arguments: &[&str]| {
            let line = Line::try_parse_from([&["depth"][..], arguments].concat())?;
            depth(&admin, &line.options, true).await
        };
        run(&["hooks", "--most", "0"]).await.unwrap();

        let trigger = Trigger::new(HookName::new("group", "hook"), json!({}), "diff 1");
        let producer = Producer::new(bus.clone(), clock);
        producer.send(&HOOKS, &trigger).await.unwrap();
        run(&["hooks"]).await.unwrap();
        let table: [(&[&str], &str); 3] = [
            (
                &["hooks", "--most", "0"],
                "hooks has 1 message, more than the 0",
            ),
            (&["hook"], "there is no queue \"hook\", did you mean hooks?"),
            (
                &["hooks", "--most", "few"],
                "invalid value 'few' for '--most <N>'",
            ),
        ];
        for (arguments, expected) in table {
            let error = run(arguments).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
