//! What happened in one second, and in the measured window: counters that only grow.

use serde::{Deserialize, Serialize};

/// Since the beginning of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    pub sent: u64,
    pub acked: u64,
    /// Acks of an attempt that found an earlier one applied.
    pub duplicate_acks: u64,
    pub delivered: u64,
    pub logins: u64,
    /// Refused sends, lost connections, failed logins.
    pub errors: u64,
    pub reconnects: u64,
    /// Answers to requests that are no sends.
    pub answered: u64,
}

impl Counters {
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            acked: self.acked - before.acked,
            duplicate_acks: self.duplicate_acks - before.duplicate_acks,
            delivered: self.delivered - before.delivered,
            logins: self.logins - before.logins,
            errors: self.errors - before.errors,
            reconnects: self.reconnects - before.reconnects,
            answered: self.answered - before.answered,
        }
    }

    pub fn add(&mut self, more: &Self) {
        self.sent += more.sent;
        self.acked += more.acked;
        self.duplicate_acks += more.duplicate_acks;
        self.delivered += more.delivered;
        self.logins += more.logins;
        self.errors += more.errors;
        self.reconnects += more.reconnects;
        self.answered += more.answered;
    }
}
