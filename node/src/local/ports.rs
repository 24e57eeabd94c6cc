//! Free ports for a local cluster.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use chat::ids::NodeId;

use crate::init::Addresses;

/// Where blocks are looked for: below the range that systems hand out to outgoing connections.
const FIRST: u16 = 10_000;
const LAST: u16 = 30_000;
const ATTEMPTS: u32 = 200;

/// A base port whose nodes' listeners are all free at this moment. Blocks are tried in a random order, so that
/// clusters started side by side do not choose the same.
pub(super) fn free_block(nodes: u16) -> Option<u16> {
    let size = 10 * (nodes + 1);
    let blocks = (LAST - FIRST) / size;
    (0..ATTEMPTS).find_map(|_| {
        let mut random = [0; 2];
        getrandom::fill(&mut random).ok()?;
        let base = FIRST + (u16::from_le_bytes(random) % blocks) * size;
        is_free(base, nodes).then_some(base)
    })
}

fn is_free(base: u16, nodes: u16) -> bool {
    (1..=NodeId::from(nodes)).all(|node| {
        let addresses = Addresses::of(IpAddr::V4(Ipv4Addr::LOCALHOST), base, node);
        addresses.is_some_and(|a| [a.client, a.peer, a.admin].into_iter().all(bindable))
    })
}

fn bindable(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_a_taken_port_is_passed_over() {
        let base = free_block(3).unwrap();
        assert!(is_free(base, 3));
        let _taken = TcpListener::bind(("127.0.0.1", base + 22)).unwrap();
        assert!(!is_free(base, 3));
        assert!(is_free(base, 1));
    }
}
