//! A log as the parts that a store takes, packed on the way.
//!
//! The same two buffers are filled in turn. Were each part given a new one, an allocator that keeps what is freed would
//! hold several of them, and more in a process that collects for days.

use std::{io::Write, mem, sync::Arc};

use parking_lot::Mutex;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use taskcluster::ArtifactStream;

use super::NAME;
use crate::{ChannelError, text::one_line};

/// The least size of each part but the last, in bytes: the smallest that S3 takes.
pub(super) const PART: usize = 5 << 20;
/// What may come at once beyond that.
const SLACK: usize = 512 << 10;
/// How many parts an upload may have at most.
const MAX_PARTS: usize = 10_000;

/// A part of a log.
pub(super) struct Part {
    pub(super) bytes: Bytes,
    /// Whether nothing comes after it.
    pub(super) is_last: bool,
}

/// A log that is taken in parts.
pub(super) struct Parts {
    log: ArtifactStream,
    packed: Packed,
    spare: Spare,
    count: usize,
}

/// Buffers that were sent.
type Spare = Arc<Mutex<Vec<Vec<u8>>>>;

/// A buffer that is being sent. It comes back when nobody needs its bytes any more.
struct Lent {
    buffer: Vec<u8>,
    spare: Spare,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = mem::take(&mut self.buffer);
        buffer.clear();
        self.spare.lock().push(buffer);
    }
}

/// What will be the next part.
enum Packed {
    /// It comes packed.
    Already(Vec<u8>),
    /// It is packed here.
    Here(GzEncoder<Vec<u8>>),
}

impl Parts {
    pub(super) fn new(log: ArtifactStream) -> Result<Self, ChannelError> {
        let packed = match log.encoding().as_deref() {
            None => Packed::Here(GzEncoder::new(Vec::new(), Compression::default())),
            Some("gzip" | "x-gzip") => Packed::Already(Vec::new()),
            Some(other) => {
                let problem = format!(
                    "the log is encoded as {}, and not with gzip",
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
            packed,
            spare: Spare::default(),
            count: 0,
        })
    }

    /// The next part; not to be asked for after the last.
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
        while self.packed.buffer().len() < PART {
            let chunk = self
                .log
                .chunk()
                .await
                .map_err(|error| broken(&runtime::error_chain(&error)))?;
            let Some(chunk) = chunk else {
                self.packed.finish()?;
                return Ok(Part {
                    bytes: self.take(),
                    is_last: true,
                });
            };
            self.packed.add(&chunk)?;
        }
        Ok(Part {
            bytes: self.take(),
            is_last: false,
        })
    }

    /// Has what comes now written to a buffer with room for a part, so that it is not moved while it grows. By now the
    /// part before the last one was sent. The packer may have begun to write already.
    fn provide_buffer(&mut self) {
        let spare = self.spare.lock().pop();
        let mut buffer = spare.unwrap_or_else(|| Vec::with_capacity(PART + SLACK));
        buffer.append(self.packed.buffer());
        *self.packed.buffer() = buffer;
    }

    fn take(&mut self) -> Bytes {
        Bytes::from_owner(Lent {
            buffer: mem::take(self.packed.buffer()),
            spare: Arc::clone(&self.spare),
        })
    }
}

impl Packed {
    fn buffer(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Already(buffer) => buffer,
            Self::Here(packer) => packer.get_mut(),
        }
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), ChannelError> {
        match self {
            Self::Already(buffer) => buffer.extend_from_slice(chunk),
            Self::Here(packer) => packer
                .write_all(chunk)
                .map_err(|error| broken(&error.to_string()))?,
        }
        Ok(())
    }

    /// Writes what is left, with the end of the packing.
    fn finish(&mut self) -> Result<(), ChannelError> {
        match self {
            Self::Already(_) => Ok(()),
            Self::Here(packer) => packer
                .try_finish()
                .map_err(|error| broken(&error.to_string())),
        }
    }
}

fn broken(problem: &str) -> ChannelError {
    ChannelError::Failed {
        channel: NAME,
        problem: format!("the log broke off: {problem}"),
    }
}
