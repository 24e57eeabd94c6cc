//! What a write-ahead log holds when a database is opened.

use super::frame::{self, HEADER, Head};
use crate::disk::Write;

/// What the two files say together.
#[derive(Debug)]
pub(super) struct Replay {
    /// Of the frames that sled may lack, in order.
    pub(super) writes: Vec<Vec<Write>>,
    /// The last whole frame, and in which of the files it is.
    pub(super) last: Option<(Head, usize)>,
}

struct Turn<'a> {
    file: usize,
    frames: Vec<(Head, &'a [u8])>,
    bytes: &'a [u8],
    /// Where the frames end.
    end: usize,
}

/// Reads `files`. A torn last frame was never acknowledged and is left out; anything missing before a whole frame is
/// damage, and said.
pub(super) fn read(files: [&[u8]; 2]) -> Result<Replay, String> {
    let mut turns = [turn(0, files[0]), turn(1, files[1])];
    turns.sort_by_key(|turn| turn.frames.first().map(|(head, _)| head.epoch));
    let newest = turns.iter().filter_map(|turn| Some((turn.frames.last()?.0, turn.file))).max_by_key(|last| last.0.seq);
    let seen = newest.map_or(0, |(head, _)| head.seq);
    for turn in &turns {
        if let Some(lost) = turn.later_than(seen) {
            return Err(format!("write-ahead log {}: frames before number {lost} are damaged", turn.file));
        }
    }
    let Some((last, _)) = newest else { return Ok(Replay { writes: Vec::new(), last: None }) };
    let needed: Vec<_> =
        turns.iter().flat_map(|turn| &turn.frames).filter(|(head, _)| head.epoch >= last.oldest).collect();
    if let Some(gap) = needed.windows(2).find(|pair| pair[0].0.seq + 1 != pair[1].0.seq) {
        return Err(format!("write-ahead log: frame {} does not follow {}", gap[1].0.seq, gap[0].0.seq));
    }
    if needed.first().is_some_and(|(head, _)| head.epoch > last.oldest) {
        return Err(format!("write-ahead log: the file of turn {} is missing", last.oldest));
    }
    let writes = needed.iter().map(|(head, bytes)| {
        frame::writes(bytes).ok_or_else(|| format!("write-ahead log: frame {} is not a list of writes", head.seq))
    });
    Ok(Replay { writes: writes.collect::<Result<_, _>>()?, last: newest })
}

fn turn(file: usize, bytes: &[u8]) -> Turn<'_> {
    let mut frames: Vec<(Head, &[u8])> = Vec::new();
    let mut end = 0;
    while let Some((head, writes)) = frame::parse(&bytes[end..]) {
        // What lies behind the frames of this turn is left from an earlier one.
        if frames.last().is_some_and(|(last, _)| head.epoch != last.epoch || head.seq != last.seq + 1) {
            break;
        }
        frames.push((head, writes));
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

    fn replayed(files: [&[u8]; 2]) -> Result<Vec<u64>, String> {
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
        let mut hole = whole.clone();
        hole[whole.len() / 2] ^= 1;
        assert!(replayed([&hole, &[]]).unwrap_err().contains("damaged"));
        hole = whole.clone();
        hole[5] ^= 1;
        assert!(replayed([&hole, &[]]).unwrap_err().contains("damaged"));
    }

    #[test]
    fn a_missing_file_is_damage() {
        assert!(replayed([&[], &frames(6, 5, 13..15)]).unwrap_err().contains("missing"));
        let short = frames(5, 5, 10..12);
        assert!(replayed([&short, &frames(6, 5, 13..15)]).unwrap_err().contains("does not follow"));
    }
}
