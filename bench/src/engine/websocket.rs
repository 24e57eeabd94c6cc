//! WebSocket frames of a server, found in place (RFC 6455 §5.2), and the HTTP upgrade before them. Pure.

use crate::protocol::Handshake;

/// The largest message that is taken: no system under test sends a larger one.
const MESSAGE_MAX: u64 = 64 << 20;
/// The answer to the upgrade is shorter than this.
const ANSWER_MAX: usize = 16 * 1024;

pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Where a frame's payload lies in the bytes that were parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) last: bool,
    /// 0 continues a message, 1 text, 2 binary, from 8 on control.
    pub(crate) opcode: u8,
    pub(crate) header: usize,
    pub(crate) payload: usize,
}

impl Frame {
    pub(crate) fn end(self) -> usize {
        self.header + self.payload
    }
}

/// The frame at the beginning of `bytes`; none if it is not complete.
pub(crate) fn frame(bytes: &[u8]) -> Result<Option<Frame>, &'static str> {
    let [first, second, ..] = bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err("a frame uses an extension that was not agreed on");
    }
    if second & 0x80 != 0 {
        return Err("a server's frame is masked");
    }
    let (header, payload) = match second & 0x7f {
        126 => match bytes.get(2..4) {
            Some(length) => (4, length.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
            None => return Ok(None),
        },
        127 => match bytes.get(2..10) {
            Some(length) => (10, length.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
            None => return Ok(None),
        },
        short => (2, u64::from(short)),
    };
    if payload > MESSAGE_MAX {
        return Err("a frame is larger than any that is expected");
    }
    let frame = Frame { last: first & 0x80 != 0, opcode: first & 0x0f, header, payload: payload as usize };
    Ok((bytes.len() >= frame.end()).then_some(frame))
}

/// The client's half of the upgrade. The key is constant: what its answer proves (that the server speaks WebSocket) is
/// seen by the frames that follow.
pub(crate) fn upgrade(host: &str, handshake: &Handshake) -> String {
    let offer = handshake.subprotocol.as_ref().map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: Y2FtcGFuaWxlLWJlbmNoLg==\r\nSec-WebSocket-Version: 13\r\n{}\r\n",
        handshake.path,
        offer.unwrap_or_default()
    )
}

/// The length of the server's half once it is there, or why it is a refusal.
pub(crate) fn upgraded(bytes: &[u8]) -> Result<Option<usize>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > ANSWER_MAX {
            Err("the answer to the upgrade never ends".to_owned())
        } else {
            Ok(None)
        };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("101") => Ok(Some(end + 4)),
        _ => Err(format!("the upgrade was refused: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_when_it_is_complete_and_not_before() {
        let mut long = vec![0x82, 126, 1, 44];
        long.resize(304, 7);
        let mut longer = vec![0x01, 127, 0, 0, 0, 0, 0, 1, 0, 0];
        longer.resize(10 + 65_536, 7);
        let cases = [
            (vec![0x81, 2, b'h', b'i'], Frame { last: true, opcode: 1, header: 2, payload: 2 }),
            (long, Frame { last: true, opcode: 2, header: 4, payload: 300 }),
            (longer, Frame { last: false, opcode: 1, header: 10, payload: 65_536 }),
            (vec![0x89, 0], Frame { last: true, opcode: PING, header: 2, payload: 0 }),
        ];
        for (bytes, expected) in cases {
            assert_eq!(frame(&bytes), Ok(Some(expected)));
            for short in [0, 1, bytes.len() / 2, bytes.len() - 1] {
                assert_eq!(frame(&bytes[..short]), Ok(None), "{short} of {}", bytes.len());
            }
            let more = [bytes, vec![1, 2, 3]].concat();
            assert_eq!(frame(&more), Ok(Some(expected)));
        }
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        assert!(frame(&[0xc1, 0]).is_err());
        assert!(frame(&[0x81, 0x80, 0, 0, 0, 0]).is_err());
        assert!(frame(&[0x81, 127, 255, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn an_upgrade_is_agreed_on_or_refused() {
        let handshake = Handshake { path: "/v1/connect".into(), subprotocol: Some("campanile.v1.json".into()) };
        let request = upgrade("127.0.0.1:1", &handshake);
        assert!(request.starts_with("GET /v1/connect HTTP/1.1\r\nHost: 127.0.0.1:1\r\n"));
        assert!(request.ends_with("\r\nSec-WebSocket-Protocol: campanile.v1.json\r\n\r\n"));
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nrest";
        assert_eq!(upgraded(answer), Ok(Some(answer.len() - 4)));
        assert_eq!(upgraded(&answer[..40]), Ok(None));
        assert_eq!(
            upgraded(b"HTTP/1.1 503 Busy\r\n\r\n"),
            Err("the upgrade was refused: HTTP/1.1 503 Busy".to_owned())
        );
    }
}
