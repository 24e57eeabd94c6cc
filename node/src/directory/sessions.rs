//! How many connections there are, and whose. A place is given back when its guard is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chat::command::Revoked;
use chat::ids::DeviceId;
use chat::limits;
use parking_lot::Mutex;

use crate::auth::Identity;

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    users: Mutex<HashMap<Identity, Vec<Entry>>>,
    last: AtomicU64,
    /// Nobody is let in.
    closed: AtomicBool,
}

/// A connection that is logged in.
struct Entry {
    /// Of its [`Slot`].
    number: u64,
    device: DeviceId,
    revoked: Arc<AtomicBool>,
    wake: Wake,
}

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
    revoked: Arc<AtomicBool>,
}

impl UserSlot {
    /// The user's logins were revoked: the session must end.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
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
    pub(crate) fn enter(&self, user: &Identity, number: u64, device: &DeviceId, wake: Wake) -> Option<UserSlot> {
        let mut users = self.0.users.lock();
        let entries = users.entry(user.clone()).or_default();
        if entries.len() >= limits::USER_SESSIONS {
            return None;
        }
        let revoked = Arc::new(AtomicBool::new(false));
        entries.push(Entry { number, device: device.clone(), revoked: revoked.clone(), wake });
        Some(UserSlot { counts: self.0.clone(), user: user.clone(), number, revoked })
    }

    /// Ends the user's sessions on this node, as far as they are meant.
    pub(crate) fn revoke(&self, user: &Identity, which: &Revoked) {
        let users = self.0.users.lock();
        for entry in users.get(user).into_iter().flatten().filter(|entry| which.ends(&entry.device)) {
            entry.revoked.store(true, Ordering::Release);
            (entry.wake)();
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
            entries.retain(|entry| entry.number != self.number);
            if entries.is_empty() {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chat::ids::{AppId, UserId};

    use super::*;

    #[test]
    fn places_come_back_when_connections_end() {
        let sessions = Sessions::default();
        let alice = Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() };
        let (phone, tab) = (DeviceId::new("phone").unwrap(), DeviceId::new("tab").unwrap());
        let enter = |number, device| sessions.enter(&alice, number, device, Box::new(|| {}));
        let places: Vec<_> = (0..limits::USER_SESSIONS as u64).map(|number| enter(number, &phone).unwrap()).collect();
        assert!(enter(99, &phone).is_none());
        drop(places);
        assert_eq!(sessions.users(), 0);
        let (one, other) = (enter(1, &phone).unwrap(), enter(2, &tab).unwrap());
        sessions.revoke(&alice, &Revoked::Others(phone));
        assert!(!one.is_revoked() && other.is_revoked());
        sessions.revoke(&alice, &Revoked::All);
        assert!(one.is_revoked());
        drop((one, other));

        let first = sessions.slot().unwrap();
        let second = sessions.slot().unwrap();
        assert!(first.number != second.number && sessions.connections() == 2);
        drop((first, second));
        assert_eq!(sessions.connections(), 0);
    }
}
