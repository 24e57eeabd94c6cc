//! How often somebody may ask: users, devices, addresses, conversations and apps, each on this node. Whoever asks more often is
//! told when to come again; nothing is done meanwhile.
//!
//! A rate is a bucket that holds two seconds' worth, so that a burst passes. What nobody used for that long is forgotten.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use chat::ids::{AppId, ConversationId, UserId};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::RatesSection;

/// Between two looks for buckets that are full again.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// Too often: when to come again, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOften {
    pub(crate) retry_after_ms: u64,
}

/// One bucket for each key; none where there is no limit.
struct PerKey<K: Hash + Eq + Clone>(Option<DefaultKeyedRateLimiter<K>>);

impl<K: Hash + Eq + Clone> PerKey<K> {
    fn new(per_second: u32) -> Self {
        Self(quota(per_second).map(RateLimiter::keyed))
    }

    fn check(&self, key: &K) -> Result<(), TooOften> {
        match &self.0 {
            Some(limiter) => {
                limiter.check_key(key).map_err(|early| wait(early.wait_time_from(DefaultClock::default().now())))
            }
            None => Ok(()),
        }
    }

    fn forget(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn quota(per_second: u32) -> Option<Quota> {
    let rate = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(rate).allow_burst(rate.saturating_mul(NonZeroU32::MIN.saturating_add(1))))
}

/// Rounded up: who comes then is let in.
fn wait(time: Duration) -> TooOften {
    TooOften { retry_after_ms: time.as_millis() as u64 + 1 }
}

/// Shared by everything on the node that answers clients.
pub struct Rates {
    connections: PerKey<IpAddr>,
    logins: PerKey<IpAddr>,
    users: PerKey<(AppId, UserId)>,
    conversations: PerKey<(AppId, ConversationId)>,
    apps: PerKey<AppId>,
    per_device: u32,
}

/// The requests of one connection.
pub(crate) struct DeviceRate(Option<DefaultDirectRateLimiter>);

impl DeviceRate {
    pub(crate) fn check(&self) -> Result<(), TooOften> {
        match &self.0 {
            Some(limiter) => limiter.check().map_err(|early| wait(early.wait_time_from(DefaultClock::default().now()))),
            None => Ok(()),
        }
    }
}

impl Rates {
    pub fn new(config: &RatesSection) -> Self {
        Self {
            connections: PerKey::new(config.connections_per_ip),
            logins: PerKey::new(config.logins_per_ip),
            users: PerKey::new(config.requests_per_user),
            conversations: PerKey::new(config.messages_per_conversation),
            apps: PerKey::new(config.messages_per_app),
            per_device: config.requests_per_device,
        }
    }

    pub(crate) fn connection(&self, ip: IpAddr) -> Result<(), TooOften> {
        self.connections.check(&ip)
    }

    pub(crate) fn login(&self, ip: IpAddr) -> Result<(), TooOften> {
        self.logins.check(&ip)
    }

    pub(crate) fn request(&self, app: &AppId, user: &UserId) -> Result<(), TooOften> {
        if self.users.0.is_none() {
            return Ok(());
        }
        self.users.check(&(app.clone(), user.clone()))
    }

    pub(crate) fn message(&self, app: &AppId, conversation: &ConversationId) -> Result<(), TooOften> {
        if self.conversations.0.is_some() {
            self.conversations.check(&(app.clone(), conversation.clone()))?;
        }
        self.apps.check(app)
    }

    pub(crate) fn device(&self) -> DeviceRate {
        DeviceRate(quota(self.per_device).map(RateLimiter::direct))
    }

    /// Runs until the node stops.
    pub async fn forget(&self) {
        let mut clock = tokio::time::interval(FORGET_EVERY);
        loop {
            clock.tick().await;
            self.connections.forget();
            self.logins.forget();
            self.users.forget();
            self.conversations.forget();
            self.apps.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again_and_others_are_not_concerned() {
        let app = AppId::new("main").unwrap();
        let none = RatesSection::none();
        let rates = Rates::new(&RatesSection { requests_per_user: 1, ..none });
        let ask = |name: &str| rates.request(&app, &user(name));
        assert_eq!((ask("ann"), ask("ann")), (Ok(()), Ok(())), "a burst passes");
        let TooOften { retry_after_ms } = ask("ann").unwrap_err();
        assert!((1..=1_001).contains(&retry_after_ms), "{retry_after_ms}");
        assert_eq!(ask("ben"), Ok(()));
        assert!((0..10_000).all(|_| rates.login(IpAddr::from([127, 0, 0, 1])).is_ok()), "0 is no limit");
    }
}
