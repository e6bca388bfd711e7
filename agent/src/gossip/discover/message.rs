//! The queries and answers of discovery: DNS messages, compatible with Serf's agents.
//!
//! A query asks for the service `_serf_NAME._tcp.local`. One message answers all: the service instance (PTR), its
//! port and host (SRV), the host's address (A or AAAA), and a text (TXT), without which Serf's agents consider the
//! answer incomplete.

use simple_dns::rdata::{A, AAAA, PTR, RData, SRV, TXT};
use simple_dns::{
    CLASS, Label, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, ResourceRecord, TYPE,
};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// UDP port of multicast DNS.
pub(super) const PORT: u16 = 5353;
/// Time to live of the records in an answer, in seconds, as with Serf's agents.
const TTL_S: u32 = 120;
/// Maximum length of a DNS label, in bytes.
const MAX_LABEL_LEN: usize = 63;
/// Maximum number of members' addresses taken from one answer packet.
const MAX_FOUND: usize = 16;

/// The multicast DNS service that agents with one `--discover` name offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    cluster: String,
    name: Name<'static>,
}

/// A parsed query for a service, to be answered.
#[derive(Debug)]
pub(super) struct Asked {
    id: u16,
    question: Question<'static>,
}

impl Asked {
    /// Whether the answer goes to the asker alone: the query requests it, or comes from a port other than that of
    /// multicast DNS.
    pub(super) fn is_unicast(&self, from: SocketAddr) -> bool {
        self.question.unicast_response || from.port() != PORT
    }
}

impl Service {
    /// Returns the service of agents started with `--discover CLUSTER`; `None` if that is not a valid name.
    pub(super) fn new(cluster: &str) -> Option<Self> {
        // How Serf's agents treat other characters is not certain.
        let fits = |c: char| !c.is_whitespace() && !c.is_control() && c != '\\';
        if cluster.is_empty() || cluster.split('.').any(str::is_empty) || !cluster.chars().all(fits) {
            return None;
        }
        let text = format!("_serf_{cluster}._tcp.local");
        let name = Name::new(&text).ok()?.into_owned();
        Some(Self { cluster: cluster.to_owned(), name })
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the packet of a query for this service; `None`: it cannot be encoded.
    pub(super) fn question(&self) -> Option<Vec<u8>> {
        let mut packet = Packet::new_query(0);
        packet.questions.push(Question::new(
            self.name.clone(),
            QTYPE::TYPE(TYPE::PTR),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        packet.build_bytes_vec().ok()
    }

    /// Parses a packet as a query for this service; `None`: it is not one.
    pub(super) fn asked(&self, packet: &[u8]) -> Option<Asked> {
        let packet = Packet::parse(packet).ok()?;
        if packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
            return None;
        }
        let wants = |question: &&Question<'_>| {
            question.qname == self.name
                && matches!(question.qtype, QTYPE::TYPE(TYPE::PTR) | QTYPE::ANY)
                && matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY)
        };
        let question = packet.questions.iter().find(wants)?.clone().into_owned();
        Some(Asked { id: packet.id(), question })
    }

    /// Returns the packet which answers `asked`: the member named `member` is at the address `at`. `None`: it cannot be
    /// encoded.
    pub(super) fn answer(
        &self,
        asked: &Asked,
        member: &str,
        at: SocketAddr,
        unicast: bool,
    ) -> Option<Vec<u8>> {
        let label = Label::new(shortened(member).as_bytes().to_vec()).ok()?;
        let below = |name: &Name<'static>| {
            let labels = std::iter::once(&label).chain(name.get_labels()).cloned().map(Label::into_owned);
            Name::new_with_labels(&labels.collect::<Vec<_>>())
        };
        let (instance, host) = (below(&self.name), below(&Name::new("local").ok()?.into_owned()));
        let address = match at.ip() {
            IpAddr::V4(ip) => RData::A(A::from(ip)),
            IpAddr::V6(ip) => RData::AAAA(AAAA::from(ip)),
        };
        let text = format!("Serf '{}' cluster", self.cluster);
        let server = SRV { priority: 10, weight: 1, port: at.port(), target: host.clone() };
        // An asker on another port may be a plain DNS client: the answer repeats its query.
        let mut packet = Packet::new_reply(if unicast { asked.id } else { 0 });
        packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        if unicast {
            packet.questions.push(Question { unicast_response: false, ..asked.question.clone() });
        }
        packet.answers = [
            (self.name.clone(), RData::PTR(PTR(instance.clone()))),
            (instance.clone(), RData::SRV(server)),
            (host, address),
            (instance, RData::TXT(TXT::new().with_string(&text).ok()?)),
        ]
        .into_iter()
        .map(|(name, data)| ResourceRecord::new(name, CLASS::IN, TTL_S, data))
        .collect();
        packet.build_bytes_vec().ok()
    }

    /// Returns the members' addresses in an answer packet, at most [`MAX_FOUND`]; empty if it is no answer for this
    /// service.
    pub(super) fn found(&self, packet: &[u8]) -> Vec<SocketAddr> {
        let Ok(packet) = Packet::parse(packet) else { return Vec::new() };
        if !packet.has_flags(PacketFlag::RESPONSE) {
            return Vec::new();
        }
        let records = || packet.answers.iter().chain(&packet.additional_records);
        let instances = records().filter_map(|record| match &record.rdata {
            RData::PTR(PTR(instance)) if record.name == self.name => Some(instance),
            _ => None,
        });
        let servers = instances.flat_map(|instance| {
            records().filter_map(move |record| match &record.rdata {
                RData::SRV(server) if record.name == *instance => Some((&server.target, server.port)),
                _ => None,
            })
        });
        let addresses = servers.flat_map(|(host, port)| {
            records().filter(move |record| record.name == *host).filter_map(move |record| {
                let ip: IpAddr = match &record.rdata {
                    RData::A(A { address }) => std::net::Ipv4Addr::from(*address).into(),
                    RData::AAAA(AAAA { address }) => Ipv6Addr::from(*address).into(),
                    _ => return None,
                };
                Some(SocketAddr::new(ip, port))
            })
        });
        let mut found = Vec::new();
        for address in addresses.filter(|address| can_be_joined(*address)).take(MAX_FOUND) {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }
}

/// Whether an address can be joined. Link-local addresses need an interface name, which answers do not contain.
fn can_be_joined(address: SocketAddr) -> bool {
    let ip = address.ip();
    let is_of_a_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !is_of_a_link
}

/// Returns the prefix of a member's name that fits into a DNS label.
fn shortened(member: &str) -> &str {
    let end = (0..=MAX_LABEL_LEN.min(member.len())).rev().find(|end| member.is_char_boundary(*end));
    member.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
