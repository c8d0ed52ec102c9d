//! The action of a decision task that adds tests to its push.
//!
//! Taskcluster's specification of actions, version 1, says what an action is and which scope its hook needs.

use std::time::Duration;

use bytes::Bytes;
use jsonschema::PatternOptions;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::action_limits;
use crate::{HookName, Trigger};

/// The name of the action.
const NAME: &str = "add-new-jobs";

/// The longest time for checking and rendering. Within the limits of `action_limits.rs` it takes far less.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest compiled pattern of a schema, in bytes.
const MAX_PATTERN: usize = 64 * 1024;
/// The longest name of a hook or of its group, in bytes: the limit of the hooks service.
const MAX_HOOK_NAME: usize = 1000;
/// The most bytes of foreign text that an error quotes.
const MAX_QUOTE: usize = 300;

/// A decision task.
pub(super) struct Decision {
    /// The task.
    pub(super) id: String,
    /// Its task group, to which tests are added.
    pub(super) group: String,
    /// The scopes of the task.
    pub(super) scopes: Vec<String>,
}

/// A reason not to use an action.
#[derive(Debug, Error)]
pub enum ActionError {
    /// The list of actions cannot be read.
    #[error("its public/actions.json does not follow the specification of actions")]
    Unreadable(#[source] serde_json::Error),
    /// The task does not offer the action.
    #[error("it has no action {NAME} of the kind hook")]
    Missing,
    /// The name of its hook is invalid.
    #[error("its hook has an invalid name: {name}")]
    Name {
        /// The name.
        name: String,
    },
    /// The decision task may not trigger the hook.
    #[error("it has no scope {scope}: its pusher may not trigger this hook")]
    Scope {
        /// The missing scope.
        scope: String,
    },
    /// A part of it is too long.
    #[error("its {what} is longer than {limit} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A part of it is nested too deeply.
    #[error("its {what} is nested more than {limit} levels deep")]
    TooDeep {
        /// The part.
        what: &'static str,
        /// The limit, in levels.
        limit: usize,
    },
    /// Its schema refers to another one.
    #[error("its schema has references, which are not supported")]
    Reference,
    /// Its schema is invalid.
    #[error("its schema is invalid: {problem}")]
    Schema {
        /// The error of the library.
        problem: String,
    },
    /// Its schema does not accept the labels.
    #[error("its schema does not accept the selected tests: {problem}")]
    Refused {
        /// The failed check, and where.
        problem: String,
    },
    /// Its template uses a part of JSON-e that is not safe to render.
    #[error("its hookPayload uses an unsupported part of JSON-e: {part}")]
    Language {
        /// The unsupported part.
        part: String,
    },
    /// Its template cannot be rendered.
    #[error("its hookPayload cannot be rendered: {problem}")]
    Template {
        /// The error of the library.
        problem: String,
    },
    /// Checking or rendering did not end, or panicked.
    #[error("cannot evaluate its schema and hookPayload: {problem}")]
    Aborted {
        /// How the evaluation ended.
        problem: &'static str,
    },
}

impl ActionError {
    pub(super) fn language(part: &str) -> Self {
        Self::Language { part: quote(part) }
    }
}

/// The actions that a decision task offers.
#[derive(Deserialize)]
struct Actions {
    actions: Vec<Value>,
    /// The variables of templates, in addition to the three that every action has.
    #[serde(default)]
    variables: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Action {
    hook_group_id: String,
    hook_id: String,
    hook_payload: Value,
    schema: Value,
}

/// The trigger that adds the tests `labels`. `actions` is the `public/actions.json` of the decision task.
pub(super) async fn add_new_jobs(
    actions: Bytes,
    decision: Decision,
    labels: Vec<String>,
) -> Result<Trigger, ActionError> {
    // The input is hostile: on a thread of its own it can neither block nor panic this one.
    let work = tokio::task::spawn_blocking(move || prepare(&actions, &decision, &labels));
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(Ok(prepared)) => prepared,
        Ok(Err(_)) => Err(ActionError::Aborted {
            problem: "the evaluation panicked",
        }),
        Err(_) => Err(ActionError::Aborted {
            problem: "the evaluation exceeded 30 s",
        }),
    }
}

fn prepare(actions: &[u8], decision: &Decision, labels: &[String]) -> Result<Trigger, ActionError> {
    let Actions { actions, variables } =
        serde_json::from_slice(actions).map_err(ActionError::Unreadable)?;
    let action = actions
        .into_iter()
        .find(|action| action["name"] == NAME && action["kind"] == "hook");
    let action: Action = serde_json::from_value(action.ok_or(ActionError::Missing)?)
        .map_err(ActionError::Unreadable)?;
    for name in [&action.hook_group_id, &action.hook_id] {
        // Most scopes end with `*`, so they do not restrict the name, which goes into keys, logs and a URL.
        if name.len() > MAX_HOOK_NAME || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ActionError::Name { name: quote(name) });
        }
    }
    let scope = format!(
        "in-tree:hook-action:{}/{}",
        action.hook_group_id, action.hook_id
    );
    if !decision.scopes.iter().any(|has| satisfies(has, &scope)) {
        return Err(ActionError::Scope {
            scope: quote(&scope),
        });
    }
    let input = json!({ "tasks": labels });
    check(&action.schema, &input)?;
    let mut context = variables;
    context.extend([
        ("taskId".to_owned(), Value::Null),
        ("taskGroupId".to_owned(), json!(decision.group)),
        ("input".to_owned(), input),
    ]);
    let payload = render(&action.hook_payload, &Value::Object(context))?;
    let what = format!("selected tests of {}", decision.id);
    Ok(Trigger::new(
        HookName::new(action.hook_group_id, action.hook_id),
        payload,
        &what,
    ))
}

