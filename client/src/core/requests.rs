//! Requests of one client: those that wait for the connection, the window or a retry, and those in flight.
//! A request keeps its identity (its JSON, with its `client_msg_id`) over every attempt.

use std::collections::{BTreeMap, VecDeque};

use chat::errors::Effect;
use chat::wire::{ServerFrame, WireError};

use super::backoff::jittered;

/// Retries of a request that the service could not serve: first wait and longest wait, in milliseconds.
const RETRY_BASE_MS: u64 = 50;
const RETRY_CAP_MS: u64 = 2_000;

/// How a request that was not answered with success ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The service said no. `repeated`: an earlier attempt may have had its effect.
    Rejected { error: WireError, repeated: bool },
    /// It may or may not have happened.
    Unknown { last: Option<WireError> },
    /// It did not happen.
    NotSent { last: Option<WireError> },
}

/// One logical request.
#[derive(Debug)]
pub(crate) struct Pending<P> {
    /// The request's JSON object without `id`.
    pub(crate) json: String,
    /// Whom the answer is for.
    pub(crate) purpose: P,
    /// After this it is given up, in milliseconds of the client's clock.
    pub(crate) deadline_ms: u64,
    /// Whether it may be sent again after an attempt of unknown outcome.
    pub(crate) repeatable: bool,
    not_before_ms: u64,
    attempts: u32,
    /// Some attempt may have had an effect. Never becomes false again: an old attempt can still be applied late.
    uncertain: bool,
    last: Option<WireError>,
}

impl<P> Pending<P> {
    pub(crate) fn new(json: String, purpose: P, deadline_ms: u64, repeatable: bool) -> Self {
        Self { json, purpose, deadline_ms, repeatable, not_before_ms: 0, attempts: 0, uncertain: false, last: None }
    }

    fn give_up(self) -> (P, Failure) {
        let failure = match self.uncertain {
            true => Failure::Unknown { last: self.last },
            false => Failure::NotSent { last: self.last },
        };
        (self.purpose, failure)
    }
}

#[derive(Debug)]
struct Flight<P> {
    pending: Pending<P>,
    since_ms: u64,
}

/// What an answer came to.
#[derive(Debug)]
pub(crate) enum Settled<P> {
    Done(P, Box<ServerFrame>),
    Failed(P, Failure),
    /// It will be sent again.
    Retrying,
    /// No such request (an answer to one that was given up).
    Stray,
}

#[derive(Debug)]
pub(crate) struct Requests<P> {
    waiting: VecDeque<Pending<P>>,
    flight: BTreeMap<u64, Flight<P>>,
    window: usize,
    /// Attempts beyond the first, over the client's life.
    pub(crate) retries: u64,
}

impl<P> Requests<P> {
    pub(crate) fn new(window: usize) -> Self {
        Self { waiting: VecDeque::new(), flight: BTreeMap::new(), window, retries: 0 }
    }

