//! Broadcasts that wait for room in datagrams: four queues, each with an order of sending and of dropping.
//!
//! The rules are those of memberlist and Serf. A datagram is filled from the queues in the order of [`Class`].
//! Within a queue, broadcasts that were sent less often go first, then longer ones, then newer ones. Each is
//! sent as often as memberlist sends it in a cluster of that size. A new message about a member replaces the
//! waiting ones about it.
//!
//! A full queue drops its oldest broadcast in favour of a new one. This member's own intents and queries are
//! kept, so that others' gossip cannot displace a leave or a key change.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::wire::Text;

/// Maximum number of broadcasts in one queue; Serf's limit. No broadcast is longer than a datagram.
pub const MAX_QUEUED: usize = 4096;

/// Class of a broadcast, each with a queue of its own, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// memberlist's messages: this member's own state, and suspicions by a second or later member.
    Membership,
    /// Joins and leaves of Serf's layer.
    Intent,
    /// Queries, including key changes.
    Query,
    /// User events.
    Event,
}

impl Class {
    const ALL: [Self; 4] = [Self::Membership, Self::Intent, Self::Query, Self::Event];
}

/// Number of broadcasts that wait in each queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueDepths {
    /// Waiting messages about members: this member's own state, suspicions, and changes of other members.
    pub membership: u64,
    /// Waiting joins and leaves of Serf's layer.
    pub intents: u64,
    /// Waiting queries, including long ones that are sent over TCP.
    pub queries: u64,
    /// Waiting user events, including long ones that are sent over TCP.
    pub events: u64,
}

/// Id of a queued broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BroadcastId {
    class: Class,
    seq: u64,
}

/// Originator of a message: this member or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This member created the message.
    Own,
    /// Another member created the message; this one passes it on.
    Relayed,
}

#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    own: bool,
    about: Option<Text>,
}

/// Sort key of a broadcast: number of transmissions, then length, then sequence number; longer and newer ones
/// first.
type Rank = (usize, Reverse<usize>, Reverse<u64>);

impl Waiting {
    fn rank(&self, seq: u64) -> Rank {
        (self.sent, Reverse(self.bytes.len()), Reverse(seq))
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Waiting broadcasts by sequence number, so oldest first.
    waiting: BTreeMap<u64, Waiting>,
    /// Waiting broadcasts in the order in which they are sent.
    order: BTreeSet<Rank>,
    /// Waiting broadcasts about a member: the member's name and the broadcast's sequence number.
    about: BTreeSet<(Text, u64)>,
    /// Sequence numbers of the waiting broadcasts of other members, oldest first.
    relayed: BTreeSet<u64>,
}

impl Queue {
    fn insert(&mut self, seq: u64, item: Waiting) {
        if let Some(about) = &item.about {
            self.about.insert((about.clone(), seq));
        }
        if !item.own {
            self.relayed.insert(seq);
        }
        self.order.insert(item.rank(seq));
        self.waiting.insert(seq, item);
    }

    fn remove(&mut self, seq: u64) -> Option<Waiting> {
        let item = self.waiting.remove(&seq)?;
        self.order.remove(&item.rank(seq));
        self.relayed.remove(&seq);
        if let Some(about) = &item.about {
            self.about.remove(&(about.clone(), seq));
        }
        Some(item)
    }

    /// Returns the sequence number of the broadcast to drop next: the oldest one, or the oldest relayed one
    /// with `spares_own`. `None` if there is none.
    fn oldest(&self, spares_own: bool) -> Option<u64> {
        if spares_own { self.relayed.first().copied() } else { self.waiting.keys().next().copied() }
    }

    /// Returns the sequence number of the next broadcast to send among those that were sent `sent` times and
    /// have at most `room` bytes.
    fn fitting(&self, sent: usize, room: usize) -> Option<u64> {
        let first: Rank = (sent, Reverse(room), Reverse(u64::MAX));
        let end: Rank = (sent + 1, Reverse(usize::MAX), Reverse(u64::MAX));
        self.order.range(first..end).next().map(|(_, _, Reverse(seq))| *seq)
    }

