//! The connections of one door and the resources each holds: the [`Ledger`] with its lock, its clock and its waiters.

mod arrivals;
mod ledger;
mod limits;

pub(crate) use arrivals::Arrivals;
pub(crate) use ledger::{Pool, Source};
pub use limits::HttpLimits;

use crate::metrics::Metrics;
use ledger::{ClientId, Ledger, Limits, Phase, Room};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Interval at which a connection that waits for room asks again: that another client has stopped reading can only be
/// seen after some time.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Maximum number of connections that were asked to close and have not ended, in addition to all regular and reserve
/// places of a door. Without this allowance a new connection would wait for each of them, and block the connections
/// behind it.
const MAX_ENDING: usize = 16;

/// The listening socket that a request came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The Unix socket, which only the agent's own user can open.
    Socket,
    /// TCP. Use of the agent's identity, changes to the agent and dialling need the token; reading needs what the
    /// agent's [`Rights`](crate::Rights) say.
    Tcp,
}

impl Door {
    /// Returns the door's name in metrics and logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Tcp => "tcp",
        }
    }
}

/// The connections of one door, and what they hold.
pub(crate) struct Clients {
    state: Mutex<State>,
    /// Signals that a connection has ended, or that the amount held of a pool has changed.
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
    /// Cancelled when the connection is asked to close.
    felled: CancellationToken,
    /// Signals that the connection is first among those that wait for room for an answer.
    turn: Arc<Notify>,
}

/// One connection of a client. Dropping it releases everything that the connection holds.
pub(crate) struct Client {
    clients: Arc<Clients>,
    id: ClientId,
    in_reserve: bool,
    felled: CancellationToken,
    turn: Arc<Notify>,
}

/// An amount of a pool that a connection holds; dropping it releases the amount.
pub(crate) struct Reservation {
    client: Arc<Client>,
    pool: Pool,
    amount: usize,
}

impl Clients {
    pub(crate) fn new(door: Door, limits: &HttpLimits, metrics: Metrics) -> Self {
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

    /// Registers a new connection. Other connections may be asked to close to make room for it.
    pub(crate) fn open(self: &Arc<Self>, source: Source) -> Arc<Client> {
        self.change(None, |state, now| {
            let (id, in_reserve) = state.ledger.open(source, now);
            let (felled, turn) = (CancellationToken::new(), Arc::new(Notify::new()));
            state.known.insert(id, Known { felled: felled.clone(), turn: turn.clone() });
            self.metrics.connection_opened(self.door.name());
            Arc::new(Client { clients: self.clone(), id, in_reserve, felled, turn })
        })
    }

    /// Returns the number of a source's connections that have a regular place and were not asked to close.
    pub(crate) fn staying(&self, source: Source) -> usize {
        self.change(None, |state, _| state.ledger.staying(source))
    }

    /// Counts, in the metrics, a connection that was closed before it got a place.
    pub(crate) fn ended_waiting(&self) {
        self.metrics.connection_felled(self.door.name());
    }

    /// Waits until there is room for one more connection. A connection asked to close counts, with all that it holds,
    /// until its task has ended.
    pub(crate) async fn settled(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.change(None, |state, _| state.ledger.is_crowded()) {
                return;
            }
            freed.await;
        }
    }

    /// Changes the ledger, then notifies the connections asked to close and those that wait for room. `pool`: the pool
    /// whose amount changed; `None`: no amount changed.
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
            if pool != Pool::Connections {
                self.metrics.http_held(self.door.name(), pool.name(), state.ledger.held(pool));
            }
            if let Some(known) = state.ledger.first_in_line().and_then(|id| state.known.get(&id)) {
                known.turn.notify_one();
            }
            self.freed.notify_waiters();
        }
        changed
    }
}

impl Client {
    /// Whether the connection has only a reserve place, which is for one short request.
    pub(crate) fn is_in_reserve(&self) -> bool {
        self.in_reserve
    }

    /// Completes when the connection is asked to close.
    pub(crate) async fn felled(&self) {
        self.felled.cancelled().await;
    }

    /// Marks the connection as waiting for its client to send or read; the wait counts from `credit` after now.
    pub(crate) fn waits(&self, credit: Duration) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Waiting, now + credit));
    }

    /// Marks the connection as waiting for the agent, which works on its request.
    pub(crate) fn is_worked_for(&self) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Working, now));
    }

    /// Marks the connection as carrying the stream of a watcher.
    pub(crate) fn streams(&self) {
        self.clients.change(None, |state, now| state.ledger.turn(self.id, Phase::Streaming, now));
    }

    /// Marks that a write to the client starts to block (`true`) or makes progress.
    pub(crate) fn stalls(&self, stalls: bool) {
        self.clients.change(None, |state, now| state.ledger.stalled(self.id, stalls.then_some(now)));
    }

    /// Returns a reservation of 0 of a pool, to be increased with [`Reservation::more`].
    pub(crate) fn nothing(self: &Arc<Self>, pool: Pool) -> Reservation {
        Reservation { client: self.clone(), pool, amount: 0 }
    }

    /// Takes room for an answer of this many bytes, if it is free and no connection waits for room; otherwise `None`.
    pub(crate) fn answer_now(self: &Arc<Self>, bytes: usize) -> Option<Reservation> {
        let pool = Pool::Answers;
        let granted = self.clients.change(None, |state, _| state.ledger.take_now(self.id, bytes));
        granted.then(|| Reservation { client: self.clone(), pool, amount: bytes })
    }

    /// Waits for room for an answer of this many bytes, until `until` at the latest; `None`: no room, or this
    /// connection was asked to close.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        bytes: usize,
        until: Option<Instant>,
    ) -> Option<Reservation> {
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

impl Reservation {
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Increases the held amount by `amount`, waiting until `until` at the latest (`None`: no time limit). Returns
    /// whether it succeeded.
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

    /// Reduces the held amount to `amount`, if it is larger.
    pub(crate) fn keep(&mut self, amount: usize) {
        let Some(rest) = self.amount.checked_sub(amount).filter(|rest| *rest > 0) else { return };
        self.amount = amount;
        let (id, pool) = (self.client.id, self.pool);
        self.client.clients.change(Some(pool), |state, _| state.ledger.give_back(id, pool, rest));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// A guard of a connection that waits for room; dropping it ends the wait.
struct Waiting<'a>(&'a Client);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.clients.change(None, |state, _| state.ledger.give_up(self.0.id));
    }
}

/// Bytes to send, with the reservation of the room that they occupy. It is released when the bytes have been sent.
pub(crate) struct Charged<B> {
    pub(crate) bytes: B,
    pub(crate) _room: Reservation,
}

impl<B: AsRef<[u8]>> AsRef<[u8]> for Charged<B> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}
