//! Templates in the language of Jinja. A deployment can replace the built-in ones.
//!
//! A template is named after its file. Values in one that ends in `.html` are escaped: a task named `<script>` is shown as
//! that. So are those in one that ends in `.mrkdwn`, for Slack; the filter `linked` makes its links: `{{ "the task" | linked(link) }}`.
//! Templates have limits, and a misspelt variable is an error at start, not a gap in a mail.

mod example;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use minijinja::{
    AutoEscape, Environment, UndefinedBehavior, Value, escape_formatter, value::Serde,
};
use serde::Serialize;
use thiserror::Error;
use url::Url;

use crate::{
    ChannelError, DigestLine, LogLink, Notification, NotifiedTask, Status,
    text::{mrkdwn, one_line, plain},
};

/// The most instructions of a template: the built-in ones need some hundreds.
const FUEL: u64 = 200_000;
/// The longest template, in bytes.
const MAX_TEMPLATE: usize = 256 * 1024;
/// The longest output of a template, in bytes.
const MAX_TEXT: usize = 512 * 1024;

/// The templates that all channels use.
const COMMON: &[(&str, &str)] = &[
    (SUBJECT, include_str!("../templates/subject.txt")),
    (MESSAGE, include_str!("../templates/message.txt")),
    (
        DIGEST_SUBJECT,
        include_str!("../templates/digest-subject.txt"),
    ),
    (DIGEST, include_str!("../templates/digest.txt")),
];
/// The subject of a section without one.
pub(crate) const SUBJECT: &str = "subject.txt";
/// The message of a section without one.
pub(crate) const MESSAGE: &str = "message.txt";
/// The subject of a digest.
pub(crate) const DIGEST_SUBJECT: &str = "digest-subject.txt";
/// The message of a digest.
pub(crate) const DIGEST: &str = "digest.txt";

/// The suffix of templates in Slack's markup.
const MRKDWN: &str = "mrkdwn";

/// Why the templates cannot be used.
#[derive(Debug, Error)]
pub enum TemplateError {
    /// A file cannot be read.
    #[error("cannot read the template {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A file is too long.
    #[error("the template {} is longer than {MAX_TEMPLATE} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A file replaces no template.
    #[error("the template {} replaces none: there are {known}", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The known names.
        known: String,
    },
    /// A template has a syntax error, or cannot be rendered.
    #[error("the template {name} cannot be used: {problem}")]
    Faulty {
        /// Its name.
        name: String,
        /// The fault, with its line.
        problem: String,
    },
}

/// The variables of a template.
#[derive(Serialize)]
struct Told<'a> {
    status: Status,
    channel: &'a str,
    identity: Option<&'a str>,
    subject: &'a str,
    message: &'a str,
    artifact: Option<&'a str>,
    task: &'a NotifiedTask,
    link: &'a str,
    logs: &'a [LogLink],
    digest: &'a [DigestLine],
}

