//! The index and secrets services, and what every service has.

use serde_json::{Value, json};

use super::{
    FakeTaskcluster,
    auth::Caller,
    request::{Refusal, Reply, Request},
    state::State,
};

impl FakeTaskcluster {
    /// Puts a task into the index.
    pub fn index(&self, namespace: &str, task_id: &str) {
        self.state()
            .index
            .insert(namespace.to_owned(), task_id.to_owned());
    }

    /// Adds a secret.
    pub fn add_secret(&self, name: &str, secret: Value) {
        self.state().secrets.insert(name.to_owned(), secret);
    }
}

impl State {
    pub(super) fn ping(&self) -> Result<Reply, Refusal> {
        Ok(Reply::Json(json!({ "alive": true, "uptime": 246.66 })))
    }

    pub(super) fn find_task(&self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        let (namespace, id) = self.indexed(caller, request)?;
        let expires = self
            .tasks
            .get(id)
            .and_then(|task| task.definition.get("expires"));
        Ok(Reply::Json(
            json!({ "namespace": namespace, "taskId": id, "rank": 0, "data": {}, "expires": expires }),
        ))
    }

    /// The real one puts a bewit into the address; what is public needs none.
    pub(super) fn find_artifact(
        &self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Refusal> {
        let (_, id) = self.indexed(caller, request)?;
        let place = format!(
            "{}api/queue/v1/task/{id}/artifacts/{}",
            self.root,
            request.param("name")
        );
        Ok(Reply::Redirect(place))
    }

    pub(super) fn secret(&self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        let name = request.param("name");
        caller.needs(format!("secrets:get:{name}"))?;
        let secret = self
            .secrets
            .get(name)
            .ok_or_else(|| Refusal::not_found("Secret not found"))?;
        Ok(Reply::Json(
            json!({ "secret": secret, "expires": "2999-01-01T00:00:00.000Z" }),
        ))
    }

    fn indexed<'a>(
        &'a self,
        caller: &Caller,
        request: &'a Request,
    ) -> Result<(&'a str, &'a str), Refusal> {
        let namespace = request.param("indexPath");
        caller.needs(format!("index:find-task:{namespace}"))?;
        let id = self
            .index
            .get(namespace)
            .ok_or_else(|| Refusal::not_found("Indexed task not found"))?;
        Ok((namespace, id))
    }
}
