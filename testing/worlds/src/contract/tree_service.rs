//! A tree status service: it holds what operators said of each tree, and answers over HTTP as the recorded one does.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};
use url::Url;

pub struct TreeService {
    url: Url,
    trees: Arc<Mutex<Trees>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Trees {
    /// Status and reason of each tree.
    states: HashMap<String, (String, String)>,
    /// What holds for one question each, before that.
    first: VecDeque<(String, String)>,
    /// What is answered whatever is asked.
    broken: Option<(u16, String)>,
    questions: usize,
}

impl TreeService {
    pub async fn start() -> Self {
        let trees: Arc<Mutex<Trees>> = Arc::default();
        let router = Router::new()
            .route("/base/trees/{tree}", get(tree))
            .with_state(trees.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base/", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            url,
            trees,
            serving,
        }
    }

    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// From now on a tree is this.
    pub fn say(&self, tree: &str, status: &str, reason: &str) {
        self.trees
            .lock()
            .states
            .insert(tree.to_owned(), (status.to_owned(), reason.to_owned()));
    }

    /// For the next question it is this.
    pub fn say_once(&self, status: &str, reason: &str) {
        self.trees
            .lock()
            .first
            .push_back((status.to_owned(), reason.to_owned()));
    }

    /// From now on nothing but this is answered.
    pub fn answer(&self, status: u16, body: &str) {
        self.trees.lock().broken = Some((status, body.to_owned()));
    }

    /// How often it was asked.
    pub fn questions(&self) -> usize {
        self.trees.lock().questions
    }

    pub async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

async fn tree(State(trees): State<Arc<Mutex<Trees>>>, Path(tree): Path<String>) -> Response {
    let mut trees = trees.lock();
    trees.questions += 1;
    if let Some((status, body)) = &trees.broken {
        let headers = HeaderMap::from_iter([(header::LOCATION, "/elsewhere".parse().unwrap())]);
        return (
            StatusCode::from_u16(*status).unwrap(),
            headers,
            body.clone(),
        )
            .into_response();
    }
    let state = trees
        .first
        .pop_front()
        .or_else(|| trees.states.get(&tree).cloned());
    let (status, reason) = state.unwrap_or(("open".to_owned(), String::new()));
    Json(json!({ "result": {
        "tree": tree,
        "status": status,
        "reason": reason,
        "message_of_the_day": "",
        "tags": [],
        "log_id": 4321,
    } }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use http_client::Limits;
    use serde_json::Value;

    use super::*;

    #[tokio::test]
    async fn it_answers_as_the_recorded_one() {
        let service = TreeService::start().await;
        for (recorded, status, reason) in [
            (
                include_str!("../../fixtures/trees-try-closed.json"),
                "closed",
                "Bug 123 - infra",
            ),
            (
                include_str!("../../fixtures/trees-try-open.json"),
                "open",
                "",
            ),
            (
                include_str!("../../fixtures/trees-try-approval-required.json"),
                "approval required",
                "",
            ),
        ] {
            service.say("try", status, reason);
            let http = http_client::client(std::time::Duration::from_secs(5)).unwrap();
            let request = http.get(service.url().join("trees/try").unwrap());
            let sent = http_client::send(request, Limits::body(usize::MAX));
            let answer = sent.await.unwrap();
            let mut recorded: Value = serde_json::from_str(recorded).unwrap();
            // Which kind of reason it is does not concern us.
            recorded["result"]["tags"] = json!([]);
            assert_eq!(answer.json::<Value>().unwrap(), recorded);
        }
    }
}
