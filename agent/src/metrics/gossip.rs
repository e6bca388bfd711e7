//! Metrics of gossip.

use super::Catalog;
use super::labels::{Cause, Change, Direction, Outcome, Queue, Reason, Status};
use kvgossip_engine::scheduler;
use kvgossip_membership::core::{QueueDepths, Stats};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;
use std::sync::atomic::Ordering;

/// The reason why this replica opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionCause {
    /// A change at this replica has to be passed on to the peer.
    Change,
    /// The peer has just connected.
    Connection,
    /// The previous session with the peer failed or left differences.
    Retry,
    /// A periodic comparison with a random connected peer.
    Comparison,
    /// A survey of the members' root digests indicates that the peer may hold other facts.
    Survey,
    /// A request to this agent asks for the session, for example `kvgossip sync`.
    Request,
}

impl SessionCause {
    const fn name(self) -> &'static str {
        match self {
            Self::Change => "change",
            Self::Connection => "connection",
            Self::Retry => "retry",
            Self::Comparison => "comparison",
            Self::Survey => "survey",
            Self::Request => "request",
        }
    }
}

impl From<scheduler::Cause> for SessionCause {
    fn from(cause: scheduler::Cause) -> Self {
        match cause {
            scheduler::Cause::Change => Self::Change,
            scheduler::Cause::Connection => Self::Connection,
            scheduler::Cause::Retry => Self::Retry,
            scheduler::Cause::Comparison => Self::Comparison,
        }
    }
}

/// The state of gossip at a scrape.
#[derive(Clone, Debug, Default)]
pub(crate) struct GossipSample {
    pub(crate) stats: Stats,
    /// Numbers of alive, suspected, leaving, left and failed members, this one included; zeros without gossip.
    pub(crate) members: [u64; 5],
    pub(crate) queues: QueueDepths,
}

pub(super) struct GossipMetrics {
    members: Family<Status, Gauge>,
    changes: Family<Change, Counter>,
    packets: Family<Direction, Counter>,
    bytes: Family<Direction, Counter>,
    refused: Family<Reason, Counter>,
    ignored: Family<Reason, Counter>,
    queues: Family<Queue, Gauge>,
    dropped: Counter,
    probes: Family<Outcome, Counter>,
    refutations: Counter,
    exchanges: Family<Outcome, Counter>,
    user_events: Counter,
    queries: Counter,
    answers: Counter,
    surveys: Counter,
    differing: Counter,
    opened: Family<Cause, Counter>,
    handlers: Family<Outcome, Counter>,
}

impl GossipMetrics {
    pub(super) fn new(c: &mut Catalog) -> Self {
        Self {
            members: c.add(
                ("kvgossip_members", "gauge", None, &["status"]),
                "Members of the gossip, including this one and Serf agents; suspected members do not count as alive",
                Family::default(),
            ),
            changes: c.add(
                ("kvgossip_gossip_changes", "counter", None, &["change"]),
                "Changes of members, as seen here: joined (or came back), updated (its tags), suspected, failed, \
                 left, reaped (forgotten)",
                Family::default(),
            ),
            packets: c.add(
                ("kvgossip_gossip_packets", "counter", None, &["direction"]),
                "Datagrams of gossip, including refused ones",
                Family::default(),
            ),
            bytes: c.add(
                ("kvgossip_gossip", "counter", Some(Unit::Bytes), &["direction"]),
                "Bytes of these datagrams, without the headers of UDP and IP",
                Family::default(),
            ),
            refused: c.add(
                ("kvgossip_gossip_refused", "counter", None, &["reason"]),
                "Datagrams and streams that were not taken: of another cluster (label), in clear or under a wrong key (key), damaged (checksum, compression), over a limit (too_large), not understood (malformed)",
                Family::default(),
            ),
            ignored: c.add(
                ("kvgossip_gossip_ignored", "counter", None, &["reason"]),
                "Messages that changed nothing: not understood (malformed), asking for more than is allowed (excessive), naming a member for which there is no place (full) or one outside the networks that are allowed (not_allowed), known already or out of date (repeated; gossip repeats itself, and replays are among them)",
                Family::default(),
            ),
            queues: c.add(
                ("kvgossip_gossip_queue_messages", "gauge", None, &["queue"]),
                "Broadcasts that wait to be sent, in the order of sending: membership (this member's state, suspicions), intents (joins, leaves), queries (key changes among them), events; the last three hold 4,096 each, then the oldest falls",
                Family::default(),
            ),
            dropped: c.add(
                ("kvgossip_gossip_dropped", "counter", None, &[]),
                "Transmissions, broadcasts, answers and events that were thrown away because their queue was full, or gave way to newer ones",
                Counter::default(),
            ),
            probes: c.add(
                ("kvgossip_gossip_probes", "counter", None, &["outcome"]),
                "Probes that nobody answered (failed), and those that were answered over TCP alone (tcp)",
                Family::default(),
            ),
            refutations: c.add(
                ("kvgossip_gossip_refutations", "counter", None, &[]),
                "Times this member had to say that it is alive",
                Counter::default(),
            ),
            exchanges: c.add(
                ("kvgossip_gossip_exchanges", "counter", None, &["outcome"]),
                "Exchanges of the whole list of members over TCP: merged, whoever began them; failed, begun here",
                Family::default(),
            ),
            user_events: c.add(
                ("kvgossip_gossip_user_events", "counter", None, &[]),
                "User events that were new here, those of this agent included",
                Counter::default(),
            ),
            queries: c.add(
                ("kvgossip_gossip_queries", "counter", None, &[]),
                "Queries that were new here and meant for this member, its own and Serf's internal ones included",
                Counter::default(),
            ),
            answers: c.add(
                ("kvgossip_gossip_answers", "counter", None, &[]),
                "Answers and acknowledgements of this agent's own queries",
                Counter::default(),
            ),
            surveys: c.add(
                ("kvgossip_surveys", "counter", None, &[]),
                "Times this replica asked the members for their roots",
                Counter::default(),
            ),
            differing: c.add(
                ("kvgossip_survey_answers", "counter", None, &[]),
                "Answers of members that hold something else",
                Counter::default(),
            ),
            opened: c.add(
                ("kvgossip_sessions_opened", "counter", None, &["cause"]),
                "Sync sessions begun here: a change is passed on, a connection is new, a retry, a comparison with a random connected peer, a survey of the members (or its comparison), somebody's request",
                Family::default(),
            ),
            handlers: c.add(
                ("kvgossip_event_handlers", "counter", None, &["outcome"]),
                "Runs of event handlers that ended well (ok) or not (failed), and events that no handler was run for because too many waited (dropped)",
                Family::default(),
            ),
        }
    }

