//! The frames of Mercurial's command server (`hg serve --cmdserver pipe`).
//!
//! The server sends one byte that names the channel, and a big-endian `u32`. On the channels `o`, `e`, `d` and `r` that
//! is the length of the data that follow; on `I` and `L` it is the most bytes of input that the server requests. We
//! send `runcommand\n`, a length, and that number of bytes: the arguments joined by NUL. A response to `I` or `L` is a
//! length and the bytes, too. Ours is always empty, the end of the input: commands read from files.
//!
//! An unknown channel with an upper-case letter is required; one with a lower-case letter may be ignored.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes of one command's output that are kept.
const MAX_OUTPUT: usize = 16 << 20;

/// The end of the input.
pub(crate) const NO_INPUT: [u8; 4] = [0; 4];

/// Takes the output of a command, piece by piece as it arrives.
pub(crate) trait Sink {
    /// The number of bytes that it can still take.
    fn room(&self) -> usize;
    /// Takes the next bytes.
    fn take(&mut self, piece: &[u8]);
}

impl Sink for Vec<u8> {
    fn room(&self) -> usize {
        MAX_OUTPUT.saturating_sub(self.len())
    }

    fn take(&mut self, piece: &[u8]) {
        self.extend_from_slice(piece);
    }
}

/// The server's breach of the protocol.
#[derive(Debug, Error)]
pub enum FramingError {
    /// The server closed its output.
    #[error("it closed its output")]
    Ended,
    /// The pipe failed.
    #[error("the pipe to it failed")]
    Pipe(#[from] io::Error),
    /// A channel that may not be ignored.
    #[error("it used the unknown channel {0:#04x}")]
    Channel(u8),
    /// A result that is not a number.
    #[error("its result has {0} bytes instead of 4")]
    Result(u32),
    /// More output than a command may have.
    #[error("it sent more than {MAX_OUTPUT} bytes")]
    TooLarge,
    /// The first frame is not the greeting of a command server.
    #[error("its greeting is not one of a command server that runs commands")]
    Greeting,
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Output; its data have gone into the sink for `stdout`.
    Output,
    /// Errors; their data have gone into the sink for `stderr`.
    Error,
    /// Data on a channel that may be ignored.
    Ignored,
    /// The command ended with this exit code.
    Result(i32),
    /// The server requests input.
    Input,
}

/// Reads one frame. It passes data on as they arrive, so a length alone allocates nothing.
///
/// Not cancel-safe: after a dropped read the stream is out of step.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncBufRead + Unpin),
    stdout: &mut impl Sink,
    stderr: &mut impl Sink,
) -> Result<Frame, FramingError> {
    let channel = map_eof(from.read_u8().await)?;
    let length = map_eof(from.read_u32().await)?;
    match channel {
        b'I' | b'L' => Ok(Frame::Input),
        b'r' if length == 4 => Ok(Frame::Result(map_eof(from.read_i32().await)?)),
        b'r' => Err(FramingError::Result(length)),
        b'o' => read_data(from, length, stdout)
            .await
            .map(|()| Frame::Output),
        b'e' => read_data(from, length, stderr).await.map(|()| Frame::Error),
        b'a'..=b'z' => read_data(from, length, &mut Discard)
            .await
            .map(|()| Frame::Ignored),
        other => Err(FramingError::Channel(other)),
    }
}

/// Discards all output.
struct Discard;

impl Sink for Discard {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn take(&mut self, _: &[u8]) {}
}

async fn read_data(
    from: &mut (impl AsyncBufRead + Unpin),
    length: u32,
    into: &mut impl Sink,
) -> Result<(), FramingError> {
    let mut due = usize::try_from(length).unwrap_or(usize::MAX);
    if due > into.room() {
        return Err(FramingError::TooLarge);
    }
    while due > 0 {
        let there = from.fill_buf().await?;
        let piece = &there[..there.len().min(due)];
        if piece.is_empty() {
            return Err(FramingError::Ended);
        }
        into.take(piece);
        let taken = piece.len();
        from.consume(taken);
        due -= taken;
    }
    Ok(())
}

