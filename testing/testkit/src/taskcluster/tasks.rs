//! The queue service: tasks, their runs, and groups.

use std::collections::BTreeMap;

use jiff::{Span, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    FakeArtifact, FakeTaskcluster,
    auth::Caller,
    payload::misfit,
    request::{Refusal, Reply, Request},
    state::State,
};

/// The fields of a task that have no default of their own.
const OTHERS: [&str; 7] = [
    "taskQueueId",
    "taskGroupId",
    "created",
    "deadline",
    "expires",
    "payload",
    "metadata",
];

/// The fields of a task that may be left out, and what the queue takes instead; the last two are this fake's.
fn defaults() -> Value {
    json!({
        "schedulerId": "-",
        "projectId": "none",
        "dependencies": [],
        "requires": "all-completed",
        "routes": [],
        "priority": "lowest",
        "retries": 5,
        "scopes": [],
        "tags": {},
        "extra": {},
        "provisionerId": "proj-relman",
        "workerType": "ci",
    })
}

/// The state of a task, or of one of its runs (a run is never [`TaskState::Unscheduled`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for other tasks.
    Unscheduled,
    /// It waits for a worker.
    Pending,
    /// A worker has it.
    Running,
    /// It succeeded.
    Completed,
    /// It failed.
    Failed,
    /// It was cancelled or malformed, its worker was lost, or its deadline has passed.
    Exception,
}

pub(super) struct Task {
    pub(super) definition: Map<String, Value>,
    state: TaskState,
    runs: Vec<Map<String, Value>>,
    pub(super) artifacts: BTreeMap<String, FakeArtifact>,
}

impl FakeTaskcluster {
    /// Adds a task with these fields beside those that every task has; a task in no named group is its own group.
    /// Returns its id.
    pub fn add_task(&self, fields: Value) -> String {
        self.state().add_task(fields, 24.hours(), 24.hours() * 30)
    }

    /// The definition of a task.
    pub fn task(&self, task_id: &str) -> Option<Map<String, Value>> {
        Some(self.state().tasks.get(task_id)?.definition.clone())
    }

    /// The ids of all tasks, in order of creation.
    pub fn task_ids(&self) -> Vec<String> {
        self.state().created.clone()
    }

    /// Pages of a group have no more than `tasks` tasks from now on, however many are asked for.
    pub fn page_size(&self, tasks: usize) {
        self.state().page = tasks;
    }

    /// Moves a task on to `state`, through all that lies between; a new run begins where the last one is over. An
    /// exception is for the reason `worker-shutdown`.
    #[expect(
        clippy::panic,
        reason = "whoever names a task that was never created has a fault in the test"
    )]
    pub fn move_on(&self, task_id: &str, state: TaskState) {
        let mut world = self.state();
        let now = world.clock.now();
        let Some(task) = world.tasks.get_mut(task_id) else {
            panic!("there is no task {task_id}")
        };
        task.move_on(state, now);
    }

    /// Cancels a task that is not resolved, as somebody does who does not want it any more.
    pub fn cancel(&self, task_id: &str) {
        self.move_on(task_id, TaskState::Exception);
        if let Some(run) = self
            .state()
            .tasks
            .get_mut(task_id)
            .and_then(|task| task.runs.last_mut())
        {
            run.insert("reasonResolved".to_owned(), json!("canceled"));
        }
    }

    /// Forgets a task, as the queue does some time after it expires.
    pub fn forget(&self, task_id: &str) {
        self.state().tasks.remove(task_id);
    }
}

impl Task {
    fn new(definition: Map<String, Value>, now: Timestamp) -> Self {
        let mut task = Self {
            definition,
            state: TaskState::Unscheduled,
            runs: Vec::new(),
            artifacts: BTreeMap::new(),
        };
        // It is not checked whether its dependencies are resolved already: a test moves it on.
        if task.definition["dependencies"] == json!([]) {
            task.move_on(TaskState::Pending, now);
        }
        task
    }

    /// The number of its latest run.
    pub(super) fn latest_run(&self) -> Option<usize> {
        self.runs.len().checked_sub(1)
    }

