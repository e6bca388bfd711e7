//! Members as rows of the API, with displayable names and tags.

use super::tags;
use crate::peers::{KnownRoot, Peers, holds};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{Holds, MemberRow, ResponseRow, ShutOutRow, SyncReport};
use kvgossip_grants::{ClusterId, Digest, ReplicaId};
use kvgossip_membership::{Member, Status, Text};
use kvgossip_transport::Connection;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn status(member: &Member) -> &'static str {
    match member.status {
        Status::Alive => "alive",
        Status::Leaving => "leaving",
        Status::Left => "left",
        Status::Failed => "failed",
    }
}

/// Returns a member's answer to a query as a row of the API.
pub(super) fn response(from: &Text, payload: Vec<u8>) -> ResponseRow {
    let payload_b64 = BASE64_STANDARD.encode(&payload);
    ResponseRow { from: from.to_string(), payload: String::from_utf8(payload).ok(), payload_b64 }
}

/// Number of live members that announce each replica of this cluster.
pub(super) type Announcers = BTreeMap<ReplicaId, usize>;

pub(super) fn announcers(members: &[Member], cluster: ClusterId) -> Announcers {
    let mut announcers = Announcers::new();
    for member in members.iter().filter(|member| member.status == Status::Alive) {
        if let Some((id, _)) = tags::read(&member.tags, cluster) {
            *announcers.entry(id).or_default() += 1;
        }
    }
    announcers
}

fn is_at(connection: &Connection, member: &Member, announced: Option<(ReplicaId, u16)>) -> bool {
    announced.is_some_and(|(_, port)| connection.address() == SocketAddr::new(member.addr.ip(), port))
}

/// Whether the replica that a member announces is connected from the announced address; then it has proved its key.
pub(super) fn is_connected(member: &Member, cluster: ClusterId, peers: &Peers) -> bool {
    let announced = tags::read(&member.tags, cluster);
    let connection = announced.and_then(|(id, _)| peers.connection(&id));
    connection.is_some_and(|connection| is_at(&connection, member, announced))
}

/// What this agent knows of a replica that has proved its key.
#[derive(Default)]
struct Known {
    root: Option<KnownRoot>,
    clock_offset_us: Option<i64>,
    says: Option<Holds>,
    shut_out: Option<ShutOutRow>,
    last_sync: Option<SyncReport>,
}

impl Known {
    fn of(id: &ReplicaId, peers: &Peers) -> Self {
        Self {
            root: peers.known_root(id),
            clock_offset_us: peers.clock_offset_us(id),
            says: peers.says(id),
            shut_out: peers.shut_out_of(id),
            last_sync: peers.last_sync(id),
        }
    }
}

/// The relation of a member to this agent.
enum Whose {
    /// This agent's own member, with its root digest.
    Own(Digest),
    /// A member that is not this agent's own.
    Other {
        /// Whether other members announce the same replica.
        contested: bool,
        /// Whether the replica is connected from the address that this member announces.
        is_there: bool,
        /// Round-trip time to the replica, if it is connected.
        rtt: Option<Duration>,
    },
}

/// Returns the row of a member in the API's list; `local`: the member is this agent's own.
pub(super) fn row(
    member: Member,
    local: bool,
    cluster: ClusterId,
    peers: &Peers,
    announcers: &Announcers,
) -> MemberRow {
    let announced = tags::read(&member.tags, cluster);
    let id = announced.map(|(id, _)| id);
    let whose = if local {
        Whose::Own(peers.root())
    } else {
        let connection = id.and_then(|id| peers.connection(&id));
        Whose::Other {
            contested: id.and_then(|id| announcers.get(&id)).is_some_and(|count| *count > 1),
            is_there: connection.as_ref().is_some_and(|connection| is_at(connection, &member, announced)),
            rtt: connection.map(|connection| connection.rtt()),
        }
    };
    row_of(member, cluster, &whose, |id| Known::of(id, peers))
}