/// Whether the scope `has` includes the scope `wanted`.
fn satisfies(has: &str, wanted: &str) -> bool {
    has == wanted
        || has
            .strip_suffix('*')
            .is_some_and(|prefix| wanted.starts_with(prefix))
}

fn check(schema: &Value, input: &Value) -> Result<(), ActionError> {
    action_limits::schema(schema)?;
    // This engine matches a pattern in one pass; the default one backtracks.
    let patterns = PatternOptions::regex()
        .size_limit(MAX_PATTERN)
        .dfa_size_limit(MAX_PATTERN);
    let validator = jsonschema::options()
        .offline()
        .with_pattern_options(patterns)
        .build(schema);
    let validator = validator.map_err(|error| ActionError::Schema {
        problem: quote(&error.to_string()),
    })?;
    validator.validate(input).map_err(|error| {
        let problem = format!(
            "{} (at {}, by {})",
            error.masked(),
            error.instance_path(),
            error.schema_path()
        );
        ActionError::Refused {
            problem: quote(&problem),
        }
    })
}

fn render(template: &Value, context: &Value) -> Result<Value, ActionError> {
    action_limits::template(template, context.to_string().len())?;
    json_e::render(template, context).map_err(|error| ActionError::Template {
        problem: quote(&error.to_string()),
    })
}

/// Foreign text on one short line.
fn quote(text: &str) -> String {
    runtime::sanitize::one_line(text, MAX_QUOTE)
}

#[cfg(test)]
mod tests {
    use runtime::error_chain;

    use super::*;

    const ACTIONS: &str = include_str!("../../tests/fixtures/actions.json");

    fn decision() -> Decision {
        let scopes = vec!["in-tree:hook-action:project-gecko/in-tree-action-1-*".to_owned()];
        Decision {
            id: "decision".to_owned(),
            group: "group".to_owned(),
            scopes,
        }
    }

    fn labels() -> Vec<String> {
        vec!["test-linux/opt-a".to_owned(), "test-linux/opt-b".to_owned()]
    }

