//! Enforces RFC 9112 on the heads of requests: lines end with CR LF, and a head announces one body.
//!
//! The parser also accepts a bare LF as the end of a line, and a Content-Length beside a Transfer-Encoding, which it drops. A
//! proxy in front of us may not, and then one of the two sees a request that the other does not (request smuggling). So the
//! bytes are scanned before the parser gets them. The end of such a line is replaced by a byte that the parser refuses (400),
//! and nothing behind it is read. Bodies may hold any byte, so the
//! scanner finds their ends as well; a request whose body could end elsewhere for the parser is refused anyway (see
//! `answer` in server.rs).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The longest line that is scanned, in bytes. The parser refuses longer ones.
const MAX_LINE: usize = 16 * 1024;

/// The byte that makes the parser refuse a head.
const REFUSED: u8 = 0;

/// A connection whose requests are scanned.
pub(crate) struct Strict<S> {
    stream: S,
    requests: Requests,
}

impl<S> Strict<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            requests: Requests::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if let Some(refused) = self.requests.scan(&buffer.filled()[before..]) {
            buffer.filled_mut()[before + refused] = REFUSED;
            buffer.set_filled(before + refused + 1);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The part of a request that the next byte belongs to.
#[derive(Default)]
struct Requests {
    at: At,
    /// The part of the current line that has arrived, in a head or around chunks.
    line: Vec<u8>,
    /// The body that the head has announced so far.
    body: Body,
}

#[derive(Default, Clone, Copy)]
enum At {
    #[default]
    Head,
    /// The number of bytes of the body that are still to come.
    Body(u64),
    /// The number of bytes of the chunk that are still to come.
    Chunk(u64),
    /// The line before a chunk.
    ChunkSize,
    /// The empty line behind a chunk.
    ChunkEnd,
    /// The lines behind the last chunk.
    Trailers,
    /// The parser refuses the request; the rest is not scanned.
    Refused,
}

#[derive(Default, Clone, Copy)]
enum Body {
    #[default]
    None,
    Length(u64),
    Chunked,
}

impl Requests {
    /// Scans the next bytes. Returns the position of the byte to replace, if there is one.
    fn scan(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut place = 0;
        while let Some(rest) = bytes.get(place..).filter(|rest| !rest.is_empty()) {
            match self.at {
                At::Refused => return None,
                At::Body(left) | At::Chunk(left) => {
                    let available = u64::try_from(rest.len()).unwrap_or(u64::MAX);
                    let taken = left.min(available);
                    place += usize::try_from(taken).unwrap_or(rest.len());
                    let left = left - taken;
                    self.at = match self.at {
                        At::Body(_) if left == 0 => At::Head,
                        At::Body(_) => At::Body(left),
                        _ if left == 0 => At::ChunkEnd,
                        _ => At::Chunk(left),
                    };
                }
                At::Head | At::ChunkSize | At::ChunkEnd | At::Trailers => {
                    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                        self.line.extend_from_slice(rest);
                        if self.line.len() > MAX_LINE {
                            self.at = At::Refused;
                        }
                        return None;
                    };
                    self.line.extend_from_slice(&rest[..end]);
                    if self.line.pop() != Some(b'\r') || self.is_second_body() {
                        self.at = At::Refused;
                        return Some(place + end);
                    }
                    place += end + 1;
                    self.end_line();
                    self.line.clear();
                }
            }
        }
        None
    }

    /// Whether `line` is of a head, and announces a body in another way than a line before it did.
    fn is_second_body(&self) -> bool {
        let announces = |name| matches!(self.at, At::Head) && field(&self.line, name).is_some();
        match self.body {
            Body::None => false,
            Body::Length(_) => announces("transfer-encoding"),
            Body::Chunked => announces("content-length"),
        }
    }

