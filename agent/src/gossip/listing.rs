//! The examination of all members: which replicas they announce, and which are admitted. Without I/O.

use super::tags;
use crate::peers::directory::{Announcement, Replicas};
use kvgossip_grants::{ClusterId, ReplicaId};
use kvgossip_membership::core::Answered;
use kvgossip_membership::{Member, Status, Text};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Time for which a replica is still admitted after its member failed: after a network partition it returns before
/// gossip notices. Exception: a member that has not answered since a gossip key was removed, because it may have lost
/// that key.
pub(super) const ADMITTED_AFTER_FAILURE: Duration = Duration::from_secs(15 * 60);

/// The state of one member, kept between two examinations of the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) status: Status,
    pub(super) id: ReplicaId,
    /// When the member failed; `None`: it has not failed, was not seen alive before, or may have lost its gossip key.
    pub(super) failed_at: Option<Duration>,
    /// Whether the replica that the member announces is admitted.
    pub(super) admitted: bool,
    /// Whether the member may have lost its last gossip key.
    pub(super) keyless: bool,
}

/// Members that announce replicas of this cluster, by member name.
pub(super) type Looks = BTreeMap<Text, Look>;

/// The result of an examination of all members.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) looks: Looks,
    pub(super) replicas: Replicas,
    /// Name and address of a live member that announces this replica's own id.
    pub(super) double: Option<(Text, SocketAddr)>,
    /// Live members that are replicas of another cluster, by name.
    pub(super) foreign: Vec<Text>,
    /// Number of live members that are not replicas of this cluster: Serf agents, and replicas of another cluster.
    pub(super) strangers: usize,
}

impl Listing {
    /// Examines all members except this one. Times are from a monotonic clock.
    pub(super) fn of(
        members: Vec<Member>,
        own: ReplicaId,
        cluster: ClusterId,
        before: &Looks,
        now: Duration,
    ) -> Self {
        let mut listing = Self::default();
        for member in members {
            let Some((id, port)) = tags::read(&member.tags, cluster) else {
                listing.strangers += usize::from(member.status == Status::Alive);
                if member.status == Status::Alive && tags::other_cluster(&member.tags, cluster).is_some() {
                    listing.foreign.push(member.name);
                }
                continue;
            };
            if id == own {
                if member.status == Status::Alive {
                    listing.double = Some((member.name, member.addr));
                }
                continue;
            }
            let look = look(&member, id, before.get(&member.name).filter(|look| look.id == id), now);
            if look.admitted {
                let replica = listing.replicas.entry(id).or_default();
                replica.live |= look.status == Status::Alive;
                replica.announced.push(Announcement {
                    name: member.name.clone(),
                    address: SocketAddr::new(member.addr.ip(), port),
                    rtt: member.rtt,
                });
            }
            listing.looks.insert(member.name, look);
        }
        listing.foreign.sort_unstable();
        listing
    }

    /// Returns the replicas that are no longer admitted because their member has left or may have lost its key.
    /// `before`: members at the previous examination.
    pub(super) fn departed(&self, before: &Looks) -> Vec<ReplicaId> {
        let gone = self.looks.iter().filter(|(name, look)| {
            let before = before.get(*name);
            let left =
                look.status == Status::Left && before.is_some_and(|before| before.status != Status::Left);
            let shut_out =
                look.status == Status::Failed && look.keyless && before.is_some_and(|before| before.admitted);
            left || shut_out
        });
        let gone = gone.map(|(_, look)| look.id);
        gone.filter(|id| !self.replicas.contains_key(id)).collect()
    }
}

