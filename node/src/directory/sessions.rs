//! How many connections there are, and whose. A place is given back when its guard is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use chat::limits;
use parking_lot::Mutex;

use crate::auth::Identity;

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    users: Mutex<HashMap<Identity, usize>>,
    last: AtomicU64,
    /// Nobody is let in.
    closed: AtomicBool,
}

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
    pub(crate) fn enter(&self, user: &Identity) -> Option<UserSlot> {
        let mut users = self.0.users.lock();
        let count = users.entry(user.clone()).or_default();
        if *count >= limits::USER_SESSIONS {
            return None;
        }
        *count += 1;
        Some(UserSlot { counts: self.0.clone(), user: user.clone() })
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
        if let Some(count) = users.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
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
        let places: Vec<_> = (0..limits::USER_SESSIONS).map(|_| sessions.enter(&alice).unwrap()).collect();
        assert!(sessions.enter(&alice).is_none());
        drop(places);
        assert_eq!(sessions.users(), 0);
        assert!(sessions.enter(&alice).is_some());

        let first = sessions.slot().unwrap();
        let second = sessions.slot().unwrap();
        assert!(first.number != second.number && sessions.connections() == 2);
        drop((first, second));
        assert_eq!(sessions.connections(), 0);
    }
}
