//! Users, groups, members, senders: numbers only.

use serde::{Deserialize, Serialize};

/// A conversation of the run, a group or a private pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupShape {
    pub members: Vec<u32>,
    /// Some of the members; each sends to this group in a lane of its own.
    pub senders: Vec<u32>,
    pub private: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Numbered from 0.
    pub users: u32,
    pub groups: Vec<GroupShape>,
}

impl Shape {
    /// `groups` of `members` of their own each, the first `senders` of which send.
    pub fn groups(groups: u32, members: u32, senders: u32) -> Self {
        let group = |number: u32| GroupShape {
            members: (number * members..(number + 1) * members).collect(),
            senders: (number * members..number * members + senders.min(members)).collect(),
            private: false,
        };
        Self { users: groups * members, groups: (0..groups).map(group).collect() }
    }

    /// Private pairs, one of each sends.
    pub fn pairs(pairs: u32) -> Self {
        let pair = |number: u32| GroupShape {
            members: vec![2 * number, 2 * number + 1],
            senders: vec![2 * number],
            private: true,
        };
        Self { users: 2 * pairs, groups: (0..pairs).map(pair).collect() }
    }

    /// Users without conversations.
    pub fn idle(users: u32) -> Self {
        Self { users, groups: Vec::new() }
    }

    /// Of each lane, its sender. Lanes are numbered group by group, in the order of the senders.
    pub fn lane_users(&self) -> Vec<u32> {
        self.groups.iter().flat_map(|group| group.senders.iter().copied()).collect()
    }

    pub fn memberships(&self) -> u64 {
        self.groups.iter().map(|group| group.members.len() as u64).sum()
    }

    /// Which of `workers` each user belongs to. Whoever shares a group shares a worker, so that a worker needs to know
    /// nothing of the others.
    pub fn split(&self, workers: usize) -> Vec<usize> {
        let mut roots: Vec<u32> = (0..self.users).collect();
        for group in &self.groups {
            for pair in group.members.windows(2) {
                let (a, b) = (root(&mut roots, pair[0]), root(&mut roots, pair[1]));
                roots[b as usize] = a;
            }
        }
        let mut sizes = vec![0u32; self.users as usize];
        for user in 0..self.users {
            sizes[root(&mut roots, user) as usize] += 1;
        }
        let mut load = vec![0; workers.max(1)];
        let mut worker_of_root = vec![0; self.users as usize];
        for (at, size) in sizes.iter().enumerate().filter(|(_, size)| **size > 0) {
            let least = (0..load.len()).min_by_key(|worker| load[*worker]).unwrap_or_default();
            load[least] += size;
            worker_of_root[at] = least;
        }
        (0..self.users).map(|user| worker_of_root[root(&mut roots, user) as usize]).collect()
    }
}

/// Shapes that share nothing, at most `parts` of them: each user is in one, with all groups.
pub fn shares(shape: &Shape, parts: usize) -> Vec<Shape> {
    let part_of = shape.split(parts);
    let mut shares = vec![Shape::default(); parts];
    let numbers: Vec<u32> = part_of
        .iter()
        .map(|part| {
            shares[*part].users += 1;
            shares[*part].users - 1
        })
        .collect();
    let renumber = |users: &[u32]| users.iter().map(|user| numbers[*user as usize]).collect();
    for group in &shape.groups {
        let Some(first) = group.members.first() else { continue };
        let members = renumber(&group.members);
        let senders = renumber(&group.senders);
        shares[part_of[*first as usize]].groups.push(GroupShape { members, senders, private: group.private });
    }
    shares.retain(|share| share.users > 0);
    shares
}

fn root(roots: &mut [u32], of: u32) -> u32 {
    let mut at = of;
    while roots[at as usize] != at {
        roots[at as usize] = roots[roots[at as usize] as usize];
        at = roots[at as usize];
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_numbered_group_by_group() {
        let shape = Shape::groups(2, 3, 2);
        assert_eq!((shape.users, shape.memberships()), (6, 6));
        assert_eq!(shape.groups[1].members, [3, 4, 5]);
        assert_eq!(shape.lane_users(), [0, 1, 3, 4]);
        assert_eq!(Shape::pairs(2).lane_users(), [0, 2]);
    }

    #[test]
    fn shares_hold_everybody_once() {
        let shape = Shape::groups(5, 4, 2);
        let parts = shares(&shape, 2);
        assert_eq!(parts.iter().map(|part| part.users).sum::<u32>(), 20);
        assert_eq!(parts.iter().map(|part| part.groups.len()).sum::<usize>(), 5);
        let highest = |part: &Shape| part.groups.iter().flat_map(|group| group.members.clone()).max();
        assert!(parts.iter().all(|part| highest(part) == Some(part.users - 1)));
        assert_eq!(shares(&Shape::groups(1, 9, 1), 3).len(), 1, "a group is not torn apart");
    }

    #[test]
    fn whoever_shares_a_group_shares_a_worker() {
        let mut shape = Shape::groups(4, 5, 1);
        shape.groups.push(GroupShape { members: vec![0, 19], senders: vec![0], private: true });
        let workers = shape.split(2);
        for group in &shape.groups {
            assert!(group.members.iter().all(|member| workers[*member as usize] == workers[group.members[0] as usize]));
        }
        assert_eq!(workers.iter().filter(|worker| **worker == 0).count(), 10);
        assert_eq!(Shape::idle(10).split(2).iter().sum::<usize>(), 5);
    }
}
