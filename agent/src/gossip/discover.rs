//! Discovery of members by multicast DNS, compatible with Serf's `-discover`.
//!
//! Agents started with the same name offer the service `_serf_NAME._tcp.local` and query for it: repeatedly while
//! alone, then once a minute, so that two groups that started apart merge. Answers are not authenticated: they only
//! suggest addresses to join, and the gossip keys decide who gets in.

mod message;
mod sockets;

use super::joining::Told;
use super::{Gossip, GossipError, JoinTarget};
use crate::clock::Monotonic;
use crate::interface::NetworkInterface;
use kvgossip_membership::{Membership, Status};
use message::Service;
use sockets::{Family, Interface};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

/// First wait between queries of a member that is alone; it doubles up to [`ALONE_INTERVAL`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Interval between queries of a member that is among others, as with Serf's agents.
const INTERVAL: Duration = Duration::from_secs(60);
/// Longest interval between queries of a member that is alone.
const ALONE_INTERVAL: Duration = Duration::from_secs(10);
/// Time for which the answers to a query are gathered, as with Serf's agents.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Maximum number of members' addresses gathered per query.
const MAX_FOUND: usize = 64;
/// Maximum number of answers per second, so that a flood of queries does not cause a flood of answers.
const MAX_ANSWERS_PER_SECOND: u32 = 100;
/// Maximum size of a multicast DNS packet, in bytes.
const MAX_PACKET: usize = 9000;
/// Pause after a socket error, so that the task does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The `--discover` name of the members to find, and the network interface to query on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    service: Service,
    interface: Interface,
}

/// The error for a text that is not a name for `--discover`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name for discovery: it has 1 to 57 bytes, and no spaces or backslashes")]
pub struct ParseDiscoverError(String);

impl FromStr for Discover {
    type Err = ParseDiscoverError;

    fn from_str(text: &str) -> Result<Self, ParseDiscoverError> {
        let service = Service::new(text).ok_or_else(|| ParseDiscoverError(text.to_owned()))?;
        Ok(Self { service, interface: Interface::default() })
    }
}

impl Discover {
    /// Sets the interface to query on. Default: that of the listening address, or the system's choice.
    #[must_use]
    pub fn at(self, interface: &NetworkInterface) -> Self {
        Self { interface: Interface { v4: interface.v4(), index: interface.index }, ..self }
    }

    /// Sets the interface to that of the listening address, unless one is set.
    pub(super) fn beside(self, bind: SocketAddr) -> Self {
        if self.interface != Interface::default() || bind.ip().is_unspecified() {
            return self;
        }
        // The system lists only one address of the loopback interface.
        let found = NetworkInterface::with_address(bind.ip());
        let v4 = match bind.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => found.as_ref().and_then(NetworkInterface::v4),
        };
        Self { interface: Interface { v4, index: found.map_or(0, |found| found.index) }, ..self }
    }

    /// Opens the multicast DNS sockets; starts to answer queries for this name and to query for members of it.
    pub(super) fn start(self, gossip: &Gossip) -> Result<(), GossipError> {
        let families = [Family::V4, Family::V6];
        let mut failure = None;
        let mut listening = 0;
        for family in families {
            match family.listen(self.interface) {
                Ok(socket) => {
                    listening += 1;
                    gossip.spawn(gossip.clone().answer_questions(self.service.clone(), socket, family));
                }
                Err(error) => {
                    tracing::debug!(?family, %error, "multicast is not heard");
                    failure.get_or_insert(error);
                }
            }
        }
        if listening == 0
            && let Some(error) = failure
        {
            return Err(GossipError::Discover(error));
        }
        tracing::info!(name = self.service.cluster(), "looking for members by multicast");
        gossip.spawn(gossip.clone().keep_discovering(self));
        Ok(())
    }

    /// Sends a query for members of this name and gathers the addresses in the answers for a second, at most
    /// [`MAX_FOUND`].
    async fn find(&self) -> io::Result<BTreeSet<SocketAddr>> {
        let (v4, v6) = (self.send_question(Family::V4).await, self.send_question(Family::V6).await);
        let deadline = Instant::now() + ANSWER_TIME;
        let (v4, v6) = match (v4, v6) {
            (Err(error), Err(_)) => return Err(error),
            (v4, v6) => (v4.ok(), v6.ok()),
        };
        let mut found = BTreeSet::new();
        let mut gather = |packet: Option<&[u8]>| {
            let more = self.service.found(packet.unwrap_or_default());
            found.extend(more.into_iter().take(MAX_FOUND.saturating_sub(found.len())));
        };
        let (mut in_v4, mut in_v6) = (vec![0; MAX_PACKET], vec![0; MAX_PACKET]);
        loop {
            let received = async {
                tokio::select! {
                    received = receive(v4.as_ref(), &mut in_v4) => received.map(|len| (len, Family::V4)),
                    received = receive(v6.as_ref(), &mut in_v6) => received.map(|len| (len, Family::V6)),
                }
            };
            let received = timeout_at(deadline, received).await;
            match received {
                Err(_) => break,
                Ok(Ok((len, Family::V4))) => gather(in_v4.get(..len)),
                Ok(Ok((len, Family::V6))) => gather(in_v6.get(..len)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "answers to multicast are not heard");
                    sleep(ERROR_PAUSE).await;
                }
            }
        }
        Ok(found)
    }

    async fn send_question(&self, family: Family) -> io::Result<UdpSocket> {
        let socket = family.ask(self.interface)?;
        let question = self.service.question().ok_or_else(|| io::Error::other("the question has no form"))?;
        socket.send_to(&question, family.group()).await?;
        Ok(socket)
    }
}

