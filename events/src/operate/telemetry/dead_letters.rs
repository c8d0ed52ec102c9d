//! Messages that no later run could work off: a file keeps them, so that the queue is rid of them.
//!
//! One JSON object a line. The file is bounded: what does not fit stays in the queue, and nothing is lost.

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

/// The variable that names the file.
const FILE: &str = "TELEMETRY_DEAD_LETTERS";
/// The most bytes of the file.
const MOST_BYTES: u64 = 16 << 20;
/// The most bytes of a message's body that are kept. Those of pushes have a few hundred.
const MOST_BODY: usize = 1 << 20;

/// The file of messages that cannot be worked off.
pub(super) struct DeadLetters {
    /// None where neither a setting nor the user's state directory names one.
    path: Option<PathBuf>,
}

/// A message in the file.
#[derive(Serialize)]
struct DeadLetter<'a> {
    /// When it was kept.
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

/// The body, or its first [`MOST_BODY`] bytes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Body<'a> {
    Body(&'a str),
    /// One that is not UTF-8.
    BodyBase64(String),
}

impl DeadLetters {
    /// The file that the option or [`FILE`] names, else one in the state directory of the user.
    pub(super) fn of(option: Option<&Path>, variables: Variables<'_>) -> Self {
        let named = option
            .map(PathBuf::from)
            .or_else(|| variables(FILE).map(PathBuf::from));
        Self {
            path: named.or_else(|| state::file("telemetry/dead-letters.jsonl", variables).ok()),
        }
    }

    /// Names the file in texts.
    pub(super) fn name(&self) -> String {
        self.path
            .as_ref()
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// Keeps a message. When this returns `Ok`, it is on the disk.
    pub(super) fn keep(&self, message: &PulseMessage, reason: &str) -> anyhow::Result<()> {
        let path = self
            .path
            .as_ref()
            .with_context(|| format!("no file is set: set {FILE}, or HOME"))?;
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
                "{} would have more than {} MB: read what it holds, and move it away",
                path.display(),
                MOST_BYTES >> 20
            ),
        }
    }
}

/// Appends a line, or nothing. False if there is no room for it.
fn append(file: &mut File, line: &[u8]) -> io::Result<bool> {
    let before = file.metadata()?.len();
    if before + line.len() as u64 > MOST_BYTES {
        return Ok(false);
    }
    let written = file.write_all(line).and_then(|()| file.sync_data());
    if written.is_err() {
        // A part of a line would make the next one unreadable.
        file.set_len(before)?;
    }
    written.map(|()| true)
}

fn line(message: &PulseMessage, reason: &str, time: Timestamp) -> serde_json::Result<Vec<u8>> {
    let PulseMessage { routing, body } = message;
    let kept = &body[..body.len().min(MOST_BODY)];
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
    fn messages_are_kept_whole_whatever_their_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/folder/letters");
        let letters = DeadLetters::of(Some(&path), &|_| None);
        letters.keep(&message(b"{\"a\":\n1"), "it is cut").unwrap();
        letters.keep(&message(b"\xff\xfe"), "no text").unwrap();
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
            .keep(&message(&vec![b'x'; MOST_BODY + 5]), "long")
            .unwrap();
        let kept = &lines(&letters)[0];
        assert_eq!(kept["body"].as_str().unwrap().len(), MOST_BODY);
        assert_eq!(kept["bytes"], MOST_BODY + 5);
        let full =
            std::iter::repeat_with(|| letters.keep(&message(&vec![b'x'; MOST_BODY]), "long"));
        let error = full.take(20).find_map(Result::err).unwrap();
        assert!(error.to_string().contains("more than 16 MB"), "{error}");
        assert!(fs::metadata(&path).unwrap().len() <= MOST_BYTES);
        assert_eq!(lines(&letters).len(), 15, "no half line is left");
    }

    #[test]
    fn the_option_wins_over_the_variable_and_that_over_the_state_directory() {
        let home = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
        let both =
            |name: &str| home(name).or_else(|| (name == FILE).then(|| "/var/kept".to_owned()));
        let path =
            |option, variables: Variables<'_>| DeadLetters::of(option, variables).path.unwrap();
        assert_eq!(path(Some(Path::new("/a")), &both), Path::new("/a"));
        assert_eq!(path(None, &both), Path::new("/var/kept"));
        let usual = "/home/ann/.local/state/code-review-events/telemetry/dead-letters.jsonl";
        assert_eq!(path(None, &home), Path::new(usual));
        let none = DeadLetters::of(None, &|_| None)
            .keep(&message(b""), "")
            .unwrap_err();
        assert!(
            none.to_string().contains("set TELEMETRY_DEAD_LETTERS"),
            "{none}"
        );
    }
}
