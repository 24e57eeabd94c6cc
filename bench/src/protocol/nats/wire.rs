//! NATS' client protocol: operations out of a stream of bytes, which WebSocket frames cut wherever they like.

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Info,
    Ping,
    Pong,
    Ok,
    Error(&'a str),
    Message(Message<'a>),
}

/// `MSG` or `HMSG`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) subject: &'a [u8],
    pub(crate) subscription: u64,
    /// `NATS/1.0…` with its lines; empty for `MSG`.
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Message<'_> {
    /// The number in a header's value.
    pub(crate) fn header_number(&self, name: &[u8]) -> Option<u64> {
        let mut rest = self.headers;
        loop {
            rest = &rest[find(rest, b'\n')? + 1..];
            let value = rest.strip_prefix(name).and_then(|value| value.strip_prefix(b": "));
            if let Some(value) = value {
                return leading_number(value);
            }
        }
    }

    /// The status in the first line, such as 503 when nobody answers a request.
    pub(crate) fn status(&self) -> Option<u64> {
        leading_number(self.headers.strip_prefix(b"NATS/1.0 ")?)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the NATS protocol")]
pub(crate) struct Malformed;

/// The longest operation a server of ours sends: its `max_payload`, and a line before it.
const OPERATION_MAX: usize = (1 << 20) + 65_536;

/// The first operation of `bytes` and where it ends; none if more bytes are needed.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(Operation<'_>, usize)>, Malformed> {
    let Some(newline) = find(bytes, b'\n') else {
        return if bytes.len() > OPERATION_MAX { Err(Malformed) } else { Ok(None) };
    };
    let after = newline + 1;
    let line = bytes[..newline].strip_suffix(b"\r").ok_or(Malformed)?;
    if let Some(words) = line.strip_prefix(b"HMSG ") {
        return message(bytes, after, words, true);
    }
    if let Some(words) = line.strip_prefix(b"MSG ") {
        return message(bytes, after, words, false);
    }
    let operation = match line {
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"+OK" => Operation::Ok,
        _ if line.starts_with(b"INFO ") => Operation::Info,
        _ if line.starts_with(b"-ERR ") => Operation::Error(std::str::from_utf8(&line[5..]).map_err(|_| Malformed)?),
        _ => return Err(Malformed),
    };
    Ok(Some((operation, after)))
}

/// `subject sid [reply] [header bytes] total bytes`, and behind the line the headers and the payload.
fn message<'a>(
    bytes: &'a [u8],
    start: usize,
    words: &'a [u8],
    headers: bool,
) -> Result<Option<(Operation<'a>, usize)>, Malformed> {
    let mut words = words.split(|byte| *byte == b' ');
    let subject = words.next().ok_or(Malformed)?;
    let subscription = words.next().and_then(number).ok_or(Malformed)?;
    let total = words.next_back().and_then(number).ok_or(Malformed)? as usize;
    let header = if headers { words.next_back().and_then(number).ok_or(Malformed)? as usize } else { 0 };
    if header > total || total > OPERATION_MAX {
        return Err(Malformed);
    }
    let end = start + total;
    let Some(line_end) = bytes.get(end..end + 2) else { return Ok(None) };
    if line_end != b"\r\n" {
        return Err(Malformed);
    }
    let (headers, payload) = bytes[start..end].split_at(header);
    Ok(Some((Operation::Message(Message { subject, subscription, headers, payload }), end + 2)))
}

/// All of `digits` as a number.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    leading_number(digits)
}

/// The number that `text` begins with.
pub(crate) fn leading_number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > 19 {
        return None;
    }
    Some(text[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPUBLISHED: &[u8] = b"HMSG m.0.7 9 79 84\r\nNATS/1.0\r\nNats-Msg-Id: 17\r\nNats-Stream: B0\r\n\
        Nats-Sequence: 12\r\nNats-Last: 1\r\n\r\nhello\r\n";

    #[test]
    fn operations_are_read_one_by_one() {
        let stream = b"INFO {\"a\":1} \r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Stale Connection'\r\n";
        let mut rest = &stream[..];
        let mut seen = Vec::new();
        while let Ok(Some((operation, end))) = next(rest) {
            seen.push(operation);
            rest = &rest[end..];
        }
        let error = Operation::Error("'Stale Connection'");
        assert_eq!(seen, [Operation::Info, Operation::Ping, Operation::Pong, Operation::Ok, error]);
        assert!(rest.is_empty());
    }

    #[test]
    fn a_message_has_a_subject_headers_and_a_payload() {
        let (operation, end) = next(REPUBLISHED).unwrap().unwrap();
        let Operation::Message(message) = operation else { unreachable!("{operation:?}") };
        assert_eq!((message.subject, message.subscription, message.payload), (&b"m.0.7"[..], 9, &b"hello"[..]));
        assert_eq!(message.header_number(b"Nats-Sequence"), Some(12));
        assert_eq!((message.header_number(b"Nats-Seq"), message.status()), (None, None));
        assert_eq!(end, REPUBLISHED.len());

        let plain = b"MSG i.1.a 1 i.reply 3\r\nabc\r\n";
        let (operation, _) = next(plain).unwrap().unwrap();
        let Operation::Message(message) = operation else { unreachable!("{operation:?}") };
        assert_eq!((message.subscription, message.headers, message.payload), (1, &b""[..], &b"abc"[..]));

        let nobody = b"HMSG i.1.a 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        let (operation, _) = next(nobody).unwrap().unwrap();
        let Operation::Message(message) = operation else { unreachable!("{operation:?}") };
        assert_eq!(message.status(), Some(503));
    }

    #[test]
    fn a_part_of_an_operation_waits_for_the_rest() {
        for cut in 0..REPUBLISHED.len() {
            assert_eq!(next(&REPUBLISHED[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"HELLO\r\n"[..],
            b"PING\n",
            b"MSG a 1\r\n",
            b"MSG a x 1\r\n",
            b"HMSG a 1 9 3\r\nabc\r\n",
            b"MSG a 1 3\r\nabcde",
            b"MSG a 1 99999999999\r\n",
        ] {
            assert_eq!(next(bytes), Err(Malformed), "{}", String::from_utf8_lossy(bytes));
        }
    }
}
