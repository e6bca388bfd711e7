//! Execution of requests by the member.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    Host, Level,
    connection::Connection,
    feeds::{self, EventFeed},
    keys, section,
};
use crate::{
    core::{KeyChange, QueryParams, Status},
    driver::{Error, Membership},
    rpc::{
        EventFilter, MAX_JOINS, MemberFilter, Request,
        message::{
            Ask, CoordinateReply, ForceLeave, Join, Joined, Keys, Member, Members, MembersFiltered, Respond,
            Stats,
        },
        refusal, reply, reply_with,
    },
    wire::{Text, field::Field},
};

/// Default port of members, for addresses in join requests that have none.
const GOSSIP_PORT: u16 = 7946;
/// Time limit for looking up the addresses of a host name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// Name prefix of members' internal queries, of which clients may send only [`PING`].
const INTERNAL_PREFIX: &str = "_serf_";
/// The only internal query that clients may send: members just acknowledge it.
const PING: &str = "_serf_ping";

/// Body of the reply to a request, or the error text of a refusal.
type Answer = Result<Body, String>;

/// Body of a reply, possibly empty, with the error text of its header; an empty text means success.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    error: String,
}

impl Body {
    fn of(body: &impl Field) -> Self {
        let mut bytes = Vec::new();
        body.encode(&mut bytes);
        Self { bytes, error: String::new() }
    }
}

fn told(error: Error) -> String {
    error.to_string()
}

impl<H: Host> Connection<H> {
    /// Executes a request and replies to it. Returns `false` if the connection is to end afterwards.
    pub(super) async fn execute(&mut self, seq: u64, request: Request) -> io::Result<bool> {
        let command = request.command();
        tracing::debug!(client = %self.client, command = command.name(), "an RPC request");
        match request {
            Request::Leave => return self.leave(seq).await,
            Request::Stream(stream) => self.stream(seq, &stream.kind).await?,
            Request::Monitor(monitor) => self.monitor(seq, &monitor.log_level).await?,
            Request::Query(ask) => self.query(seq, ask).await?,
            Request::Stop(stop) => {
                self.feeds.stop(stop.stop).await?;
                self.monitor = self.monitor.filter(|monitor| *monitor != stop.stop);
                self.writer.send(&reply(seq, "")).await?;
            }
            Request::Members => self.list(seq, &MembersFiltered::default()).await?,
            Request::MembersFiltered(wanted) => self.list(seq, &wanted).await?,
            request => {
                let bytes = match self.answer(request).await {
                    Ok(Body { bytes, error }) => [reply(seq, &error), bytes].concat(),
                    Err(error) => refusal(seq, command, &error),
                };
                self.writer.send(&bytes).await?;
            }
        }
        Ok(true)
    }

    /// Executes a request that takes a single reply, and returns that reply.
    async fn answer(&self, request: Request) -> Answer {
        let member = self.shared.host.member()?;
        match request {
            Request::Event(event) => {
                let payload = event.payload.0.unwrap_or_default();
                member.user_event(&event.name, &payload, event.coalesce).await.map_err(told)?;
            }
            Request::Respond(answer) => self.respond(&member, answer).await?,
            Request::Join(wanted) => return join(&member, wanted).await.map(|joined| Body::of(&joined)),
            Request::ForceLeave(ForceLeave { node, prune }) => {
                member.force_leave(&node, prune).await.map_err(told)?;
            }
            Request::Tags(change) => {
                let mut names = change.tags.keys().chain(change.delete_tags.as_slice());
                names.try_for_each(|name| self.shared.host.check_tag(name))?;
                let deleted = change.delete_tags.0.unwrap_or_default();
                member.update_tags(change.tags, deleted).await.map_err(told)?;
            }
            Request::InstallKey(change) => {
                return Ok(key_reply(keys::change(&member, &change.key, KeyChange::Install).await?));
            }
            Request::UseKey(change) => {
                return Ok(key_reply(keys::change(&member, &change.key, KeyChange::Use).await?));
            }
            Request::RemoveKey(change) => {
                return Ok(key_reply(keys::change(&member, &change.key, KeyChange::Remove).await?));
            }
            Request::ListKeys => return Ok(key_reply(keys::list(&member).await?)),
            Request::Stats => return Ok(Body::of(&self.stats(&member).await.map_err(told)?)),
            Request::GetCoordinate(wanted) => {
                let place = member.coordinate_of(&wanted.node).await.map_err(told)?;
                let known = place.is_some();
                let place = place.map(|place| place.to_wire()).unwrap_or_default();
                return Ok(Body::of(&CoordinateReply { place, known }));
            }
            // The remaining commands are handled elsewhere.
            _ => return Err("this command is not served here".into()),
        }
        Ok(Body::default())
    }

