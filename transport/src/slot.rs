//! Ensures that one session runs at a time per pair of replicas, whichever side opens it.

use kvgossip_grants::ReplicaId;
use parking_lot::Mutex;
use std::sync::Arc;

/// State of the stream of a connection's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This side opened the stream, and the peer has not answered on it yet.
    OursUnanswered,
    /// This side opened the stream and the peer answered, or the peer opened it.
    Settled,
    /// This side has ended its direction. The peer may finish before this side sees it, and open the next
    /// session.
    Finishing,
}

#[derive(Debug, Default)]
struct State {
    holder: Option<(u64, Origin)>,
    next: u64,
}

/// Slot for the single session that a connection may have at a time.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Whether the peer's stream wins when both sides open one at once: the stream of the smaller replica id
    /// does.
    peer_wins: bool,
    state: Mutex<State>,
}

/// Holds the slot of a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    slot: Arc<Slot>,
    ticket: u64,
}

impl Slot {
    pub(crate) fn new(local: ReplicaId, peer: ReplicaId) -> Arc<Self> {
        Arc::new(Self { peer_wins: peer < local, state: Mutex::default() })
    }

    /// Takes the slot for a stream that this side opens; `None` if a session is running.
    pub(crate) fn open(self: &Arc<Self>) -> Option<SlotGuard> {
        self.take(Origin::OursUnanswered, |holder| holder.is_none())
    }

    /// Takes the slot for a stream that the peer opened. If both sides opened one and the peer's wins, ours is
    /// about to be rejected with `busy`, so it loses the slot at once. A session whose own direction has ended
    /// loses it too.
    pub(crate) fn accept(self: &Arc<Self>) -> Option<SlotGuard> {
        self.take(Origin::Settled, |holder| match holder {
            None => true,
            Some((_, Origin::OursUnanswered)) => self.peer_wins,
            Some((_, Origin::Settled)) => false,
            Some((_, Origin::Finishing)) => true,
        })
    }

    fn take(
        self: &Arc<Self>,
        origin: Origin,
        free: impl Fn(Option<(u64, Origin)>) -> bool,
    ) -> Option<SlotGuard> {
        let mut state = self.state.lock();
        if !free(state.holder) {
            return None;
        }
        let ticket = state.next;
        state.next += 1;
        state.holder = Some((ticket, origin));
        Some(SlotGuard { slot: Arc::clone(self), ticket })
    }

    /// Returns whether a session is running on the connection.
    pub(crate) fn is_taken(&self) -> bool {
        self.state.lock().holder.is_some()
    }
}

impl SlotGuard {
    /// Records that the peer answered on the stream that this side opened, which makes it the session.
    pub(crate) fn settle(&self) {
        self.advance(Origin::Settled);
    }

    /// Records that this side has ended its direction of the stream.
    pub(crate) fn finishing(&self) {
        self.advance(Origin::Finishing);
    }

    fn advance(&self, to: Origin) {
        let mut state = self.slot.state.lock();
        if let Some((ticket, origin)) = &mut state.holder
            && *ticket == self.ticket
        {
            *origin = to;
        }
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        if state.holder.is_some_and(|(ticket, _)| ticket == self.ticket) {
            state.holder = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: ReplicaId = ReplicaId([1; 32]);
    const LARGE: ReplicaId = ReplicaId([2; 32]);

    #[test]
    fn one_at_a_time() {
        let slot = Slot::new(SMALL, LARGE);
        let first = slot.accept().unwrap();
        assert!(slot.open().is_none() && slot.accept().is_none());
        drop(first);
        assert!(!slot.is_taken());
        let ours = slot.open().unwrap();
        assert!(slot.open().is_none());
        drop(ours);
        assert!(slot.accept().is_some());
    }

    #[test]
    fn when_both_open_at_once_exactly_one_stream_is_the_session() {
        let (small, large) = (Slot::new(SMALL, LARGE), Slot::new(LARGE, SMALL));
        let small_opened = small.open().unwrap();
        let large_opened = large.open().unwrap();
        let accepted = large.accept().expect("the smaller id's stream wins");
        assert!(small.accept().is_none(), "the larger id's stream is answered busy");
        // The losing stream is dropped; the slot stays with the winning one.
        drop(large_opened);
        assert!(large.is_taken() && small.is_taken());
        drop((small_opened, accepted));
        assert!(!large.is_taken() && !small.is_taken());
    }

    #[test]
    fn the_peer_may_begin_the_next_session_before_we_saw_the_end_of_this_one() {
        let slot = Slot::new(SMALL, LARGE);
        let first = slot.accept().unwrap();
        first.finishing();
        assert!(slot.open().is_none());
        let next = slot.accept().unwrap();
        assert!(slot.accept().is_none());
        drop(first);
        assert!(slot.is_taken());
        drop(next);
        assert!(!slot.is_taken());
    }

    #[test]
    fn a_session_under_way_is_not_interrupted() {
        let large = Slot::new(LARGE, SMALL);
        let opened = large.open().unwrap();
        opened.settle();
        assert!(large.accept().is_none());
    }
}
