//! What a session and its pump share: they live on the same arbiter, one writes, the other takes.
//!
//! Frames wait here, counted in bytes, so that a pump which is frozen by a client that does not read (its mailbox and
//! timers stand still then) costs at most the budget, and the session sees how long nothing was taken. Cutting the
//! connection is the last resort against such a client.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::Waker;

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
    pub(crate) frames: Vec<ByteString>,
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
    /// The session is gone: whatever was not written stays unwritten.
    cut: bool,
    pump: Option<Waker>,
    /// The pump was woken and has not come yet: once is enough for many frames.
    woken: bool,
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

    pub(crate) fn push(&self, frame: ByteString, now_ms: u64) {
        let mut state = self.0.borrow_mut();
        if state.bytes == 0 {
            state.moved_ms = now_ms;
        }
        state.bytes += frame.len();
        state.waiting.frames.push(frame);
        state.wake();
    }

    pub(crate) fn ping(&self) {
        let mut state = self.0.borrow_mut();
        state.waiting.ping = true;
        state.wake();
    }

    /// The first reason stands.
    pub(crate) fn close(&self, code: CloseCode) {
        let mut state = self.0.borrow_mut();
        state.waiting.close.get_or_insert(code);
        state.wake();
    }

    /// Ends the connection without waiting for its client.
    pub(crate) fn cut(&self) {
        let mut state = self.0.borrow_mut();
        state.cut = true;
        // Woken for what waits it may have been long ago, and was not able to take it.
        state.woken = false;
        state.wake();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.borrow().cut
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

    /// Everything that waits, and whether the session asked to be woken for it. `pump` is woken for what comes next.
    pub(crate) fn take(&self, now_ms: u64, pump: &Waker) -> (Taken, bool) {
        let mut state = self.0.borrow_mut();
        if !state.pump.as_ref().is_some_and(|known| known.will_wake(pump)) {
            state.pump = Some(pump.clone());
        }
        state.woken = false;
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
    fn wake(&mut self) {
        if !self.woken
            && let Some(pump) = &self.pump
        {
            self.woken = true;
            pump.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(pipe: &Pipe, now_ms: u64) -> (Taken, bool) {
        pipe.take(now_ms, Waker::noop())
    }

    #[test]
    fn the_pump_is_woken_once_for_many_frames() {
        let pipe = Pipe::new(0);
        let woken = Arc::new(Woken::default());
        let count = || woken.0.load(Ordering::Relaxed);
        let pump = Waker::from(woken.clone());
        pipe.push("before the pump runs".into(), 1);
        assert_eq!(pipe.take(1, &pump).0.frames.len(), 1);
        pipe.push("one".into(), 1);
        pipe.push("two".into(), 2);
        pipe.ping();
        assert_eq!(count(), 1);
        let (taken, starved) = pipe.take(3, &pump);
        assert_eq!((taken.frames.len(), taken.ping, taken.close, starved), (2, true, None, false));
        pipe.push("three".into(), 4);
        assert_eq!(count(), 2);
    }

    #[test]
    fn a_stall_is_measured_from_the_last_byte_taken() {
        let pipe = Pipe::new(0);
        assert_eq!(pipe.stalled_ms(50), 0, "nothing waits");
        pipe.push("abc".into(), 100);
        pipe.push("de".into(), 900);
        assert_eq!((pipe.bytes(), pipe.stalled_ms(1_000)), (5, 900));
        pipe.starve();
        assert!(take(&pipe, 1_000).1);
        assert_eq!((pipe.bytes(), pipe.stalled_ms(5_000)), (0, 0));
    }

    #[test]
    fn the_first_reason_to_close_or_end_stands() {
        let pipe = Pipe::new(0);
        pipe.close(CloseCode::SlowConsumer);
        pipe.close(CloseCode::LoggedOut);
        assert_eq!(take(&pipe, 1).0.close, Some(CloseCode::SlowConsumer));
        pipe.end(Ended::TooLarge);
        pipe.end(Ended::Gone);
        assert_eq!(pipe.ended(), Some(Ended::TooLarge));
    }
}