    /// The action with these changes.
    fn changed(changes: Value) -> Bytes {
        let mut actions: Value = serde_json::from_str(ACTIONS).unwrap();
        let found = actions["actions"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .find(|action| action["name"] == NAME);
        let action = found.unwrap().as_object_mut().unwrap();
        changes
            .as_object()
            .unwrap()
            .iter()
            .for_each(|(key, value)| _ = action.insert(key.clone(), value.clone()));
        actions.to_string().into()
    }

    async fn outcome(actions: Bytes) -> Result<Trigger, String> {
        add_new_jobs(actions, decision(), labels())
            .await
            .map_err(|error| error_chain(&error))
    }

    #[tokio::test]
    async fn hook_is_triggered_with_labels_of_the_group() {
        let trigger = outcome(ACTIONS.into()).await.unwrap();
        assert_eq!(
            (trigger.hook.group.as_str(), trigger.hook.id.as_str()),
            ("project-gecko", "in-tree-action-1-generic/0123456789")
        );
        let user =
            json!({ "input": { "tasks": labels() }, "taskGroupId": "group", "taskId": null });
        assert_eq!(trigger.payload["user"], user);
        assert_eq!(trigger.payload["decision"]["push"]["pushlog_id"], "455023");
        assert_eq!(trigger.payload["decision"]["repository"]["level"], "1");
    }

    #[tokio::test]
    async fn template_cannot_redefine_the_task() {
        let mut actions: Value =
            serde_json::from_slice(&changed(json!({ "hookPayload": "${taskGroupId} ${mine}" })))
                .unwrap();
        actions["variables"] = json!({ "mine": "too", "taskGroupId": "another" });
        assert_eq!(
            outcome(actions.to_string().into()).await.unwrap().payload,
            "group too"
        );
    }

    #[tokio::test]
    async fn hook_without_scope_of_decision_task_is_not_triggered() {
        for (hook, scopes) in [
            (
                json!({ "hookGroupId": "project-relman" }),
                decision().scopes,
            ),
            (
                json!({ "hookId": "in-tree-action-3-generic/0123456789" }),
                decision().scopes,
            ),
            (json!({}), vec![]),
            (
                json!({}),
                vec!["in-tree:hook-action:project-gecko/in-tree-action-1".to_owned()],
            ),
        ] {
            let decision = Decision {
                scopes,
                ..decision()
            };
            let refused = add_new_jobs(changed(hook.clone()), decision, labels())
                .await
                .unwrap_err();
            assert!(
                refused
                    .to_string()
                    .starts_with("it has no scope in-tree:hook-action:project-"),
                "{hook}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn malformed_action_is_reported() {
        for (actions, expected) in [
            (
                Bytes::from("no json"),
                "its public/actions.json does not follow the specification of actions: expected",
            ),
            (
                "{}".into(),
                "its public/actions.json does not follow the specification of actions: missing field",
            ),
            (
                r#"{"actions":[]}"#.into(),
                "it has no action add-new-jobs of the kind hook",
            ),
            (
                changed(json!({ "kind": "task" })),
                "it has no action add-new-jobs of the kind hook",
            ),
            (
                changed(json!({ "hookId": 7 })),
                "its public/actions.json does not follow the specification of actions: inv",
            ),
            (
                changed(json!({ "hookId": "in-tree-action-1-a\nERROR all is lost" })),
                "its hook has an invalid name: in-tree-action-1-a ERROR",
            ),
            (
                changed(json!({ "hookId": format!("in-tree-action-1-{}", "a".repeat(2000)) })),
                "its hook has an invalid name: in-tree-action-1-aaa",
            ),
            (
                changed(json!({ "schema": { "type": "triangle" } })),
                "its schema is invalid: ",
            ),
            (
                changed(json!({ "schema": { "required": ["times"] } })),
                "its schema does not accept the selected tests: ",
            ),
            (
                changed(json!({ "schema": { "properties": { "tasks": { "maxItems": 1 } } } })),
                "its schema does not accept the selected tests: value has more than 1 item (at /tasks, by /properties/tasks",
            ),
            (
                changed(json!({ "schema": { "$ref": "https://elsewhere.example/" } })),
                "its schema has references",
            ),
            (
                changed(json!({ "schema": { "$schema": "https://elsewhere.example/" } })),
                "its schema is invalid: ",
            ),
            (
                changed(json!({ "hookPayload": { "$eval": "unknown" } })),
                "its hookPayload cannot be rendered: ",
            ),
            (
                changed(json!({ "hookPayload": { "$eval": "" } })),
                "its hookPayload cannot be rendered: ",
            ),
            (
                changed(json!({ "hookPayload": { "$eval": "range(0,9)" } })),
                "its hookPayload uses an unsupported part of JSON-e",
            ),
        ] {
            let problem = outcome(actions).await.unwrap_err();
            assert!(problem.starts_with(expected), "{expected}: {problem}");
            assert!(
                problem.len() < 2 * MAX_QUOTE && !problem.contains('\n'),
                "{problem}"
            );
        }
    }

    /// Backtracking would not end, or the compiled pattern would fill the memory.
    #[tokio::test]
    async fn hostile_pattern_is_bounded_in_time() {
        let pattern = |pattern: &str| json!({ "schema": { "properties": { "tasks": { "items": { "pattern": pattern } } } } });
        let hostile = vec!["a".repeat(200)];
        let refused = add_new_jobs(changed(pattern("^(a+)+$!")), decision(), hostile.clone())
            .await
            .unwrap_err();
        assert!(matches!(refused, ActionError::Refused { .. }), "{refused}");
        for huge in ["((a{999}){999}){999}", "(?=(a+)+)b\\1"] {
            let refused = add_new_jobs(changed(pattern(huge)), decision(), hostile.clone())
                .await
                .unwrap_err();
            assert!(matches!(refused, ActionError::Schema { .. }), "{refused}");
        }
    }
}
