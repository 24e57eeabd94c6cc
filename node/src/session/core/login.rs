//! Beginning a session, and how long it lasts.

use chat::errors::{CloseCode, ErrorCode};
use chat::wire::{Limits, ServerFrame};

use super::{Core, Effect, Identified, Phase};

impl Core {
    /// One such request at a time.
    pub(super) fn ask_about_login(&mut self, re: u64, ask: Effect) {
        if std::mem::replace(&mut self.asking_login, true) {
            self.error(Some(re), ErrorCode::TooManyInFlight, "wait for the answer to the last one", Some(100));
        } else {
            self.effects.push(ask);
        }
    }

    /// `time_ms`: Unix milliseconds.
    pub(in crate::session) fn logged_in(&mut self, now_ms: u64, re: u64, who: Identified, time_ms: u64) {
        if self.phase != Phase::LoggingIn {
            return;
        }
        self.phase = Phase::Ready;
        self.expires_at_ms = who.expires_ms.map(|at_ms| now_ms + at_ms.saturating_sub(time_ms));
        self.user = Some(who.user.clone());
        self.write(&ServerFrame::Hello {
            re,
            user: who.user,
            app: who.app,
            session: self.session.clone(),
            cluster: self.service.cluster.clone(),
            node: self.service.node,
            epoch: self.service.epoch,
            time_ms,
            expires_ms: who.expires_ms,
            limits: Limits { dedupe_window_ms: who.id_window_ms, ..Limits::default() },
        });
    }

    /// A refusal ends the connection; an overloaded or unavailable service may be asked again on it.
    pub(in crate::session) fn login_failed(&mut self, now_ms: u64, re: u64, code: ErrorCode, message: &str) {
        if self.phase != Phase::LoggingIn {
            return;
        }
        self.phase = Phase::Connected;
        let retry_after_ms = code.retryable().then_some(1_000);
        self.error(Some(re), code, message, retry_after_ms);
        if !code.retryable() {
            self.close(now_ms, CloseCode::LoginFailed);
        }
    }

    /// When the session's token is over now, Unix milliseconds.
    pub(in crate::session) fn refreshed(
        &mut self,
        now_ms: u64,
        re: u64,
        done: Result<u64, (ErrorCode, &str)>,
        time_ms: u64,
    ) {
        self.asking_login = false;
        match done {
            Ok(expires_ms) => {
                self.expires_at_ms = Some(now_ms + expires_ms.saturating_sub(time_ms));
                self.write(&ServerFrame::Refreshed { re, expires_ms });
            }
            Err((code, message)) => self.error(Some(re), code, message, code.retryable().then_some(1_000)),
        }
    }

    pub(in crate::session) fn account_changed(&mut self, re: u64, done: Result<(), ErrorCode>) {
        self.asking_login = false;
        match done {
            Ok(()) => self.write(&ServerFrame::Done { re }),
            Err(code) => self.error(Some(re), code, "this was not done", code.retryable().then_some(1_000)),
        }
    }
}
