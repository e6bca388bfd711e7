//! Health of the agent: status, readiness, reasons and metrics.

use super::first_sync::{first_sync_text, hindrances, strangers_text, waits_text};
use super::{Agent, ahead, long_keys};
use crate::clock::{self, duration_text};
use crate::disk;
use crate::error::advised;
use crate::gossip::{Gossip, GossipError, LEFT_CODE, ShutOut, Unjoined};
use crate::metrics::{Holdings, StandingSample};
use crate::peers::ClockReason;
use crate::readiness::{Gap, LastEqual};
use kvgossip_api::{ApiError, Counts, Digests, FIRST_SYNC, Grade, PeerRow, ReasonRow, StatusResponse, codes};
use kvgossip_engine::{Failure, InternalError, StorageError};
use kvgossip_grants::{Signer, Timestamp};
use kvgossip_transport::RefusedPeer;
use std::net::SocketAddr;

impl Agent {
    /// Takes a new sample of the gossip counters, which [`Agent::metrics_text`] shows from then on.
    pub async fn sample_gossip(&self) {
        if let Some(gossip) = &self.inner.gossip {
            gossip.sample().await;
        }
    }

    /// Returns all metrics in the OpenMetrics text format; those of gossip are from the last
    /// [`Agent::sample_gossip`]. Reads the sizes of the store's files: call it where blocking is allowed.
    pub fn metrics_text(&self) -> Result<String, std::fmt::Error> {
        let view = self.store().view();
        let authority = view.authority();
        let counts =
            [authority.grants().count(), authority.revocations().count(), authority.floors().count()];
        let long: Vec<usize> = view.long_frontiers().iter().map(|long| long.entries).collect();
        let holdings = Holdings {
            long_keys: long.len() as u64,
            longest_key: long.into_iter().max().unwrap_or_default() as u64,
            keys: view.entries().len() as u64,
            authority: counts.map(|count| count as u64),
            waiting: self.store().waiting() as u64,
            early: self.inner.intake.waiting().row(),
            cloned_keys: self.cloned_keys(),
            store_counted: view.weight(),
            store_limit: self.inner.store_limit.unwrap_or_default(),
            shut_out: self.inner.peers.shut_out_sample(),
            standing: self.standing_sample(),
            store_bytes: self.inner.store_dir.as_deref().map_or(0, disk::used_bytes),
            watchers: self.hub().watchers() as u64,
            started_at_us: self.inner.started_at.as_micros(),
            gossip: self.inner.gossip.as_ref().map(Gossip::last_sample).unwrap_or_default(),
            clocks: self.inner.peers.clock_standing(),
        };
        self.inner.intake.metrics().text(&holdings)
    }

