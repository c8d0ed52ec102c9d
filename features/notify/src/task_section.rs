//! The notification section of a task's definition: `extra.notification`, or `extra.notifications` by its later name.

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{Recipients, Status};

/// The keys of `extra` with sections. The first that has one for the status counts.
const NAMES: [&str; 2] = ["notification", "notifications"];
/// The most channels, and the most identities, in a section.
const MAX_NAMES: usize = 50;

/// A section of a task, or an entry of the identities file, which overrides fields of a section.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct NotificationSection {
    plugins: Option<Vec<String>>,
    subject: Option<String>,
    message: Option<String>,
    emails: Option<Vec<String>>,
    nicks: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    ids: Option<Vec<String>>,
}

/// A malformed section.
#[derive(Debug, Error)]
#[error("invalid notification section at extra.{path}: {problem}")]
pub(crate) struct MalformedSection {
    path: String,
    problem: String,
}

impl NotificationSection {
    /// The section of `status` in a definition's `extra`.
    pub(crate) fn of_task(
        extra: &Map<String, Value>,
        status: Status,
    ) -> Result<Option<Self>, MalformedSection> {
        for name in NAMES {
            let Some(notification) = extra.get(name).filter(|value| !value.is_null()) else {
                continue;
            };
            let Value::Object(sections) = notification else {
                return Err(MalformedSection {
                    path: name.to_owned(),
                    problem: "it is not an object".to_owned(),
                });
            };
            if let Some(section) = sections.get(status.name()).filter(|value| !value.is_null()) {
                let path = format!("{name}.{status}");
                return Self::read(section)
                    .map(Some)
                    .map_err(|problem| MalformedSection { path, problem });
            }
        }
        Ok(None)
    }

    /// Parses a section; the error is a text for people. Unknown fields are ignored.
    pub(crate) fn read(value: &Value) -> Result<Self, String> {
        let fields = Self::deserialize(value)
            .map_err(|error| crate::text::one_line(&error.to_string(), 200))?;
        for (name, names) in [("plugins", &fields.plugins), ("ids", &fields.ids)] {
            if names.as_ref().is_some_and(|names| names.len() > MAX_NAMES) {
                return Err(format!("{name} holds more than {MAX_NAMES} names"));
            }
        }
        Ok(fields)
    }

    /// `section` with the fields that are set here overridden.
    pub(crate) fn over(&self, section: &Self) -> Self {
        let (over, under) = (self.clone(), section.clone());
        Self {
            plugins: over.plugins.or(under.plugins),
            subject: over.subject.or(under.subject),
            message: over.message.or(under.message),
            emails: over.emails.or(under.emails),
            nicks: over.nicks.or(under.nicks),
            channels: over.channels.or(under.channels),
            ids: None,
        }
    }

    /// The channels, each once, in their order.
    pub(crate) fn plugins(&self) -> Vec<&str> {
        once(&self.plugins)
    }

    /// The identities, each once.
    pub(crate) fn ids(&self) -> Vec<&str> {
        once(&self.ids)
    }

    /// The subject, unless it is blank.
    pub(crate) fn subject(&self) -> Option<&str> {
        self.subject
            .as_deref()
            .filter(|text| !text.trim().is_empty())
    }

    /// The message, unless it is blank.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message
            .as_deref()
            .filter(|text| !text.trim().is_empty())
    }

    /// The recipients, each once.
    pub(crate) fn recipients(&self) -> Recipients {
        let all =
            |names: &Option<Vec<String>>| once(names).into_iter().map(str::to_owned).collect();
        Recipients {
            emails: all(&self.emails),
            nicks: all(&self.nicks),
            channels: all(&self.channels),
        }
    }
}

fn once(names: &Option<Vec<String>>) -> Vec<&str> {
    let mut found = Vec::new();
    for name in names
        .iter()
        .flatten()
        .map(|name| name.trim())
        .filter(|name| !name.is_empty())
    {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn section(extra: &Value) -> Result<Option<NotificationSection>, MalformedSection> {
        NotificationSection::of_task(extra.as_object().expect("an object"), Status::TaskFailed)
    }

    #[test]
    fn section_is_read_under_either_name() {
        for name in NAMES {
            let extra = json!({ name: { "task-failed": { "plugins": ["irc", "irc", " smtp "], "subject": "s" } } });
            let fields = section(&extra).unwrap().unwrap();
            assert_eq!(
                (fields.plugins(), fields.subject()),
                (vec!["irc", "smtp"], Some("s"))
            );
        }
        let both = json!({ "notification": { "task-defined": {} }, "notifications": { "task-failed": { "plugins": ["a"] } } });
        assert_eq!(section(&both).unwrap().unwrap().plugins(), ["a"]);
    }

    #[test]
    fn task_without_section_is_no_error() {
        for extra in [
            json!({}),
            json!({ "notification": null }),
            json!({ "notification": {} }),
            json!({ "notification": { "task-completed": { "plugins": ["irc"] } } }),
            json!({ "notification": { "task-failed": null } }),
        ] {
            assert_eq!(section(&extra).unwrap(), None, "{extra}");
        }
    }

    #[test]
    fn malformed_section_is_reported() {
        for (extra, expected) in [
            (
                json!({ "notification": [] }),
                "invalid notification section at extra.notification: it is not an object",
            ),
            (
                json!({ "notification": { "task-failed": 3 } }),
                "invalid notification section at extra.notification.task-failed: ",
            ),
            (
                json!({ "notifications": { "task-failed": { "plugins": "irc" } } }),
                "at extra.notifications.task-failed: ",
            ),
            (
                json!({ "notification": { "task-failed": { "emails": [1] } } }),
                "invalid type: integer",
            ),
            (
                json!({ "notification": { "task-failed": { "ids": vec!["x"; 51] } } }),
                "ids holds more than 50 names",
            ),
        ] {
            let text = section(&extra).unwrap_err().to_string();
            assert!(text.contains(expected), "{extra}: {text}");
        }
    }

    #[test]
    fn identity_overrides_section() {
        let read = |value| NotificationSection::read(&value).unwrap();
        let under =
            read(json!({ "plugins": ["smtp"], "emails": ["a@x"], "message": "m", "ids": ["ann"] }));
        let laid = read(json!({ "emails": ["b@x"], "nicks": ["ann"] })).over(&under);
        assert_eq!(
            (laid.plugins(), laid.message(), laid.ids()),
            (vec!["smtp"], Some("m"), vec![])
        );
        let Recipients {
            emails,
            nicks,
            channels,
        } = laid.recipients();
        assert_eq!(
            (emails, nicks, channels),
            (vec!["b@x".to_owned()], vec!["ann".to_owned()], vec![])
        );
    }
}
