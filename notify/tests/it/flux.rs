//! The channels' times reach InfluxDB, and nothing waits for that.

use std::sync::{Arc, Mutex};

use axum::{Router, body::Bytes, extract::State, http::Uri};
use bus::{Shutdown, Subsystem, SystemClock};
use notify::{Flux, FluxSettings, Sender, Status, Templates};
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};

use crate::world::{DIGESTS, LIMIT, NOTIFICATIONS, TASKS, World, http, message};

#[derive(Default)]
struct Influx {
    got: Mutex<Vec<(String, String)>>,
    told: Notify,
}

async fn write(State(influx): State<Arc<Influx>>, uri: Uri, body: Bytes) {
    influx.got.lock().unwrap().push((uri.to_string(), String::from_utf8(body.to_vec()).unwrap()));
    influx.told.notify_one();
}

/// Has `world` send one notification, timed.
async fn send_one(world: &World, flux: Flux) {
    let templates = Arc::new(Templates::ours().unwrap());
    let sender = Sender::new(world.channels.clone(), templates, NOTIFICATIONS, DIGESTS, LIMIT).timed_by(flux);
    let sender = bus::Consumer::new(world.bus.clone(), world.clock.clone(), NOTIFICATIONS, sender);
    let task = world.task(json!({ "notification": { "task-failed": { "plugins": ["robot"] } } }));
    world.send(&TASKS, &message(&task, Status::TaskFailed, |_| {})).await;
    world.dispatch().await;
    assert_eq!(sender.step().await.unwrap(), 1);
}

fn settings(url: String) -> FluxSettings {
    FluxSettings { url: url.parse().unwrap(), database: "events".to_owned(), login: None }
}

#[tokio::test]
async fn each_sending_is_a_line() {
    let influx = Arc::new(Influx::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let routes = Router::new().fallback(write).with_state(influx.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let world = World::new().await;
    let (flux, writer) = Flux::new(settings(url), http(), Arc::new(SystemClock));
    let shutdown = Shutdown::new();
    let running = tokio::spawn(Box::new(writer).run(shutdown.clone()));
    send_one(&world, flux).await;
    influx.told.notified().await;
    let got = influx.got.lock().unwrap().clone();
    assert_eq!(got[0].0, "/write?db=events&precision=ns");
    assert_eq!(got[0].1, "notify,channel=robot,outcome=sent duration_ms=0.000 1795229285000000000\n");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_anybody_who_writes_nothing_waits() {
    let world = World::new().await;
    let (flux, writer) = Flux::new(settings("http://127.0.0.1:9/".to_owned()), http(), Arc::new(SystemClock));
    drop(writer);
    send_one(&world, flux).await;
    assert_eq!(world.robot.sent().len(), 1);
}
