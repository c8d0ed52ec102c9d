//! Answers whose result is one long string, such as a patch.
//!
//! Such an answer is never in memory as a whole. Its body goes to a file without a name as it arrives, and its result is
//! decoded from there into another file. So a try that fails half-way leaves nothing in the result, and what a process
//! that dies had read of an answer goes with it.

use std::{
    cell::Cell,
    collections::HashSet,
    fs::File,
    io::{self, Read, Seek, Write},
    path::Path,
};

use http_client::HttpError;
use serde_json::{Map, Value};
use struson::reader::{
    JsonReader, JsonReaderPosition, JsonStreamReader, JsonSyntaxError, ReaderError, ReaderSettings,
    SyntaxErrorKind, ValueType,
};
use tokio::io::AsyncWriteExt;

use super::{Conduit, ConduitError, retried};

/// How much of a string is decoded at once, in bytes.
const PIECE: usize = 16 << 10;
/// The most of an error's code or text that is kept, in bytes.
const MAX_WORDS: usize = 64 << 10;

impl Conduit {
    /// As [`Conduit::call`], for a result that is a string: writes it to `sink`, which is given back. The answer is in
    /// `directory` meanwhile.
    ///
    /// The error has the source `HttpError::TooLarge` when the string has more than `most` bytes.
    pub(crate) async fn download<W: Write + Send + 'static>(
        &self,
        method: &'static str,
        params: Map<String, Value>,
        directory: &Path,
        mut sink: W,
        most: usize,
    ) -> Result<W, ConduitError> {
        let params = self.signed(params);
        let file = retried(|tries| self.post_to_disk(method, &params, tries, directory)).await?;
        let decoding = tokio::task::spawn_blocking(move || {
            let answer = decode(file, &mut sink, most)?;
            Ok((answer, sink))
        });
        let decoded = decoding
            .await
            .unwrap_or_else(|error| Err(Fault::Disk(error.into())));
        let (answer, sink) = decoded.map_err(|fault| fault.of(method))?;
        self.check_refusal(method, answer.error_code, answer.error_info)?;
        if answer.has_result {
            Ok(sink)
        } else {
            Err(Fault::no_string().of(method))
        }
    }

    /// Calls `method` for the `tries`-th time, and returns the body of the answer.
    async fn post_to_disk(
        &self,
        method: &'static str,
        params: &str,
        tries: u32,
        directory: &Path,
    ) -> Result<File, ConduitError> {
        let disk = |source| ConduitError::Disk { method, source };
        let mut body = self.send(method, params, tries).await?;
        let file = tempfile::tempfile_in(directory).map_err(disk)?;
        let mut file = tokio::fs::File::from_std(file);
        while let Some(chunk) = body
            .chunk()
            .await
            .map_err(|error| ConduitError::http(method, tries, error))?
        {
            file.write_all(&chunk).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        let mut file = file.into_std().await;
        file.rewind().map_err(disk)?;
        Ok(file)
    }
}

/// What an answer says beside its result.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Whether it has a result that is not null.
    has_result: bool,
    error_code: Option<String>,
    error_info: Option<String>,
}

/// Why an answer has no result that can be used.
#[derive(Debug)]
enum Fault {
    Http(HttpError),
    Disk(io::Error),
}

impl Fault {
    fn of(self, method: &'static str) -> ConduitError {
        match self {
            Self::Http(error) => ConduitError::http(method, 1, error),
            Self::Disk(source) => ConduitError::Disk { method, source },
        }
    }

    /// There is no result, and no error either.
    fn no_string() -> Self {
        Self::Http(HttpError::malformed("type", 0, 0))
    }

    /// Lines and columns are counted from 1.
    fn at(problem: &'static str, place: &JsonReaderPosition) -> Self {
        let count = |before: u64| usize::try_from(before).unwrap_or(usize::MAX - 1) + 1;
        let (line, column) = place
            .line_pos
            .map_or((0, 0), |place| (count(place.line), count(place.column)));
        Self::Http(HttpError::malformed(problem, line, column))
    }

    fn syntax(error: &JsonSyntaxError) -> Self {
        let problem = match error.kind {
            SyntaxErrorKind::IncompleteDocument => "end of input",
            _ => "syntax",
        };
        Self::at(problem, &error.location)
    }
}

