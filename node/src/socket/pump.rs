//! The WebSocket actor: a byte pump. All of our use of actix-web-actors is in this file and `upgrade`.
//!
//! It stands still while its client does not read, so nothing that must happen in time is done here.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, AsyncContext, Recipient, Running, StreamHandler};
use actix_http::ws::Item;
use actix_web_actors::ws::{self, CloseReason, Message, ProtocolError, WebsocketContext};
use bytes::BytesMut;
use bytestring::ByteString;
use chat::errors::{CloseCode, ErrorCode};
use chat::limits;
use chat::render::frame_id;
use chat::wire::{ServerFrame, WireError};

use super::{Ended, Inbound, Pipe, now_ms, packed};

/// Starts the session once the pump runs.
pub(super) type OpenSession = Box<dyn FnOnce() -> Recipient<Inbound>>;

pub(super) struct Pump {
    pipe: Pipe,
    /// It speaks MessagePack in binary messages, not JSON in text.
    packed: bool,
    /// Set when the guard ended the payload stream.
    violated: Rc<Cell<bool>>,
    open: Option<OpenSession>,
    session: Option<Recipient<Inbound>>,
    /// Of a fragmented message; bounded by the guard.
    fragments: BytesMut,
}

impl Pump {
    pub(super) fn new(pipe: Pipe, packed: bool, violated: Rc<Cell<bool>>, open: OpenSession) -> Self {
        Self { pipe, packed, violated, open: Some(open), session: None, fragments: BytesMut::new() }
    }

    fn text(&mut self, text: ByteString, ctx: &mut WebsocketContext<Self>) {
        let Some(session) = &self.session else { return };
        if session.try_send(Inbound::Text(text.clone())).is_err() {
            self.write(overloaded(&text), ctx);
        }
    }

    fn packed(&mut self, bytes: &[u8], ctx: &mut WebsocketContext<Self>) {
        match chat::packed::unpack(bytes) {
            Ok(text) => self.text(text.into(), ctx),
            Err(error) => self.tell(Inbound::Malformed(error.to_string())),
        }
    }

    fn write(&self, frame: ByteString, ctx: &mut WebsocketContext<Self>) {
        match self.packed.then(|| packed::pack(&frame)).flatten() {
            Some(packed) => ctx.binary(packed),
            None => ctx.text(frame),
        }
    }

    /// Full: it is a hint, or the client sends more than is looked at.
    fn tell(&self, inbound: Inbound) {
        if let Some(session) = &self.session {
            let _ = session.try_send(inbound);
        }
    }

    fn wake(&self) {
        // Full: the session looks at the pipe after every message.
        self.tell(Inbound::Wake);
    }

    fn end(&self, why: Ended) {
        self.pipe.end(why);
        self.wake();
    }

    fn fragment(&mut self, item: Item, ctx: &mut WebsocketContext<Self>) {
        let (bytes, last) = match item {
            Item::FirstText(_) if self.packed => {
                self.fragments.clear();
                return self.tell(Inbound::Unsupported);
            }
            Item::FirstText(bytes) => {
                self.fragments.clear();
                (bytes, false)
            }
            Item::FirstBinary(bytes) if self.packed => {
                self.fragments.clear();
                (bytes, false)
            }
            // What the subprotocol lacks gathers all the same; it is said once.
            Item::FirstBinary(_) => {
                self.fragments.clear();
                return self.tell(Inbound::Unsupported);
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        self.fragments.extend_from_slice(&bytes);
        if last && self.packed {
            let bytes = self.fragments.split();
            self.packed(&bytes, ctx);
        } else if last {
            match ByteString::try_from(self.fragments.split().freeze()) {
                Ok(text) => self.text(text, ctx),
                Err(_) => self.end(Ended::Broken),
            }
        }
    }
}

impl Actor for Pump {
    type Context = WebsocketContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(limits::PUMP_MAILBOX);
        self.session = self.open.take().map(|open| open());
        ctx.spawn(Drain);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.end(Ended::Gone);
        Running::Stop
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Pump {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Self::Context) {
        self.pipe.heard(now_ms());
        match message {
            Ok(Message::Text(text)) if !self.packed => self.text(text, ctx),
            Ok(Message::Binary(bytes)) if self.packed => self.packed(&bytes, ctx),
            Ok(Message::Text(_) | Message::Binary(_)) => self.tell(Inbound::Unsupported),
            Ok(Message::Continuation(item)) => self.fragment(item, ctx),
            Ok(Message::Ping(bytes)) => ctx.pong(&bytes),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Err(_) => self.end(Ended::Broken),
        }
    }

    fn finished(&mut self, ctx: &mut Self::Context) {
        if self.violated.get() {
            // The session says so and closes; until then the actor has to live.
            self.end(Ended::TooLarge);
        } else {
            ctx.stop();
        }
    }
}

/// Carries what waits in the pipe to the socket; the pipe wakes it.
struct Drain;

impl ActorFuture<Pump> for Drain {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        pump: &mut Pump,
        ctx: &mut WebsocketContext<Pump>,
        task: &mut Context<'_>,
    ) -> Poll<()> {
        let (taken, starved) = pump.pipe.take(now_ms(), task.waker());
        for frame in taken.frames {
            pump.write(frame, ctx);
        }
        if taken.ping {
            ctx.ping(b"");
        }
        if let Some(code) = taken.close {
            ctx.close(Some(close_reason(code)));
            ctx.stop();
        } else if starved {
            pump.wake();
        }
        Poll::Pending
    }
}

fn close_reason(code: CloseCode) -> CloseReason {
    CloseReason { code: ws::CloseCode::Other(code as u16), description: None }
}

/// The answer to a request that the session has no room for.
fn overloaded(text: &str) -> ByteString {
    let re = frame_id(text);
    let mut error = WireError::new(ErrorCode::Overloaded, "this connection sends faster than it is served", "");
    error.retry_after_ms = Some(100);
    crate::session::encode(&ServerFrame::Error { re, error })
}
