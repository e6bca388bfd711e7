//! Task that owns the core.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};

use super::{
    Answer, Answers, Link, LinkFilter, MAX_SUBSCRIBERS, Options, QUERY_CAPACITY,
    feed::{Feed, Feeds, Wants},
    snapshot,
    stream::{self, Input, Limits, Output},
};
use crate::{
    core::{CommandError, Core, Event, QueryId, Stats, StreamId, Transmit},
    rpc::{Coalesced, Coalescer},
};

/// Closure that the driver's task runs on its [`Actor`].
pub(super) type Command = Box<dyn FnOnce(&mut Actor) + Send>;

/// Maximum number of chunks from TCP connections that wait for the core.
const INPUT_CAPACITY: usize = 64;
/// Maximum size of a datagram that is received, in bytes.
const MAX_DATAGRAM: usize = 64 * 1024;
/// Maximum total size of replies that are being written to TCP connections, in KiB. Each reply may hold the
/// state of the whole cluster, and the client need not read it. A single larger reply is always allowed.
const MAX_REPLIES_KIB: u32 = 64 * 1024;
/// Interval between writes of the snapshot file, if it has changed.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after an error of the UDP socket or the TCP listener itself, so that the task does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(20);

/// Destination of the answers to one query.
struct Asker {
    sender: mpsc::Sender<Answer>,
    /// Number of answers to this query dropped because the receiver did not take them in time.
    lost: u64,
}

pub(super) struct Actor {
    core: Core,
    started: Instant,
    udp: UdpSocket,
    /// Events for the application.
    events: Feed<Event>,
    /// Unmerged events for subscribers other than the application.
    subscribers: Feeds<Event>,
    coalescer: Coalescer,
    /// Merged events, for subscribers that want [`Coalesced`] records.
    merged: Feeds<Coalesced>,
    filter: Option<LinkFilter>,
    streams: HashMap<StreamId, Output>,
    inputs: (mpsc::Sender<Input>, mpsc::Receiver<Input>),
    limits: Limits,
    replies: Arc<Semaphore>,
    /// Number of events, answers and replies that the driver dropped because a receiver was full or gone, or
    /// too many replies were being written.
    dropped: u64,
    joins: HashMap<StreamId, oneshot::Sender<Option<String>>>,
    leaves: Vec<oneshot::Sender<()>>,
    queries: HashMap<QueryId, Asker>,
    snapshot: Option<(PathBuf, Vec<u8>)>,
}