    fn move_on(&mut self, state: TaskState, now: Timestamp) {
        let now_text = json!(text(now));
        if !matches!(self.state, TaskState::Pending | TaskState::Running) {
            let reason = if self.runs.is_empty() {
                "scheduled"
            } else {
                "rerun"
            };
            let run =
                json!({ "runId": self.runs.len(), "reasonCreated": reason, "scheduled": now_text });
            self.runs.extend(run.as_object().cloned());
        }
        let Some(run) = self.runs.last_mut() else {
            return;
        };
        if state != TaskState::Pending && !run.contains_key("started") {
            run.insert("workerGroup".to_owned(), json!("us-east-1"));
            run.insert("workerId".to_owned(), json!("i-0123456789abcdef0"));
            run.insert(
                "takenUntil".to_owned(),
                json!(text(later(now, 20.minutes()))),
            );
            run.insert("started".to_owned(), now_text.clone());
        }
        let reason = match state {
            TaskState::Completed => Some("completed"),
            TaskState::Failed => Some("failed"),
            TaskState::Exception => Some("worker-shutdown"),
            _ => None,
        };
        if let Some(reason) = reason {
            run.insert("reasonResolved".to_owned(), json!(reason));
            run.insert("resolved".to_owned(), now_text);
        }
        run.insert("state".to_owned(), json!(state));
        self.state = state;
    }

    fn status(&self, id: &str) -> Value {
        let mut status = json!({ "taskId": id, "retriesLeft": self.definition["retries"] });
        let copied = [
            "provisionerId",
            "workerType",
            "taskQueueId",
            "schedulerId",
            "projectId",
            "taskGroupId",
            "priority",
            "deadline",
            "expires",
        ];
        for name in copied {
            status[name] = self.definition[name].clone();
        }
        status["state"] = json!(self.state);
        status["runs"] = json!(self.runs);
        status
    }
}

impl State {
    /// Adds a task that was created now. Returns its id.
    pub(super) fn add_task(&mut self, fields: Value, deadline: Span, expires: Span) -> String {
        let (id, now) = (self.slug_id(), self.clock.now());
        let mut definition = Map::new();
        definition.insert("created".to_owned(), json!(text(now)));
        definition.insert("deadline".to_owned(), json!(text(later(now, deadline))));
        definition.insert("expires".to_owned(), json!(text(later(now, expires))));
        definition.insert("payload".to_owned(), json!({}));
        let metadata = json!({
            "name": "a task",
            "description": "of a test",
            "owner": "dev@example.com",
            "source": "https://example.com/",
        });
        definition.insert("metadata".to_owned(), metadata);
        definition.extend(fields.as_object().cloned().unwrap_or_default());
        self.insert(&id, whole(&id, definition));
        id
    }

    fn insert(&mut self, id: &str, definition: Map<String, Value>) {
        let task = Task::new(definition, self.clock.now());
        self.tasks.insert(id.to_owned(), task);
        self.created.push(id.to_owned());
    }

    fn known(&self, id: &str) -> Result<&Task, Refusal> {
        self.tasks.get(id).ok_or_else(|| {
            Refusal::not_found(format!(
                "`{id}` does not correspond to a task that exists.\nAre you sure this task has already been submitted?"
            ))
        })
    }

    pub(super) fn definition(&self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        let id = request.param("taskId");
        caller.needs(format!("queue:get-task:{id}"))?;
        Ok(Reply::Json(json!(self.known(id)?.definition)))
    }

    pub(super) fn status(&self, caller: &Caller, request: &Request) -> Result<Reply, Refusal> {
        let id = request.param("taskId");
        caller.needs(format!("queue:status:{id}"))?;
        Ok(Reply::Json(json!({ "status": self.known(id)?.status(id) })))
    }

