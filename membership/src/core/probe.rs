//! Probing: foca decides which member to probe and when; this module matches pings with their acks, and helps
//! other members with their probes.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use foca::ProbeNumber;

use super::{
    Coordinate, Core, Transmit,
    glue::{self, Id},
    purpose::Purpose,
    swim::foca_incarnation,
    table::Health,
    timers::Due,
};
use crate::wire::{
    Text,
    memberlist::{Ack, IndirectPing, Message, Nack, Ping, ip_bytes, parse_addr},
};

/// Maximum number of concurrent pings sent on behalf of other members; further requests are rejected.
pub(super) const MAX_RELAYS: usize = 1024;
/// One more than the greatest health score, and so the maximum factor of probe timeouts.
const MAX_SCORE: u32 = 8;
/// First version of memberlist's protocol whose members answer pings over TCP.
const TCP_PING_SINCE: u8 = 3;
/// First version of memberlist's protocol whose members send a nack if the target of an indirect ping does not
/// answer.
const NACK_SINCE: u8 = 4;

/// Running probe of one member; foca runs one probe at a time.
#[derive(Debug)]
struct Current {
    id: Id,
    number: ProbeNumber,
    seq_no: u32,
    sent_at: Duration,
    acked: bool,
    nacks_expected: u32,
    nacks: u32,
}

/// Ping sent on behalf of another member, whose ack is to be forwarded.
#[derive(Debug)]
struct Relay {
    to: SocketAddr,
    seq_no: u32,
    nack: bool,
}

/// Path on which an ack arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AckPath {
    Udp(SocketAddr),
    Tcp,
}

#[derive(Debug)]
pub(super) struct Probes {
    current: Option<Current>,
    relays: HashMap<u32, Relay>,
    next_relay: u32,
    /// Lifeguard's local health score, from 0 (healthy) to 7: the higher, the less healthy this member is.
    score: u32,
}

impl Probes {
    pub(super) fn new(first_relay: u32) -> Self {
        Self { current: None, relays: HashMap::new(), next_relay: first_relay, score: 0 }
    }

    /// Returns the duration of a foca timer: probe timers are multiplied by the health score plus one, because
    /// a member in bad health gives others more time.
    pub(super) fn stretch(&self, timer: &foca::Timer<Id>, after: Duration) -> Duration {
        match timer {
            foca::Timer::ProbeRandomMember(_) | foca::Timer::SendIndirectProbe { .. } => {
                after * (self.score + 1)
            }
            _ => after,
        }
    }

    /// Lifeguard's local health score, from 0 (healthy) to 7.
    pub(super) fn score(&self) -> u32 {
        self.score
    }

    #[cfg(test)]
    pub(super) fn last_relay(&self) -> u32 {
        self.next_relay
    }

    pub(super) fn worse(&mut self, by: u32) {
        self.score = (self.score + by).min(MAX_SCORE - 1);
    }

    /// Records the ping of a probe that foca has started.
    pub(super) fn started(&mut self, now: Duration, id: &Id, number: ProbeNumber, ping: Option<&Vec<u8>>) {
        let Some(Ok(Message::Ping(ping))) = ping.map(|bytes| Message::decode(bytes)) else { return };
        self.current = Some(Current {
            id: id.clone(),
            number,
            seq_no: ping.seq_no,
            sent_at: now,
            acked: false,
            nacks_expected: 0,
            nacks: 0,
        });
    }

    /// Records that foca asked `helper` to ping the target of the running probe.
    pub(super) fn expect_nack(&mut self, helper: &Id) {
        if let Some(current) = &mut self.current {
            current.nacks_expected += u32::from(helper.info.vsn[1] >= NACK_SINCE);
        }
    }

    pub(super) fn on_nack(&mut self, seq_no: u32) {
        if let Some(current) = self.current.as_mut().filter(|current| current.seq_no == seq_no) {
            current.nacks += 1;
        }
    }
}

impl Core {
    /// Answers a ping for this member from any sender; foca would not answer strangers.
    pub(super) fn on_ping(&mut self, now: Duration, from: SocketAddr, ping: &Ping) {
        if !ping.node.is_empty() && *ping.node != *self.own.info.name {
            return;
        }
        let source = ping.source_addr.as_deref().and_then(|addr| parse_addr(addr, ping.source_port));
        let ack = Ack { payload: Some(self.vivaldi.own.to_payload()), seq_no: ping.seq_no };
        self.send_along(source.unwrap_or(from), &Message::Ack(ack));
        // A member that counts as dead here may not know it, and still pings.
        let slot = match ping.source_node.as_bytes() {
            [] => self.table.slot_at(from),
            name => self.table.slot(name),
        };
        if let Some(slot) = slot {
            self.tell_dead(now, slot, source.unwrap_or(from));
        }
    }

    pub(super) fn on_indirect_ping(&mut self, now: Duration, from: SocketAddr, request: &IndirectPing) {
        let Some(target) = parse_addr(&request.target, request.port) else { return };
        // Only members are pinged, so that this cannot be used to scan other machines.
        if self.table.slot_at(target).is_none() || self.probes.relays.len() >= MAX_RELAYS {
            self.stats.rejected += 1;
            return;
        }
        let source = request.source_addr.as_deref().and_then(|addr| parse_addr(addr, request.source_port));
        let relay = Relay { to: source.unwrap_or(from), seq_no: request.seq_no, nack: request.nack };
        self.probes.next_relay = self.probes.next_relay.wrapping_add(1);
        let seq_no = self.probes.next_relay;
        self.probes.relays.insert(seq_no, relay);
        self.timers.add(now + self.config.timing.probe_timeout, Due::Relay(seq_no));
        let ping = self.ping(request.node.clone(), seq_no);
        self.send_along(target, &Message::Ping(ping));
    }

