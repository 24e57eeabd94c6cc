//! The two most frequent frames, read in the exact form in which a node writes them. Anything else is none of them:
//! the caller then reads the frame in the general way.

/// A message as its frame tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) conversation: &'a [u8],
    pub(super) seq: u64,
    pub(super) from: &'a [u8],
    pub(super) id: &'a [u8],
    pub(super) text: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message(Message<'a>),
    Ack { re: u64, seq: u64, duplicate: bool },
}

pub(super) fn read(frame: &[u8]) -> Option<Frame<'_>> {
    let mut rest = Rest(frame);
    rest.word(b"{\"type\":\"")?;
    match rest.0.first()? {
        b'e' => message(rest),
        b'a' => ack(rest),
        _ => None,
    }
}

fn message(mut rest: Rest<'_>) -> Option<Frame<'_>> {
    rest.word(b"event\",\"conversation\":\"")?;
    let conversation = rest.quoted()?;
    rest.word(b",\"seq\":")?;
    let seq = rest.number()?;
    rest.word(b",\"time_ms\":")?;
    rest.number()?;
    rest.word(b",\"event\":\"message\",\"from\":\"")?;
    let from = rest.quoted()?;
    rest.word(b",\"client_msg_id\":\"")?;
    let id = rest.quoted()?;
    rest.word(b",\"body\":{\"kind\":\"text\",\"text\":\"")?;
    let text = rest.0.strip_suffix(b"\"}}")?;
    // The run's texts hold neither quotes nor escapes; one that does is compared in full, and then differs.
    Some(Frame::Message(Message { conversation, seq, from, id, text }))
}

fn ack(mut rest: Rest<'_>) -> Option<Frame<'_>> {
    rest.word(b"ack\",\"re\":")?;
    let re = rest.number()?;
    rest.word(b",\"conversation\":\"")?;
    rest.quoted()?;
    rest.word(b",\"seq\":")?;
    let seq = rest.number()?;
    rest.word(b",\"epoch\":")?;
    rest.number()?;
    rest.word(b",\"duplicate\":")?;
    let duplicate = match rest.0 {
        b"false}" => false,
        b"true}" => true,
        _ => return None,
    };
    Some(Frame::Ack { re, seq, duplicate })
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?;
        Some(())
    }

    /// Up to the closing quote, which is passed.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == b'"')?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        (!text.contains(&b'\\')).then_some(text)
    }

    fn number(&mut self) -> Option<u64> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.0.split_at(digits);
        self.0 = rest;
        // Nineteen digits fit.
        if digits == 0 || digits > 19 {
            return None;
        }
        Some(number.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
    }
}
