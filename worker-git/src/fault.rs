//! The meaning of an error of `gix`: whether the clone has lost data, or the system is at fault.

use std::io;

use worker::{Integrity, WorkerError};

/// The error of a read in the clone, which has to have what is read. `doing` is an infinitive.
pub(crate) fn read(doing: impl Into<String>) -> impl FnOnce(gix::Error) -> WorkerError {
    move |error| {
        let doing = doing.into();
        match system_error(&error) {
            Some(kind) => WorkerError::io(format!("{doing}: {}", chain(&error)))(kind.into()),
            None if error.is_corrupted() || error.is_not_found() => lost(doing, chain(&error)),
            None => WorkerError::Command {
                doing,
                words: chain(&error),
                integrity: Integrity::Unknown,
            },
        }
    }
}

/// The error of a write for a build, which harms no clone. `doing` is an infinitive.
pub(crate) fn write(doing: impl Into<String>) -> impl FnOnce(gix::Error) -> WorkerError {
    move |error| {
        let doing = doing.into();
        match io_errors(&error).next() {
            Some(kind) => WorkerError::io(format!("{doing}: {}", chain(&error)))(kind.into()),
            None => WorkerError::Command {
                doing,
                words: chain(&error),
                integrity: Integrity::Sound,
            },
        }
    }
}

/// The error for data that the clone has to have, and has not.
pub(crate) fn lost(doing: impl Into<String>, words: impl Into<String>) -> WorkerError {
    WorkerError::Command {
        doing: doing.into(),
        words: words.into(),
        integrity: Integrity::Lost,
    }
}

/// The kind of an error that shows no loss of data: that of a full disk, of the rights of our user, of a limit.
fn system_error(error: &gix::Error) -> Option<io::ErrorKind> {
    io_errors(error).find(|kind| {
        !matches!(
            kind,
            io::ErrorKind::NotFound
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
        )
    })
}

fn io_errors(error: &gix::Error) -> impl Iterator<Item = io::ErrorKind> {
    error
        .iter_errors()
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .map(io::Error::kind)
}

/// All messages of an error, from the outermost to its cause.
pub(crate) fn chain(error: &gix::Error) -> String {
    let mut messages: Vec<String> = Vec::new();
    for message in error.iter_errors().map(ToString::to_string) {
        if !messages.iter().any(|other| other.contains(&message)) {
            messages.push(message);
        }
    }
    messages.join(": ")
}
