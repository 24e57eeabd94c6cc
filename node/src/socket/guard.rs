//! Stops a WebSocket message that is too large before a byte of it is buffered.
//!
//! The codec checks a frame's size only once the whole frame lies in memory: 256 MiB sent into a limit of 64 KiB cost
//! 263 MB. So the frame headers (RFC 6455 §5.2) are read here first, in the payload stream below the codec.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::error::PayloadError;
use bytes::Bytes;
use chat::limits;
use futures_util::Stream;

/// Control frames carry at most this (RFC 6455 §5.5).
const CONTROL_BYTES: u64 = 125;

/// Follows frame headers through chunks of any size.
#[derive(Default)]
struct Headers {
    /// Bytes of a header that is not complete yet.
    partial: [u8; 14],
    have: usize,
    /// Payload bytes of the current frame still to pass.
    payload: u64,
    /// Of the data message that is being received.
    message_bytes: u64,
    fragments: usize,
}

impl Headers {
    /// How many bytes of `chunk` come before a header that breaks a limit; `None` if none does.
    fn first_violation(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        let mut header_start = 0;
        while at < chunk.len() {
            if self.payload > 0 {
                let passed = self.payload.min((chunk.len() - at) as u64);
                self.payload -= passed;
                at += passed as usize;
                continue;
            }
            if self.have == 0 {
                header_start = at;
            }
            self.partial[self.have] = chunk[at];
            self.have += 1;
            at += 1;
            if self.have == self.header_len() && !self.admit() {
                return Some(header_start);
            }
        }
        None
    }

    /// Length of the header as far as its first two bytes tell.
    fn header_len(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let extended = match self.partial[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.partial[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    /// Judges a complete header and gets ready for its payload.
    fn admit(&mut self) -> bool {
        self.have = 0;
        let len = match self.partial[1] & 0x7f {
            126 => u64::from(u16::from_be_bytes([self.partial[2], self.partial[3]])),
            127 => self.partial[2..10].iter().fold(0, |len, byte| len << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let opcode = self.partial[0] & 0x0f;
        self.payload = len;
        if opcode >= 8 {
            return len <= CONTROL_BYTES;
        }
        if opcode != 0 {
            (self.message_bytes, self.fragments) = (0, 0);
        }
        self.message_bytes = self.message_bytes.saturating_add(len);
        self.fragments += 1;
        self.message_bytes <= limits::FRAME_BYTES as u64 && self.fragments <= limits::FRAME_FRAGMENTS
    }
}

/// A payload stream that ends before the first frame that breaks a limit. What came before it is still decoded, so
/// the frames before it are answered, and then the pump sees the end and finds the flag.
pub(super) struct Guarded<S> {
    stream: S,
    headers: Headers,
    violated: Rc<Cell<bool>>,
}

impl<S> Guarded<S> {
    /// The flag tells, after the stream's end, whether the guard ended it.
    pub(super) fn new(stream: S) -> (Self, Rc<Cell<bool>>) {
        let violated = Rc::new(Cell::new(false));
        (Self { stream, headers: Headers::default(), violated: violated.clone() }, violated)
    }
}

impl<S> Stream for Guarded<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.violated.get() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.stream).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => match self.headers.first_violation(&chunk) {
                None => Poll::Ready(Some(Ok(chunk))),
                Some(until) => {
                    self.violated.set(true);
                    Poll::Ready(Some(Ok(chunk.slice(..until))))
                }
            },
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;

    /// A masked frame header with a payload of zeros, as a client sends it.
    fn frame(first: u8, declared: u64, sent: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match declared {
            0..=125 => bytes.push(0x80 | declared as u8),
            126..=65_535 => {
                bytes.push(0x80 | 126);
                bytes.extend((declared as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend(declared.to_be_bytes());
            }
        }
        bytes.extend([0; 4]);
        bytes.extend(std::iter::repeat_n(0, sent));
        bytes
    }

    fn violation(bytes: &[u8], chunk: usize) -> Option<usize> {
        let mut headers = Headers::default();
        let mut before = 0;
        for part in bytes.chunks(chunk) {
            if let Some(at) = headers.first_violation(part) {
                return Some(before + at);
            }
            before += part.len();
        }
        None
    }

    #[test]
    fn frames_within_the_limit_pass_in_chunks_of_any_size() {
        let mut bytes = frame(0x81, 5, 5);
        bytes.extend(frame(0x89, 125, 125));
        bytes.extend(frame(0x01, 30_000, 30_000));
        bytes.extend(frame(0x80, 30_000, 30_000));
        bytes.extend(frame(0x81, limits::FRAME_BYTES as u64, limits::FRAME_BYTES));
        for chunk in [1, 2, 7, 1024, bytes.len()] {
            assert_eq!(violation(&bytes, chunk), None, "{chunk}");
        }
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_at_its_header() {
        let good = frame(0x81, 200, 200);
        for declared in [limits::FRAME_BYTES as u64 + 1, 256 << 20, u64::MAX] {
            let mut bytes = good.clone();
            bytes.extend(frame(0x81, declared, 64));
            assert_eq!(violation(&bytes, bytes.len()), Some(good.len()), "{declared}");
            assert!(violation(&bytes, 1).is_some());
        }
        assert_eq!(violation(&frame(0x89, 126, 126), 4096), Some(0), "a control frame over 125 bytes");
    }

    #[test]
    fn fragments_count_together() {
        let half = limits::FRAME_BYTES / 2 + 1;
        let mut large = frame(0x01, half as u64, half);
        let second = large.len();
        large.extend(frame(0x80, half as u64, half));
        assert_eq!(violation(&large, large.len()), Some(second));

        let mut many = frame(0x01, 1, 1);
        for _ in 1..limits::FRAME_FRAGMENTS {
            many.extend(frame(0x00, 1, 1));
        }
        assert_eq!(violation(&many, 64), None);
        many.extend(frame(0x80, 1, 1));
        assert!(violation(&many, 64).is_some());
    }

    #[test]
    fn the_stream_gives_what_came_before_and_ends() {
        let mut bytes = frame(0x81, 3, 3);
        let good = bytes.len();
        bytes.extend(frame(0x81, 1 << 40, 10));
        let source = stream::iter([Ok(Bytes::from(bytes)), Ok(Bytes::from_static(b"more"))]);
        let (guarded, violated) = Guarded::new(source);
        let passed: Vec<_> = guarded.map(|chunk| chunk.unwrap().len()).collect().now_or_never().unwrap();
        assert_eq!(passed, [good]);
        assert!(violated.get());
    }
}