    /// Returns the agent's status. Counts the entries of long frontiers: call it where blocking is allowed.
    pub fn status(&self) -> StatusResponse {
        let view = self.store().view();
        let authority = view.authority();
        let reasons = self.reasons();
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: authority.cluster().to_string(),
            root: authority.root().entity().to_string(),
            root_pem: authority.root().to_pem(),
            replica: self.inner.peers.id().to_string(),
            identity: self.inner.identity.as_ref().map(|key| key.public().entity().to_string()),
            now_us: self.now().as_micros(),
            started_at_us: self.inner.started_at.as_micros(),
            sync_address: self.inner.peers.address().to_string(),
            http_address: self.inner.http.map(|address| address.to_string()),
            digests: Digests {
                root: view.root().to_string(),
                authority: view.authority_root().to_string(),
                entries: view.entries_root().to_string(),
            },
            counts: Counts {
                keys: view.entries().len() as u64,
                grants: authority.grants().count() as u64,
                revocations: authority.revocations().count() as u64,
                floors: authority.floors().count() as u64,
            },
            long_keys: long_keys::rows(&view),
            store: self.inner.weights.row(&view, self.inner.store_limit, self.store().is_full()),
            shut_out: self.inner.peers.shut_out(),
            waiting: self.inner.intake.waiting().row(),
            peers: self.inner.peers.rows(),
            last_equal_us: self.inner.peers.standing().last_equal().map(|last| last.at.as_micros()),
            last_equal_unsure: self.inner.peers.standing().last_equal().is_some_and(|last| last.is_unsure),
            ready: reasons.iter().all(|reason| reason.grade != Grade::Unready),
            reasons,
        }
    }

    /// Returns the reasons why the agent is not ready, each as `CODE: text`; empty if it is ready.
    pub fn unready(&self) -> Vec<String> {
        let reasons = self.reasons().into_iter().filter(|reason| reason.grade == Grade::Unready);
        reasons.map(|reason| format!("{}: {}", reason.code, reason.message)).collect()
    }

    /// Returns all reasons of reduced health, gravest first.
    pub fn reasons(&self) -> Vec<ReasonRow> {
        let mut found = self.store_reasons();
        if self.store().is_full() {
            let limit = self.inner.store_limit.unwrap_or_default();
            found.push(Reason::Quota { limit, left: limit.saturating_sub(self.store().view().weight()) });
        }
        found.extend(self.gossip_reasons());
        let company = self.discovery_reasons().into_iter().map(|(code, text)| Reason::Company(code, text));
        let company: Vec<Reason> = company.collect();
        let texts: Vec<_> =
            found.iter().chain(&company).map(|reason| (reason.code(), reason.message())).collect();
        let hindered = hindrances(texts.iter().map(|(code, text)| (*code, &**text)));
        found.extend(self.sync_reasons(hindered));
        found.extend(self.inner.peers.clock_reason().map(Reason::Clock));
        let ahead = self.inner.ahead.count(self.now());
        if ahead > 0 {
            found.push(Reason::Ahead(ahead));
        }
        found.extend(company);
        let mut rows: Vec<ReasonRow> = found.iter().map(Reason::row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.grade));
        rows
    }

    fn store_reasons(&self) -> Vec<Reason> {
        let error = self.store().failure().or_else(|| {
            let stopped = !self.store().is_running() && !self.inner.stop.is_cancelled();
            stopped.then(|| InternalError::Committer.into())
        });
        let unreadable = || self.store().unreadable().map(Reason::Unreadable);
        error.map(Reason::Store).or_else(unreadable).into_iter().collect()
    }

    fn gossip_reasons(&self) -> Vec<Reason> {
        let Some(gossip) = &self.inner.gossip else { return Vec::new() };
        let lost = gossip.failure().map(Reason::NameLost);
        let others = self.inner.peers.others().members > 0;
        let shut_out = (!others).then(|| gossip.shut_out()).flatten().map(|shut_out| match shut_out {
            ShutOut::WrongKey => Reason::WrongGossipKey,
            ShutOut::NotJoined(why) => Reason::NotJoined(why),
        });
        lost.into_iter().chain(shut_out).collect()
    }

    /// Returns the reasons about connections to peers and comparisons with them. `hindered`: texts of the reasons that
    /// prevent any comparison.
    fn sync_reasons(&self, hindered: Vec<String>) -> Vec<Reason> {
        let (peers, standing) = (&self.inner.peers, self.inner.peers.standing());
        let (others, last_equal) = (peers.others(), standing.last_equal());
        let ago_us = |at: Timestamp| clock::now().as_micros().saturating_sub(at.as_micros());
        let mut found = Vec::new();
        // A replica that has just met its first peer differs from it until their first session ends.
        let is_apart = others.connected > 0
            && ago_us(self.inner.started_at) > APART_US
            && last_equal.is_none_or(|last| ago_us(last.at) > APART_US);
        match standing.gap() {
            Some(Gap::First) => {
                let unjoined = self.inner.gossip.as_ref().and_then(Gossip::unjoined);
                let (unmet, more) = peers.unmet(unjoined.as_deref());
                let waits = waits_text(&self.inner.intake.waiting().row(), peers.behind_us());
                let strangers = self.inner.gossip.as_ref().map_or(0, Gossip::only_strangers);
                let strangers = strangers_text(strangers).filter(|_| hindered.is_empty());
                let waits = waits.into_iter().chain(strangers).collect();
                found.push(Reason::FirstSync { hindered, waits, unmet, more });
            }
            Some(Gap::Stale { is_over }) => found.push(Reason::Stale { is_over, last_equal }),
            None if is_apart || last_equal.is_none() && peers.differs_from_all() => {
                found.push(Reason::Apart { last_equal })
            }
            None => {}
        }
        found.extend(peers.refused().map(|(address, error)| Reason::Refused { address, error }));
        let refused_here = peers.refused_here();
        if !refused_here.is_empty() {
            found.push(Reason::RefusedHere(refused_here));
        }
        if others.connected == others.failed {
            let expects_others = others.expected || last_equal.is_some();
            found.push(Reason::Alone { expects_others, failed: others.failed, last_equal });
        }
        found
    }

    fn standing_sample(&self) -> StandingSample {
        let rows = self.inner.peers.rows();
        let count = |holds: fn(&PeerRow) -> bool| rows.iter().filter(|row| holds(row)).count() as u64;
        let reasons = self.reasons();
        StandingSample {
            codes: REASON_CODES,
            ready: reasons.iter().all(|reason| reason.grade != Grade::Unready),
            reasons,
            last_equal_us: self.inner.peers.standing().last_equal().map(|last| last.at.as_micros()),
            listed: count(|row| row.listed),
            connected: count(|row| row.connected),
            equal: count(|row| row.equal),
        }
    }
}