    /// Adds broadcasts that fit to the packet, the least sent first. A broadcast that has then been sent
    /// `limit` times is removed.
    fn fill(&mut self, packet: &mut Packet, limit: usize) {
        let mut again = Vec::new();
        let mut sent = self.order.first().map(|(sent, ..)| *sent);
        while let (Some(times), Some(room)) = (sent, packet.room()) {
            let Some(seq) = self.fitting(times, room) else {
                let next: Rank = (times + 1, Reverse(usize::MAX), Reverse(u64::MAX));
                sent = self.order.range(next..).next().map(|(sent, ..)| *sent);
                continue;
            };
            let Some(mut item) = self.remove(seq) else { break };
            packet.push(item.bytes.clone());
            item.sent += 1;
            // Reinserted at the end, so that it is not added to the same datagram twice.
            if item.sent < limit {
                again.push((seq, item));
            }
        }
        for (seq, item) in again {
            self.insert(seq, item);
        }
    }
}

/// Messages of a datagram that is being filled.
#[derive(Debug)]
pub(super) struct Packet {
    messages: Vec<Vec<u8>>,
    used: usize,
    budget: usize,
    most: usize,
}

impl Packet {
    /// Number of bytes that each message takes in a packet in addition to its own.
    const OVERHEAD: usize = 2;

    /// Creates a packet; `budget` limits the bytes of its messages with their lengths, `most` the number of
    /// messages.
    pub(super) fn new(messages: Vec<Vec<u8>>, budget: usize, most: usize) -> Self {
        let used = messages.iter().map(|message| message.len() + Self::OVERHEAD).sum();
        Self { messages, used, budget, most }
    }

    /// Maximum size in bytes of a message that still fits; `None` if the packet is full.
    fn room(&self) -> Option<usize> {
        let room = self.budget.checked_sub(self.used + Self::OVERHEAD)?;
        (room > 0 && self.messages.len() < self.most).then_some(room)
    }

    fn push(&mut self, message: Vec<u8>) {
        self.used += message.len() + Self::OVERHEAD;
        self.messages.push(message);
    }

    pub(super) fn into_messages(self) -> Vec<Vec<u8>> {
        self.messages
    }
}

/// Reason why a broadcast was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unqueued {
    /// The broadcast fits into no datagram.
    TooLong,
    /// The queue is full of broadcasts that must not be dropped.
    Full,
}

/// Queues of all classes of broadcasts.
#[derive(Debug)]
pub(super) struct Queues {
    queues: [Queue; 4],
    next: u64,
    /// Maximum size in bytes of a message that fits into a datagram.
    longest: usize,
}

impl Queues {
    /// Creates empty queues; `budget` is the number of bytes of a datagram available for messages with their
    /// lengths.
    pub(super) fn new(budget: usize) -> Self {
        Self { queues: Default::default(), next: 0, longest: budget.saturating_sub(Packet::OVERHEAD) }
    }

    fn queue(&mut self, class: Class) -> &mut Queue {
        &mut self.queues[class as usize]
    }

    /// Returns whether a message of `len` bytes fits into a datagram.
    pub(super) fn fits(&self, len: usize) -> bool {
        len <= self.longest
    }

    /// Returns an error if a broadcast of `len` bytes in the queue of `class` would not be queued.
    pub(super) fn check(&mut self, class: Class, len: usize) -> Result<(), Unqueued> {
        if len > self.longest {
            return Err(Unqueued::TooLong);
        }
        let queue = self.queue(class);
        let full = queue.waiting.len() >= MAX_QUEUED && queue.oldest(spares_own(class)).is_none();
        if full { Err(Unqueued::Full) } else { Ok(()) }
    }

