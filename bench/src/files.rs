//! Every connection is an open file: the soft limit is raised, and a hard limit that is too low is told at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files besides the connections of users: histories, admin requests, the runtime's own.
const OTHER_FILES: u64 = 200;

/// Makes room for so many connections.
pub fn raise(users: u32) -> Result<(), String> {
    let needed = u64::from(users) + OTHER_FILES;
    let limits = getrlimit(Resource::Nofile);
    if limits.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    if limits.maximum.is_some_and(|hard| hard < needed) {
        let hard = limits.maximum.unwrap_or_default();
        return Err(format!(
            "{users} connections need {needed} open files, and {hard} is the hard limit: raise it first"
        ));
    }
    let wanted = Rlimit { current: limits.maximum.or(Some(needed)), maximum: limits.maximum };
    setrlimit(Resource::Nofile, wanted)
        .map_err(|error| format!("cannot raise the limit of open files to {needed}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_are_always_allowed_and_too_many_are_told() {
        assert_eq!(raise(1), Ok(()));
        if let Some(hard) = getrlimit(Resource::Nofile).maximum.and_then(|hard| u32::try_from(hard).ok()) {
            assert!(raise(hard).is_err_and(|why| why.contains("hard limit")));
        }
    }
}
