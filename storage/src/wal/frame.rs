//! The layout of a write-ahead log: frames one behind the other, each what one commit made durable.
//!
//! `[magic u32][crc u32][epoch u64][oldest u64][seq u64][len u32]`, all little-endian, then `len` bytes of writes: per
//! write `[key length u16][value length u32][key][value]`, the value sealed; a length of `u32::MAX` is a removal. The
//! CRC-32 is over everything behind it.

use crate::disk::Write;

const MAGIC: [u8; 4] = *b"CWL1";
pub(super) const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 4;
const REMOVAL: u32 = u32::MAX;

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Which use of which file this is: files take turns, and every turn has a new number.
    pub(super) epoch: u64,
    /// What earlier epochs hold is in sled, durably.
    pub(super) oldest: u64,
    /// Counts frames, in all epochs.
    pub(super) seq: u64,
}

/// A frame under construction, its buffer used again and again.
pub(super) struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; HEADER] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn add(&mut self, write: &Write) {
        let key_len = u16::try_from(write.key.len()).expect("keys are far below 64 KiB");
        self.bytes.extend_from_slice(&key_len.to_le_bytes());
        let value = write.value.as_deref();
        let value_len = value.map_or(REMOVAL, |value| value.len() as u32);
        self.bytes.extend_from_slice(&value_len.to_le_bytes());
        self.bytes.extend_from_slice(&write.key);
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    pub(super) fn seal(&mut self, head: Head) -> &[u8] {
        let len = u32::try_from(self.bytes.len() - HEADER).expect("a commit is far below 4 GiB");
        self.bytes[..4].copy_from_slice(&MAGIC);
        self.bytes[8..16].copy_from_slice(&head.epoch.to_le_bytes());
        self.bytes[16..24].copy_from_slice(&head.oldest.to_le_bytes());
        self.bytes[24..32].copy_from_slice(&head.seq.to_le_bytes());
        self.bytes[32..HEADER].copy_from_slice(&len.to_le_bytes());
        let crc = crc32fast::hash(&self.bytes[8..]);
        self.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        &self.bytes
    }

    /// `keep_bytes` of memory stay for the next frame.
    pub(super) fn clear(&mut self, keep_bytes: usize) {
        self.bytes.truncate(HEADER);
        self.bytes.shrink_to(keep_bytes);
    }
}

/// The whole frame at the beginning of `bytes`, if there is one: its head, and its writes' bytes.
pub(super) fn parse(bytes: &[u8]) -> Option<(Head, &[u8])> {
    let number =
        |at: usize| bytes.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let short = |at: usize| bytes.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    if bytes.get(..4)? != MAGIC {
        return None;
    }
    let head = Head { epoch: number(8)?, oldest: number(16)?, seq: number(24)? };
    let end = HEADER.checked_add(short(32)? as usize)?;
    let whole = bytes.get(8..end)?;
    (crc32fast::hash(whole) == short(4)?).then_some((head, &bytes[HEADER..end]))
}

/// Why there is no whole frame at the beginning of `bytes`, or none that belongs there: what was expected, what is there.
pub(super) fn fault(bytes: &[u8]) -> String {
    let number =
        |at: usize| bytes.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let Some(magic) = bytes.get(..4) else { return format!("a frame was expected, {} bytes are left", bytes.len()) };
    if magic != MAGIC {
        return format!("a frame's first bytes {} were expected, {} are there", crate::hex(&MAGIC), crate::hex(magic));
    }
    let (Some(crc), Some(len)) = (number(4), number(32)) else {
        return format!("a frame's head of {HEADER} bytes was expected, {} are left", bytes.len());
    };
    let end = HEADER + len as usize;
    let Some(whole) = bytes.get(8..end) else {
        return format!("a frame of {end} bytes was expected, as its head says, {} are left", bytes.len());
    };
    match crc32fast::hash(whole) {
        found if found != crc => format!("a frame with checksum {crc:08x} was expected, its bytes have {found:08x}"),
        _ => "the frame there is of another time".to_owned(),
    }
}

/// The writes of a frame. None if they are not what [`Builder::add`] makes.
pub(super) fn writes(mut bytes: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    while !bytes.is_empty() {
        let (key_len, rest) = bytes.split_first_chunk::<2>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*key_len)))?;
        let value_len = u32::from_le_bytes(*value_len);
        let (value, rest) = if value_len == REMOVAL {
            (None, rest)
        } else {
            let (value, rest) = rest.split_at_checked(value_len as usize)?;
            (Some(value.to_vec()), rest)
        };
        writes.push(Write { key: key.to_vec(), value });
        bytes = rest;
    }
    Some(writes)
}

/// Where in `bytes` a frame may begin.
pub(super) fn next_magic(bytes: &[u8], from: usize) -> Option<usize> {
    let rest = bytes.get(from..)?;
    rest.windows(MAGIC.len()).position(|window| window == MAGIC).map(|at| from + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &[u8], value: Option<&[u8]>) -> Write {
        Write { key: key.to_vec(), value: value.map(<[u8]>::to_vec) }
    }

    fn frame() -> Vec<u8> {
        let mut builder = Builder::new();
        builder.add(&write(b"key", Some(b"value")));
        builder.add(&write(b"gone", None));
        builder.add(&write(b"", Some(b"")));
        builder.seal(Head { epoch: 3, oldest: 2, seq: 9 }).to_vec()
    }

    #[test]
    fn a_frame_has_this_layout() {
        let mut expected = b"CWL1".to_vec();
        expected.extend(0x481d_e7d1_u32.to_le_bytes());
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0]);
        expected.extend([3, 0, 5, 0, 0, 0]);
        expected.extend(b"keyvalue");
        expected.extend([4, 0, 255, 255, 255, 255]);
        expected.extend(b"gone");
        expected.extend([0, 0, 0, 0, 0, 0]);
        assert_eq!(frame(), expected);
    }

    #[test]
    fn what_was_added_is_read_back_and_any_changed_byte_is_noticed() {
        let bytes = frame();
        let (head, inside) = parse(&bytes).unwrap();
        assert_eq!(head, Head { epoch: 3, oldest: 2, seq: 9 });
        let writes: Vec<_> = writes(inside).unwrap().into_iter().map(|write| (write.key, write.value)).collect();
        let expected = [(b"key".to_vec(), Some(b"value".to_vec())), (b"gone".to_vec(), None), (vec![], Some(vec![]))];
        assert_eq!(writes, expected);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_none(), "{at}");
            assert!(fault(&changed).contains("was expected") || fault(&changed).contains("were expected"), "{at}");
            assert!(parse(&bytes[..at]).is_none(), "{at}");
        }
        assert!(self::writes(&inside[..inside.len() - 1]).is_none());
    }

    #[test]
    fn an_emptied_builder_begins_again() {
        let mut builder = Builder::new();
        builder.add(&write(b"key", Some(&[7; 1000])));
        assert!(!builder.is_empty() && builder.len() > 1000);
        builder.clear(64);
        assert!(builder.is_empty());
        assert_eq!(parse(builder.seal(Head { epoch: 1, oldest: 1, seq: 1 })).unwrap().1, b"");
        assert_eq!(next_magic(b"..CWL1", 0), Some(2));
        assert_eq!(next_magic(b"..CWL1", 3), None);
    }
}
