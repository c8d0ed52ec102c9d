//! The hooks service.

use jiff::ToSpan;
use serde_json::{Map, Value, json};

use super::{
    FakeTaskcluster,
    auth::Caller,
    payload::misfit,
    request::{Refusal, Reply, Request},
    state::State,
};

pub(super) struct Hook {
    task: Option<Value>,
    schema: Value,
}

/// A hook that was triggered.
#[derive(Debug, Clone, PartialEq)]
pub struct Trigger {
    /// The hook's group.
    pub group: String,
    /// The hook.
    pub hook: String,
    /// What it was triggered with.
    pub payload: Value,
    /// The task that it made.
    pub task_id: Option<String>,
}

impl FakeTaskcluster {
    /// Adds a hook that takes any object. When it is triggered it makes no task, or one with the fields of `task`, with
    /// dates (a deadline after 4 hours), and with what it was triggered with as its environment.
    pub fn add_hook(&self, group: &str, hook: &str, task: Option<Value>) {
        self.add_hook_with_schema(group, hook, task, json!({ "type": "object" }));
    }

    /// Adds a hook whose payloads have to fit `schema`. Of JSON schema it knows `type`, `properties`, `required` and
    /// `additionalProperties: false`.
    pub fn add_hook_with_schema(
        &self,
        group: &str,
        hook: &str,
        task: Option<Value>,
        schema: Value,
    ) {
        self.state()
            .hooks
            .insert((group.to_owned(), hook.to_owned()), Hook { task, schema });
    }

    /// Every hook that was triggered, in order.
    pub fn triggers(&self) -> Vec<Trigger> {
        self.state().triggers.clone()
    }
}

impl State {
    pub(super) fn trigger_hook(
        &mut self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Refusal> {
        let (group, hook) = (request.param("hookGroupId"), request.param("hookId"));
        caller.needs(format!("hooks:trigger-hook:{group}/{hook}"))?;
        let key = (group.to_owned(), hook.to_owned());
        let Hook { task, schema } = self
            .hooks
            .get(&key)
            .ok_or_else(|| Refusal::not_found("No such hook"))?;
        let payload = Value::Object(request.payload());
        if let Some(problem) = misfit(&payload, schema, "data") {
            return Err(Refusal::input(problem));
        }
        let fields = task.clone().map(|task| fired(task, &payload));
        let task_id = fields.map(|fields| self.add_task(fields, 4.hours(), 24.hours() * 30));
        let (group, hook) = key;
        self.triggers.push(Trigger {
            group,
            hook,
            payload,
            task_id: task_id.clone(),
        });
        Ok(Reply::Json(match task_id {
            Some(id) => json!({ "taskId": id, "status": { "taskId": id } }),
            None => json!({}),
        }))
    }
}

/// The task's fields, with the payload put into its environment.
fn fired(mut task: Value, payload: &Value) -> Value {
    let entry = &mut task["payload"]["env"];
    let mut env: Map<String, Value> = entry.as_object().cloned().unwrap_or_default();
    env.extend(payload.as_object().cloned().unwrap_or_default());
    *entry = Value::Object(env);
    task
}