    /// Queues a broadcast, about the member `about` if given. Returns its id, and the number of older
    /// broadcasts dropped to make room.
    pub(super) fn push(
        &mut self,
        class: Class,
        origin: Origin,
        about: Option<&Text>,
        bytes: Vec<u8>,
    ) -> Result<(BroadcastId, u64), Unqueued> {
        self.check(class, bytes.len())?;
        let seq = self.next;
        self.next += 1;
        let queue = self.queue(class);
        let mut fallen = 0;
        while queue.waiting.len() >= MAX_QUEUED {
            let Some(oldest) = queue.oldest(spares_own(class)) else { break };
            queue.remove(oldest);
            fallen += 1;
        }
        queue.insert(seq, Waiting { bytes, sent: 0, own: origin == Origin::Own, about: about.cloned() });
        Ok((BroadcastId { class, seq }, fallen))
    }

    /// Removes waiting membership messages about a member.
    pub(super) fn forget(&mut self, about: &Text) {
        let queue = self.queue(Class::Membership);
        let first = (about.clone(), 0);
        let stale: Vec<u64> =
            queue.about.range(first..).take_while(|(of, _)| of == about).map(|(_, seq)| *seq).collect();
        for seq in stale {
            queue.remove(seq);
        }
    }

    /// Returns whether the broadcast is still queued: neither sent as often as required nor dropped.
    pub(super) fn holds(&self, id: BroadcastId) -> bool {
        self.queues[id.class as usize].waiting.contains_key(&id.seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.waiting.is_empty())
    }

    /// Returns whether some membership message waits that has not been sent even once.
    pub(super) fn has_unsaid(&self) -> bool {
        self.queues[Class::Membership as usize].order.first().is_some_and(|(sent, ..)| *sent == 0)
    }

    /// Fills a datagram with broadcasts; a broadcast is removed once it has been sent `limit` times.
    pub(super) fn fill(&mut self, packet: &mut Packet, limit: usize) {
        for class in Class::ALL {
            self.queue(class).fill(packet, limit);
        }
    }

    /// Number of waiting broadcasts by class, without those of foca and without long messages.
    pub(super) fn depths(&self) -> QueueDepths {
        let [membership, intents, queries, events] =
            Class::ALL.map(|class| self.queues[class as usize].waiting.len() as u64);
        QueueDepths { membership, intents, queries, events }
    }
}

