//! What a write-ahead log holds when a database is opened.

use super::frame::{self, HEADER, Head};
use crate::disk::Write;

/// Where the two files are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) file: usize,
    /// Which byte of it, frame by number and what is wrong with it, in words.
    pub(super) what: String,
}

/// What the two files say together.
#[derive(Debug)]
pub(super) struct Replay {
    /// Of the frames that sled may lack, in order.
    pub(super) writes: Vec<Vec<Write>>,
    /// The last whole frame, and in which of the files it is.
    pub(super) last: Option<(Head, usize)>,
}

/// A whole frame, and where it is in its file.
#[derive(Clone, Copy)]
struct Frame<'a> {
    head: Head,
    writes: &'a [u8],
    offset: usize,
}

struct Turn<'a> {
    file: usize,
    frames: Vec<Frame<'a>>,
    bytes: &'a [u8],
    /// Where the frames end.
    end: usize,
}

/// Reads `files`. A torn last frame was never acknowledged and is left out; anything missing before a whole frame is
/// damage, and said.
pub(super) fn read(files: [&[u8]; 2]) -> Result<Replay, Damage> {
    let mut turns = [turn(0, files[0]), turn(1, files[1])];
    turns.sort_by_key(|turn| turn.frames.first().map(|frame| frame.head.epoch));
    let newest = turns.iter().filter_map(|turn| Some((turn.frames.last()?.head, turn.file)));
    let newest = newest.max_by_key(|last| last.0.seq);
    let seen = newest.map_or(0, |(head, _)| head.seq);
    for turn in &turns {
        if let Some(later) = turn.later_than(seen) {
            return Err(turn.damage(&format!("frame {later} behind it is whole")));
        }
    }
    let Some((last, _)) = newest else { return Ok(Replay { writes: Vec::new(), last: None }) };
    let is_needed = |frame: &&Frame<'_>| frame.head.epoch >= last.oldest;
    let needed: Vec<_> = turns.iter().flat_map(|turn| &turn.frames).filter(is_needed).collect();
    if let Some(gap) = needed.windows(2).find(|pair| pair[0].head.seq + 1 != pair[1].head.seq) {
        let (before, after) = (gap[0].head, gap[1].head);
        // Within a turn frames follow one another: it is the earlier turn that ends too soon.
        let short = turns.iter().find(|turn| turn.frames.last().is_some_and(|frame| frame.head == before));
        let why = format!("frame {} follows, in the other file", after.seq);
        return Err(short.map_or(Damage { file: 0, what: why.clone() }, |turn| turn.damage(&why)));
    }
    if needed.first().is_some_and(|frame| frame.head.epoch > last.oldest) {
        let (file, end) = turns.iter().find(|turn| turn.frames.is_empty()).map_or((0, 0), |turn| (turn.file, turn.end));
        let turn = last.oldest;
        let what = format!("at byte {end}: the frames of turn {turn} should begin there, they are missing");
        return Err(Damage { file, what });
    }
    let writes = turns.iter().flat_map(|turn| turn.frames.iter().map(move |frame| (turn.file, frame)));
    let writes = writes.filter(|(_, frame)| is_needed(frame)).map(|(file, frame)| {
        let Frame { head, offset, .. } = frame;
        let what = || format!("at byte {offset}: frame {} is whole, and is not a list of writes", head.seq);
        frame::writes(frame.writes).ok_or_else(|| Damage { file, what: what() })
    });
    Ok(Replay { writes: writes.collect::<Result<_, _>>()?, last: newest })
}

fn turn(file: usize, bytes: &[u8]) -> Turn<'_> {
    let mut frames: Vec<Frame<'_>> = Vec::new();
    let mut end = 0;
    while let Some((head, writes)) = frame::parse(&bytes[end..]) {
        // What lies behind the frames of this turn is left from an earlier one.
        if frames.last().is_some_and(|last| head.epoch != last.head.epoch || head.seq != last.head.seq + 1) {
            break;
        }
        frames.push(Frame { head, writes, offset: end });
        end += HEADER + writes.len();
    }
    Turn { file, frames, bytes, end }
}

