//! The actor over a journal in memory that tests can stop and break.

use std::net::Ipv4Addr;
use std::sync::Arc;

use chat::errors::ErrorCode;
use chat::ids::{AppId, UserId};
use parking_lot::Condvar;

use super::record::{LoginResult, Visit};
use super::*;
use crate::auth::{AuthError, Identity, Refusal};

#[derive(Default)]
struct Disk {
    state: Mutex<DiskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DiskState {
    buffered: Vec<Vec<u8>>,
    durable: Vec<Record>,
    syncs: u64,
    /// `sync` waits while this is set, and says so in `stuck`.
    hold: bool,
    stuck: bool,
    broken: bool,
}

struct Memory(Arc<Disk>);

impl Journal for Memory {
    fn append(&mut self, record: &[u8]) -> Result<u64, String> {
        let mut state = self.0.state.lock();
        state.buffered.push(record.to_vec());
        Ok((state.durable.len() + state.buffered.len()) as u64)
    }

    fn sync(&mut self) -> Result<(), String> {
        let mut state = self.0.state.lock();
        while state.hold {
            state.stuck = true;
            self.0.changed.notify_all();
            self.0.changed.wait(&mut state);
        }
        if state.broken {
            return Err("no space left on device".to_owned());
        }
        state.stuck = false;
        state.syncs += 1;
        let records: Vec<_> = state.buffered.drain(..).map(|bytes| Record::decode(&bytes).unwrap()).collect();
        state.durable.extend(records);
        Ok(())
    }
}

impl Disk {
    fn hold(&self) {
        self.state.lock().hold = true;
    }

    fn wait_until_stuck(&self) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !state.stuck {
            assert!(!self.changed.wait_until(&mut state, deadline).timed_out(), "nobody syncs");
        }
    }

    fn release(&self) {
        self.state.lock().hold = false;
        self.changed.notify_all();
    }

    fn durable(&self) -> Vec<Event> {
        self.state.lock().durable.iter().map(|record| record.event.clone()).collect()
    }
}

fn log(mailbox: usize) -> (SecurityLog, Arc<Disk>) {
    let disk = Arc::new(Disk::default());
    (start(1, Core::default(), Box::new(Memory(disk.clone())), mailbox), disk)
}

fn visitor() -> Visitor {
    Visitor { ip: Ipv4Addr::LOCALHOST.into(), port: 4_000, user_agent: "agent\n".to_owned(), device: None }
}

fn alice() -> Identity {
    Identity { app: AppId::new("main").unwrap(), user: UserId::new("alice").unwrap() }
}

async fn login(log: &SecurityLog) -> Result<(), NotRecorded> {
    let identity = alice();
    let outcome = LoginOutcome::Accepted { identity: &identity, session: "session" };
    log.login(&visitor(), Method::Password, outcome).await
}

#[actix::test]
async fn a_login_is_durable_before_it_is_answered() {
    let (log, disk) = log(64);
    login(&log).await.unwrap();
    let [Event::Login { visit, method: Method::Password, result: LoginResult::Accepted }] = &disk.durable()[..] else {
        panic!("{:?}", disk.durable());
    };
    let Visit { user, session, user_agent, .. } = visit;
    assert_eq!(user.as_ref(), Some(&alice().user));
    assert!(session.is_some());
    assert_eq!(user_agent, "agent\\u{a}");
}

#[actix::test]
async fn a_refused_login_tells_the_reason_to_the_log_alone() {
    let (log, disk) = log(64);
    let identity = alice();
    let error = AuthError::Refused(Refusal::UnknownUser);
    log.login(&visitor(), Method::Password, LoginOutcome::refused(Some(&identity), error)).await.unwrap();
    let [Event::Login { result: LoginResult::Refused { code, reason }, visit, .. }] = &disk.durable()[..] else {
        panic!("{:?}", disk.durable());
    };
    assert_eq!(*code, ErrorCode::BadCredentials.number());
    assert!(reason.contains("no such user"), "{reason}");
    assert_eq!((visit.user.as_ref(), &visit.session), (Some(&identity.user), &None));
}

#[actix::test]
async fn many_logins_share_a_sync() {
    let (log, disk) = log(1_024);
    disk.hold();
    let first = login(&log);
    let many = futures_util::future::join_all((0..200).map(|_| login(&log)));
    let release = async {
        let waiting = disk.clone();
        tokio::task::spawn_blocking(move || waiting.wait_until_stuck()).await.unwrap();
        disk.release();
    };
    let (first, many, ()) = tokio::join!(first, many, release);
    assert!(first.is_ok() && many.iter().all(Result::is_ok));
    let syncs = disk.state.lock().syncs;
    assert!(syncs < 50, "{syncs} syncs for 201 logins");
    assert_eq!(log.observe().await.unwrap().records, 201);
}

#[actix::test]
async fn a_full_mailbox_refuses_logins_and_counts_session_ends() {
    const MAILBOX: usize = 4;
    let (log, disk) = log(MAILBOX);
    disk.hold();
    let stuck = log.clone();
    let first = actix::spawn(async move { login(&stuck).await });
    let waiting = disk.clone();
    tokio::task::spawn_blocking(move || waiting.wait_until_stuck()).await.unwrap();

    // The actor waits for its disk: the mailbox fills, and the rest is counted.
    let ends: u64 = 20;
    let clones: Vec<_> = (0..ends).map(|_| log.clone()).collect();
    for log in &clones {
        log.session_ended(&visitor(), &alice(), "session", EndReason::ClientClosed, 5, Counters::default());
    }
    assert_eq!(login(&log).await, Err(NotRecorded::Overloaded));

    disk.release();
    first.await.unwrap().unwrap();
    log.flush().await.unwrap();
    let events = disk.durable();
    let ended = events.iter().filter(|event| matches!(event, Event::SessionEnded { .. })).count() as u64;
    let missed: u64 = events.iter().map(|event| if let Event::Gap { count, .. } = event { *count } else { 0 }).sum();
    assert_eq!(ended + missed, ends, "{events:?}");
    assert!(ended <= MAILBOX as u64 + 1 && missed > 0, "{ended} {missed}");
    assert_eq!(log.observe().await.unwrap().missed, missed);
    // There is room again.
    login(&log).await.unwrap();
}

#[actix::test]
async fn a_broken_disk_lets_nobody_in_again() {
    let (log, disk) = log(64);
    login(&log).await.unwrap();
    disk.state.lock().broken = true;
    assert_eq!(login(&log).await, Err(NotRecorded::Failed));
    // The disk recovers; what is on it is unknown, and nothing more is written.
    disk.state.lock().broken = false;
    assert_eq!(login(&log).await, Err(NotRecorded::Failed));
    assert_eq!(log.flush().await, Err(NotRecorded::Failed));
    assert_eq!(disk.durable().len(), 1);
    let failed = log.observe().await.unwrap().failed.unwrap();
    assert!(failed.contains("no space"), "{failed}");
}

#[actix::test]
async fn the_newest_records_are_shown_in_order() {
    let (log, _disk) = log(64);
    login(&log).await.unwrap();
    log.logout(&visitor(), &alice(), "session");
    log.flush().await.unwrap();
    let shown = log.tail(10).await.unwrap();
    assert!(matches!(shown[0].record.event, Event::Login { .. }));
    assert!(matches!(shown[1].record.event, Event::Logout { .. }));
    assert!(shown[0].sequence < shown[1].sequence);
    assert_eq!(log.tail(1).await.unwrap()[0], shown[1]);
}
