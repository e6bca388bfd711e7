//! Names used by two members that announce the same replica, such as two agents on copies of one data directory. The
//! second member gives the name up within seconds, so signs of it are remembered.

use super::double;
use kvgossip_grants::ReplicaId;
use kvgossip_membership::{Member, Status, Text};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Code of the reason that another member uses this member's name.
const CLAIMED_CODE: &str = "gossip.name_claimed";
/// Time within which gossip detects that a moved member has failed at its earlier address.
const PASSING: Duration = Duration::from_secs(30);
/// Time for which a contested name is reported after a member last claimed it.
const SHOWN: Duration = Duration::from_secs(600);
/// Maximum number of replicas remembered with contested names; further ones are not reported.
const MAX_REPLICAS: usize = 64;
/// Maximum number of replicas with contested names that are reported; further ones are left out.
const MAX_NAMED: usize = 3;

#[derive(Debug)]
struct Sign {
    since: Duration,
    last: Duration,
    name: Text,
    /// Address of the member that had the name first; `None`: this agent's own member had it.
    known: Option<SocketAddr>,
    other: SocketAddr,
    /// Whether the name is certainly contested: the member at `known` is still alive, so it has not just moved to
    /// `other`.
    is_sure: bool,
}

impl Sign {
    /// Returns the stable code and the text of the reason to report.
    fn reason(&self, id: &ReplicaId) -> (&'static str, String) {
        let Self { name, other, .. } = self;
        match self.known {
            Some(known) => (
                double::CODE,
                format!(
                    "two members announce replica {id} under the name {name:?}, at {known} and at {other}: its data directory or \
                 key was copied, or somebody forges members"
                ),
            ),
            None => (
                CLAIMED_CODE,
                format!(
                    "a member at {other} uses the name {name:?} of this one, too: its data directory was copied, or it was given \
                 the same --name"
                ),
            ),
        }
    }

    fn warn(&self, id: &ReplicaId) {
        let (code, text) = self.reason(id);
        tracing::warn!(name = self.name.to_string(), other = %self.other, code, "{text}");
    }
}

/// The replicas whose names are contested by members that announce the same replica. Times are from a monotonic
/// clock.
#[derive(Debug, Default)]
pub(super) struct Contested(Mutex<BTreeMap<ReplicaId, Sign>>);

impl Contested {
    /// Records that the member known under this name at `known` was met at `other`, too. It may have moved.
    pub(super) fn claimed(
        &self,
        id: ReplicaId,
        name: &Text,
        known: SocketAddr,
        other: SocketAddr,
        now: Duration,
    ) {
        self.note(id, name, Some(known), other, now);
    }

    /// Records that another running member uses this member's name.
    pub(super) fn claimed_own(&self, own: ReplicaId, name: &Text, other: SocketAddr, now: Duration) {
        self.note(own, name, None, other, now);
    }

    fn note(&self, id: ReplicaId, name: &Text, known: Option<SocketAddr>, other: SocketAddr, now: Duration) {
        let mut signs = self.0.lock();
        if signs.len() >= MAX_REPLICAS && !signs.contains_key(&id) {
            return;
        }
        let fresh = Sign { since: now, last: now, name: name.clone(), known, other, is_sure: false };
        let sign = signs.entry(id).or_insert(fresh);
        (sign.last, sign.other) = (now, other);
        if known.is_none() && !sign.is_sure {
            sign.is_sure = true;
            sign.warn(&id);
        }
    }

    /// Examines all members: if the member that had a contested name first is still alive, it has not moved, and the
    /// name is reported from then on.
    pub(super) fn look(&self, members: &[Member], now: Duration) {
        self.0.lock().retain(|id, sign| {
            if sign.is_sure || now < sign.since + PASSING {
                return now < sign.last + SHOWN;
            }
            let stays = |member: &Member| {
                member.name == sign.name && Some(member.addr) == sign.known && member.status == Status::Alive
            };
            sign.is_sure = members.iter().any(stays);
            if sign.is_sure {
                sign.warn(id);
            }
            sign.is_sure
        });
    }

    /// Returns the reasons to report, each as a stable code and a text: one per certainly contested name, at most
    /// three.
    pub(super) fn reasons(&self) -> Vec<(&'static str, String)> {
        let signs = self.0.lock();
        let sure = signs.iter().filter(|(_, sign)| sign.is_sure).take(MAX_NAMED);
        sure.map(|(id, sign)| sign.reason(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_membership::core::Answered;

    const FIRST: ([u8; 4], u16) = ([10, 0, 0, 1], 7946);
    const OTHER: ([u8; 4], u16) = ([10, 0, 0, 2], 7946);

    fn id(number: u8) -> ReplicaId {
        ReplicaId([number; 32])
    }

    fn member(addr: ([u8; 4], u16), status: Status) -> Member {
        Member {
            name: "host-1".into(),
            addr: addr.into(),
            tags: kvgossip_membership::Tags::new(),
            status,
            suspect: false,
            incarnation: 1,
            versions: [1, 5, 2, 2, 5, 4],
            rtt: None,
            answered: Answered::Yes,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn two_of_one_name_and_id_are_named_when_the_first_one_lives_on() {
        for (later, is_named) in [
            (member(FIRST, Status::Alive), true),
            (member(OTHER, Status::Alive), false),
            (member(FIRST, Status::Failed), false),
        ] {
            let contested = Contested::default();
            contested.claimed(id(1), &"host-1".into(), FIRST.into(), OTHER.into(), at(0));
            contested.look(&[member(FIRST, Status::Alive)], at(29));
            assert!(contested.reasons().is_empty(), "it may have moved");
            contested.look(&[later], at(30));
            let reasons = contested.reasons();
            assert_eq!(reasons.len(), usize::from(is_named));
            assert!(
                reasons
                    .iter()
                    .all(|(_, text)| text.contains("10.0.0.1:7946") && text.contains("10.0.0.2:7946"))
            );
            // The sign is remembered, because the second member disappears at once.
            contested.look(&[], at(599));
            assert_eq!(contested.reasons(), reasons);
            contested.look(&[], at(600));
            assert!(contested.reasons().is_empty());
        }
    }

    #[test]
    fn who_has_a_name_that_another_one_uses_says_so_at_once() {
        let contested = Contested::default();
        contested.claimed_own(id(1), &"host-1".into(), OTHER.into(), at(0));
        let (code, text) = contested.reasons().remove(0);
        assert!(code == CLAIMED_CODE && text.contains("10.0.0.2:7946"), "{text}");
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let contested = Contested::default();
        for number in 0..=255 {
            contested.claimed_own(id(number), &"host-1".into(), OTHER.into(), at(0));
        }
        assert_eq!(contested.0.lock().len(), MAX_REPLICAS);
        assert_eq!(contested.reasons().len(), MAX_NAMED);
        contested.look(&[], at(600));
        assert!(contested.0.lock().is_empty());
    }
}