impl Turn<'_> {
    /// The number of a whole frame behind the end that is newer than `seq`: something before it was lost.
    fn later_than(&self, seq: u64) -> Option<u64> {
        let mut at = self.end;
        while let Some(found) = frame::next_magic(self.bytes, at) {
            match frame::parse(&self.bytes[found..]) {
                Some((head, _)) if head.seq > seq => return Some(head.seq),
                Some((_, writes)) => at = found + HEADER + writes.len(),
                None => at = found + 1,
            }
        }
        None
    }

    /// Its frames end too early: `why` says how that is known.
    fn damage(&self, why: &str) -> Damage {
        let frame = self
            .frames
            .last()
            .map_or_else(|| "its first frame".to_owned(), |last| format!("frame {}", last.head.seq + 1));
        let fault = frame::fault(self.bytes.get(self.end..).unwrap_or_default());
        Damage { file: self.file, what: format!("at byte {}: {frame} should begin there; {fault}; {why}", self.end) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::Builder;
    use super::*;

    fn frame(epoch: u64, oldest: u64, seq: u64) -> Vec<u8> {
        let mut builder = Builder::new();
        builder.add(&Write { key: seq.to_be_bytes().to_vec(), value: Some(vec![7; 100]) });
        builder.seal(Head { epoch, oldest, seq }).to_vec()
    }

    fn frames(epoch: u64, oldest: u64, seqs: std::ops::Range<u64>) -> Vec<u8> {
        seqs.flat_map(|seq| frame(epoch, oldest, seq)).collect()
    }

    fn replayed(files: [&[u8]; 2]) -> Result<Vec<u64>, Damage> {
        let key = |writes: &Vec<Write>| u64::from_be_bytes(writes[0].key.as_slice().try_into().unwrap());
        read(files).map(|replay| replay.writes.iter().map(key).collect())
    }

    #[test]
    fn files_are_replayed_in_the_order_of_their_turns() {
        let (old, new) = (frames(5, 5, 10..13), frames(6, 5, 13..15));
        assert_eq!(replayed([&new, &old]), Ok(vec![10, 11, 12, 13, 14]));
        let last = read([&new, &old]).unwrap().last.unwrap();
        assert_eq!((last.0.seq, last.1), (14, 0));
        assert_eq!(replayed([&[], &[]]), Ok(vec![]));
        // The old turn is in sled.
        assert_eq!(replayed([&frames(6, 6, 13..15), &old]), Ok(vec![13, 14]));
    }

    #[test]
    fn what_an_earlier_turn_left_behind_the_end_is_not_replayed() {
        let mut reused = frames(7, 6, 20..22);
        reused.extend(frames(5, 5, 12..15));
        assert_eq!(replayed([&reused, &frames(6, 5, 15..20)]), Ok(vec![15, 16, 17, 18, 19, 20, 21]));
        // The first frame of a turn is torn: what lies behind it is older than the other file.
        reused[10] ^= 1;
        reused.drain(frame(7, 6, 20).len()..2 * frame(7, 6, 20).len());
        assert_eq!(replayed([&reused, &frames(6, 6, 15..20)]), Ok(vec![15, 16, 17, 18, 19]));
    }

    #[test]
    fn a_torn_end_is_left_out_and_a_hole_is_damage() {
        let whole = frames(1, 1, 1..4);
        let torn = &whole[..whole.len() - 1];
        assert_eq!(replayed([torn, &[]]), Ok(vec![1, 2]));
        let one = frame(1, 1, 1).len();
        for (at, wanted) in [
            (one + 5, format!("at byte {one}: frame 2 should begin there; a frame with checksum")),
            (
                one,
                format!("at byte {one}: frame 2 should begin there; a frame's first bytes 43574c31 were expected, 42"),
            ),
            (one + 34, format!("at byte {one}: frame 2 should begin there; a frame of ")),
            (5, "at byte 0: its first frame should begin there; a frame with checksum".to_owned()),
        ] {
            let mut hole = whole.clone();
            hole[at] ^= 1;
            for file in [0, 1] {
                let files: [&[u8]; 2] = if file == 0 { [&hole, &[]] } else { [&[], &hole] };
                let damage = replayed(files).unwrap_err();
                assert_eq!(damage.file, file);
                assert!(damage.what.starts_with(&wanted), "{damage:?}");
                assert!(damage.what.ends_with("behind it is whole"), "{damage:?}");
            }
        }
    }

    #[test]
    fn a_missing_file_is_damage() {
        let damage = replayed([&[], &frames(6, 5, 13..15)]).unwrap_err();
        assert_eq!((damage.file, damage.what.contains("turn 5 should begin there")), (0, true), "{damage:?}");
        let short = frames(5, 5, 10..12);
        let damage = replayed([&frames(6, 5, 13..15), &short]).unwrap_err();
        let wanted = format!("at byte {}: frame 12 should begin there", short.len());
        assert_eq!((damage.file, damage.what.starts_with(&wanted)), (1, true), "{damage:?}");
        assert!(damage.what.ends_with("frame 13 follows, in the other file"), "{damage:?}");
    }
}