/// Receives a packet into `packet` and returns its length; never completes without a socket.
async fn receive(socket: Option<&UdpSocket>, packet: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(packet).await,
        None => std::future::pending().await,
    }
}

impl Gossip {
    /// Answers queries for members of the `--discover` name of `service`, until this member is gone.
    async fn answer_questions(self, service: Service, socket: UdpSocket, family: Family) {
        let mut packet = vec![0; MAX_PACKET];
        let (mut since, mut answers) = (Instant::now(), 0);
        loop {
            let (len, from) = match socket.recv_from(&mut packet).await {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "multicast is not heard");
                    sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let Some(asked) = service.asked(packet.get(..len).unwrap_or_default()) else { continue };
            if since.elapsed() >= Duration::from_secs(1) {
                (since, answers) = (Instant::now(), 0);
            }
            answers += 1;
            if answers > MAX_ANSWERS_PER_SECOND {
                continue;
            }
            let Ok(member) = self.member() else { return };
            let Ok(own) = member.local_member().await else { return };
            let unicast = asked.is_unicast(from);
            let to = if unicast { from } else { family.group() };
            let Some(answer) = service.answer(&asked, &own.name.to_string(), own.addr, unicast) else {
                continue;
            };
            if let Err(error) = socket.send_to(&answer, to).await {
                tracing::debug!(%error, %to, "a question of multicast is not answered");
            }
        }
    }

    /// Discovers members with the `--discover` name of this agent, and joins those that are unknown.
    async fn keep_discovering(self, discover: Discover) {
        let clock = Monotonic::start();
        let (mut wait, mut told) = (FIRST_WAIT, Told::default());
        loop {
            let Ok(member) = self.member() else { return };
            let Ok(alive) = member.alive_count().await else { return };
            let alone = alive < 2;
            let failure = match self.join_found(&discover, &member, alone).await {
                Ok(()) => None,
                Err(error @ (GossipError::Left | GossipError::NameLost(_))) => {
                    return tracing::debug!("members are not looked for any more: {error}");
                }
                Err(error) => Some(error.to_string()),
            };
            match failure {
                Some(failure) if told.warns(&failure, Duration::from_micros(clock.now_us())) => {
                    tracing::warn!("no member is found yet, looking on: {failure}");
                }
                Some(failure) => tracing::debug!("still no member is found: {failure}"),
                None => {}
            }
            if alone {
                let jitter = Duration::from_millis(crate::peers::random() % 500);
                sleep(wait + jitter).await;
                wait = (wait * 2).min(ALONE_INTERVAL);
            } else {
                (wait, told) = (FIRST_WAIT, Told::default());
                self.sleep_in_company(&member).await;
            }
        }
    }

    /// Sleeps until the next query is due, or until no other member is left.
    async fn sleep_in_company(&self, member: &Membership) {
        let until = Instant::now() + INTERVAL;
        while Instant::now() < until && member.alive_count().await.is_ok_and(|alive| alive >= 2) {
            sleep(super::joining::LOOK).await;
        }
    }

    async fn join_found(
        &self,
        discover: &Discover,
        member: &Arc<Membership>,
        alone: bool,
    ) -> Result<(), GossipError> {
        let found = discover.find().await.map_err(GossipError::Discover)?;
        let own = [member.local_member().await?.addr, self.inner.address];
        let members = member.members().await?;
        let known: BTreeSet<SocketAddr> =
            members.iter().filter(|other| other.status == Status::Alive).map(|other| other.addr).collect();
        let new = found.into_iter().filter(|address| !own.contains(address) && !known.contains(address));
        let targets: Vec<JoinTarget> = new.map(JoinTarget::from).collect();
        if targets.is_empty() {
            if !alone {
                // All that answered are members already.
                self.inner.directory.set_joined();
                return Ok(());
            }
            let why = format!("nobody on this network answers to {:?}", discover.service.cluster());
            let error = GossipError::Join(why);
            self.note_unfound(&error);
            return Err(error);
        }
        let joined = self.join(&targets).await;
        self.note_joined(joined.as_ref(), alone);
        let joined = joined?;
        tracing::info!(members = joined.answered, "joined members that were found by multicast");
        Ok(())
    }
}
