//! How long to wait before the next attempt: exponential with full jitter, so that clients cut off
//! together do not come back together (AWS Architecture Blog, "Exponential Backoff and Jitter", 2015).

/// Waits of one kind of attempt. Times in milliseconds; `random` is any 64-bit number.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    base_ms: u64,
    cap_ms: u64,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(base_ms: u64, cap_ms: u64) -> Self {
        Self { base_ms, cap_ms, failures: 0 }
    }

    /// Counts a failure and says how long to wait after it.
    pub(crate) fn after_failure(&mut self, random: u64) -> u64 {
        let wait_ms = jittered(self.base_ms, self.cap_ms, self.failures, random);
        self.failures = self.failures.saturating_add(1);
        wait_ms
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Between 0 and `base_ms * 2^failures`, at most `cap_ms`.
pub(crate) fn jittered(base_ms: u64, cap_ms: u64, failures: u32, random: u64) -> u64 {
    let bound_ms = base_ms.saturating_mul(1 << failures.min(20)).min(cap_ms);
    random % (bound_ms + 1)
}

/// Numbers that differ between clients; nothing secret depends on them (SplitMix64, Steele et al. 2014).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over_after_a_reset() {
        let mut backoff = Backoff::new(100, 1_000);
        let longest: Vec<u64> = [100, 200, 400, 800, 1_000, 1_000].to_vec();
        // `random` one below a multiple of every bound + 1 gives the longest wait of each.
        for bound in &longest {
            assert_eq!(backoff.after_failure(*bound), *bound);
        }
        backoff.reset();
        assert_eq!(backoff.after_failure(100), 100);
        assert_eq!(backoff.after_failure(201), 0);
    }

    #[test]
    fn many_failures_do_not_overflow() {
        assert!(jittered(u64::MAX / 2, u64::MAX - 1, u32::MAX, 7) < u64::MAX);
    }
}