    /// The server's window, from `hello`.
    pub(crate) fn set_window(&mut self, window: usize) {
        self.window = window.max(1);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn push(&mut self, pending: Pending<P>) {
        self.waiting.push_back(pending);
    }

    /// Before all others: the core's own requests.
    pub(crate) fn push_front(&mut self, pending: Pending<P>) {
        self.waiting.push_front(pending);
    }

    /// The next request that may go out now, as the frame `id`.
    pub(crate) fn transmit(&mut self, id: u64, now_ms: u64) -> Option<String> {
        if self.flight.len() >= self.window {
            return None;
        }
        let place = self.waiting.iter().position(|p| p.not_before_ms <= now_ms)?;
        let mut pending = self.waiting.remove(place)?;
        self.retries += u64::from(pending.attempts > 0);
        pending.attempts += 1;
        let text = format!("{{\"id\":{id},{}", pending.json.strip_prefix('{').unwrap_or(&pending.json));
        self.flight.insert(id, Flight { pending, since_ms: now_ms });
        Some(text)
    }

    /// A frame with `re: id` that is not an error.
    pub(crate) fn answered(&mut self, id: u64, frame: ServerFrame) -> Settled<P> {
        match self.flight.remove(&id) {
            Some(flight) => Settled::Done(flight.pending.purpose, Box::new(frame)),
            None => Settled::Stray,
        }
    }

    /// An error with `re: id`.
    pub(crate) fn refused(&mut self, id: u64, error: WireError, now_ms: u64, random: u64) -> Settled<P> {
        let Some(Flight { mut pending, .. }) = self.flight.remove(&id) else { return Settled::Stray };
        let repeated = pending.uncertain;
        pending.uncertain |= error.effect == Effect::Unknown;
        let again = error.retryable && (pending.repeatable || !pending.uncertain) && now_ms < pending.deadline_ms;
        if !again {
            return match error.retryable {
                true => {
                    pending.last = Some(error);
                    let (purpose, failure) = pending.give_up();
                    Settled::Failed(purpose, failure)
                }
                false => Settled::Failed(pending.purpose, Failure::Rejected { error, repeated }),
            };
        }
        let backoff_ms = jittered(RETRY_BASE_MS, RETRY_CAP_MS, pending.attempts - 1, random);
        pending.not_before_ms = now_ms + error.retry_after_ms.unwrap_or(0) + backoff_ms;
        pending.last = Some(error);
        self.waiting.push_front(pending);
        Settled::Retrying
    }

    /// The connection is gone: what was in flight is of unknown outcome and goes first on the next one,
    /// in its old order. Returns what cannot be sent again.
    pub(crate) fn disconnected(&mut self) -> Vec<(P, Failure)> {
        let mut lost = Vec::new();
        for (_, flight) in std::mem::take(&mut self.flight).into_iter().rev() {
            let mut pending = flight.pending;
            pending.uncertain = true;
            match pending.repeatable {
                true => self.waiting.push_front(pending),
                false => lost.push(pending.give_up()),
            }
        }
        lost
    }

    /// Requests past their deadline.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<(P, Failure)> {
        let mut expired = Vec::new();
        while let Some(place) = self.waiting.iter().position(|p| p.deadline_ms <= now_ms) {
            expired.extend(self.waiting.remove(place).map(Pending::give_up));
        }
        let late: Vec<u64> =
            self.flight.iter().filter(|(_, f)| f.pending.deadline_ms <= now_ms).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(Flight { mut pending, .. }) = self.flight.remove(&id) {
                pending.uncertain = true;
                expired.push(pending.give_up());
            }
        }
        expired
    }

    /// Everything that is left, when no connection will follow.
    pub(crate) fn abandon(&mut self) -> Vec<(P, Failure)> {
        let mut left = Vec::new();
        for (_, Flight { mut pending, .. }) in std::mem::take(&mut self.flight) {
            pending.uncertain = true;
            left.push(pending.give_up());
        }
        left.extend(std::mem::take(&mut self.waiting).into_iter().map(Pending::give_up));
        left
    }

    /// When the oldest attempt in flight was sent.
    pub(crate) fn oldest_flight_ms(&self) -> Option<u64> {
        self.flight.values().map(|f| f.since_ms).min()
    }

    /// When [`Self::expire`] or (if `online`) [`Self::transmit`] has something to do next.
    pub(crate) fn next_wakeup_ms(&self, online: bool) -> Option<u64> {
        let room = online && self.flight.len() < self.window;
        let waiting =
            self.waiting.iter().map(|p| if room { p.deadline_ms.min(p.not_before_ms) } else { p.deadline_ms });
        waiting.chain(self.flight.values().map(|f| f.pending.deadline_ms)).min()
    }

    /// Drops waiting and flying requests whose purpose is not `keep`.
    pub(crate) fn retain(&mut self, keep: impl Fn(&P) -> bool) {
        self.waiting.retain(|p| keep(&p.purpose));
        self.flight.retain(|_, f| keep(&f.pending.purpose));
    }
}

