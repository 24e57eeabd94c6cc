//! The first words between two nodes, in a form that every later version can read: fields at fixed places, strings with
//! their length, and whatever a later version appends is passed over. docs/adr/0019.

use chat::ids::NodeId;
use chat::level;

const MAGIC: [u8; 4] = *b"CMPN";
/// The reason that a node is given which was a member and is none any more: it ends then.
pub(crate) const REMOVED: &str = "it was removed from the cluster";
/// Bytes of a greeting, all its fields together.
pub(crate) const GREETING_BYTES: usize = 4 * 1024;

/// The versions of the peer protocol that a node speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub oldest: u16,
    pub newest: u16,
}

impl Default for Versions {
    /// Of this build. 1 and 2 came before the greeting had this form.
    fn default() -> Self {
        Self { oldest: 3, newest: 3 }
    }
}

impl Versions {
    /// The highest version that both speak.
    pub(crate) fn common(self, other: Self) -> Option<u16> {
        let highest = self.newest.min(other.newest);
        (highest >= self.oldest.max(other.oldest)).then_some(highest)
    }
}

/// Feature levels ([`chat::level`]): what a node's build supports, and what the cluster is at as far as the node knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) supports: u16,
    pub(crate) on: u16,
}

impl Levels {
    /// Of a build that says nothing of levels.
    const UNSAID: Self = Self { supports: level::OLDEST, on: level::OLDEST };
}

/// How a node introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) versions: Versions,
    /// Of the software, for people.
    pub(crate) release: String,
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    pub(crate) levels: Levels,
}

/// The accepting side's answer: who it is, and the version that is spoken from now on or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) by: Hello,
    pub(crate) verdict: Result<u16, String>,
}

impl Hello {
    pub(crate) fn new(versions: Versions, levels: Levels, cluster: &str, node: NodeId) -> Self {
        Self { versions, release: env!("CARGO_PKG_VERSION").to_owned(), cluster: cluster.to_owned(), node, levels }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.begin();
        self.levels.put(&mut bytes);
        bytes
    }

    /// `None` if it is no greeting of this form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let hello = Self::take(&mut rest)?;
        Some(Self { levels: Levels::take(rest), ..hello })
    }

    /// What both greetings begin with.
    fn begin(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        self.put(&mut bytes);
        bytes
    }

    fn put(&self, to: &mut Vec<u8>) {
        to.extend(self.versions.oldest.to_be_bytes());
        to.extend(self.versions.newest.to_be_bytes());
        put_text(to, &self.release);
        put_text(to, &self.cluster);
        to.extend(self.node.to_be_bytes());
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let versions = Versions { oldest: take_number(from)?, newest: take_number(from)? };
        let (release, cluster) = (take_text(from)?, take_text(from)?);
        let (node, rest) = from.split_first_chunk()?;
        *from = rest;
        Some(Self { versions, release, cluster, node: NodeId::from_be_bytes(*node), levels: Levels::UNSAID })
    }

    /// Why the two do not understand each other, and what to do about it.
    pub(crate) fn no_common(&self, other: &Self) -> String {
        let spoken = |hello: &Self| {
            let Versions { oldest, newest } = hello.versions;
            format!("node {} (release {}) speaks versions {oldest} to {newest}", hello.node, hello.release)
        };
        let behind = if self.versions.newest < other.versions.newest { self } else { other };
        let ahead = if behind == self { other } else { self };
        format!(
            "no common version of the peer protocol: {}, {}; upgrade node {} to a release that speaks version {} or later",
            spoken(self),
            spoken(other),
            behind.node,
            ahead.versions.oldest,
        )
    }

    /// Why one of the two may not work with the other, if so: it does not support what the cluster is at.
    pub(crate) fn outgrown(&self, other: &Self) -> Option<String> {
        let on = self.levels.on.max(other.levels.on);
        let behind = [self, other].into_iter().find(|hello| hello.levels.supports < on)?;
        Some(format!(
            "node {} (release {}) supports feature level {}, the cluster is at {on}; upgrade node {} to a release that \
             supports it",
            behind.node, behind.release, behind.levels.supports, behind.node,
        ))
    }
}

impl Levels {
    fn put(self, to: &mut Vec<u8>) {
        to.extend(self.supports.to_be_bytes());
        to.extend(self.on.to_be_bytes());
    }

    /// They came after the greeting had its form: at its end, or not there.
    fn take(mut from: &[u8]) -> Self {
        match (take_number(&mut from), take_number(&mut from)) {
            (Some(supports), Some(on)) => Self { supports, on },
            _ => Self::UNSAID,
        }
    }
}