impl From<ReaderError> for Fault {
    fn from(error: ReaderError) -> Self {
        match error {
            ReaderError::SyntaxError(error) => Self::syntax(&error),
            // It is not UTF-8.
            ReaderError::IoError { location, .. }
            | ReaderError::MaxNestingDepthExceeded { location, .. } => {
                Self::at("syntax", &location)
            }
            ReaderError::UnexpectedValueType { location, .. }
            | ReaderError::UnexpectedStructure { location, .. }
            | ReaderError::UnsupportedNumberValue { location, .. } => Self::at("type", &location),
            _ => Self::no_string(),
        }
    }
}

/// Decodes an answer whose result is a string, which is written to `sink` and may have `most` bytes.
fn decode(answer: impl Read, sink: &mut impl Write, most: usize) -> Result<Answer, Fault> {
    let failure = Cell::new(None);
    let source = Watched {
        source: answer,
        failure: &failure,
    };
    let settings = ReaderSettings {
        track_path: false,
        ..ReaderSettings::default()
    };
    let json = JsonStreamReader::new_custom(source, settings);
    // To the decoder, a disk that fails is the same as bytes that are no UTF-8.
    decode_members(json, sink, most).map_err(|fault| failure.take().map_or(fault, Fault::Disk))
}

fn decode_members<R: Read>(
    mut json: JsonStreamReader<R>,
    sink: &mut impl Write,
    most: usize,
) -> Result<Answer, Fault> {
    let mut answer = Answer::default();
    let mut seen = HashSet::new();
    json.begin_object()?;
    while json.has_next()? {
        let name = json.next_name()?;
        let member = ["result", "error_code", "error_info"]
            .into_iter()
            .find(|known| *known == name);
        // Of two results, nobody knows which one is meant.
        if member.is_some_and(|member| !seen.insert(member)) {
            return Err(Fault::at("type", &json.current_position(false)));
        }
        if member.is_some() && json.peek()? == ValueType::Null {
            json.next_null()?;
            continue;
        }
        match member {
            Some("result") => {
                copy_string(&mut json, sink, most)?;
                answer.has_result = true;
            }
            Some("error_code") => answer.error_code = Some(words(&mut json)?),
            Some(_) => answer.error_info = Some(words(&mut json)?),
            None => json.skip_value()?,
        }
    }
    json.end_object()?;
    json.consume_trailing_whitespace()?;
    Ok(answer)
}

/// The beginning of the next string.
fn words<R: Read>(json: &mut JsonStreamReader<R>) -> Result<String, Fault> {
    let mut kept = Beginning(Vec::new());
    copy_string(json, &mut kept, usize::MAX)?;
    Ok(String::from_utf8_lossy(&kept.0).into_owned())
}

/// Writes the next string, which may have `most` bytes, to `sink`.
fn copy_string<R: Read>(
    json: &mut JsonStreamReader<R>,
    sink: &mut impl Write,
    most: usize,
) -> Result<(), Fault> {
    let mut piece = vec![0; PIECE];
    let mut left = most;
    let too_large = || Fault::Http(HttpError::TooLarge { limit: most });
    let mut text = json.next_string_reader()?;
    let error = loop {
        match text.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                left = left.checked_sub(count).ok_or_else(too_large)?;
                sink.write_all(&piece[..count]).map_err(Fault::Disk)?;
            }
            Err(error) => break error,
        }
    };
    drop(text);
    let syntax = error.get_ref().and_then(|error| error.downcast_ref());
    Err(match syntax {
        Some(error) => Fault::syntax(error),
        // It is not UTF-8.
        None => Fault::at("syntax", &json.current_position(false)),
    })
}

/// Keeps what is written first.
struct Beginning(Vec<u8>);

impl Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_WORDS - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A source that notes its failure.
struct Watched<'f, R> {
    source: R,
    failure: &'f Cell<Option<io::Error>>,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.source.read(buffer).inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let failure = error.raw_os_error().map_or_else(
                    || io::Error::from(error.kind()),
                    io::Error::from_raw_os_error,
                );
                self.failure.set(Some(failure));
            }
        })
    }
}

#[cfg(test)]
mod tests;
