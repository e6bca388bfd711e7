//! Known members, by slot and by name.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{
    allowance::Allowance,
    coordinate::Remote,
    glue::{Id, Info},
    suspicion::Suspicion,
    types::{Answered, Member, Status},
};
use crate::wire::{Text, serf::decode_tags};

/// State of a member in memberlist's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Alive,
    Suspect,
    Dead,
    Left,
}

impl Health {
    pub(super) fn is_active(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: Arc<Info>,
    pub(super) generation: u64,
    /// Incarnation of the member as on the wire.
    pub(super) incarnation: u32,
    pub(super) health: Health,
    /// Time of the last change of `health`.
    pub(super) changed_at: Duration,
    /// Name of the member that suspects this one or declared it dead; `None` if this process's own member did,
    /// or nobody.
    pub(super) from: Option<Text>,
    pub(super) status: Status,
    pub(super) status_ltime: u64,
    pub(super) suspicion: Option<Suspicion>,
    /// Due time of the running suspicion timer; `None` if none is running.
    pub(super) suspicion_timer: Option<Duration>,
    pub(super) allowance: Allowance,
    /// Time when the member was last informed that it counts as dead; `None` if never.
    pub(super) told_at: Option<Duration>,
    /// Time when the member's name was last reported as contested; `None` if never.
    pub(super) conflict_at: Option<Duration>,
    pub(super) rtt: Option<Duration>,
    pub(super) answered: Answered,
    /// The member's network coordinate; `None` until one arrived in an ack.
    pub(super) remote: Option<Remote>,
}

impl Peer {
    pub(super) fn id(&self, slot: u32) -> Id {
        Id { slot, generation: self.generation, info: self.info.clone(), from: self.from.clone() }
    }

    pub(super) fn to_member(&self) -> Member {
        Member {
            name: self.info.name.clone(),
            addr: self.info.addr,
            tags: decode_tags(&self.info.meta),
            status: self.status,
            suspect: self.health == Health::Suspect,
            incarnation: self.incarnation,
            versions: self.info.vsn,
            rtt: self.rtt,
            answered: self.answered,
        }
    }
}

/// All members but this one, by slot. Slots are reused; generations distinguish their occupants.
#[derive(Debug, Default)]
pub(super) struct Table {
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    by_name: HashMap<Text, u32>,
    by_addr: HashMap<SocketAddr, u32>,
    /// Members that are dead or have left: the time of that change, and the slot.
    gone: BTreeSet<(Duration, u32)>,
    pub(super) lookups: u64,
    pub(super) active: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn slot(&mut self, name: &[u8]) -> Option<u32> {
        self.lookups += 1;
        self.by_name.get(name).copied()
    }

    pub(super) fn slot_at(&self, addr: SocketAddr) -> Option<u32> {
        self.by_addr.get(&addr).copied()
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Peer> {
        self.peers.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Peer> {
        self.peers.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn by_name(&self, name: &[u8]) -> Option<&Peer> {
        self.get(*self.by_name.get(name)?)
    }

    /// Iterates over all members with their slots, in the order of slots, which is deterministic for a given
    /// history.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Peer)> {
        (0u32..).zip(&self.peers).filter_map(|(slot, peer)| Some((slot, peer.as_ref()?)))
    }

    /// Slot of the member that has been dead, or has left, for the longest time.
    pub(super) fn longest_gone(&self) -> Option<u32> {
        self.gone.first().map(|(_, slot)| *slot)
    }

    pub(super) fn insert(&mut self, peer: Peer) -> u32 {
        let slot = self.free.pop().unwrap_or(self.peers.len() as u32);
        self.by_name.insert(peer.info.name.clone(), slot);
        self.by_addr.insert(peer.info.addr, slot);
        if peer.health.is_active() {
            self.active += 1;
        } else {
            self.gone.insert((peer.changed_at, slot));
        }
        match self.peers.get_mut(slot as usize) {
            Some(place) => *place = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        slot
    }

    /// Replaces the announced properties of the member in that slot.
    pub(super) fn set_info(&mut self, slot: u32, info: Info) {
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if peer.info.addr != info.addr {
            if self.by_addr.get(&peer.info.addr) == Some(&slot) {
                self.by_addr.remove(&peer.info.addr);
            }
            self.by_addr.insert(info.addr, slot);
        }
        peer.info = Arc::new(info);
    }

    pub(super) fn set_health(&mut self, slot: u32, health: Health, now: Duration) {
        let Some(peer) = self.peers.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if peer.health == health {
            return;
        }
        self.active -= usize::from(peer.health.is_active());
        self.gone.remove(&(peer.changed_at, slot));
        (peer.health, peer.changed_at) = (health, now);
        if health.is_active() {
            self.active += 1;
        } else {
            self.gone.insert((now, slot));
        }
    }

    /// Resets which members have proved that they have a key of the keyring, because a key was removed.
    pub(super) fn forget_answers(&mut self) {
        self.peers.iter_mut().flatten().for_each(|peer| peer.answered = Answered::NotSinceRemoval);
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Peer> {
        let peer = self.peers.get_mut(slot as usize)?.take()?;
        self.by_name.remove(peer.info.name.as_bytes());
        if self.by_addr.get(&peer.info.addr) == Some(&slot) {
            self.by_addr.remove(&peer.info.addr);
        }
        self.active -= usize::from(peer.health.is_active());
        self.gone.remove(&(peer.changed_at, slot));
        self.free.push(slot);
        Some(peer)
    }
}