impl Actor {
    pub(super) fn new(core: Core, udp: UdpSocket, events: mpsc::Sender<Event>, options: &Options) -> Self {
        Self {
            core,
            started: Instant::now(),
            udp,
            events: Feed::new(events, None),
            subscribers: Feeds::default(),
            coalescer: Coalescer::default(),
            merged: Feeds::default(),
            filter: options.link_filter.clone(),
            streams: HashMap::new(),
            inputs: mpsc::channel(INPUT_CAPACITY),
            limits: Limits { timeout: options.timing.stream_timeout },
            replies: Arc::new(Semaphore::new(MAX_REPLIES_KIB as usize)),
            dropped: 0,
            joins: HashMap::new(),
            leaves: Vec::new(),
            queries: HashMap::new(),
            snapshot: options.snapshot.clone().map(|path| (path, Vec::new())),
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn with_core<T>(&mut self, act: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let now = self.now();
        act(&mut self.core, now)
    }

    /// Counters of the core since its start; `dropped` includes what the driver dropped.
    pub(super) fn stats(&self) -> Stats {
        let stats = self.core.stats();
        Stats { dropped: stats.dropped + self.dropped, ..stats }
    }

    pub(super) fn join(
        &mut self,
        addr: SocketAddr,
        ignore_old: bool,
    ) -> Result<oneshot::Receiver<Option<String>>, CommandError> {
        let id = self.with_core(|core, now| core.join(now, addr, ignore_old))?;
        let (sender, receiver) = oneshot::channel();
        self.joins.insert(id, sender);
        Ok(receiver)
    }

    pub(super) fn leave(&mut self) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        self.leaves.push(sender);
        self.with_core(|core, now| core.leave(now));
        receiver
    }

    pub(super) fn query(
        &mut self,
        ask: impl FnOnce(&mut Core, Duration) -> Result<QueryId, CommandError>,
    ) -> Result<Answers, CommandError> {
        let id = self.with_core(ask)?;
        let (sender, receiver) = mpsc::channel(QUERY_CAPACITY);
        self.queries.insert(id, Asker { sender, lost: 0 });
        Ok(Answers { id, receiver })
    }

    fn check_subscriptions(&mut self) -> Result<(), CommandError> {
        let listening = self.subscribers.listening() + self.merged.listening();
        if listening >= MAX_SUBSCRIBERS { Err(CommandError::Busy("subscriptions")) } else { Ok(()) }
    }

    pub(super) fn subscribe(
        &mut self,
        capacity: usize,
        wants: Wants<Event>,
    ) -> Result<mpsc::Receiver<Event>, CommandError> {
        self.check_subscriptions()?;
        Ok(self.subscribers.add(capacity, wants))
    }

    pub(super) fn subscribe_merged(
        &mut self,
        capacity: usize,
        wants: Wants<Coalesced>,
    ) -> Result<mpsc::Receiver<Coalesced>, CommandError> {
        self.check_subscriptions()?;
        Ok(self.merged.add(capacity, wants))
    }

    /// Runs until the last handle is dropped.
    pub(super) async fn run(mut self, tcp: TcpListener, mut commands: mpsc::Receiver<Command>) {
        let mut datagram = vec![0; MAX_DATAGRAM];
        let mut snapshots = tokio::time::interval(SNAPSHOT_INTERVAL);
        snapshots.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.settle().await;
            let due = self.core.poll_timeout().into_iter().chain(self.coalescer.poll_timeout()).min();
            let due = due.map(|at| self.started + at);
            let due = tokio::time::sleep_until(due.unwrap_or_else(|| Instant::now() + SNAPSHOT_INTERVAL));
            tokio::select! {
                received = self.udp.recv_from(&mut datagram) => match received {
                    Ok((len, from)) => self.datagram(from, datagram.get(..len).unwrap_or_default()),
                    Err(error) => self.pause("receive", &error).await,
                },
                accepted = tcp.accept() => match accepted {
                    Ok((socket, from)) => self.accepted(socket, from),
                    Err(error) => self.pause("accept", &error).await,
                },
                Some(input) = self.inputs.1.recv() => self.input(input),
                command = commands.recv() => match command {
                    Some(command) => command(&mut self),
                    None => break,
                },
                () = due => {
                    self.with_core(Core::handle_timeout);
                    self.coalescer.handle_timeout(self.started.elapsed());
                }
                _ = snapshots.tick() => self.write_snapshot().await,
            }
        }
        self.coalescer.flush();
        self.tell_merged();
        self.write_last_snapshot();
    }

    async fn pause(&self, what: &str, error: &std::io::Error) {
        tracing::debug!(%error, "cannot {what}");
        tokio::time::sleep(ERROR_PAUSE).await;
    }

