//! One applied entry as the workers see it: its events by conversation, each encoded once, by whoever needs it first.

use std::sync::{Arc, OnceLock};

use bytestring::ByteString;
use chat::event::{Committed, Event, SequencedEvent};
use chat::ids::{AppId, ConversationId};
use chat::limits;

use crate::session::message::LiveEvent;

/// What an event weighs besides its body.
const EVENT_BYTES: usize = 256;

/// The frame of an event, or none if its body does not open: then sessions ask history, which says what is wrong.
pub(super) trait Encode {
    /// `recalls`: how many messages this node knew to be recalled when it applied the event.
    fn encode(&self, event: &SequencedEvent, recalls: u64) -> Option<ByteString>;
}

/// The events of one conversation, in order.
#[derive(Debug)]
struct Run {
    /// Places in the batch.
    events: Vec<usize>,
    encoded: OnceLock<Encoded>,
}

#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) events: Vec<LiveEvent>,
    /// The newest seq whose body does not open.
    pub(super) unreadable: Option<u64>,
}

/// Shared by all workers of the node.
#[derive(Debug)]
pub(super) struct Batch {
    events: Arc<[Committed]>,
    runs: Vec<Run>,
    pub(super) bytes: usize,
    recalls: u64,
}

impl Batch {
    /// `recalls`: of this node, before these events.
    pub(super) fn new(events: Arc<[Committed]>, recalls: u64) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (place, event) in events.iter().enumerate() {
            let Committed::Sequenced(event) = event else { continue };
            // An entry holds few conversations.
            let same = |run: &&mut Run| sequenced(&events, run.events[0]).is_some_and(|first| same_place(first, event));
            match runs.iter_mut().find(same) {
                Some(run) => run.events.push(place),
                None => runs.push(Run { events: vec![place], encoded: OnceLock::new() }),
            }
        }
        let bytes = events.iter().map(weight).sum();
        Self { events, runs, bytes, recalls }
    }

    pub(super) fn events(&self) -> &[Committed] {
        &self.events
    }

    /// Each conversation of the batch, and what encodes its events.
    pub(super) fn runs<'b>(
        &'b self,
        encoder: &'b dyn Encode,
    ) -> impl Iterator<Item = (&'b AppId, &'b ConversationId, impl FnOnce() -> &'b Encoded)> {
        self.runs.iter().filter_map(move |run| {
            let first = sequenced(&self.events, run.events[0])?;
            Some((&first.app, &first.conversation, move || run.encoded.get_or_init(|| self.encode(run, encoder))))
        })
    }

    fn encode(&self, run: &Run, encoder: &dyn Encode) -> Encoded {
        let mut encoded = Encoded { events: Vec::with_capacity(run.events.len()), unreadable: None };
        for event in run.events.iter().filter_map(|place| sequenced(&self.events, *place)) {
            match encoder.encode(event, self.recalls) {
                Some(frame) => encoded.events.push(LiveEvent::new(event, frame)),
                None => encoded.unreadable = Some(event.seq),
            }
        }
        encoded
    }
}

fn sequenced(events: &[Committed], place: usize) -> Option<&SequencedEvent> {
    match events.get(place) {
        Some(Committed::Sequenced(event)) => Some(event),
        _ => None,
    }
}

fn same_place(one: &SequencedEvent, other: &SequencedEvent) -> bool {
    one.conversation == other.conversation && one.app == other.app
}

fn weight(event: &Committed) -> usize {
    match event {
        Committed::Sequenced(event) => match &event.event {
            Event::Message { body, .. } | Event::Edited { body, .. } => {
                EVENT_BYTES + body.as_ref().map_or(0, |body| body.bytes.len())
            }
            Event::GroupCreated { members: users, .. } | Event::Joined { users, .. } => {
                EVENT_BYTES + users.len() * limits::ID_BYTES
            }
            _ => EVENT_BYTES,
        },
        _ => EVENT_BYTES,
    }
}