    /// Evaluates `line`, a whole line without its CR LF.
    fn end_line(&mut self) {
        let line = &self.line[..];
        self.at = match self.at {
            At::Head if line.is_empty() => match std::mem::take(&mut self.body) {
                Body::None | Body::Length(0) => At::Head,
                Body::Length(length) => At::Body(length),
                Body::Chunked => At::ChunkSize,
            },
            At::Head => {
                if let Some(length) = field(line, "content-length") {
                    self.body = match length.parse() {
                        Ok(length) => Body::Length(length),
                        Err(_) => return self.at = At::Refused,
                    };
                } else if field(line, "transfer-encoding").is_some() {
                    self.body = Body::Chunked;
                }
                At::Head
            }
            At::ChunkSize => {
                let size = line
                    .split(|byte| *byte == b';')
                    .next()
                    .and_then(|size| std::str::from_utf8(size).ok());
                match size.and_then(|size| u64::from_str_radix(size.trim(), 16).ok()) {
                    Some(0) => At::Trailers,
                    Some(size) => At::Chunk(size),
                    None => At::Refused,
                }
            }
            At::ChunkEnd if line.is_empty() => At::ChunkSize,
            At::Trailers if line.is_empty() => At::Head,
            At::Trailers => At::Trailers,
            _ => At::Refused,
        };
    }
}

/// The value of the field `name`, if the line holds it.
fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a str> {
    let (found, value) = line.split_at_checked(name.len())?;
    let value = value
        .strip_prefix(b":")
        .filter(|_| found.eq_ignore_ascii_case(name.as_bytes()))?;
    std::str::from_utf8(value).ok().map(str::trim)
}

/// The status and text that refuse an ambiguous head: the parser accepts it, but another parser may read it differently.
pub(crate) fn fault(version: Version, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let count = |name: HeaderName| headers.get_all(name).iter().count();
    let hosts = count(header::HOST);
    let bad = |fault| Some((StatusCode::BAD_REQUEST, fault));
    if hosts > 1 || hosts == 0 && version > Version::HTTP_10 {
        return bad("the request needs one Host field\n");
    }
    if count(header::AUTHORIZATION) > 1 {
        return bad("the request has several Authorization fields: send one\n");
    }
    let encoded = count(header::TRANSFER_ENCODING) > 0;
    if encoded && version < Version::HTTP_11 {
        return bad("the request has a Transfer-Encoding, which HTTP/1.0 does not know\n");
    }
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    if encoded
        && (count(header::TRANSFER_ENCODING) > 1
            || !headers.get(header::TRANSFER_ENCODING).is_some_and(chunked))
    {
        return bad("this server accepts the Transfer-Encoding chunked alone\n");
    }
    if count(header::CONTENT_LENGTH) > 1 {
        return bad("the request has several Content-Length fields: send one\n");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The position at which the bytes are refused, in one piece and byte by byte.
    fn refused(sent: &str) -> Option<usize> {
        let whole = Requests::default().scan(sent.as_bytes());
        let mut requests = Requests::default();
        let one_by_one = sent
            .as_bytes()
            .chunks(1)
            .enumerate()
            .find_map(|(at, byte)| requests.scan(byte).map(|_| at));
        assert_eq!(whole, one_by_one, "{sent:?}");
        whole
    }

    #[test]
    fn bare_line_feed_is_refused_in_heads_and_around_chunks_and_allowed_in_bodies() {
        let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(refused(&get.repeat(3)), None);
        assert_eq!(refused("GET / HTTP/1.1\nHost: x\r\n\r\n"), Some(14));
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: x\n\r\n"), Some(23));
        assert_eq!(refused("GET / HTTP/1.1\r\nHost: x\r\n\n"), Some(25));
        assert_eq!(refused("\nGET / HTTP/1.1\r\n"), Some(0));
        let length = "POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH:  4 \r\n\r\n";
        assert_eq!(refused(&format!("{length}\n\n\n\n{get}")), None);
        assert_eq!(refused(&format!("{length}abcd\n")), Some(length.len() + 4));
        let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            refused(&format!(
                "{chunked}a;x=y\r\n0123\n56789\r\n0\r\nX: y\r\n\r\n{get}"
            )),
            None
        );
        assert_eq!(refused(&format!("{chunked}1\n")), Some(chunked.len() + 1));
        assert_eq!(
            refused(&format!("{chunked}1\r\nx\n")),
            Some(chunked.len() + 4)
        );
        assert_eq!(
            refused(&format!("{chunked}0\r\n\r\n\n")),
            Some(chunked.len() + 5)
        );
    }
}
