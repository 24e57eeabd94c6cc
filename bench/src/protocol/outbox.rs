//! Where drivers write: whole WebSocket messages, appended to what a connection has still to send.

/// Room for the longest header of a client's frame (RFC 6455 §5.2).
const HEADER_MAX: usize = 14;
const FINAL: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const MASKED: u8 = 0x80;

/// Bytes on their way to one connection.
pub struct Outbox<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Outbox<'a> {
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// A text message: whatever `write` appends.
    pub fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(TEXT, write);
    }

    /// A binary message.
    pub fn binary(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.frame(BINARY, write);
    }

    /// Writes the payload behind room for a header, then moves it up to the header's end. The mask is all zeros, as a
    /// load generator may choose: the server's work is the same, ours is none.
    pub(crate) fn frame(&mut self, opcode: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_MAX, 0);
        write(self.bytes);
        let payload = self.bytes.len() - start - HEADER_MAX;
        let mut header = [0; HEADER_MAX];
        header[0] = FINAL | opcode;
        let length = match payload {
            0..126 => {
                header[1] = MASKED | payload as u8;
                2
            }
            126..65_536 => {
                header[1] = MASKED | 126;
                header[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
                4
            }
            _ => {
                header[1] = MASKED | 127;
                header[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        } + 4;
        self.bytes[start..start + length].copy_from_slice(&header[..length]);
        self.bytes.copy_within(start + HEADER_MAX.., start + length);
        self.bytes.truncate(start + length + payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: usize) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        Outbox::new(&mut bytes).text(|out| out.resize(out.len() + payload, b'x'));
        bytes.split_off(6)
    }

    #[test]
    fn headers_are_as_short_as_the_payload_allows() {
        assert_eq!(written(3), [0x81, 0x83, 0, 0, 0, 0, b'x', b'x', b'x']);
        assert_eq!(written(300)[..9], [0x81, 0xfe, 1, 44, 0, 0, 0, 0, b'x']);
        assert_eq!(written(300).len(), 308);
        assert_eq!(written(70_000)[..10], [0x81, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
        assert_eq!(written(70_000).len(), 70_014);
    }
}
