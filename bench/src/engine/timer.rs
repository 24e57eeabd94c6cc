//! An alarm with microseconds, for an event loop whose own timeouts are milliseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

pub(super) struct Alarm {
    fd: OwnedFd,
    /// What it is set to.
    at_us: Option<u64>,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Edge-triggered: it need not be read, setting it anew is enough.
        registry.register(&mut SourceFd(&fd.as_fd().as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, at_us: None })
    }

    pub(super) fn set(&mut self, at_us: u64, now_us: u64) -> io::Result<()> {
        if self.at_us == Some(at_us) {
            return Ok(());
        }
        self.at_us = Some(at_us);
        // Zero would turn it off.
        let wait = Duration::from_micros(at_us.saturating_sub(now_us).max(1));
        let it_value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        Ok(())
    }
}
