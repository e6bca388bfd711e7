//! Members in the API's form.

use super::tags;
use crate::peers::Peers;
use base64::prelude::{BASE64_STANDARD, Engine};
use kvgossip_api::{MemberRow, ResponseRow};
use kvgossip_grants::ClusterId;
use kvgossip_membership::{Member, Status};
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
pub(super) fn response(from: String, payload: Vec<u8>) -> ResponseRow {
    let payload_b64 = BASE64_STANDARD.encode(&payload);
    ResponseRow { from, payload: String::from_utf8(payload).ok(), payload_b64 }
}

/// One member; `local` is this agent itself.
pub(super) fn row(member: Member, local: bool, cluster: ClusterId, peers: &Peers) -> MemberRow {
    let announced = tags::read(&member.tags, cluster);
    let id = announced.map(|(id, _)| id);
    let known = id.filter(|_| !local).and_then(|id| peers.known_root(&id));
    let connection = id.filter(|_| !local).and_then(|id| peers.connection(&id));
    let rtt = connection.as_ref().map(|connection| connection.rtt()).or(member.rtt);
    let own_root = local.then(|| peers.root());
    MemberRow {
        status: status(&member).to_owned(),
        suspect: member.suspect,
        address: member.addr.to_string(),
        local,
        replica: id.map(|id| id.to_string()),
        sync_address: announced.map(|(_, port)| SocketAddr::new(member.addr.ip(), port).to_string()),
        connected: connection.is_some(),
        rtt_us: rtt.map(micros),
        root: own_root.or(known.map(|known| known.root)).map(|root| root.to_string()),
        root_at_us: known.map(|known| known.at.as_micros()),
        lag_us: if local { Some(0) } else { known.and_then(|known| known.lag_us) },
        last_sync: id.filter(|_| !local).and_then(|id| peers.last_sync(&id)),
        name: member.name,
        tags: member.tags,
    }
}