/// Time since the start and since the last equality with a peer after which a difference from all connected peers is
/// reported, in microseconds. A repair takes seconds, and each connected peer is compared with periodically.
const APART_US: u64 = 300_000_000;

/// Codes of all reasons of reduced health that can occur, for `/metrics`.
const REASON_CODES: &[&str] = &[
    "store.no_room",
    "store.full",
    "store.stalled",
    "store.io",
    "store.damaged",
    "store.stopped",
    "internal.committer",
    "gossip.name_lost",
    "gossip.wrong_key",
    "gossip.join_failed",
    LEFT_CODE,
    "sync.first",
    "sync.stale",
    "sync.apart",
    "sync.refused",
    "sync.alone",
    "store.quota",
    "clock.differs",
    "clock.contradicted",
    "clock.store_ahead",
    "peer.cloned",
    "gossip.announced_twice",
    "gossip.full",
    "gossip.name_claimed",
    "gossip.other_cluster",
    "peer.turned_away",
];

/// A reason of reduced health. Each variant has a code (listed in [`REASON_CODES`]), a grade and a text.
#[derive(Debug)]
enum Reason {
    /// The store accepts no writes, because of this failure.
    Store(Failure),
    /// A part of the store cannot be read; the error's text says which part, and what to do about it.
    Unreadable(StorageError),
    /// A fact was not merged because of the store's size `limit`; `left`: room below the limit. Both are in bytes.
    Quota { limit: u64, left: u64 },
    /// Another member took this agent's name, so that this agent takes no part in gossip any more.
    NameLost(GossipError),
    /// Members cannot read the gossip that this agent sends, or this agent cannot read theirs.
    WrongGossipKey,
    /// No member has answered: none of those to join, none that discovery looked for, and none remembered.
    NotJoined(Unjoined),
    /// The replica knows of other replicas and was never compared with one. The fields are those of `first_sync_text`.
    FirstSync { hindered: Vec<String>, waits: Vec<String>, unmet: Vec<String>, more: usize },
    /// The replica was not compared since the start. `is_over`: it no longer waits for a comparison to be ready.
    Stale { is_over: bool, last_equal: Option<LastEqual> },
    /// The replica differs from all connected peers, for more than [`APART_US`] or without ever having been equal.
    Apart { last_equal: Option<LastEqual> },
    /// The peer or member at `address` refuses this replica, or this replica refuses it.
    Refused { address: SocketAddr, error: ApiError },
    /// This replica refuses these replicas, which dial in.
    RefusedHere(Vec<RefusedPeer>),
    /// No peer is connected, or the members of all connected peers have failed; `failed` is the number of such peers.
    Alone { expects_others: bool, failed: usize, last_equal: Option<LastEqual> },
    /// The clocks of this replica and its peers differ, by more than is tolerated.
    Clock(ClockReason),
    /// Number of keys in the own store whose newest entry is ahead of the clock.
    Ahead(usize),
    /// A problem from [`Agent::discovery_reasons`]: its stable code and its text.
    Company(&'static str, String),
}

impl Reason {
    fn code(&self) -> &'static str {
        match self {
            Self::Store(failure) => failure.code(),
            Self::Unreadable(error) => error.code(),
            Self::Quota { .. } => "store.quota",
            Self::NameLost(error) => error.code(),
            Self::WrongGossipKey => "gossip.wrong_key",
            Self::NotJoined(_) => "gossip.join_failed",
            Self::FirstSync { .. } => FIRST_SYNC,
            Self::Stale { .. } => "sync.stale",
            Self::Apart { .. } => "sync.apart",
            Self::Refused { .. } => "sync.refused",
            Self::RefusedHere(_) => "peer.turned_away",
            Self::Alone { .. } => "sync.alone",
            Self::Clock(reason) => reason.code,
            Self::Ahead(_) => "clock.store_ahead",
            Self::Company(code, _) => code,
        }
    }

