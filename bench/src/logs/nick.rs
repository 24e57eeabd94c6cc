//! Nicknames as user ids: those that are not valid ids are escaped, and no two nicks become one user.

use chat::ids::UserId;
use chat::limits;

/// Begins an escape. A nick's own `~` is escaped too, so that escaping can be undone and ids stay unique.
const ESCAPE: char = '~';
/// Bytes kept of an id that would be too long; a digest of the whole nick follows.
const PREFIX_BYTES: usize = 40;

/// The user of a nick: the nick itself where it is a valid id.
pub fn user_id(nick: &str) -> UserId {
    let mut id = String::with_capacity(nick.len());
    for c in nick.chars() {
        let mut utf8 = [0; 4];
        let character: &str = c.encode_utf8(&mut utf8);
        if c != ESCAPE && UserId::new(character).is_ok() {
            id.push(c);
        } else {
            character.bytes().for_each(|byte| id.push_str(&format!("{ESCAPE}{byte:02X}")));
        }
    }
    if id.is_empty() {
        id.push(ESCAPE);
    }
    if id.len() > limits::ID_BYTES {
        id.truncate(PREFIX_BYTES);
        // `h` is no hexadecimal digit: this is never an escape.
        id.push_str(&format!("{ESCAPE}h{:016X}", fnv1a(nick.as_bytes())));
    }
    UserId::new(id).expect("escaped to allowed characters and cut to the allowed length")
}

/// FNV-1a (Fowler, Noll, Vo): the same in every build, unlike the standard library's hashers.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ordinary_nicks_stay_as_they_are() {
        for nick in ["mole_", "|QuaD-", "`anthony", "bob[1]", "\\o^{}"] {
            assert_eq!(user_id(nick).as_str(), nick);
        }
    }

    #[test]
    fn what_is_not_an_id_is_escaped_and_stays_apart() {
        assert_eq!(user_id("Guard] [an").as_str(), "Guard]~20[an");
        assert_eq!(user_id("é").as_str(), "~C3~A9");
        let long = "x".repeat(100);
        let nicks = ["", "~", "~7E", "a b", "a~20b", "a:b", long.as_str(), &long[1..], &format!("{long}y")];
        let ids: BTreeSet<UserId> = nicks.iter().map(|nick| user_id(nick)).collect();
        assert_eq!(ids.len(), nicks.len());
    }
}
