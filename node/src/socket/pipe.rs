//! What a session and its pump share: they live on the same arbiter, one writes, the other takes.
//!
//! Frames wait here, counted in bytes, so that a pump which is frozen by a client that does not read (its mailbox and
//! timers stand still then) costs at most the budget, and the session sees how long nothing was taken.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytestring::ByteString;
use chat::errors::CloseCode;

/// Why nothing more comes from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The connection is gone or the client closed it.
    Gone,
    /// A message over the limits was announced; see [`super::guard`].
    TooLarge,
    /// Not WebSocket, or text that is not UTF-8.
    Broken,
}

/// What the pump writes to its socket in one go.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) frames: VecDeque<ByteString>,
    pub(crate) ping: bool,
    pub(crate) close: Option<CloseCode>,
}

#[derive(Default)]
struct State {
    waiting: Taken,
    bytes: usize,
    /// When bytes were last taken, or first began to wait.
    moved_ms: u64,
    heard_ms: u64,
    ended: Option<Ended>,
    /// The session wants to be woken when bytes are taken.
    starved: bool,
}

/// Both ends hold a clone.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<State>>);

impl Pipe {
    pub(crate) fn new(now_ms: u64) -> Self {
        let pipe = Self::default();
        pipe.0.borrow_mut().heard_ms = now_ms;
        pipe
    }

    /// True if the pump has to be woken: nothing waited before.
    pub(crate) fn push(&self, frame: ByteString, now_ms: u64) -> bool {
        let mut state = self.0.borrow_mut();
        let idle = state.is_idle();
        if state.bytes == 0 {
            state.moved_ms = now_ms;
        }
        state.bytes += frame.len();
        state.waiting.frames.push_back(frame);
        idle
    }

    pub(crate) fn ping(&self) -> bool {
        let mut state = self.0.borrow_mut();
        let idle = state.is_idle();
        state.waiting.ping = true;
        idle
    }

    /// The first reason stands.
    pub(crate) fn close(&self, code: CloseCode) -> bool {
        let mut state = self.0.borrow_mut();
        state.waiting.close.get_or_insert(code);
        true
    }

    /// Bytes not taken yet.
    pub(crate) fn bytes(&self) -> usize {
        self.0.borrow().bytes
    }

    /// How long bytes have waited without any being taken.
    pub(crate) fn stalled_ms(&self, now_ms: u64) -> u64 {
        let state = self.0.borrow();
        if state.bytes == 0 { 0 } else { now_ms.saturating_sub(state.moved_ms) }
    }

    /// The session asks to be woken once bytes are taken.
    pub(crate) fn starve(&self) {
        self.0.borrow_mut().starved = true;
    }

    /// Everything that waits; and whether the session asked to be woken for it.
    pub(crate) fn take(&self, now_ms: u64) -> (Taken, bool) {
        let mut state = self.0.borrow_mut();
        state.bytes = 0;
        state.moved_ms = now_ms;
        let starved = std::mem::take(&mut state.starved);
        (std::mem::take(&mut state.waiting), starved)
    }

    pub(crate) fn heard(&self, now_ms: u64) {
        self.0.borrow_mut().heard_ms = now_ms;
    }

    pub(crate) fn heard_ms(&self) -> u64 {
        self.0.borrow().heard_ms
    }

    /// The first reason stands.
    pub(crate) fn end(&self, why: Ended) {
        self.0.borrow_mut().ended.get_or_insert(why);
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.0.borrow().ended
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.frames.is_empty() && !self.waiting.ping && self.waiting.close.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pump_is_woken_once_for_many_frames() {
        let pipe = Pipe::new(0);
        assert!(pipe.push("one".into(), 1));
        assert!(!pipe.push("two".into(), 2));
        assert!(!pipe.ping());
        let (taken, starved) = pipe.take(3);
        assert_eq!((taken.frames.len(), taken.ping, taken.close, starved), (2, true, None, false));
        assert!(pipe.push("three".into(), 4));
    }

    #[test]
    fn a_stall_is_measured_from_the_last_byte_taken() {
        let pipe = Pipe::new(0);
        assert_eq!(pipe.stalled_ms(50), 0, "nothing waits");
        pipe.push("abc".into(), 100);
        pipe.push("de".into(), 900);
        assert_eq!((pipe.bytes(), pipe.stalled_ms(1_000)), (5, 900));
        pipe.starve();
        assert!(pipe.take(1_000).1);
        assert_eq!((pipe.bytes(), pipe.stalled_ms(5_000)), (0, 0));
    }

    #[test]
    fn the_first_reason_to_close_or_end_stands() {
        let pipe = Pipe::new(0);
        pipe.close(CloseCode::SlowConsumer);
        pipe.close(CloseCode::LoggedOut);
        assert_eq!(pipe.take(1).0.close, Some(CloseCode::SlowConsumer));
        pipe.end(Ended::TooLarge);
        pipe.end(Ended::Gone);
        assert_eq!(pipe.ended(), Some(Ended::TooLarge));
    }
}