impl Welcome {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.by.begin();
        match &self.verdict {
            Ok(version) => {
                bytes.extend(version.to_be_bytes());
                put_text(&mut bytes, "");
            }
            Err(reason) => {
                bytes.extend(0u16.to_be_bytes());
                put_text(&mut bytes, reason);
            }
        }
        self.by.levels.put(&mut bytes);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let by = Hello::take(&mut rest)?;
        let (version, reason) = (take_number(&mut rest)?, take_text(&mut rest)?);
        let by = Hello { levels: Levels::take(rest), ..by };
        Some(Self { by, verdict: if version > 0 { Ok(version) } else { Err(reason) } })
    }
}

fn put_text(to: &mut Vec<u8>, text: &str) {
    // Cut where a later reader would cut it anyway.
    let text = &text.as_bytes()[..text.len().min(GREETING_BYTES / 8)];
    to.extend((text.len() as u16).to_be_bytes());
    to.extend(text);
}

fn take_number(from: &mut &[u8]) -> Option<u16> {
    let (number, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(u16::from_be_bytes(*number))
}

fn take_text(from: &mut &[u8]) -> Option<String> {
    let length = usize::from(take_number(from)?);
    let (text, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u16, newest: u16) -> Hello {
        let versions = Versions { oldest, newest };
        let levels = Levels { supports: 9, on: 8 };
        Hello { versions, release: "1.2.3".to_owned(), cluster: "c".to_owned(), node: 7, levels }
    }

    #[test]
    fn the_first_words_have_this_form_for_ever() {
        let golden = b"CMPN\x00\x03\x00\x05\x00\x051.2.3\x00\x01c\x00\x00\x00\x00\x00\x00\x00\x07";
        let levels = b"\x00\x09\x00\x08";
        assert_eq!(hello(3, 5).encode(), [golden.as_slice(), levels].concat());
        let later = [golden.as_slice(), levels, b"what a later version adds"].concat();
        assert_eq!(Hello::decode(&later), Some(hello(3, 5)));
        let earlier = Hello { levels: Levels::UNSAID, ..hello(3, 5) };
        assert_eq!(Hello::decode(golden), Some(earlier.clone()));
        for length in 0..golden.len() {
            assert_eq!(Hello::decode(&golden[..length]), None);
        }
        let welcome = Welcome { by: hello(3, 5), verdict: Ok(4) };
        assert_eq!(welcome.encode(), [golden.as_slice(), b"\x00\x04\x00\x00", levels].concat());
        let unsaid = Welcome::decode(&[golden.as_slice(), b"\x00\x04\x00\x00"].concat());
        assert_eq!(unsaid, Some(Welcome { by: earlier, verdict: Ok(4) }));
        let refused = Welcome { by: hello(3, 5), verdict: Err("no".to_owned()) };
        let later = [&refused.encode()[..], b"more"].concat();
        assert_eq!((Welcome::decode(&later), Welcome::decode(&welcome.encode())), (Some(refused), Some(welcome)));
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let common = |a: (u16, u16), b: (u16, u16)| hello(a.0, a.1).versions.common(hello(b.0, b.1).versions);
        assert_eq!(common((3, 3), (3, 3)), Some(3));
        assert_eq!((common((3, 5), (4, 9)), common((4, 9), (3, 5))), (Some(5), Some(5)));
        assert_eq!((common((3, 4), (5, 6)), common((5, 6), (3, 4))), (None, None));
    }

    #[test]
    fn who_does_not_support_the_clusters_level_is_named() {
        let at = |node, supports, on| Hello { node, levels: Levels { supports, on }, ..hello(3, 3) };
        assert_eq!(at(1, 2, 1).outgrown(&at(2, 1, 1)), None, "nothing is switched on");
        assert_eq!(at(1, 2, 2).outgrown(&at(2, 3, 1)), None);
        for why in [at(1, 2, 2).outgrown(&at(2, 1, 1)), at(2, 1, 1).outgrown(&at(1, 2, 2))] {
            let expected = "node 2 (release 1.2.3) supports feature level 1, the cluster is at 2; \
                            upgrade node 2 to a release that supports it";
            assert_eq!(why.as_deref(), Some(expected));
        }
    }

    #[test]
    fn who_is_to_be_upgraded_is_said() {
        let ahead = Hello { node: 2, release: "2.0.0".to_owned(), ..hello(5, 6) };
        for why in [hello(3, 4).no_common(&ahead), ahead.no_common(&hello(3, 4))] {
            assert!(why.contains("node 7 (release 1.2.3) speaks versions 3 to 4"), "{why}");
            assert!(why.contains("node 2 (release 2.0.0) speaks versions 5 to 6"), "{why}");
            assert!(why.ends_with("upgrade node 7 to a release that speaks version 5 or later"), "{why}");
        }
    }
}
