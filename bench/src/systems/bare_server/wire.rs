//! The server's side of WebSocket (RFC 6455), as little as a client of ours needs. Pure.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// RFC 6455 §1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const REQUEST_MAX: usize = 8_192;
const PAYLOAD_MAX: u64 = 1 << 20;

pub(super) const CLOSE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;
pub(super) const BINARY: u8 = 2;

/// What a client sends that this server does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// The answer to an upgrade request and where the request ends; none if it is not complete.
pub(super) fn upgrade(bytes: &[u8]) -> Result<Option<(String, usize)>, Refused> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > REQUEST_MAX { Err(Refused) } else { Ok(None) };
    };
    let request = std::str::from_utf8(&bytes[..end]).map_err(|_| Refused)?;
    let key = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim())
    });
    let key = key.ok_or(Refused)?;
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: {}\r\n\r\n",
        BASE64_STANDARD.encode(hash)
    );
    Ok(Some((answer, end + 4)))
}

/// A client's frame, its payload unmasked where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) opcode: u8,
    pub(super) payload: &'a [u8],
    /// Where the next one begins.
    pub(super) end: usize,
}

/// The frame at the beginning of `bytes`; none if it is not complete. Messages in several frames are refused.
pub(super) fn frame(bytes: &mut [u8]) -> Result<Option<Frame<'_>>, Refused> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0xf0 != 0x80 || second & 0x80 == 0 {
        return Err(Refused);
    }
    let extra = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(length) = bytes.get(2..2 + extra) else { return Ok(None) };
    let length = match extra {
        0 => u64::from(second & 0x7f),
        _ => length.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)),
    };
    if length > PAYLOAD_MAX {
        return Err(Refused);
    }
    let start = 2 + extra + 4;
    let end = start + length as usize;
    if bytes.len() < end {
        return Ok(None);
    }
    let mask = [bytes[start - 4], bytes[start - 3], bytes[start - 2], bytes[start - 1]];
    let payload = &mut bytes[start..end];
    if mask != [0; 4] {
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    }
    Ok(Some(Frame { opcode: first & 0x0f, payload, end }))
}

/// Appends a server's frame.
pub(super) fn push_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        short @ 0..126 => out.push(short as u8),
        medium @ 126..65_536 => {
            out.push(126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    #[test]
    fn an_upgrade_is_answered() {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nnext";
        let (answer, end) = upgrade(request).unwrap().unwrap();
        assert!(answer.ends_with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), "{answer}");
        assert_eq!(&request[end..], b"next");
        assert_eq!(upgrade(&request[..40]), Ok(None));
        assert_eq!(upgrade(b"GET / HTTP/1.1\r\n\r\n"), Err(Refused));
    }

    /// The examples of RFC 6455 §5.7.
    #[test]
    fn frames_are_unmasked_in_place() {
        let mut bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58, 0x82];
        let mut part = bytes;
        assert_eq!(frame(&mut part[..10]), Ok(None));
        assert_eq!(frame(&mut bytes), Ok(Some(Frame { opcode: 1, payload: b"Hello", end: 11 })));
        assert_eq!(frame(&mut [0x81, 0x05, 0, 0]), Err(Refused), "not masked");
        assert_eq!(frame(&mut [0x01, 0x85, 0, 0]), Err(Refused), "not whole");

        let mut long = vec![0x82, 0xfe, 1, 44, 0, 0, 0, 0];
        long.resize(8 + 300, 7);
        let frame = frame(&mut long).unwrap().unwrap();
        assert_eq!((frame.payload.len(), frame.end), (300, 308));
    }

    #[test]
    fn own_frames_are_not_masked() {
        let mut out = Vec::new();
        push_frame(&mut out, BINARY, &[9; 3]);
        push_frame(&mut out, BINARY, &[9; 300]);
        assert_eq!(out[..9], [0x82, 3, 9, 9, 9, 0x82, 126, 1, 44]);
    }
}
