//! How many connections there are, and whose. A place is given back when its guard is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chat::app::LoginPolicy;
use chat::command::Revoked;
use chat::errors::CloseCode;
use chat::ids::{AppId, DeviceId};
use chat::limits;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::auth::Identity;

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    users: Mutex<HashMap<Identity, Vec<Entry>>>,
    last: AtomicU64,
    /// Nobody is let in.
    closed: AtomicBool,
}

/// Whoever logs in.
pub(crate) struct Arrival {
    /// Of its [`Slot`].
    pub(crate) number: u64,
    pub(crate) session: Uuid,
    pub(crate) device: DeviceId,
    pub(crate) platform: String,
    pub(crate) wake: Wake,
}

/// A connection that is logged in, or about to be.
struct Entry {
    arrival: Arrival,
    /// It is older than whatever begins from now on. Before that, a session that begins elsewhere began earlier: by the order of
    /// the log, which is the order in which this node hears of them.
    begun: bool,
    end: Arc<AtomicU16>,
}

impl Entry {
    /// The session is to end, for the first reason there is.
    fn tell(&self, code: CloseCode) {
        let _ = self.end.compare_exchange(STAYS, code as u16, Ordering::AcqRel, Ordering::Acquire);
        (self.arrival.wake)();
    }
}

/// No close code: the session stays.
const STAYS: u16 = 0;

/// Has a session look at its [`UserSlot`]. Called from any thread; must not block.
pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// Counts the node's connections. Clones count together.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Counts>);

/// One of the node's connections.
pub(crate) struct Slot {
    counts: Arc<Counts>,
    /// Never used twice while the process lives.
    pub(crate) number: u64,
}

/// One of a user's connections to this node.
pub(crate) struct UserSlot {
    counts: Arc<Counts>,
    user: Identity,
    number: u64,
    end: Arc<AtomicU16>,
}

impl UserSlot {
    /// Why the session must end, if it must.
    pub(crate) fn end(&self) -> Option<CloseCode> {
        match self.end.load(Ordering::Acquire) {
            STAYS => None,
            code if code == CloseCode::Replaced as u16 => Some(CloseCode::Replaced),
            _ => Some(CloseCode::Revoked),
        }
    }

    /// The session is there now, without a word in the log.
    pub(crate) fn begin(&self) {
        let mut users = self.counts.users.lock();
        for entry in users.get_mut(&self.user).into_iter().flatten().filter(|e| e.arrival.number == self.number) {
            entry.begun = true;
        }
    }
}