    fn passes(&self, link: Link) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(link))
    }

    fn datagram(&mut self, from: SocketAddr, payload: &[u8]) {
        if self.passes(Link::Udp(from)) {
            self.with_core(|core, now| core.handle_udp(now, from, payload));
        }
    }

    fn accepted(&mut self, socket: TcpStream, from: SocketAddr) {
        if !self.passes(Link::Tcp(from)) {
            return;
        }
        // Without an id there are too many connections; dropping the socket closes it.
        if let Some(id) = self.with_core(|core, now| core.accept(now, from)) {
            let output = stream::serve(socket, id, self.inputs.0.clone(), self.limits);
            self.streams.insert(id, output);
        }
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Bytes(id, bytes) => self.with_core(|core, now| core.handle_stream(now, id, &bytes)),
            Input::Closed(id, error) => {
                self.streams.remove(&id);
                self.with_core(|core, now| core.handle_stream_closed(now, id, error.as_deref()));
            }
        }
    }

    /// Carries out the core's transmissions and delivers its events, until there are none.
    async fn settle(&mut self) {
        while let Some(transmit) = self.core.poll_transmit() {
            self.transmit(transmit).await;
        }
        while let Some(event) = self.core.poll_event() {
            self.report(event);
        }
        self.tell_merged();
    }

    fn tell_merged(&mut self) {
        while let Some(record) = self.coalescer.poll() {
            self.dropped += self.merged.offer(&record);
        }
    }

    async fn transmit(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Udp { to, payload } => {
                // Datagrams may be lost here as anywhere else.
                if self.passes(Link::Udp(to))
                    && let Err(error) = self.udp.send_to(&payload, to).await
                {
                    tracing::debug!(%error, %to, "cannot send");
                }
            }
            Transmit::Connect { stream, to, payload } => {
                let to = Some(to).filter(|to| self.passes(Link::Tcp(*to)));
                let output = stream::connect(to, payload, stream, self.inputs.0.clone(), self.limits);
                self.streams.insert(stream, output);
            }
            Transmit::Reply { stream, payload } => {
                let Some(output) = self.streams.remove(&stream) else { return };
                let kib = u32::try_from(payload.len() / 1024 + 1)
                    .map_or(MAX_REPLIES_KIB, |kib| kib.min(MAX_REPLIES_KIB));
                match self.replies.clone().try_acquire_many_owned(kib) {
                    Ok(place) => output.reply(payload, place),
                    // Dropping the output closes the connection.
                    Err(_) => self.dropped += 1,
                }
            }
            Transmit::Close { stream } => {
                self.streams.remove(&stream);
            }
        }
    }

    fn report(&mut self, event: Event) {
        match event {
            Event::JoinFinished { join, ref error, .. } => {
                if let Some(waiting) = self.joins.remove(&join) {
                    let _ = waiting.send(error.clone());
                }
                self.emit(event);
            }
            Event::LeaveFinished => {
                self.leaves.drain(..).for_each(|waiting| {
                    let _ = waiting.send(());
                });
                self.emit(event);
            }
            Event::QueryAck { query, from } => self.answer(query, Answer::Ack(from)),
            Event::QueryResponse { query, from, payload } => {
                self.answer(query, Answer::Response { from, payload });
            }
            Event::QueryDone { query } => {
                if let Some(Asker { lost: 1.., .. }) = self.queries.remove(&query) {
                    tracing::warn!("answers to a query were thrown away: they were not taken in time");
                }
            }
            Event::FilterUnreadable { filter, asker } => {
                tracing::warn!(
                    filter,
                    asker = asker.to_string(),
                    "a query is not answered: this member cannot read its filter"
                );
            }
            event => self.emit(event),
        }
    }

    fn answer(&mut self, query: QueryId, answer: Answer) {
        let Some(asker) = self.queries.get_mut(&query) else { return };
        if let Err(error) = asker.sender.try_send(answer) {
            self.dropped += 1;
            asker.lost += u64::from(matches!(error, mpsc::error::TrySendError::Full(_)));
            tracing::debug!("an answer to a query is not awaited");
        }
    }

    fn emit(&mut self, event: Event) {
        self.dropped += self.subscribers.offer(&event);
        // Member changes are also recorded for subscribers that arrive later.
        if self.merged.listening() > 0 || !matches!(event, Event::UserEvent { .. } | Event::Query(_)) {
            self.coalescer.handle(self.now(), &event);
        }
        self.dropped += self.events.offer(event);
    }

    /// Returns the snapshot's path and new contents; `None` without a path, or if the contents equal those of
    /// the file.
    fn due_snapshot(&self) -> Option<(PathBuf, Vec<u8>)> {
        let (path, written) = self.snapshot.as_ref()?;
        let bytes = self.core.snapshot().encode();
        (bytes != *written).then(|| (path.clone(), bytes))
    }

    async fn write_snapshot(&mut self) {
        let Some((path, bytes)) = self.due_snapshot() else { return };
        let write = move || (snapshot::write(&path, &bytes), path, bytes);
        match tokio::task::spawn_blocking(write).await {
            Ok((Ok(()), path, bytes)) => self.snapshot = Some((path, bytes)),
            Ok((Err(error), path, _)) => tracing::warn!(%error, ?path, "cannot write the snapshot"),
            // The runtime is shutting down, and this task with it.
            Err(_) => {}
        }
    }

    /// Writes the snapshot when the driver ends, on this thread, because the runtime may stop before another
    /// one finishes.
    fn write_last_snapshot(&self) {
        let Some((path, bytes)) = self.due_snapshot() else { return };
        if let Err(error) = snapshot::write(&path, &bytes) {
            tracing::warn!(%error, ?path, "cannot write the snapshot");
        }
    }
}