    async fn list(&self, seq: u64, wanted: &MembersFiltered) -> io::Result<()> {
        // Held until the list is written, because it can be large.
        let _place = self.shared.listings.acquire().await;
        let bytes = match self.members(wanted).await {
            Ok(members) => reply_with(seq, "", &members),
            Err(error) => reply_with(seq, &error, &Members { members: Vec::new().into() }),
        };
        self.writer.send(&bytes).await
    }

    async fn members(&self, wanted: &MembersFiltered) -> Result<Members, String> {
        let filter = MemberFilter::new(wanted).map_err(|error| error.to_string())?;
        let member = self.shared.host.member()?;
        let mut all = member.members().await.map_err(told)?;
        all.push(member.local_member().await.map_err(told)?);
        all.retain(|member| filter.matches(member));
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Members { members: all.iter().map(Member::from).collect::<Vec<_>>().into() })
    }

    async fn respond(&self, member: &Membership, answer: Respond) -> Result<(), String> {
        let query = self.asked.find(answer.id).ok_or("No pending queries matching ID")?;
        member.respond(&query, &answer.payload.0.unwrap_or_default()).await.map_err(told)
    }

    async fn stats(&self, member: &Membership) -> Result<Stats, Error> {
        let own = member.local_member().await?;
        let others = member.members().await?;
        let count = |status| others.iter().filter(|member| member.status == status).count().to_string();
        let times = member.lamport_times().await?;
        let encrypted = member.framing().await?.keyring.is_some();
        let queues = member.queue_depths().await?;
        let mut stats = self.shared.host.stats();
        let serf = section([
            ("health_score", member.health_score().await?.to_string()),
            ("coordinate_resets", member.stats().await?.coordinate_resets.to_string()),
            ("intent_queue", queues.intents.to_string()),
            ("query_queue", queues.queries.to_string()),
            ("event_queue", queues.events.to_string()),
            ("members", (others.len() + 1).to_string()),
            ("failed", count(Status::Failed)),
            ("left", count(Status::Left)),
            ("member_time", times.member.to_string()),
            ("event_time", times.event.to_string()),
            ("query_time", times.query.to_string()),
            ("encrypted", encrypted.to_string()),
        ]);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = section([
            ("os", std::env::consts::OS.to_owned()),
            ("arch", arch().to_owned()),
            ("cpu_count", cpus.to_string()),
        ]);
        stats.insert("agent".into(), [("name".into(), own.name)].into());
        // Agents list the commands started by events, even if there are none.
        stats.entry("event_handlers".into()).or_default();
        stats.insert("runtime".into(), runtime);
        stats.insert("serf".into(), serf);
        stats.insert("tags".into(), own.tags);
        Ok(stats)
    }

    /// Returns the error text if no subscription can be started under the request number `seq`: it is in use,
    /// or the connection has its maximum.
    fn room(&self, seq: u64) -> Result<(), String> {
        let most = self.shared.limits.subscriptions;
        if self.feeds.contains(seq) {
            return Err("Stream with given sequence exists".into());
        }
        if self.feeds.len() >= most {
            return Err(format!("too many subscriptions: a connection has at most {most}"));
        }
        Ok(())
    }

    async fn stream(&mut self, seq: u64, kind: &Text) -> io::Result<()> {
        let subscribed = async {
            self.room(seq)?;
            let filter = EventFilter::parse(kind).map_err(|error| error.to_string())?;
            let member = self.shared.host.member()?;
            let wants = move |record: &_| filter.takes(record);
            member.subscribe_coalesced(self.shared.limits.queue, wants).await.map_err(told)
        };
        let events = match subscribed.await {
            Ok(events) => events,
            Err(error) => return self.writer.send(&reply(seq, &error)).await,
        };
        self.writer.send(&reply(seq, "")).await?;
        let (client, writer, asked) = (self.client, self.writer.clone(), self.asked.clone());
        self.feeds.start(seq, |stopped| EventFeed { seq, client, writer, asked, events }.run(stopped));
        Ok(())
    }

    async fn monitor(&mut self, seq: u64, level: &Text) -> io::Result<()> {
        let subscribed = || {
            self.room(seq)?;
            let least = level.to_str().and_then(Level::parse).ok_or_else(|| {
                let shown: String = level.to_string().chars().take(40).collect();
                format!("Unknown log level: {}", shown.to_ascii_uppercase())
            })?;
            if self.monitor.is_some_and(|monitor| self.feeds.contains(monitor)) {
                return Err("Monitor already exists".to_owned());
            }
            let logs = self.shared.host.logs().ok_or("this agent does not give its log to monitors")?;
            Ok(logs.subscribe(least, self.shared.limits.queue))
        };
        let lines = match subscribed() {
            Ok(lines) => lines,
            Err(error) => return self.writer.send(&reply(seq, &error)).await,
        };
        self.writer.send(&reply(seq, "")).await?;
        let writer = self.writer.clone();
        self.monitor = Some(seq);
        self.feeds.start(seq, |stopped| feeds::lines(seq, writer, lines, stopped));
        Ok(())
    }

    async fn query(&mut self, seq: u64, ask: Ask) -> io::Result<()> {
        let asked = async {
            self.room(seq)?;
            let payload = ask.payload.0.unwrap_or_default();
            if ask.name.starts_with(INTERNAL_PREFIX.as_bytes()) && (ask.name != PING || !payload.is_empty()) {
                return Err(format!("Queries cannot contain the '{INTERNAL_PREFIX}' prefix"));
            }
            let params = QueryParams {
                nodes: ask.filter_nodes.0.unwrap_or_default(),
                tags: ask.filter_tags.into_iter().collect(),
                request_ack: ask.request_ack,
                relay_factor: ask.relay_factor,
                timeout: (ask.timeout_ns > 0).then(|| Duration::from_nanos(ask.timeout_ns)),
            };
            let member = self.shared.host.member()?;
            member.query(&ask.name, &payload, params).await.map_err(told)
        };
        let answers = match asked.await {
            Ok(answers) => answers,
            Err(error) => return self.writer.send(&reply(seq, &error)).await,
        };
        self.writer.send(&reply(seq, "")).await?;
        let writer = self.writer.clone();
        self.feeds.start(seq, |stopped| feeds::answers(seq, writer, answers, stopped));
        Ok(())
    }

    async fn leave(&mut self, seq: u64) -> io::Result<bool> {
        tracing::info!(client = %self.client, "an RPC client has this member leave");
        let left = self.shared.host.leave().await;
        let sent = self.writer.send(&reply(seq, left.as_ref().err().map_or("", String::as_str))).await;
        if left.is_ok() {
            // The process ends after this. First let the client read that it worked, even if it reads nothing.
            self.linger().await;
            self.shared.host.left();
        }
        sent.map(|()| left.is_err())
    }
}