impl Sessions {
    /// From now on there is no place for anybody.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.0.closed.store(false, Ordering::Relaxed);
    }

    pub(crate) fn are_closed(&self) -> bool {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// A place for one more connection, if the node has one.
    pub(crate) fn slot(&self) -> Option<Slot> {
        let counts = self.0.clone();
        let before = counts.connections.fetch_add(1, Ordering::Relaxed);
        let number = counts.last.fetch_add(1, Ordering::Relaxed) + 1;
        let slot = Slot { counts, number };
        (before < limits::NODE_SESSIONS).then_some(slot)
    }

    /// A place for one more connection of `user`, if the user has one.
    pub(crate) fn enter(&self, user: &Identity, arrival: Arrival) -> Option<UserSlot> {
        let mut users = self.0.users.lock();
        let entries = users.entry(user.clone()).or_default();
        if entries.len() >= limits::USER_SESSIONS {
            return None;
        }
        let (number, end) = (arrival.number, Arc::new(AtomicU16::new(STAYS)));
        entries.push(Entry { arrival, begun: false, end: end.clone() });
        Some(UserSlot { counts: self.0.clone(), user: user.clone(), number, end })
    }

    /// Ends the user's sessions on this node, as far as they are meant.
    pub(crate) fn revoke(&self, user: &Identity, which: &Revoked) {
        let users = self.0.users.lock();
        for entry in users.get(user).into_iter().flatten().filter(|entry| which.ends(&entry.arrival.device)) {
            entry.tell(CloseCode::Revoked);
        }
    }

    /// Ends the sessions of all users of the app on this node.
    pub(crate) fn freeze(&self, app: &AppId) {
        let users = self.0.users.lock();
        for entry in users.iter().filter(|(user, _)| user.app == *app).flat_map(|(_, entries)| entries) {
            entry.tell(CloseCode::Revoked);
        }
    }

    /// A session of the user began, on whichever node: the policy ends those that began before it. Told in the order of the log.
    pub(crate) fn began(&self, user: &Identity, session: Uuid, platform: &str, policy: LoginPolicy) {
        let mut users = self.0.users.lock();
        for entry in users.get_mut(user).into_iter().flatten() {
            if entry.arrival.session == session {
                entry.begun = true;
            } else if entry.begun && policy.ends(platform, &entry.arrival.platform) {
                entry.tell(CloseCode::Replaced);
            }
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// Returns once there is no open connection.
    pub(crate) async fn all_gone(&self) {
        while self.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Users with a connection that is logged in.
    pub fn users(&self) -> usize {
        self.0.users.lock().len()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.counts.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for UserSlot {
    fn drop(&mut self) {
        let mut users = self.counts.users.lock();
        if let Some(entries) = users.get_mut(&self.user) {
            entries.retain(|entry| entry.arrival.number != self.number);
            if entries.is_empty() {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chat::ids::UserId;

    use super::*;

    fn arrival(number: u64, device: &DeviceId, platform: &str) -> Arrival {
        let (session, platform) = (Uuid::from_u128(number.into()), platform.to_owned());
        Arrival { number, session, device: device.clone(), platform, wake: Box::new(|| {}) }
    }

    #[test]
    fn of_sessions_that_begin_at_once_the_last_in_the_log_stays() {
        let alice = Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() };
        let device = DeviceId::new("d").unwrap();
        // Two nodes, both of which hear of both logins, in the order of the log.
        let (here, there) = (Sessions::default(), Sessions::default());
        let before = here.enter(&alice, arrival(1, &device, "web")).unwrap();
        before.begin();
        let first = here.enter(&alice, arrival(2, &device, "web")).unwrap();
        let second = there.enter(&alice, arrival(3, &device, "ios")).unwrap();
        for sessions in [&here, &there] {
            for (number, platform) in [(2, "web"), (3, "ios")] {
                sessions.began(&alice, Uuid::from_u128(number), platform, LoginPolicy::NewestWins);
            }
        }
        assert_eq!((before.end(), first.end()), (Some(CloseCode::Replaced), Some(CloseCode::Replaced)));
        assert_eq!(second.end(), None);
        let phone = there.enter(&alice, arrival(4, &device, "android")).unwrap();
        there.began(&alice, Uuid::from_u128(4), "android", LoginPolicy::OnePerPlatform);
        assert_eq!((second.end(), phone.end()), (None, None), "of another platform");
    }

    #[test]
    fn places_come_back_when_connections_end() {
        let sessions = Sessions::default();
        let alice = Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() };
        let (phone, tab) = (DeviceId::new("phone").unwrap(), DeviceId::new("tab").unwrap());
        let enter = |number, device: &DeviceId| sessions.enter(&alice, arrival(number, device, "web"));
        let places: Vec<_> = (0..limits::USER_SESSIONS as u64).map(|number| enter(number, &phone).unwrap()).collect();
        assert!(enter(99, &phone).is_none());
        drop(places);
        assert_eq!(sessions.users(), 0);
        let (one, other) = (enter(1, &phone).unwrap(), enter(2, &tab).unwrap());
        sessions.revoke(&alice, &Revoked::Others(phone));
        assert_eq!((one.end(), other.end()), (None, Some(CloseCode::Revoked)));
        sessions.freeze(&AppId::new("other").unwrap());
        assert_eq!(one.end(), None);
        sessions.freeze(&alice.app);
        assert_eq!(one.end(), Some(CloseCode::Revoked));
        drop((one, other));

        let first = sessions.slot().unwrap();
        let second = sessions.slot().unwrap();
        assert!(first.number != second.number && sessions.connections() == 2);
        drop((first, second));
        assert_eq!(sessions.connections(), 0);
    }
}