    fn ping(&self, node: Text, seq_no: u32) -> Ping {
        let own = &self.own.info;
        Ping {
            node,
            seq_no,
            source_addr: Some(ip_bytes(own.addr.ip())),
            source_node: own.name.clone(),
            source_port: own.addr.port(),
        }
    }

    pub(super) fn relay_due(&mut self, seq_no: u32) {
        if let Some(relay) = self.probes.relays.remove(&seq_no)
            && relay.nack
        {
            self.send_along(relay.to, &Message::Nack(Nack { seq_no: relay.seq_no }));
        }
    }

    pub(super) fn on_ack(&mut self, now: Duration, ack: &Ack, path: AckPath) {
        let seq_no = ack.seq_no;
        if let Some(current) = self.probes.current.as_mut().filter(|c| c.seq_no == seq_no && !c.acked) {
            current.acked = true;
            let (id, number, sent_at) = (current.id.clone(), current.number, current.sent_at);
            self.probes.score = self.probes.score.saturating_sub(1);
            self.stats.answered_probes += 1;
            self.stats.tcp_acks += u64::from(path == AckPath::Tcp);
            self.measure(&id, path, now.saturating_sub(sent_at), ack.payload.as_deref());
            // Only a member that could read the ping knows its number, even if the ack came through helpers.
            if let Some(peer) = self.table.get_mut(id.slot).filter(|peer| peer.generation == id.generation) {
                peer.answered = super::Answered::Yes;
            }
            let Some(peer) = self.current(&id) else { return };
            let data = glue::ack_data(&id, foca_incarnation(peer), number);
            self.drive(now, |foca, outbox| foca.handle_data(&data, outbox));
        } else if path != AckPath::Tcp
            && let Some(relay) = self.probes.relays.remove(&seq_no)
        {
            self.send_along(relay.to, &Message::Ack(Ack { payload: None, seq_no: relay.seq_no }));
        }
    }

    fn measure(&mut self, id: &Id, path: AckPath, rtt: Duration, payload: Option<&[u8]>) {
        // An ack through helpers includes their delay.
        if path != AckPath::Udp(id.info.addr) {
            return;
        }
        let Some(peer) = self.table.get_mut(id.slot).filter(|peer| peer.generation == id.generation) else {
            return;
        };
        peer.rtt = Some(peer.rtt.map_or(rtt, |smooth| (smooth * 7 + rtt) / 8));
        match payload.filter(|payload| !payload.is_empty()).map(Coordinate::from_payload) {
            Some(Ok(place)) => {
                let remote = peer.remote.get_or_insert_default();
                self.vivaldi.observe(remote, place, rtt, &mut self.rng);
            }
            Some(Err(_)) => self.stats.malformed += 1,
            None => {}
        }
    }

    /// Pings the target of the running probe over TCP if the direct ping got no answer, because UDP may be lost
    /// or filtered where TCP is not. In a cluster of two, foca's indirect probes cannot help.
    pub(super) fn tcp_fallback(&mut self, now: Duration, id: &Id) {
        let Some(current) = self.probes.current.as_ref().filter(|c| c.id == *id && !c.acked) else { return };
        let seq_no = current.seq_no;
        let wanted = self
            .current(id)
            .is_some_and(|peer| peer.health.is_active() && peer.info.vsn[1] >= TCP_PING_SINCE);
        if wanted {
            let ping = self.ping(id.info.name.clone(), seq_no);
            self.start_stream(now, id.info.addr, Purpose::Ping(seq_no), ping.into());
        }
    }

    /// Handles a probe that nobody answered: this member suspects its target now.
    pub(super) fn probe_failed(&mut self, now: Duration, number: ProbeNumber, id: &Id) {
        if let Some(current) = self.probes.current.take_if(|c| c.number == number && c.id == *id) {
            // Helpers that sent nothing either indicate a fault on this side.
            let missing = current.nacks_expected.saturating_sub(current.nacks);
            self.probes.worse(if current.nacks_expected > 0 { missing } else { 1 });
        }
        let own = self.own.info.name.clone();
        let Some(peer) = self.table.get_mut(id.slot).filter(|p| p.generation == id.generation) else {
            return;
        };
        match peer.health {
            Health::Alive => {
                peer.from = None;
                self.start_suspicion(now, id.slot, own);
            }
            // This member's suspicion confirms that of others.
            Health::Suspect => {
                let suspect = crate::wire::memberlist::Suspect {
                    from: own,
                    incarnation: peer.incarnation,
                    node: peer.info.name.clone(),
                };
                self.on_suspect(now, None, &suspect);
            }
            Health::Dead | Health::Left => {}
        }
    }

    /// Asks the caller to close the connection of an exchange.
    pub(super) fn close(&mut self, stream: super::StreamId) {
        self.transmit(Transmit::Close { stream });
    }
}