#[cfg(test)]
mod tests {
    use chat::errors::ErrorCode;

    use super::*;

    fn requests(n: u64) -> Requests<u64> {
        let mut requests = Requests::new(2);
        for purpose in 0..n {
            requests.push(Pending::new(format!("{{\"n\":{purpose}}}"), purpose, 1_000, true));
        }
        requests
    }

    fn error(code: ErrorCode) -> WireError {
        WireError::new(code, "", "t")
    }

    #[test]
    fn the_window_holds_requests_back() {
        let mut requests = requests(3);
        assert_eq!(requests.transmit(10, 0).as_deref(), Some("{\"id\":10,\"n\":0}"));
        assert!(requests.transmit(11, 0).is_some());
        assert_eq!(requests.transmit(12, 0), None);
        assert!(matches!(requests.answered(10, ServerFrame::Pong { re: 10 }), Settled::Done(0, _)));
        assert_eq!(requests.transmit(13, 0).as_deref(), Some("{\"id\":13,\"n\":2}"));
        assert!(matches!(requests.answered(10, ServerFrame::Pong { re: 10 }), Settled::Stray));
    }

    #[test]
    fn a_lost_connection_repeats_what_was_in_flight_first_and_in_order() {
        let mut requests = requests(3);
        requests.transmit(1, 0);
        requests.transmit(2, 0);
        assert!(requests.disconnected().is_empty());
        assert_eq!(requests.transmit(3, 0).as_deref(), Some("{\"id\":3,\"n\":0}"));
        assert_eq!(requests.transmit(4, 0).as_deref(), Some("{\"id\":4,\"n\":1}"));
        assert_eq!(requests.retries, 2);
    }

    #[test]
    fn a_deadline_says_whether_anything_can_have_happened() {
        let mut requests = requests(3);
        requests.transmit(1, 0);
        let expired = requests.expire(1_000);
        let outcome = |purpose| &expired.iter().find(|(p, _)| *p == purpose).unwrap().1;
        assert_eq!(outcome(0), &Failure::Unknown { last: None });
        assert_eq!(outcome(1), &Failure::NotSent { last: None });
        assert_eq!(requests.next_wakeup_ms(true), None);
    }

    #[test]
    fn a_refusal_without_effect_waits_and_stays_certain() {
        let mut requests = requests(1);
        requests.transmit(1, 0);
        let mut overloaded = error(ErrorCode::Overloaded);
        overloaded.retry_after_ms = Some(200);
        assert!(matches!(requests.refused(1, overloaded.clone(), 100, 7), Settled::Retrying));
        assert_eq!(requests.transmit(2, 299), None);
        assert_eq!(requests.next_wakeup_ms(true), Some(307));
        assert!(requests.transmit(2, 307).is_some());
        let Settled::Failed(0, failure) = requests.refused(2, overloaded.clone(), 1_000, 7) else { panic!() };
        assert_eq!(failure, Failure::NotSent { last: Some(overloaded) });
    }

    #[test]
    fn a_rejection_after_an_unknown_attempt_says_so() {
        let mut requests = requests(1);
        requests.transmit(1, 0);
        assert!(matches!(requests.refused(1, error(ErrorCode::OutcomeUnknown), 0, 0), Settled::Retrying));
        requests.transmit(2, 0);
        let no = error(ErrorCode::NotAMember);
        let Settled::Failed(0, failure) = requests.refused(2, no.clone(), 0, 0) else { panic!() };
        assert_eq!(failure, Failure::Rejected { error: no, repeated: true });
    }

    #[test]
    fn what_must_not_be_repeated_is_unknown_after_a_lost_connection() {
        let mut requests = Requests::new(1);
        requests.push(Pending::new("{}".into(), 0u64, 1_000, false));
        requests.transmit(1, 0);
        assert_eq!(requests.disconnected(), vec![(0, Failure::Unknown { last: None })]);
        assert_eq!(requests.transmit(2, 0), None);
    }
}