    pub(super) fn handlers(&self, outcome: &'static str, count: u64) {
        self.handlers.get_or_create(&Outcome { outcome }).inc_by(count);
    }

    pub(super) fn session_opened(&self, cause: SessionCause) {
        self.opened.get_or_create(&Cause { cause: cause.name() }).inc();
    }

    pub(super) fn survey(&self) {
        self.surveys.inc();
    }

    pub(super) fn survey_answer(&self) {
        self.differing.inc();
    }

    pub(super) fn refresh(&self, sample: &GossipSample) {
        let GossipSample { stats, members, queues } = sample;
        for (status, count) in ["alive", "suspect", "leaving", "left", "failed"].into_iter().zip(members) {
            super::set(&self.members.get_or_create(&Status { status }), *count);
        }
        let changes = &stats.changes;
        for (change, count) in [
            ("joined", changes.joined),
            ("updated", changes.updated),
            ("suspected", changes.suspected),
            ("failed", changes.failed),
            ("left", changes.left),
            ("reaped", changes.reaped),
        ] {
            store(&self.changes.get_or_create(&Change { change }), count);
        }
        for (direction, traffic) in [("received", stats.received), ("sent", stats.sent)] {
            store(&self.packets.get_or_create(&Direction { direction }), traffic.packets);
            store(&self.bytes.get_or_create(&Direction { direction }), traffic.bytes);
        }
        let refused = &stats.refused;
        for (reason, count) in [
            ("label", refused.label),
            ("key", refused.key),
            ("checksum", refused.checksum),
            ("compression", refused.compression),
            ("too_large", refused.too_large),
            ("malformed", refused.malformed),
        ] {
            store(&self.refused.get_or_create(&Reason { reason }), count);
        }
        for (reason, count) in [
            ("malformed", stats.malformed),
            ("excessive", stats.rejected),
            ("full", stats.full),
            ("not_allowed", stats.not_allowed),
            ("repeated", stats.repeated),
        ] {
            store(&self.ignored.get_or_create(&Reason { reason }), count);
        }
        for (outcome, count) in [("failed", stats.failed_probes), ("tcp", stats.tcp_acks)] {
            store(&self.probes.get_or_create(&Outcome { outcome }), count);
        }
        for (outcome, count) in [("merged", stats.merges), ("failed", stats.failed_exchanges)] {
            store(&self.exchanges.get_or_create(&Outcome { outcome }), count);
        }
        for (queue, depth) in [
            ("membership", queues.membership),
            ("intents", queues.intents),
            ("queries", queues.queries),
            ("events", queues.events),
        ] {
            super::set(&self.queues.get_or_create(&Queue { queue }), depth);
        }
        store(&self.dropped, stats.dropped);
        store(&self.refutations, stats.refutations);
        store(&self.user_events, stats.user_events);
        store(&self.queries, stats.queries);
        store(&self.answers, stats.answers);
    }
}

/// Sets a counter to a value that is counted elsewhere.
fn store(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}
