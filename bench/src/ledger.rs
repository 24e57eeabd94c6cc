//! What was sent and what was acked: one slot per planned message, found from its `client_msg_id`.

use std::sync::atomic::{AtomicU64, Ordering};

use chat::ids::ClientMsgId;
use uuid::{Builder, Uuid};

/// Bits of the run's number in an id; the UUID's variant takes two of 32.
const RUN_MASK: u32 = 0x3fff_ffff;

#[derive(Debug, Default)]
struct Slot {
    /// Microseconds of the run's clock, plus one; 0 before the message was sent.
    sent: AtomicU64,
    /// The acked seq; 0 without an ack.
    seq: AtomicU64,
}

/// Shared by all senders and all receivers of a run.
#[derive(Debug)]
pub struct Ledger {
    run: u32,
    slots: Vec<Slot>,
}

impl Ledger {
    /// `run` tells the ids of this run from those of every other one on the same cluster.
    pub fn new(run: u32, messages: usize) -> Self {
        Self { run: run & RUN_MASK, slots: (0..messages).map(|_| Slot::default()).collect() }
    }

    /// The id of a message: a UUIDv7 that carries the run and the message's place in the plan.
    pub fn id(&self, message: u32, unix_ms: u64) -> ClientMsgId {
        let mut random = [0; 10];
        random[2..6].copy_from_slice(&self.run.to_be_bytes());
        random[6..].copy_from_slice(&message.to_be_bytes());
        ClientMsgId(Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// The place in the plan of a message of this run.
    pub fn message(&self, id: &ClientMsgId) -> Option<u32> {
        let bytes = id.0.as_bytes();
        let (run, message) = (be32(&bytes[8..12]) & RUN_MASK, be32(&bytes[12..]));
        (run == self.run && (message as usize) < self.slots.len()).then_some(message)
    }

    pub fn sent(&self, message: u32, now_us: u64) {
        self.slots[message as usize].sent.store(now_us + 1, Ordering::Relaxed);
    }

    /// When the message was first sent; none if it never was.
    pub fn sent_us(&self, message: u32) -> Option<u64> {
        self.slots[message as usize].sent.load(Ordering::Relaxed).checked_sub(1)
    }

    pub fn acked(&self, message: u32, seq: u64) {
        self.slots[message as usize].seq.store(seq, Ordering::Relaxed);
    }

    pub fn acked_seq(&self, message: u32) -> Option<u64> {
        Some(self.slots[message as usize].seq.load(Ordering::Relaxed)).filter(|seq| *seq > 0)
    }
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// A new run's number.
pub fn new_run() -> u32 {
    be32(&Uuid::new_v4().as_bytes()[..4])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid7_that_leads_back_to_its_message() {
        let ledger = Ledger::new(u32::MAX, 1_000);
        let id = ledger.id(999, 1_800_000_000_000);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(ledger.message(&id), Some(999));
        assert_eq!(ledger.message(&Ledger::new(5, 1_000).id(999, 0)), None, "another run");
        assert_eq!(ledger.message(&Ledger::new(u32::MAX, 2_000).id(1_500, 0)), None, "no such message");
    }

    #[test]
    fn a_slot_knows_whether_it_was_sent_and_acked() {
        let ledger = Ledger::new(1, 2);
        ledger.sent(0, 0);
        ledger.acked(0, 7);
        assert_eq!((ledger.sent_us(0), ledger.acked_seq(0)), (Some(0), Some(7)));
        assert_eq!((ledger.sent_us(1), ledger.acked_seq(1)), (None, None));
    }
}
