//! Whom a replica waits for that has never been compared with anybody.

use super::Peers;
use super::whereabouts::Listed;
use crate::readiness::short;
use kvgossip_api::{SyncOutcome, SyncReport, codes};
use kvgossip_grants::ReplicaId;
use kvgossip_transport::{Access, Connection};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// How many are named.
const MAX_NAMED: usize = 8;

impl Peers {
    /// Those that this replica was told of and has not been compared with, and why not as far as that is known; up to
    /// [`MAX_NAMED`] of them, and how many more there are. `unjoined`: why nobody of --join has answered.
    pub(crate) fn unmet(&self, unjoined: Option<&str>) -> (Vec<String>, usize) {
        let mut found = Vec::new();
        let connections = self.inner.table.list();
        let apart =
            self.targets().filter(|listed| !connections.iter().any(|connection| listed.is(connection)));
        found.extend(apart.map(|listed| self.listed_apart(listed)));
        if self.inner.joins && !self.inner.directory.has_joined() {
            found.push(match unjoined {
                Some(why) => format!("members of --join ({why})"),
                None => "members of --join (not all have answered)".to_owned(),
            });
        }
        let is_connected = |id: &ReplicaId| connections.iter().any(|connection| connection.peer() == *id);
        let members = self.inner.directory.replicas();
        for (id, replica) in members.iter().filter(|(id, replica)| replica.live && !is_connected(id)) {
            let name = replica.announced.first().map_or_else(|| digits(id), |told| told.name.to_string());
            let addresses: Vec<_> = replica.announced.iter().map(|told| told.address).collect();
            found.push(format!("member {name} ({})", self.why_apart(&addresses)));
        }
        let full = connections.iter().filter(|connection| connection.access() == Access::Full);
        found.extend(full.map(|connection| self.connected_and_unmet(connection)));
        // Those that others were told of: by the ids that these know.
        let known: BTreeSet<_> =
            members.keys().map(short).chain(connections.iter().map(|it| short(&it.peer()))).collect();
        let told = self.inner.standing.told_of();
        let strangers = told.iter().filter(|id| **id != short(&self.id()) && !known.contains(*id));
        found.extend(strangers.map(|id| {
            let digits: String = id.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("replica {digits} (another one was told of it)")
        }));
        let more = found.len().saturating_sub(MAX_NAMED);
        found.truncate(MAX_NAMED);
        (found, more)
    }

    fn listed_apart(&self, listed: &Listed) -> String {
        let address = &listed.target.address;
        match listed.last_found() {
            Ok(found) => format!("peer {address} ({})", self.why_apart(&found)),
            Err(why) => format!("peer {address} ({why})"),
        }
    }

    fn why_apart(&self, addresses: &[SocketAddr]) -> String {
        let failure = addresses.iter().find_map(|address| self.inner.endpoint.last_failure(address));
        failure
            .map_or("not connected yet".to_owned(), |(code, message)| format!("{message} [{}]", code.name()))
    }

    fn connected_and_unmet(&self, connection: &Connection) -> String {
        let peer = connection.peer();
        let why = if self.inner.standing.is_known_newcomer(&peer) {
            "it was never compared with anybody either".to_owned()
        } else {
            let last = self.inner.book.last_sync(&peer);
            last.and_then(|last| last_text(&last))
                .unwrap_or_else(|| "connected, and no comparison has ended yet".to_owned())
        };
        format!("replica {} ({why})", digits(&peer))
    }
}

/// Why the last session is no comparison that counts, if one has ended and is known not to be.
fn last_text(last: &SyncReport) -> Option<String> {
    let named: Vec<String> = last.reasons.iter().map(|reason| obstacle_text(reason)).collect();
    match last.outcome {
        SyncOutcome::Unsettled if named.is_empty() => {
            Some("the last session ended unsettled: more was written meanwhile".to_owned())
        }
        SyncOutcome::Unsettled => Some(format!("the last session ended unsettled: {}", named.join(", "))),
        SyncOutcome::Failed => Some(format!("the last session failed: {}", last.reasons.join(", "))),
        SyncOutcome::Equal | SyncOutcome::Busy => None,
    }
}

/// What kept the two sides of a session apart, for people.
fn obstacle_text(reason: &str) -> String {
    let text = match reason {
        "not_yet" => "entries are ahead of the clock of one side and wait there [not_yet]",
        "unreadable" => "one side cannot read all of its store [unreadable]",
        "truncated" => "there was more than one session moves [truncated]",
        "read_only" => "one side takes no facts [read_only]",
        "refused" => "one side refuses facts [refused]",
        "unjustified" => "one side lacks the grants of facts [unjustified]",
        other => {
            return codes::find(other)
                .map_or(other.to_owned(), |info| format!("{} [{}]", info.meaning, info.code));
        }
    };
    text.to_owned()
}

/// The first eight digits of an id.
fn digits(id: &ReplicaId) -> String {
    id.to_string().chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvgossip_api::TrafficRow;

    #[test]
    fn a_session_that_ended_unsettled_is_told_with_its_reason() {
        let report = |outcome, reasons: &[&str]| SyncReport {
            peer: String::new(),
            ended_at_us: 0,
            took_us: 0,
            outcome,
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            sent: TrafficRow::default(),
            received: TrafficRow::default(),
            waste: 0,
            flights: 0,
            rounds: 0,
            merged: 0,
            initiated: false,
        };
        let text = |outcome, reasons: &[&str]| last_text(&report(outcome, reasons));
        let full = text(SyncOutcome::Unsettled, &["store.quota"]).expect("a text");
        assert!(
            full.starts_with("the last session ended unsettled: the store has reached the limit"),
            "{full}"
        );
        let both = text(SyncOutcome::Unsettled, &["not_yet", "store.quota"]).expect("a text");
        assert!(both.contains("[not_yet], the store") && both.ends_with("[store.quota]"), "{both}");
        assert_eq!(text(SyncOutcome::Equal, &[]), None);
    }
}
