//! Connections that speak MessagePack. The session writes JSON, once for everybody who hears a frame; here it is packed, once for
//! those of a thread who hear it at about the same time.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;

/// Frames that are remembered: those of a few batches.
const RECENT: usize = 64;

thread_local! {
    static PACKED: RefCell<VecDeque<(ByteString, Bytes)>> = const { RefCell::new(VecDeque::new()) };
}

/// The frame in MessagePack; none if it is no JSON, which the session does not write.
pub(super) fn pack(frame: &ByteString) -> Option<Bytes> {
    PACKED.with_borrow_mut(|recent| {
        // The same text in the same place: what is remembered is kept, so its place is not used again.
        let same = |known: &ByteString| known.as_ptr() == frame.as_ptr() && known.len() == frame.len();
        if let Some((_, packed)) = recent.iter().rev().find(|(known, _)| same(known)) {
            return Some(packed.clone());
        }
        let packed = Bytes::from(chat::packed::pack(frame).ok()?);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back((frame.clone(), packed.clone()));
        Some(packed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_many_hear_is_packed_once() {
        let frame = ByteString::from(r#"{"type":"pong","re":7}"#);
        let first = pack(&frame).unwrap();
        let again = pack(&frame.clone()).unwrap();
        assert_eq!(first.as_ptr(), again.as_ptr());
        let other = ByteString::from(r#"{"type":"pong","re":8}"#);
        assert_ne!(pack(&other).unwrap(), first);
        for n in 0..2 * RECENT {
            pack(&ByteString::from(format!("{n}"))).unwrap();
        }
        assert_eq!(pack(&frame).unwrap(), first, "forgotten and packed anew");
        assert_eq!(pack(&"{".into()), None);
    }
}
