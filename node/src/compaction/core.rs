//! Whether a node compacts its database by itself now, and if not, what it waits for.

use std::time::Duration;

use chat::limits;
use cluster::NotNow;

/// What a turn lasts at least, in milliseconds: stopping, starting, catching up.
const TURN_MS: u64 = 120_000;
/// Bytes that a compaction gets through in a second, on a slow disk: the old database read, the new one written and read.
const BYTES_PER_S: u64 = 8 << 20;

/// What is known of the node itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Since its program began.
    pub(super) up: Duration,
    /// An operator has drained it, or it stops.
    pub(super) draining: bool,
    /// Somebody copies its shards for a backup.
    pub(super) copying: bool,
    /// Its program's file is there still, so that it can begin again.
    pub(super) program: bool,
    pub(super) live_bytes: u64,
    pub(super) free_bytes: u64,
    /// Free bytes that the node needs for its work.
    pub(super) stop_below: u64,
}

/// What a node that should compact its database waits for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Waits {
    #[error("a restart compacts: it does not do so by itself ([storage] compact)")]
    Restart,
    #[error("it began {up_s} s ago, and compacts {pause_s} s after that at the soonest ([storage] compact_pause)")]
    Pause { up_s: u64, pause_s: u64 },
    #[error("it is drained")]
    Drained,
    #[error("a backup is being made of it")]
    Backup,
    #[error("the file of its program is gone: a restart by hand compacts")]
    Program,
    #[error("{needed_mib} MiB of free disk are needed for the copy, {free_mib} are there")]
    NoRoom { needed_mib: u64, free_mib: u64 },
    #[error(transparent)]
    Cluster(#[from] NotNow),
}

/// What stands in the way before anybody else is asked.
pub(super) fn obstacle(standing: &Standing, by_itself: bool, pause: Duration) -> Option<Waits> {
    let needed = standing.live_bytes.saturating_add(standing.stop_below);
    if !by_itself {
        Some(Waits::Restart)
    } else if !standing.program {
        Some(Waits::Program)
    } else if standing.up < pause {
        Some(Waits::Pause { up_s: standing.up.as_secs(), pause_s: pause.as_secs() })
    } else if standing.draining {
        Some(Waits::Drained)
    } else if standing.copying {
        Some(Waits::Backup)
    } else if standing.free_bytes < needed {
        Some(Waits::NoRoom { needed_mib: needed >> 20, free_mib: standing.free_bytes >> 20 })
    } else {
        None
    }
}

/// For how long a turn is taken.
pub(super) fn turn_ms(database_bytes: u64) -> u64 {
    TURN_MS.saturating_add(database_bytes.saturating_mul(1_000) / BYTES_PER_S).min(limits::TURN_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Standing = Standing {
        up: Duration::from_secs(100),
        draining: false,
        copying: false,
        program: true,
        live_bytes: 10 << 20,
        free_bytes: 30 << 20,
        stop_below: 20 << 20,
    };

    fn told(standing: Standing) -> Option<Waits> {
        obstacle(&standing, true, Duration::from_secs(100))
    }

    #[test]
    fn a_node_that_is_well_waits_for_nothing_of_its_own() {
        assert_eq!(told(GOOD), None);
        assert_eq!(obstacle(&GOOD, false, Duration::ZERO), Some(Waits::Restart));
    }

    #[test]
    fn what_it_waits_for_is_said() {
        let pause = Waits::Pause { up_s: 99, pause_s: 100 };
        assert_eq!(told(Standing { up: Duration::from_secs(99), ..GOOD }), Some(pause), "it cannot go round and round");
        assert_eq!(told(Standing { draining: true, ..GOOD }), Some(Waits::Drained), "it would come back undrained");
        assert_eq!(told(Standing { copying: true, ..GOOD }), Some(Waits::Backup));
        assert_eq!(told(Standing { program: false, ..GOOD }), Some(Waits::Program));
        let no_room = Waits::NoRoom { needed_mib: 30, free_mib: 29 };
        assert_eq!(told(Standing { free_bytes: (30 << 20) - 1, ..GOOD }), Some(no_room));
    }

    #[test]
    fn a_turn_is_as_long_as_the_database_is_large_and_has_an_end() {
        assert_eq!((turn_ms(0), turn_ms(80 << 20)), (120_000, 130_000));
        assert_eq!(turn_ms(u64::MAX), limits::TURN_MS_MAX);
    }
}