/// Returns the row of a member in the API's list. If several members announce one replica, only the one whose address
/// has proved the key shows the replica's state, from `known`.
fn row_of(
    member: Member,
    cluster: ClusterId,
    whose: &Whose,
    known: impl FnOnce(&ReplicaId) -> Known,
) -> MemberRow {
    let announced = tags::read(&member.tags, cluster);
    let id = announced.map(|(id, _)| id);
    let (own_root, unproved, rtt) = match *whose {
        Whose::Own(root) => (Some(root), false, None),
        Whose::Other { contested, is_there, rtt } => (None, contested && !is_there, rtt),
    };
    let local = own_root.is_some();
    // Everything known of the replica passes through here.
    let known = id.filter(|_| !local && !unproved).map(|id| known(&id)).unwrap_or_default();
    let connected = rtt.filter(|_| !unproved);
    // The last report of a member that is gone says nothing about its present state.
    let is_here = matches!(member.status, Status::Alive | Status::Leaving);
    let known_now = known.root.filter(|_| is_here);
    let (holds, holds_since_us) = if local { (Holds::Same, None) } else { holds(known_now) };
    MemberRow {
        status: status(&member).to_owned(),
        suspect: member.suspect,
        address: member.addr.to_string(),
        local,
        replica: id.map(|id| id.to_string()),
        sync_address: announced.map(|(_, port)| SocketAddr::new(member.addr.ip(), port).to_string()),
        connected: connected.is_some(),
        rtt_us: connected.or(member.rtt).map(micros),
        clock_offset_us: known.clock_offset_us,
        root: own_root.or(known.root.map(|known| known.root)).map(|root| root.to_string()),
        root_at_us: known.root.map(|known| known.at.as_micros()),
        lag_us: if local { Some(0) } else { known_now.and_then(|known| known.lag_us) },
        holds,
        holds_since_us,
        says: known.says.filter(|_| is_here),
        shut_out: known.shut_out,
        last_sync: known.last_sync,
        contested: unproved,
        other_cluster: tags::other_cluster(&member.tags, cluster),
        name: member.name.to_string(),
        tags: member.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_grants::Timestamp;
    use kvgossip_membership::core::Answered;

    #[test]
    fn nothing_of_a_replica_is_shown_at_a_member_that_has_not_proved_its_key() {
        let (cluster, id) = (ClusterId([0xab; 32]), ReplicaId([7; 32]));
        let now = Timestamp::from_micros(1_790_000_000_000_000).expect("a time");
        let shown_as = |status, contested, is_there| {
            let member = Member {
                name: "m".into(),
                addr: SocketAddr::from(([127, 0, 0, 1], 7946)),
                tags: tags::announce(cluster, id, 7947),
                status,
                suspect: false,
                incarnation: 1,
                versions: [1; 6],
                rtt: Some(Duration::from_micros(5)),
                answered: Answered::Yes,
            };
            let whose = Whose::Other { contested, is_there, rtt: Some(Duration::from_micros(9)) };
            let row = row_of(member, cluster, &whose, |_| Known {
                root: Some(KnownRoot { root: Digest([3; 32]), at: now, lag_us: Some(0), since: now }),
                clock_offset_us: Some(42_000_000),
                says: Some(Holds::Same),
                ..Known::default()
            });
            serde_json::to_value(row).expect("JSON")
        };
        for (status, holds) in
            [(Status::Alive, "same"), (Status::Failed, "unknown"), (Status::Left, "unknown")]
        {
            let row = shown_as(status, false, true);
            assert_eq!(
                (&row["holds"], row["lag_us"].is_null()),
                (&holds.into(), holds == "unknown"),
                "{row}"
            );
            assert_eq!((row["says"].is_null(), row["root"].is_null()), (holds == "unknown", false), "{row}");
        }
        let shown = |contested, is_there| shown_as(Status::Alive, contested, is_there);
        for (contested, is_there) in [(false, false), (false, true), (true, true)] {
            let row = shown(contested, is_there);
            assert_eq!(row["clock_offset_us"], 42_000_000, "{row}");
            assert_eq!((row["rtt_us"].as_u64(), row["contested"].as_bool()), (Some(9), Some(false)), "{row}");
        }
        let row = shown(true, false);
        let empty = [
            "clock_offset_us",
            "root",
            "root_at_us",
            "lag_us",
            "shut_out",
            "holds_since_us",
            "says",
            "last_sync",
        ];
        for field in empty {
            assert!(row[field].is_null(), "{field}: {row}");
        }
        assert_eq!((&row["holds"], &row["connected"]), (&"unknown".into(), &false.into()), "{row}");
        assert_eq!((row["rtt_us"].as_u64(), row["contested"].as_bool()), (Some(5), Some(true)), "{row}");
    }
}