/// The templates of a process.
#[derive(Debug, Clone)]
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// The common templates, with `templates`: each a name and a text.
    pub(crate) fn new(
        more: impl IntoIterator<Item = &'static (&'static str, &'static str)>,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|name| match name.rsplit('.').next() {
            Some("html") => AutoEscape::Html,
            Some(MRKDWN) => AutoEscape::Custom(MRKDWN.into()),
            _ => AutoEscape::None,
        });
        environment.set_formatter(|out, state, value| match state.auto_escape() {
            AutoEscape::Custom(_) if !value.is_safe() => {
                Ok(out.write_str(&mrkdwn(&value.to_string()))?)
            }
            AutoEscape::Custom(_) => Ok(write!(out, "{value}")?),
            _ => escape_formatter(out, state, value),
        });
        environment.add_filter("linked", |label: String, address: String| {
            Value::from_safe_string(linked(&one_line(&label, MAX_LINE), &address))
        });
        environment.add_filter("one_line", |text: String| one_line(&text, MAX_LINE));
        let mut templates = Self { environment };
        for (name, source) in COMMON.iter().chain(more) {
            templates.put(name, source)?;
        }
        Ok(templates)
    }

    /// Replaces templates with the files of the same names in `folder`. A file that replaces none is an error.
    pub fn replaced_by(mut self, folder: &Path) -> Result<Self, TemplateError> {
        let unread = |source| TemplateError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(unread)? {
            let entry = entry.map_err(unread)?;
            files.insert(
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            );
        }
        for (name, path) in files.iter().filter(|(name, _)| !name.starts_with('.')) {
            self.replace(name, path)?;
        }
        Ok(self)
    }

    /// Replaces the template `name` with the file at `path`.
    pub fn with_file(
        templates: &Arc<Self>,
        name: &str,
        path: &Path,
    ) -> Result<Arc<Self>, TemplateError> {
        let mut replaced = Self::clone(templates);
        replaced.replace(name, path)?;
        Ok(Arc::new(replaced))
    }

    /// Renders the template `name` for a notification on `channel`. Plain texts hold no control characters but line feeds
    /// and tabs; pass a header through [`crate::text::one_line`] all the same.
    pub fn render(
        &self,
        channel: &'static str,
        name: &str,
        notification: &Notification,
    ) -> Result<String, ChannelError> {
        self.text(name, notification)
            .map_err(|error| ChannelError::Refused {
                channel,
                problem: error.to_string(),
            })
    }

    /// Renders the template `name` outside of a channel.
    pub(crate) fn text(
        &self,
        name: &str,
        notification: &Notification,
    ) -> Result<String, TemplateError> {
        let told = Told {
            status: notification.status,
            channel: &notification.channel,
            identity: notification.identity.as_deref(),
            subject: &notification.subject,
            message: &notification.message,
            artifact: notification.artifact.as_deref(),
            task: &notification.task,
            link: notification.links.task.as_str(),
            logs: &notification.links.logs,
            digest: &notification.digest,
        };
        let rendered = self
            .environment
            .get_template(name)
            .and_then(|template| template.render(Serde(told)));
        let text = rendered.map_err(|error| faulty(name, &error))?;
        if text.len() > MAX_TEXT {
            let problem = format!("it makes more than {MAX_TEXT} bytes");
            return Err(TemplateError::Faulty {
                name: name.to_owned(),
                problem,
            });
        }
        Ok(plain(&text))
    }

    fn replace(&mut self, name: &str, path: &Path) -> Result<(), TemplateError> {
        if self.environment.get_template(name).is_err() {
            let mut known: Vec<_> = self
                .environment
                .templates()
                .map(|(name, _)| name.to_owned())
                .collect();
            known.sort_unstable();
            return Err(TemplateError::Unknown {
                path: path.to_owned(),
                known: known.join(", "),
            });
        }
        let source = std::fs::read_to_string(path).map_err(|source| TemplateError::Read {
            path: path.to_owned(),
            source,
        })?;
        if source.len() > MAX_TEMPLATE {
            return Err(TemplateError::TooLong {
                path: path.to_owned(),
            });
        }
        self.put(name, &source)?;
        // A misspelt name stops the start, not the first task that fails.
        self.try_out(name)
    }

    /// Renders the template `name` for every kind of notification, to find a misspelling in a branch for one status too.
    fn try_out(&self, name: &str) -> Result<(), TemplateError> {
        for example in example::notifications().into_iter().flatten() {
            for status in Status::ALL {
                self.text(
                    name,
                    &Notification {
                        status,
                        ..example.clone()
                    },
                )?;
            }
        }
        Ok(())
    }

    fn put(&mut self, name: &str, source: &str) -> Result<(), TemplateError> {
        let added = self
            .environment
            .add_template_owned(name.to_owned(), source.to_owned());
        added.map_err(|error| faulty(name, &error))
    }
}

/// The longest line of the filter `one_line`, in bytes.
const MAX_LINE: usize = 500;

/// A link in Slack's markup, for an http address only: `<!channel>` would mention everybody.
fn linked(label: &str, address: &str) -> String {
    let label = mrkdwn(label);
    match Url::parse(address) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => {
            let url = url
                .as_str()
                .replace('|', "%7C")
                .replace('&', "&amp;")
                .replace('<', "%3C")
                .replace('>', "%3E");
            format!("<{url}|{label}>")
        }
        _ => label,
    }
}

fn faulty(name: &str, error: &minijinja::Error) -> TemplateError {
    let line = error
        .line()
        .map(|line| format!(" in line {line}"))
        .unwrap_or_default();
    let problem = format!("{}{line}", one_line(&runtime::error_chain(error), 300));
    TemplateError::Faulty {
        name: name.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_and_mrkdwn_are_escaped_unlike_plain_text() {
        let mut templates = Templates::ours().unwrap();
        let [mut one, ..] = example::notifications().unwrap();
        one.task.name = "<script>\"&'\u{1b}".to_owned();
        for (name, expected) in [
            ("mail.html", "&lt;script&gt;&quot;&amp;&#x27;"),
            ("chat.mrkdwn", "&lt;script&gt;\"&amp;'"),
            ("mail.txt", "<script>\"&'"),
        ] {
            templates.put(name, "{{ task.name }}").unwrap();
            assert_eq!(templates.text(name, &one).unwrap(), expected);
        }
    }

    #[test]
    fn link_has_address_of_template() {
        let mut templates = Templates::ours().unwrap();
        let [mut one, ..] = example::notifications().unwrap();
        one.task.name = "<x>|y\nz".to_owned();
        one.links.task = "https://a.example/_b_?c=1&d=|<".parse().unwrap();
        one.artifact = Some("!channel".to_owned());
        for (link, expected) in [
            (
                "link",
                "<https://a.example/_b_?c=1&amp;d=%7C%3C|&lt;x&gt;|y z>",
            ),
            ("artifact", "&lt;x&gt;|y z"),
            ("'javascript:alert()'", "&lt;x&gt;|y z"),
            (
                "'https://a.example/#<!here>|'",
                "<https://a.example/#%3C!here%3E%7C|&lt;x&gt;|y z>",
            ),
        ] {
            templates
                .put(
                    "chat.mrkdwn",
                    &format!("{{{{ task.name | linked({link}) }}}}"),
                )
                .unwrap();
            assert_eq!(templates.text("chat.mrkdwn", &one).unwrap(), expected);
        }
    }

    /// A channel's own templates are in this as soon as it is registered.
    #[test]
    fn every_template_renders_every_notification() {
        let templates = Templates::ours().unwrap();
        for (name, _) in templates.environment.templates() {
            templates.try_out(name).unwrap();
        }
    }
}