/// Returns whether a full queue of this class keeps this member's own messages. Its own events are dropped like
/// those of other members, because the newest events matter most.
fn spares_own(class: Class) -> bool {
    class != Class::Event
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 1000;

    fn queues() -> Queues {
        Queues::new(BUDGET)
    }

    fn push(queues: &mut Queues, class: Class, origin: Origin, text: &str) -> BroadcastId {
        queues.push(class, origin, None, text.as_bytes().to_vec()).expect("room").0
    }

    /// Fills one datagram, and returns its messages as texts.
    fn filled(queues: &mut Queues, budget: usize, limit: usize) -> Vec<String> {
        let mut packet = Packet::new(Vec::new(), budget, 255);
        queues.fill(&mut packet, limit);
        let messages = packet.into_messages();
        assert!(messages.iter().map(|m| m.len() + 2).sum::<usize>() <= budget);
        messages.into_iter().map(|m| String::from_utf8(m).expect("text")).collect()
    }

    #[test]
    fn classes_go_in_their_order_and_each_is_sent_so_often() {
        let mut queues = queues();
        for (class, text) in [
            (Class::Event, "event"),
            (Class::Query, "query"),
            (Class::Intent, "intent"),
            (Class::Membership, "alive"),
        ] {
            push(&mut queues, class, Origin::Relayed, text);
        }
        assert_eq!(filled(&mut queues, 7, 3), ["alive"]);
        assert_eq!(filled(&mut queues, BUDGET, 3), ["alive", "intent", "query", "event"]);
        assert_eq!(queues.depths(), QueueDepths { membership: 1, intents: 1, queries: 1, events: 1 });
        assert_eq!(filled(&mut queues, BUDGET, 3), ["alive", "intent", "query", "event"]);
        assert_eq!(filled(&mut queues, BUDGET, 3), ["intent", "query", "event"], "three times are enough");
        assert!(queues.is_empty() && filled(&mut queues, BUDGET, 3).is_empty());
    }

    #[test]
    fn the_least_sent_goes_first_then_the_longest_then_the_newest() {
        let mut queues = queues();
        let event = |queues: &mut Queues, text| push(queues, Class::Event, Origin::Own, text);
        for text in ["aa", "bbbb", "cc"] {
            event(&mut queues, text);
        }
        assert_eq!(filled(&mut queues, BUDGET, 9), ["bbbb", "cc", "aa"]);
        event(&mut queues, "d");
        assert_eq!(filled(&mut queues, BUDGET, 9), ["d", "bbbb", "cc", "aa"]);
        event(&mut queues, "eeeeeeee");
        assert_eq!(
            filled(&mut queues, 8, 9),
            ["d", "cc"],
            "what does not fit waits, what does not yet goes along"
        );
        assert_eq!(filled(&mut queues, 10, 9), ["eeeeeeee"]);
    }

    #[test]
    fn the_oldest_event_falls_for_a_new_one_and_nothing_else_does() {
        let mut queues = queues();
        let query = push(&mut queues, Class::Query, Origin::Relayed, "use-key");
        let oldest = push(&mut queues, Class::Event, Origin::Own, "oldest");
        let second = push(&mut queues, Class::Event, Origin::Relayed, "second");
        for n in 2..MAX_QUEUED {
            push(&mut queues, Class::Event, Origin::Relayed, &n.to_string());
        }
        assert!(queues.holds(oldest));
        let (newest, fallen) =
            queues.push(Class::Event, Origin::Relayed, None, b"newest".to_vec()).expect("room");
        assert_eq!(fallen, 1);
        assert!(!queues.holds(oldest) && queues.holds(second) && queues.holds(newest) && queues.holds(query));
        assert_eq!(
            queues.depths(),
            QueueDepths { queries: 1, events: MAX_QUEUED as u64, ..QueueDepths::default() }
        );
    }

    #[test]
    fn what_this_member_asks_stays_and_is_refused_when_nothing_else_could_fall() {
        let mut queues = queues();
        let own = push(&mut queues, Class::Query, Origin::Own, "own");
        let others = push(&mut queues, Class::Query, Origin::Relayed, "other");
        for n in 0..2 * MAX_QUEUED {
            push(&mut queues, Class::Query, Origin::Relayed, &n.to_string());
        }
        assert!(queues.holds(own) && !queues.holds(others));
        while queues.check(Class::Query, 1).is_ok() {
            push(&mut queues, Class::Query, Origin::Own, "own");
        }
        assert_eq!(queues.depths().queries, MAX_QUEUED as u64);
        let refused = queues.push(Class::Query, Origin::Own, None, vec![1]);
        assert_eq!(refused.map(|_| ()), Err(Unqueued::Full));
        push(&mut queues, Class::Intent, Origin::Own, "leave");
        assert_eq!(queues.check(Class::Event, BUDGET), Err(Unqueued::TooLong));
        assert_eq!(queues.check(Class::Event, BUDGET - 2), Ok(()));
    }

    #[test]
    fn what_is_said_of_a_member_replaces_what_was_said() {
        let mut queues = queues();
        let (a, b): (Text, Text) = ("a".into(), "b".into());
        let say = |queues: &mut Queues, name: &Text, text: &str| {
            let bytes = text.as_bytes().to_vec();
            queues.forget(name);
            queues.push(Class::Membership, Origin::Own, Some(name), bytes).expect("room").0
        };
        let first = say(&mut queues, &a, "alive 1");
        say(&mut queues, &b, "alive b");
        assert!(queues.has_unsaid());
        filled(&mut queues, BUDGET, 9);
        assert!(!queues.has_unsaid());
        let second = say(&mut queues, &a, "dead");
        assert!(!queues.holds(first) && queues.holds(second) && queues.has_unsaid());
        assert_eq!(filled(&mut queues, BUDGET, 9), ["dead", "alive b"]);
        queues.forget(&b);
        assert_eq!(filled(&mut queues, BUDGET, 9), ["dead"]);
    }
}