    fn grade(&self) -> Grade {
        match self {
            Self::Store(_)
            | Self::Unreadable(_)
            | Self::NameLost(_)
            | Self::FirstSync { .. }
            | Self::Stale { is_over: false, .. } => Grade::Unready,
            // An operator made it leave.
            Self::Company(code, _) if *code == LEFT_CODE => Grade::Note,
            Self::Company(..)
            | Self::WrongGossipKey
            | Self::NotJoined(_)
            | Self::Stale { is_over: true, .. }
            | Self::Apart { .. }
            | Self::Refused { .. }
            | Self::Quota { .. }
            | Self::Clock(_)
            | Self::Ahead(_)
            | Self::Alone { expects_others: true, .. }
            | Self::Alone { failed: 1.., .. } => Grade::Unwell,
            // Anyone can dial in, so a refusal is not a fault of this replica.
            Self::Alone { expects_others: false, .. } | Self::RefusedHere(_) => Grade::Note,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Store(failure) => advised(failure),
            Self::Unreadable(error) => error.to_string(),
            Self::Quota { limit, left } => format!(
                "{left} bytes are left of the store's limit of {limit} (--max-store), and something had no room: peers are \
                 asked for nothing more, and it may lack what they hold; {}",
                codes::advice(self.code()).unwrap_or_default()
            ),
            Self::NameLost(error) => error.to_string(),
            Self::WrongGossipKey => {
                "gossip with the others does not get through, as when the keys or the labels differ: \
                 compare --keyring or --encrypt, and --label, with theirs"
                    .to_owned()
            }
            Self::NotJoined(Unjoined { why, had_members: false }) => {
                format!("no member has answered yet: {why}")
            }
            Self::NotJoined(Unjoined { why, had_members: true }) => {
                format!("the members that were there are gone, and none answers: {why}")
            }
            Self::FirstSync { hindered, waits, unmet, more } => {
                first_sync_text(hindered, waits, unmet, *more)
            }
            Self::Stale { last_equal, .. } => format!(
                "no peer was compared since the start; what is read may be old: {}",
                equal_text(*last_equal)
            ),
            Self::Apart { last_equal } => format!(
                "no connected peer is known to hold the same: {}; `kvgossip diff PEER` and `kvgossip refusals` say what differs",
                equal_text(*last_equal)
            ),
            Self::Refused { address, error } => format!("{address}: {} [{}]", error.message, error.code),
            Self::RefusedHere(refused) => refused_text(refused),
            Self::Alone { failed: 1.., last_equal, .. } => format!(
                "the members of all connected peers have failed, so whether they are there is not known: {}",
                equal_text(*last_equal)
            ),
            Self::Alone { expects_others: true, last_equal, .. } => {
                format!("no peer is connected: {}", equal_text(*last_equal))
            }
            Self::Clock(reason) => reason.message.clone(),
            Self::Ahead(count) => ahead::text(*count),
            Self::Company(_, text) => text.clone(),
            Self::Alone { expects_others: false, .. } => {
                "no peer is connected, and none was named: nobody can say \
                                                          whether this replica lacks anything"
                    .to_owned()
            }
        }
    }

