//! `logbook`: a line for each notification, at the end of a file.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::PathBuf,
};

use async_trait::async_trait;

use crate::{
    Channel, ChannelError, Key, Notification, Opened, Parts, Registration, Settings, text::one_line,
};

const NAME: &str = "logbook";
/// The longest line, in bytes.
const MAX_LINE: usize = 2000;

pub(super) const REGISTRATION: Registration = Registration {
    name: NAME,
    keys: &[Key::new("file").or_variable("LOGBOOK_FILE")],
    templates: &[],
    open,
};

fn open(settings: &Settings, _: &Parts<'_>) -> Opened {
    let file = PathBuf::from(settings.text("file")?);
    if !file.is_absolute() {
        return Err(settings.invalid("file", "the path of a file, from the root on"));
    }
    Ok(Box::new(Logbook { file }))
}

struct Logbook {
    file: PathBuf,
}

#[async_trait]
impl Channel for Logbook {
    fn name(&self) -> &'static str {
        NAME
    }

    fn recipients(&self, _: &Notification) -> Vec<String> {
        vec![one_line(&self.file.to_string_lossy(), 200)]
    }

    fn is_read_by_people(&self) -> bool {
        false
    }

    async fn send(&self, notification: &Notification, recipient: &str) -> Result<(), ChannelError> {
        let Notification {
            created_at,
            subject,
            ..
        } = notification;
        let line = one_line(
            &format!("{created_at} {}: {subject}", notification.key()),
            MAX_LINE,
        );
        let problem = |error: &io::Error| format!("tried to write to {recipient}: {error}");
        // It is one short write that nobody can drop half-way, and no other process gets a line between.
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(&self.file)
            .map_err(|error| match error.kind() {
                ErrorKind::PermissionDenied => ChannelError::Credentials {
                    channel: NAME,
                    problem: format!(
                        "{}: let our user write there, or set notify.logbook.file",
                        problem(&error)
                    ),
                },
                _ => ChannelError::Unreachable {
                    channel: NAME,
                    problem: problem(&error),
                },
            })?;
        let written = file.write_all(format!("{line}\n").as_bytes());
        written.map_err(|error| ChannelError::Failed {
            channel: NAME,
            problem: problem(&error),
        })
    }
}
