//! What is refused before it is a request.

use chat::errors::ErrorCode;
use chat::render::frame_id;

use super::Core;

impl Core {
    pub(in crate::session) fn unsupported(&mut self, now_ms: u64) {
        if !self.closing() {
            let message = "text or binary: the other kind of message is not part of this subprotocol";
            self.bad_frame(now_ms, None, ErrorCode::UnsupportedFrame, message);
        }
    }

    /// A request that came too early.
    pub(in crate::session) fn too_often(&mut self, text: &str, retry_after_ms: u64) {
        if !self.closing() {
            let re = frame_id(text);
            self.error(re, ErrorCode::RateLimited, "you ask more often than you may", Some(retry_after_ms));
        }
    }

    pub(in crate::session) fn malformed(&mut self, now_ms: u64, why: &str) {
        if !self.closing() {
            self.bad_frame(now_ms, None, ErrorCode::MalformedFrame, why);
        }
    }
}