    fn row(&self) -> ReasonRow {
        let code = self.code();
        debug_assert!(REASON_CODES.contains(&code), "{code} is no code of a reason");
        ReasonRow { code: code.to_owned(), message: self.message(), grade: self.grade() }
    }
}

/// Maximum number of refused replicas named in one message; it counts the others.
const MAX_NAMED: usize = 3;

fn refused_text(refused: &[RefusedPeer]) -> String {
    let named = refused.iter().take(MAX_NAMED);
    let named = named.map(|it| format!("{} at {}: {} [{}]", it.peer, it.address, it.reason, it.code.name()));
    let more = match refused.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("not taken here, though they dial in: {}{more}", named.collect::<Vec<_>>().join("; "))
}

fn equal_text(last_equal: Option<LastEqual>) -> String {
    let known = "it was last known to hold the same as another";
    match last_equal {
        None => "it was never known to hold the same as another".to_owned(),
        Some(LastEqual { at, is_unsure: true }) => {
            format!(
                "{known} before {}; the clock was set back then, and how long before is not known",
                ago(at)
            )
        }
        Some(LastEqual { at, .. }) => format!("{known} {}", ago(at)),
    }
}

/// Formats the time elapsed since `at`, by this machine's clock.
fn ago(at: Timestamp) -> String {
    format!("{} ago", duration_text(clock::now().as_micros().saturating_sub(at.as_micros())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");

    #[test]
    fn the_page_for_operators_has_every_reason_and_no_other() {
        let page = std::fs::read_to_string(PAGE).expect("the page");
        let (_, table) = page.split_once("| code | what happened | until |\n").expect("the table of reasons");
        let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
        let cells = rows.filter_map(|row| row.split('|').nth(1));
        let codes: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let reasons: BTreeSet<&str> = REASON_CODES.iter().copied().collect();
        assert_eq!(codes, reasons);
    }

    #[test]
    fn whoever_is_not_taken_is_named_up_to_a_number() {
        let refused = |number: u8| RefusedPeer {
            peer: kvgossip_grants::ReplicaId([number; 32]),
            address: SocketAddr::from(([127, 0, 0, 1], number.into())),
            code: kvgossip_transport::Code::NotAdmitted,
            reason: "not listed".into(),
        };
        let all: Vec<RefusedPeer> = (1..=5).map(refused).collect();
        let text = refused_text(&all);
        assert!(
            text.contains(&"03".repeat(32)) && text.contains("127.0.0.1:3: not listed [peer.not_admitted]")
        );
        assert!(!text.contains(&"04".repeat(32)) && text.ends_with("; and 2 more"), "{text}");
        assert!(!refused_text(&all[..3]).contains("more"));
    }

    #[test]
    fn since_when_is_not_told_where_it_is_not_known() {
        let at = clock::now();
        assert!(equal_text(Some(LastEqual { at, is_unsure: false })).ends_with(" ago"));
        assert!(equal_text(Some(LastEqual { at, is_unsure: true })).contains("how long before is not known"));
    }
}
