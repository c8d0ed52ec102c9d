//! `events pulse`

use std::pin::pin;

use anyhow::Context as _;
use futures::StreamExt;
use pulse::{PulseMessage, Topic};
use runtime::SystemClock;
use serde::Serialize;
use serde_json::Value;

use super::print_json_to_reader;
use crate::{
    cli::{Pulse, PulseAction, Tail},
    clients, config,
    source::{self, Place},
};

/// The JSON of a message.
#[derive(Serialize)]
struct Printed<'a> {
    exchange: &'a str,
    key: &'a str,
    other_routes: &'a [String],
    body: Value,
}

/// Runs `events pulse`.
pub async fn pulse(options: Pulse) -> anyhow::Result<()> {
    let place = Place::from(&options.deployment);
    let PulseAction::Tail(Tail {
        exchange,
        topics,
        community,
        limit,
    }) = options.action;
    let user = if community {
        let user = source::maybe(place, config::pulse::parse_community)
            .await?
            .and_then(|(user, _)| user);
        user.context(
            "the configuration has no user on this pulse: set communitytc_pulse_user and communitytc_pulse_password",
        )?
    } else {
        source::pulse_user(place).await?
    };
    let settings = clients::pulse(&user)?;
    let topics = topics
        .iter()
        .map(|topic| topic.parse())
        .collect::<Result<Vec<Topic>, _>>()?;
    let messages = pulse::tail(&settings, &exchange, &topics, &SystemClock).await?;
    let mut messages = pin!(messages.take(limit.unwrap_or(usize::MAX)));
    while let Some(message) = messages.next().await {
        if !show(&message?)? {
            break;
        }
    }
    Ok(())
}

/// Prints a message; returns whether somebody still reads.
fn show(message: &PulseMessage) -> anyhow::Result<bool> {
    let PulseMessage { routing, body } = message;
    // A body that is not JSON is shown as text.
    let body = serde_json::from_slice(body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(body).into_owned()));
    print_json_to_reader(&Printed {
        exchange: &routing.exchange,
        key: &routing.key,
        other_routes: &routing.other_routes,
        body,
    })
}
