//! Members in the API's form: names and tags as they are shown.

use super::tags;
use crate::peers::{Peers, holds};
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{Holds, MemberRow, ResponseRow};
use kvgossip_grants::{ClusterId, ReplicaId};
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

/// One answer to a query.
pub(super) fn response(from: &Text, payload: Vec<u8>) -> ResponseRow {
    let payload_b64 = BASE64_STANDARD.encode(&payload);
    ResponseRow { from: from.to_string(), payload: String::from_utf8(payload).ok(), payload_b64 }
}

/// How many members announce each replica.
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

/// Whether the replica that a member announces is connected from the address that it announces: it has proved its key.
pub(super) fn is_connected(member: &Member, cluster: ClusterId, peers: &Peers) -> bool {
    let announced = tags::read(&member.tags, cluster);
    let connection = announced.and_then(|(id, _)| peers.connection(&id));
    connection.is_some_and(|connection| is_at(&connection, member, announced))
}

/// One member; `local` is this agent itself.
///
/// Where several members announce one replica, what is known of it is shown at the one whose address has proved the key.
pub(super) fn row(
    member: Member,
    local: bool,
    cluster: ClusterId,
    peers: &Peers,
    announcers: &Announcers,
) -> MemberRow {
    let announced = tags::read(&member.tags, cluster);
    let id = announced.map(|(id, _)| id);
    let contested = !local && id.and_then(|id| announcers.get(&id)).is_some_and(|count| *count > 1);
    let connection = id.filter(|_| !local).and_then(|id| peers.connection(&id));
    let is_there = connection.as_ref().is_some_and(|connection| is_at(connection, &member, announced));
    let id_shown = id.filter(|_| !local && (!contested || is_there));
    let connection = connection.filter(|_| id_shown.is_some());
    let known = id_shown.and_then(|id| peers.known_root(&id));
    let rtt = connection.as_ref().map(|connection| connection.rtt()).or(member.rtt);
    let own_root = local.then(|| peers.root());
    // What was heard of one that is gone says nothing of what it holds now.
    let is_there_now = matches!(member.status, Status::Alive | Status::Leaving);
    let known_now = known.filter(|_| is_there_now);
    let says = id_shown.filter(|_| is_there_now).and_then(|id| peers.says(&id));
    let (holds, holds_since_us) = if local { (Holds::Same, None) } else { holds(known_now) };
    MemberRow {
        status: status(&member).to_owned(),
        suspect: member.suspect,
        address: member.addr.to_string(),
        local,
        replica: id.map(|id| id.to_string()),
        sync_address: announced.map(|(_, port)| SocketAddr::new(member.addr.ip(), port).to_string()),
        connected: connection.is_some(),
        rtt_us: rtt.map(micros),
        clock_offset_us: id.filter(|_| !local).and_then(|id| peers.clock_offset_us(&id)),
        root: own_root.or(known.map(|known| known.root)).map(|root| root.to_string()),
        root_at_us: known.map(|known| known.at.as_micros()),
        lag_us: if local { Some(0) } else { known_now.and_then(|known| known.lag_us) },
        holds,
        holds_since_us,
        says,
        shut_out: id_shown.and_then(|id| peers.shut_out_of(&id)),
        last_sync: id_shown.and_then(|id| peers.last_sync(&id)),
        contested: contested && !is_there,
        other_cluster: tags::other_cluster(&member.tags, cluster),
        name: member.name.to_string(),
        tags: member.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}
