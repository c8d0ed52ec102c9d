//! Placeholders in the subject and the message of a section: `{task_id}` becomes the id of the task.

use crate::Notification;

/// The longest name of a placeholder, in bytes.
const MAX_PLACEHOLDER: usize = 40;

/// `text` with its placeholders replaced. Placeholders in a value are not replaced; other text in braces stays as it is.
pub(crate) fn fill(text: &str, notification: &Notification) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(begin) = rest.find('{') {
        let (before, after) = rest.split_at(begin);
        filled.push_str(before);
        let name = after[1..].split('}').next().unwrap_or_default();
        let is_closed = after.len() > name.len() + 1;
        match value(name, notification).filter(|_| is_closed) {
            Some(value) => {
                filled.push_str(&value);
                rest = &after[name.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &after[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

fn value(field: &str, notification: &Notification) -> Option<String> {
    if field.len() > MAX_PLACEHOLDER {
        return None;
    }
    let task = &notification.task;
    let value = match field {
        "task_id" => task.id.clone(),
        "task_name" => task.name.clone(),
        "task_group_id" => task.group_id.clone(),
        "run_id" => task.run_id.map(|run| run.to_string()).unwrap_or_default(),
        "status" => notification.status.to_string(),
        "artifact" => notification.artifact.clone().unwrap_or_default(),
        "link" => notification.links.task.to_string(),
        "log" => notification
            .links
            .logs
            .last()
            .map(|log| log.url.to_string())
            .unwrap_or_default(),
        other => task.build_props.get(other)?.clone(),
    };
    Some(value)
}