/// Architecture of this machine in Go's terms, such as `amd64`, as Serf's agents report it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        arch => arch,
    }
}

fn key_reply(keys: Keys) -> Body {
    Body { error: keys.failure().unwrap_or_default(), ..Body::of(&keys) }
}

/// Contacts members, and returns how many answered; fails if none did.
async fn join(member: &Membership, wanted: Join) -> Result<Joined, String> {
    let names = wanted.existing.as_slice();
    if names.is_empty() || names.len() > MAX_JOINS {
        return Err(format!("1 to {MAX_JOINS} members are named to join"));
    }
    let (mut addresses, mut errors) = (Vec::new(), Vec::new());
    for name in names {
        match resolve(name).await {
            Ok(found) => addresses.extend(found),
            Err(error) => errors.push(format!("{name}: {error}")),
        }
    }
    addresses.truncate(MAX_JOINS);
    if addresses.is_empty() {
        return Err(format!("cannot join: {}", errors.join("; ")));
    }
    let joined = member.join(&addresses, !wanted.replay).await.map_err(told)?;
    Ok(Joined { num: u32::try_from(joined).unwrap_or(u32::MAX) })
}

/// Parses an address with or without a port, or looks up all addresses of a host name.
async fn resolve(name: &Text) -> io::Result<Vec<SocketAddr>> {
    let unreadable = || io::Error::other("this is no address: it is not UTF-8");
    let text = name.to_str().ok_or_else(unreadable)?;
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, GOSSIP_PORT)]);
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => {
            let port =
                port.parse().map_err(|_| io::Error::other("this is no address: write HOST or HOST:PORT"))?;
            (host, port)
        }
        None => (text, GOSSIP_PORT),
    };
    let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await??;
    let found: Vec<SocketAddr> = found.take(MAX_JOINS).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}