fn look(member: &Member, id: ReplicaId, before: Option<&Look>, now: Duration) -> Look {
    let status = member.status;
    let failed_at = match (status, before) {
        (Status::Failed, Some(before)) if before.status == Status::Failed => before.failed_at,
        (Status::Failed, Some(before)) if before.status == Status::Alive => Some(now),
        _ => None,
    };
    // A doubt lasts until the member is alive again.
    let failed_at = failed_at.filter(|_| member.answered == Answered::Yes);
    let lately = failed_at.is_some_and(|at| now < at + ADMITTED_AFTER_FAILURE);
    let keyless = member.answered == Answered::NotSinceRemoval;
    Look { status, id, failed_at, admitted: status == Status::Alive || lately, keyless }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId([0xab; 32]);
    const OWN: ReplicaId = ReplicaId([1; 32]);
    const A: ReplicaId = ReplicaId([2; 32]);

    fn member(name: &str, id: ReplicaId, port: u16, status: Status) -> Member {
        Member {
            name: name.into(),
            addr: ([10, 0, 0, 1], 7946).into(),
            tags: tags::announce(CLUSTER, id, port),
            status,
            suspect: false,
            incarnation: 1,
            versions: [0; 6],
            rtt: None,
            answered: Answered::Yes,
        }
    }

    fn look_at(members: Vec<Member>, before: &Looks, minutes: u64) -> Listing {
        Listing::of(members, OWN, CLUSTER, before, Duration::from_secs(60 * minutes))
    }

    fn ports(listing: &Listing, id: ReplicaId) -> Vec<u16> {
        let announced = listing.replicas.get(&id).map(|replica| replica.announced.clone());
        announced.unwrap_or_default().into_iter().map(|announced| announced.address.port()).collect()
    }

    #[test]
    fn every_announcer_of_an_id_counts_and_none_replaces_another() {
        let mut members = vec![member("a", A, 7947, Status::Alive)];
        members.extend((0..8).map(|n| member(&format!("f{n}"), A, 9000 + n, Status::Alive)));
        let listing = look_at(members, &Looks::new(), 0);
        assert_eq!(ports(&listing, A), [7947, 9000, 9001, 9002, 9003, 9004, 9005, 9006, 9007]);
        assert!(listing.replicas[&A].live);
    }

    #[test]
    fn a_member_that_failed_is_admitted_for_a_quarter_of_an_hour() {
        let alive = look_at(vec![member("a", A, 1, Status::Alive)], &Looks::new(), 0);
        let mut before = alive.looks;
        for (minute, admitted) in [(1, true), (10, true), (15, true), (16, false), (17, false)] {
            let failed = look_at(vec![member("a", A, 1, Status::Failed)], &before, minute);
            assert_eq!(failed.replicas.contains_key(&A), admitted, "minute {minute}");
            assert!(failed.replicas.get(&A).is_none_or(|replica| !replica.live));
            assert!(failed.departed(&before).is_empty(), "a connection that stands is no matter of gossip");
            before = failed.looks;
        }
        let back = look_at(vec![member("a", A, 1, Status::Alive)], &before, 18);
        assert!(back.replicas[&A].live);
        let unseen = look_at(vec![member("a", A, 1, Status::Failed)], &Looks::new(), 0);
        assert!(unseen.replicas.is_empty(), "it was never seen alive here");
    }

    #[test]
    fn a_member_that_lost_its_key_by_the_keys_removal_is_not_admitted_once_it_has_failed() {
        let alive = look_at(vec![member("a", A, 1, Status::Alive)], &Looks::new(), 0);
        let unanswered = |status| Member { answered: Answered::NotSinceRemoval, ..member("a", A, 1, status) };
        let still = look_at(vec![unanswered(Status::Alive)], &alive.looks, 1);
        assert!(still.replicas[&A].live, "it may answer yet");
        let failed = look_at(vec![unanswered(Status::Failed)], &still.looks, 1);
        assert!(failed.replicas.is_empty());
        assert_eq!(failed.departed(&still.looks), [A], "and its connections end");
        // The reverse order: it had failed before.
        let failed = look_at(vec![member("a", A, 1, Status::Failed)], &alive.looks, 1);
        let shut_out = look_at(vec![unanswered(Status::Failed)], &failed.looks, 2);
        assert!(shut_out.replicas.is_empty());
        assert_eq!(shut_out.departed(&failed.looks), [A]);
        assert!(look_at(vec![member("a", A, 1, Status::Failed)], &shut_out.looks, 3).replicas.is_empty());
        // A member that was never asked proves nothing: its connection is not affected by gossip.
        let never = Member { answered: Answered::Never, ..member("a", A, 1, Status::Failed) };
        let never = look_at(vec![never], &alive.looks, 1);
        assert!(never.replicas.is_empty() && never.departed(&alive.looks).is_empty());
    }

    #[test]
    fn whoever_leaves_departs_unless_another_announces_its_id() {
        let alive = look_at(vec![member("a", A, 1, Status::Alive)], &Looks::new(), 0);
        let left = look_at(vec![member("a", A, 1, Status::Left)], &alive.looks, 1);
        assert_eq!(left.departed(&alive.looks), [A]);
        let both = vec![member("a", A, 1, Status::Left), member("b", A, 1, Status::Alive)];
        assert!(look_at(both, &alive.looks, 1).departed(&alive.looks).is_empty());
    }

    #[test]
    fn members_of_another_cluster_are_named_and_not_admitted() {
        let foreign = |name: &str| Member {
            tags: tags::announce(ClusterId([1; 32]), A, 1),
            ..member(name, A, 1, Status::Alive)
        };
        let serf = Member { tags: kvgossip_membership::Tags::new(), ..member("serf", A, 1, Status::Alive) };
        let listing = look_at(vec![foreign("y"), serf, foreign("x")], &Looks::new(), 0);
        assert_eq!(
            (listing.foreign.as_slice(), listing.strangers),
            (&[Text::from("x"), Text::from("y")][..], 3)
        );
        assert!(listing.replicas.is_empty());
    }

    #[test]
    fn a_member_that_announces_the_own_id_is_named_while_it_is_alive() {
        let double = |status| look_at(vec![member("b", OWN, 5, status)], &Looks::new(), 0).double;
        assert_eq!(double(Status::Alive), Some(("b".into(), ([10, 0, 0, 1], 7946).into())));
        assert_eq!(double(Status::Failed), None, "an earlier name of this one");
    }
}
