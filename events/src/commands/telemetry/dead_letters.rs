//! The file of dead letters: messages that no later run could process, with one JSON object a line.
//!
//! The file is bounded. A message that does not fit stays in the queue, and nothing is lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use pulse::PulseMessage;
use runtime::{Clock, SystemClock};
use serde::Serialize;

use super::state;
use crate::config::Variables;

/// The variable with the path of the file.
const VARIABLE: &str = "TELEMETRY_DEAD_LETTERS";
/// The maximum size of the file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// The most bytes of a message's body in the file. Those of pushes have a few hundred.
const MAX_BODY: usize = 1 << 20;

/// The file of dead letters.
pub(super) struct DeadLetters {
    /// `None` if neither a setting nor the environment gives one.
    path: Option<PathBuf>,
}

/// A line of the file.
#[derive(Serialize)]
struct DeadLetter<'a> {
    time: Timestamp,
    reason: &'a str,
    exchange: &'a str,
    key: &'a str,
    other_routes: &'a [String],
    /// The length of the whole body.
    bytes: usize,
    #[serde(flatten)]
    body: Body<'a>,
}

/// The body, or its first [`MAX_BODY`] bytes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Body<'a> {
    Body(&'a str),
    /// One that is not UTF-8.
    BodyBase64(String),
}

impl DeadLetters {
    /// The file of the option, else of [`VARIABLE`], else the default in the user's state directory.
    pub(super) fn of(option: Option<&Path>, variables: Variables<'_>) -> Self {
        let named = option
            .map(PathBuf::from)
            .or_else(|| variables(VARIABLE).map(PathBuf::from));
        Self {
            path: named.or_else(|| state::file("telemetry/dead-letters.jsonl", variables).ok()),
        }
    }

    /// The path, for messages.
    pub(super) fn name(&self) -> String {
        self.path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// Adds a message. `Ok` means that it is on the disk.
    pub(super) fn add(&self, message: &PulseMessage, reason: &str) -> anyhow::Result<()> {
        let path = self.path.as_ref().with_context(|| {
            format!("cannot find the file of dead letters: set {VARIABLE}, or HOME")
        })?;
        let line = line(message, reason, SystemClock.now())?;
        let append = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(path)?;
            // Two commands may share the file.
            file.lock()?;
            append(&mut file, &line)
        };
        match append().with_context(|| format!("cannot write to {}", path.display()))? {
            true => Ok(()),
            false => bail!(
                "{} would exceed {} MB: read it, then move or remove it",
                path.display(),
                MAX_FILE >> 20
            ),
        }
    }
}

/// Appends a whole line, or nothing. False if it does not fit.
fn append(file: &mut File, line: &[u8]) -> io::Result<bool> {
    let before = file.metadata()?.len();
    if before + line.len() as u64 > MAX_FILE {
        return Ok(false);
    }
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        // A partial line would corrupt the next one.
        file.set_len(before)?;
    }
    written.map(|()| true)
}

fn line(message: &PulseMessage, reason: &str, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    let PulseMessage { routing, body } = message;
    let kept = &body[..body.len().min(MAX_BODY)];
    let letter = DeadLetter {
        time,
        reason,
        exchange: &routing.exchange,
        key: &routing.key,
        other_routes: &routing.other_routes,
        bytes: body.len(),
        body: match std::str::from_utf8(kept) {
            Ok(text) => Body::Body(text),
            Err(_) => Body::BodyBase64(BASE64_STANDARD.encode(kept)),
        },
    };
    let mut line = serde_json::to_vec(&letter)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use pulse::Routing;
    use serde_json::Value;

    use super::*;

    fn message(body: &[u8]) -> PulseMessage {
        let routing = Routing {
            exchange: "exchange/x".into(),
            key: "a.b".into(),
            other_routes: Vec::new(),
        };
        PulseMessage {
            routing,
            body: body.to_vec().into(),
        }
    }

    fn lines(letters: &DeadLetters) -> Vec<Value> {
        let text = fs::read_to_string(letters.path.as_ref().unwrap()).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn dead_letters_keep_bodies_of_any_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/folder/letters");
        let letters = DeadLetters::of(Some(&path), &|_| None);
        letters.add(&message(b"{\"a\":\n1"), "it is cut").unwrap();
        letters.add(&message(b"\xff\xfe"), "no text").unwrap();
        let lines = lines(&letters);
        assert_eq!(
            (&lines[0]["body"], &lines[0]["reason"]),
            (&"{\"a\":\n1".into(), &"it is cut".into())
        );
        assert_eq!(
            (&lines[1]["body_base64"], &lines[1]["key"]),
            (&"//4=".into(), &"a.b".into())
        );
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn file_and_body_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letters");
        let letters = DeadLetters::of(Some(&path), &|_| None);
        letters
            .add(&message(&vec![b'x'; MAX_BODY + 5]), "long")
            .unwrap();
        let kept = &lines(&letters)[0];
        assert_eq!(kept["body"].as_str().unwrap().len(), MAX_BODY);
        assert_eq!(kept["bytes"], MAX_BODY + 5);
        let full = std::iter::repeat_with(|| letters.add(&message(&vec![b'x'; MAX_BODY]), "long"));
        let error = full.take(20).find_map(Result::err).unwrap();
        assert!(error.to_string().contains("exceed 16 MB"), "{error}");
        assert!(fs::metadata(&path).unwrap().len() <= MAX_FILE);
        assert_eq!(lines(&letters).len(), 15, "there is no partial line");
    }

    #[test]
    fn option_wins_over_variable_and_variable_over_state_directory() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
        let both =
            |name: &str| home(name).or_else(|| (name == VARIABLE).then(|| "/var/kept".to_owned()));
        let path =
            |option, variables: Variables<'_>| DeadLetters::of(option, variables).path.unwrap();
        assert_eq!(path(Some(Path::new("/a")), &both), Path::new("/a"));
        assert_eq!(path(None, &both), Path::new("/var/kept"));
        let default = "/home/ann/.local/state/code-review-events/telemetry/dead-letters.jsonl";
        assert_eq!(path(None, &home), Path::new(default));
        let none = DeadLetters::of(None, &|_| None)
            .add(&message(b""), "")
            .unwrap_err();
        assert!(
            none.to_string().contains("set TELEMETRY_DEAD_LETTERS"),
            "{none}"
        );
    }
}