    pub(super) fn create_task(
        &mut self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Refusal> {
        let (id, fields) = (request.param("taskId"), request.payload());
        check(&fields)?;
        let definition = whole(id, fields);
        let (queue, scheduler) = (&definition["taskQueueId"], &definition["schedulerId"]);
        let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let priority = name(&definition["priority"]);
        caller.needs_all(&[
            format!("queue:scheduler-id:{}", name(scheduler)),
            format!("queue:create-task:{priority}:{}", name(queue)),
        ])?;
        self.check_dates(&definition)?;
        match self.tasks.get(id) {
            Some(task) if task.definition != definition => {
                return Err(Refusal::conflict(format!(
                    "taskId `{id}` already used by another task.\nThis could be the result of faulty idempotency!"
                )));
            }
            Some(_) => {}
            None => self.insert(id, definition),
        }
        Ok(Reply::Json(json!({ "status": self.known(id)?.status(id) })))
    }

    fn check_dates(&self, definition: &Map<String, Value>) -> Result<(), Refusal> {
        let date = |name: &str| -> Result<Timestamp, Refusal> {
            let date = definition[name].as_str().and_then(|date| date.parse().ok());
            date.ok_or_else(|| {
                Refusal::schema(&format!("data/{name} must match format \"date-time\""))
            })
        };
        let (now, created, deadline, expires) = (
            self.clock.now(),
            date("created")?,
            date("deadline")?,
            date("expires")?,
        );
        // As the real one, it grants clocks that are 15 minutes off.
        if created < later(now, -15.minutes()) || created > later(now, 15.minutes()) {
            return Err(Refusal::input("`created` cannot be in the past or future"));
        }
        if deadline < created || deadline > later(now, (5 * 24).hours()) {
            return Err(Refusal::input(
                "`deadline` cannot be past, or more than 5 days into the future",
            ));
        }
        if deadline > expires {
            return Err(Refusal::input("`expires` cannot be before `deadline`"));
        }
        Ok(())
    }

    pub(super) fn list_task_group(
        &self,
        caller: &Caller,
        request: &Request,
    ) -> Result<Reply, Refusal> {
        let group = request.param("taskGroupId");
        caller.needs(format!("queue:list-task-group:{group}"))?;
        let members: Vec<_> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.definition["taskGroupId"] == group)
            .collect();
        let Some((_, first)) = members.first() else {
            return Err(Refusal::not_found(format!(
                "No task-group with taskGroupId: `{group}`"
            )));
        };
        let number = |name: &str| {
            request
                .query
                .get(name)
                .and_then(|text| text.trim_end_matches("/+=").parse().ok())
        };
        let (start, limit) = (
            number("continuationToken").unwrap_or(0),
            number("limit").unwrap_or(1000),
        );
        let end = start + limit.min(self.page);
        let tasks = members.iter().take(end).skip(start);
        let mut page = json!({
            "taskGroupId": group,
            "schedulerId": first.definition["schedulerId"],
            "expires": first.definition["expires"],
            "tasks": tasks.map(|(id, task)| json!({ "status": task.status(id), "task": task.definition })).collect::<Vec<_>>(),
        });
        if end < members.len() {
            // With letters that a query has to encode.
            page["continuationToken"] = json!(format!("{end}/+="));
        }
        Ok(Reply::Json(page))
    }
}

/// The definition with everything that its maker left out.
fn whole(id: &str, mut fields: Map<String, Value>) -> Map<String, Value> {
    if let Some((provisioner, kind)) = fields
        .get("taskQueueId")
        .and_then(Value::as_str)
        .and_then(|q| q.split_once('/'))
    {
        let (provisioner, kind) = (json!(provisioner), json!(kind));
        fields.insert("provisionerId".to_owned(), provisioner);
        fields.insert("workerType".to_owned(), kind);
    }
    for (name, default) in defaults().as_object().into_iter().flatten() {
        fields.entry(name).or_insert_with(|| default.clone());
    }
    let part = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
    let queue = format!("{}/{}", part("provisionerId"), part("workerType"));
    fields.entry("taskQueueId").or_insert_with(|| json!(queue));
    fields.entry("taskGroupId").or_insert_with(|| json!(id));
    let deadline: Option<Timestamp> = fields["deadline"]
        .as_str()
        .and_then(|deadline| deadline.parse().ok());
    let expires = deadline.map(|deadline| text(later(deadline, (365 * 24).hours())));
    fields.entry("expires").or_insert_with(|| json!(expires));
    for name in ["created", "deadline", "expires"] {
        let date: Option<Timestamp> = fields[name].as_str().and_then(|date| date.parse().ok());
        if let Some(date) = date {
            fields.insert(name.to_owned(), json!(text(date)));
        }
    }
    fields
}

/// Whether it has the shape of a definition.
fn check(fields: &Map<String, Value>) -> Result<(), Refusal> {
    let defaults = defaults();
    let known = |name: &str| defaults.get(name).is_some() || OTHERS.contains(&name);
    if let Some(name) = fields.keys().find(|name| !known(name)) {
        return Err(Refusal::schema(&format!(
            "data must NOT have additional properties: {name}"
        )));
    }
    let (text, object) = (json!({ "type": "string" }), json!({ "type": "object" }));
    let schema = json!({
        "required": ["created", "deadline", "metadata", "payload"],
        "properties": {
            "created": text,
            "deadline": text,
            "payload": object,
            "tags": object,
            "extra": object,
            "metadata": { "type": "object", "required": ["name", "description", "owner", "source"] },
            "retries": { "type": "integer" },
            "dependencies": { "type": "array" },
            "routes": { "type": "array" },
            "scopes": { "type": "array" },
        },
    });
    misfit(&json!(fields), &schema, "data").map_or(Ok(()), |problem| Err(Refusal::schema(&problem)))
}

/// As JavaScript writes it.
fn text(moment: Timestamp) -> String {
    format!("{moment:.3}")
}

fn later(moment: Timestamp, by: Span) -> Timestamp {
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}