/// Sends a command. The caller has made sure that no argument holds a NUL.
pub(crate) async fn write_command(
    to: &mut (impl AsyncWrite + Unpin),
    arguments: &[&[u8]],
) -> io::Result<()> {
    let mut bytes = b"runcommand\n".to_vec();
    let joined = arguments.join(&0);
    bytes.extend(length_of(&joined)?.to_be_bytes());
    bytes.extend(joined);
    to.write_all(&bytes).await
}

fn map_eof<T>(read: io::Result<T>) -> Result<T, FramingError> {
    read.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => FramingError::Ended,
        _ => FramingError::Pipe(error),
    })
}

fn length_of(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    /// Reads all frames of `bytes`, which arrive in pieces of `piece` bytes.
    async fn read_all(bytes: &[u8], piece: usize) -> (Vec<Frame>, Vec<u8>, Vec<u8>, FramingError) {
        let (mut near, far) = tokio::io::duplex(piece.max(1));
        let mut far = tokio::io::BufReader::with_capacity(7, far);
        let writing = async move { near.write_all(bytes).await };
        let reading = async move {
            // A reader that gives up closes its end, which ends the writer.
            let (mut stdout, mut stderr, mut frames) = (Vec::new(), Vec::new(), Vec::new());
            loop {
                match read_frame(&mut far, &mut stdout, &mut stderr).await {
                    Ok(frame) => frames.push(frame),
                    Err(error) => return (frames, stdout, stderr, error),
                }
            }
        };
        let (_, read) = futures::join!(writing, reading);
        read
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_however_they_are_cut(
            output in proptest::collection::vec(any::<u8>(), 0..300),
            errors in proptest::collection::vec(any::<u8>(), 0..300),
            code: i32,
            want: u32,
            piece in 1_usize..40,
        ) {
            let mut bytes = Vec::new();
            for (channel, data) in [(b'o', &output), (b'd', &output), (b'e', &errors), (b'o', &errors)] {
                bytes.push(channel);
                bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
                bytes.extend(data);
            }
            bytes.extend([b"I", &want.to_be_bytes()[..], b"L", &want.to_be_bytes()[..]].concat());
            bytes.extend([b"r", &4_u32.to_be_bytes()[..], &code.to_be_bytes()[..]].concat());
            let (frames, stdout, stderr, end) = run(read_all(&bytes, piece));
            prop_assert_eq!(frames, vec![
                Frame::Output, Frame::Ignored, Frame::Error, Frame::Output,
                Frame::Input, Frame::Input, Frame::Result(code),
            ]);
            prop_assert_eq!(stdout, [output, errors.clone()].concat());
            prop_assert_eq!(stderr, errors);
            prop_assert!(matches!(end, FramingError::Ended));
        }
    }

    #[test]
    fn malformed_frames_are_refused() {
        type Expected = fn(&FramingError) -> bool;
        let table: [(&[u8], Expected); 9] = [
            (b"", |e| matches!(e, FramingError::Ended)),
            (b"o", |e| matches!(e, FramingError::Ended)),
            (b"o\0\0\0\x05abc", |e| matches!(e, FramingError::Ended)),
            (b"d\0\0\0\x05abc", |e| matches!(e, FramingError::Ended)),
            (b"o\xff\xff\xff\xffabc", |e| {
                matches!(e, FramingError::TooLarge)
            }),
            (b"r\0\0\0\x05abcde", |e| {
                matches!(e, FramingError::Result(5))
            }),
            (b"r\0\0\0\x04abc", |e| matches!(e, FramingError::Ended)),
            (b"M\0\0\0\x01x", |e| {
                matches!(e, FramingError::Channel(b'M'))
            }),
            (b"\0\0\0\0\x01x", |e| matches!(e, FramingError::Channel(0))),
        ];
        for (bytes, expected) in table {
            let (frames, _, _, error) = run(read_all(bytes, 3));
            assert!(
                frames.is_empty() && expected(&error),
                "{bytes:?}: {frames:?}, {error:?}"
            );
        }
    }

    #[test]
    fn command_is_its_arguments_joined_by_nul() {
        let mut bytes = Vec::new();
        run(write_command(&mut bytes, &[b"log", b"--rev=tip"])).expect("written");
        assert_eq!(bytes, b"runcommand\n\0\0\0\x0dlog\0--rev=tip");
    }
}
