//! The connections of one door, and what each holds: the [`Ledger`] with its lock, its clock and those who wait.

use super::Door;
use super::ledger::{ClientId, Ledger, Limits, Phase, Pool, Room, Source};
use super::limits::HttpLimits;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Who waits for room looks again after so long: that somebody does not read shows by time alone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How many connections of one door may be about to end beyond all places: a newcomer that waited for each of them in turn
/// would keep all behind it waiting.
pub(super) const MAX_ENDING: usize = 16;

/// The connections of one door.
pub(crate) struct Clients {
    state: Mutex<State>,
    /// Something was given back.
    freed: Notify,
    began: Instant,
    metrics: Metrics,
    door: Door,
}

struct State {
    ledger: Ledger,
    known: HashMap<ClientId, Known>,
}

struct Known {
    /// Ends the connection.
    felled: CancellationToken,
    /// It is first in line.
    turn: Arc<Notify>,
}

/// One connection. Dropped, it holds nothing any more.
pub(crate) struct Client {
    clients: Arc<Clients>,
    id: ClientId,
    in_reserve: bool,
    felled: CancellationToken,
    turn: Arc<Notify>,
}

/// An amount of a pool that a connection holds; dropped, it is free again.
pub(crate) struct Held {
    client: Arc<Client>,
    pool: Pool,
    amount: usize,
}

impl Clients {
    pub(super) fn new(door: Door, limits: &HttpLimits, metrics: Metrics) -> Self {
        let connections = match door {
            Door::Socket => limits.socket_connections,
            Door::Tcp => limits.tcp_connections,
        };
        let limits = Limits {
            pools: [connections, limits.body_bytes, limits.answer_bytes, limits.interest_bytes],
            reserve: limits.reserve_connections,
            ending: MAX_ENDING,
            stall: limits.give_way_after,
        };
        let state = Mutex::new(State { ledger: Ledger::new(limits), known: HashMap::new() });
        Self { state, freed: Notify::new(), began: Instant::now(), metrics, door }
    }

    /// A connection comes. Others may end for it.
    pub(super) fn open(self: &Arc<Self>, source: Source) -> Arc<Client> {
        self.change(None, |state, now| {
            let (id, in_reserve) = state.ledger.open(source, now);
            let (felled, turn) = (CancellationToken::new(), Arc::new(Notify::new()));
            state.known.insert(id, Known { felled: felled.clone(), turn: turn.clone() });
            self.metrics.connection_opened(self.door.name());
            Arc::new(Client { clients: self.clone(), id, in_reserve, felled, turn })
        })
    }

    /// How many connections a source has, those that were told to end left out.
    pub(super) fn staying(&self, source: Source) -> usize {
        self.change(None, |state, _| state.ledger.staying(source))
    }

    /// A connection ends that had no place yet.
    pub(super) fn ended_waiting(&self) {
        self.metrics.connection_felled(self.door.name());
    }

    /// Waits until there is room for one more connection. Who was told to end counts, with all that it holds, until its task
    /// has ended.
    pub(super) async fn settled(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.change(None, |state, _| state.ledger.is_crowded()) {
                return;
            }
            freed.await;
        }
    }

    /// Changes the ledger, then tells everybody whom that concerns. `pool` names what may have become more or less.
    fn change<T>(&self, pool: Option<Pool>, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.began.elapsed();
        let mut state = self.state.lock();
        let changed = change(&mut state, now);
        for id in state.ledger.take_felled() {
            if let Some(known) = state.known.get(&id) {
                known.felled.cancel();
                self.metrics.connection_felled(self.door.name());
            }
        }
        if let Some(pool) = pool {
            self.metrics.http_held(self.door.name(), pool, state.ledger.held(pool));
            if let Some(known) = state.ledger.first_in_line().and_then(|id| state.known.get(&id)) {
                known.turn.notify_one();
            }
            self.freed.notify_waiters();
        }
        changed
    }
}

impl Client {
    /// Whether it has only a place for one short request.
    pub(super) fn is_in_reserve(&self) -> bool {
        self.in_reserve
    }

    /// Ends when the connection has to.
    pub(super) async fn felled(&self) {
        self.felled.cancelled().await;
    }

    /// The client has to send or to read something, since `credit` after now.
    pub(super) fn waits(&self, credit: Duration) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Waiting, now + credit));
    }

    /// The agent works for it.
    pub(super) fn is_worked_for(&self) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Working, now));
    }

    /// It watches from now on.
    pub(super) fn streams(&self) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Streaming, now));
    }

    /// A write to it begins to wait, or goes on.
    pub(super) fn stalls(&self, stalls: bool) {
        self.clients.change(None, |state, now| state.ledger.stalled(self.id, stalls.then_some(now)));
    }

    /// Nothing of a pool, to which more can be added.
    pub(crate) fn nothing(self: &Arc<Self>, pool: Pool) -> Held {
        Held { client: self.clone(), pool, amount: 0 }
    }

    /// Room for an answer of so many bytes, if there is some now and nobody waits for it.
    pub(crate) fn answer_now(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let pool = Pool::Answers;
        let granted = self.clients.change(None, |state, _| state.ledger.take_now(self.id, bytes));
        granted.then(|| Held { client: self.clone(), pool, amount: bytes })
    }

    /// Room for an answer of so many bytes, as soon as others have made some; none if it is this one that has to give way.
    pub(crate) async fn answer(self: &Arc<Self>, bytes: usize, until: Option<Instant>) -> Option<Held> {
        let mut held = self.nothing(Pool::Answers);
        held.more(bytes, until).await.then_some(held)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.metrics.connection_closed(self.clients.door.name());
        self.clients.change(Some(Pool::Connections), |state, _| {
            state.ledger.close(self.id);
            state.known.remove(&self.id);
        });
    }
}

impl Held {
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Takes more, waiting until then if others give way; whether it got it.
    pub(crate) async fn more(&mut self, amount: usize, until: Option<Instant>) -> bool {
        let client = self.client.clone();
        let _waiting = Waiting(&client);
        loop {
            let freed = client.clients.freed.notified();
            let room = client
                .clients
                .change(None, |state, now| state.ledger.take(client.id, self.pool, amount, now));
            match room {
                Room::Granted => {
                    self.amount += amount;
                    client.clients.change(Some(self.pool), |_, _| ());
                    return true;
                }
                Room::Refused => return false,
                Room::Later => {}
            }
            let now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return false;
            }
            tokio::select! {
                () = client.turn.notified() => {}
                () = freed, if self.pool != Pool::Answers => {}
                () = sleep_until(now + LOOK_AGAIN) => {}
            }
        }
    }

    /// Keeps no more than this and gives the rest back.
    pub(crate) fn keep(&mut self, amount: usize) {
        let Some(rest) = self.amount.checked_sub(amount).filter(|rest| *rest > 0) else { return };
        self.amount = amount;
        let (id, pool) = (self.client.id, self.pool);
        self.client.clients.change(Some(pool), |state, _| state.ledger.give_back(id, pool, rest));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Somebody who waits for room; dropped, it does not wait any more.
struct Waiting<'a>(&'a Client);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.clients.change(None, |state, _| state.ledger.give_up(self.0.id));
    }
}

/// Bytes with the room that they take, which is free when the last of them is sent.
pub(crate) struct Charged<B> {
    pub(crate) bytes: B,
    pub(crate) _room: Held,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Charged<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}
