//! The parts of a log, compressed while they are read.
//!
//! A log reuses two buffers in turn. With a new buffer for each part, an allocator that keeps freed memory would hold
//! several of them, and more the longer the process runs.

use std::{io::Write, mem, sync::Arc};

use parking_lot::Mutex;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use taskcluster::ArtifactStream;

use super::NAME;
use crate::{ChannelError, text::one_line};

/// The minimum size of each part but the last, in bytes, as S3 requires.
pub(super) const PART: usize = 5 << 20;
/// The room for a chunk that exceeds it, in bytes.
const SLACK: usize = 512 << 10;
/// The maximum number of parts of an upload.
const MAX_PARTS: usize = 10_000;

/// A part of a log.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// Whether it is the last part.
    pub(super) is_last: bool,
}

/// Reads a log in parts.
pub(super) struct Parts {
    log: ArtifactStream,
    encoder: Encoder,
    spare: SpareBuffers,
    count: usize,
}

/// Buffers whose parts were uploaded.
type SpareBuffers = Arc<Mutex<Vec<Vec<u8>>>>;

/// The buffer of a part that is uploaded. It becomes a spare buffer when its bytes are dropped.
struct PartBuffer {
    buffer: Vec<u8>,
    spare: SpareBuffers,
}

impl AsRef<[u8]> for PartBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for PartBuffer {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.spare.lock().push(buffer);
    }
}

/// Compresses the next part into a buffer.
enum Encoder {
    /// The log is compressed already.
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Parts {
    pub(super) fn new(log: ArtifactStream) -> Result<Self, ChannelError> {
        let encoder = match log.encoding().as_deref() {
            None => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::default())),
            Some("gzip" | "x-gzip") => Encoder::Identity(Vec::new()),
            Some(other) => {
                let problem = format!(
                    "the log has the encoding {}, expected gzip or none",
                    one_line(other, 60)
                );
                return Err(ChannelError::Refused {
                    channel: NAME,
                    problem,
                });
            }
        };
        Ok(Self {
            log,
            encoder,
            spare: SpareBuffers::default(),
            count: 0,
        })
    }

    /// Reads the next part. Must not be called after the last one.
    pub(super) async fn next(&mut self) -> Result<Part, ChannelError> {
        self.count += 1;
        if self.count > MAX_PARTS {
            let problem = format!("the log is longer than {MAX_PARTS} parts of {PART} bytes");
            return Err(ChannelError::Refused {
                channel: NAME,
                problem,
            });
        }
        self.provide_buffer();
        while self.encoder.buffer().len() < PART {
            let chunk = self
                .log
                .chunk()
                .await
                .map_err(|error| cut_off(&runtime::error_chain(&error)))?;
            let Some(chunk) = chunk else {
                self.encoder.finish()?;
                return Ok(Part {
                    bytes: self.take(),
                    is_last: true,
                });
            };
            self.encoder.add(&chunk)?;
        }
        Ok(Part {
            bytes: self.take(),
            is_last: false,
        })
    }

    /// Gives the encoder a buffer with room for a part, so that it does not grow. The part before the last one was uploaded
    /// by now, so its buffer is spare. The encoder may have written its header already.
    fn provide_buffer(&mut self) {
        let spare = self.spare.lock().pop();
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(PART + SLACK));
        buffer.append(self.encoder.buffer());
        *self.encoder.buffer() = buffer;
    }

    fn take(&mut self) -> Bytes {
        Bytes::from_owner(PartBuffer {
            buffer: mem::take(self.encoder.buffer()),
            spare: Arc::clone(&self.spare),
        })
    }
}

impl Encoder {
    fn buffer(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Identity(buffer) => buffer,
            Self::Gzip(gzip) => gzip.get_mut(),
        }
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), ChannelError> {
        match self {
            Self::Identity(buffer) => buffer.extend_from_slice(chunk),
            Self::Gzip(gzip) => gzip
                .write_all(chunk)
                .map_err(|error| cut_off(&error.to_string()))?,
        }
        Ok(())
    }

    /// Writes the rest, with the trailer of gzip.
    fn finish(&mut self) -> Result<(), ChannelError> {
        match self {
            Self::Identity(_) => Ok(()),
            Self::Gzip(gzip) => gzip
                .try_finish()
                .map_err(|error| cut_off(&error.to_string())),
        }
    }
}

fn cut_off(problem: &str) -> ChannelError {
    ChannelError::Failed {
        channel: NAME,
        problem: format!("the log was cut off: {problem}"),
    }
}
