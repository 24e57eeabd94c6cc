//! Every connection is an open file: a limit that is too low is told before anything starts.

use super::ReplayError;

/// Files besides the connections of users: histories, admin requests, the runtime's own.
const OTHER_FILES: u64 = 200;

/// Where Linux tells a process its limits; elsewhere nothing is checked.
const LIMITS: &str = "/proc/self/limits";

pub(super) fn check(users: usize) -> Result<(), ReplayError> {
    let limit = std::fs::read_to_string(LIMITS).ok().and_then(|text| open_files(&text));
    let needed = users as u64 + OTHER_FILES;
    match limit.filter(|limit| *limit < needed) {
        Some(limit) => Err(ReplayError::Usage(format!(
            "{users} connections need {needed} open files, {limit} are allowed: run `ulimit -n {needed}` first"
        ))),
        None => Ok(()),
    }
}

/// The soft limit of open files; none if there is no limit.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             96119                96119                processes \n\
                    Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(text), Some(1_024));
        assert_eq!(open_files("Max open files            unlimited            unlimited            files\n"), None);
    }
}
