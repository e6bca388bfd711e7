//! Queries that members answer themselves: reachability, name conflicts, keys.

use std::{net::SocketAddr, time::Duration};

use super::{
    Core, Event, Query, QueryParams, Status, glue::Info, swim::CONFLICT_INTERVAL, types::CommandError,
};
use crate::wire::{
    Text,
    crypto::{Key, KeyError},
    memberlist::{ip_bytes, parse_addr},
    msgpack,
    serf::{self, ConflictResponse, KeyRequest, KeyResponse, decode_tags},
};

/// Name prefix of queries that members answer themselves and never pass to the application.
pub(super) const PREFIX: &[u8] = b"_serf_";
const CONFLICT: &[u8] = b"_serf_conflict";
const INSTALL_KEY: &[u8] = b"_serf_install-key";
const USE_KEY: &[u8] = b"_serf_use-key";
const REMOVE_KEY: &[u8] = b"_serf_remove-key";
const LIST_KEYS: &[u8] = b"_serf_list-keys";

/// Query of this member for its own purpose: a vote on which members know its name at another address.
#[derive(Debug)]
pub(super) struct InternalQuery {
    own_addr: SocketAddr,
    other: SocketAddr,
    answers: usize,
    matching: usize,
}

impl InternalQuery {
    pub(super) fn count(&mut self, payload: &[u8]) {
        let Ok(member) = serf::decode_tagged::<ConflictResponse>(serf::kind::CONFLICT_RESPONSE, payload)
        else {
            return;
        };
        self.answers += 1;
        self.matching += usize::from(parse_addr(&member.addr, member.port) == Some(self.own_addr));
    }
}

impl Core {
    /// Reports that another member uses this one's name, and starts a vote among all members; at most once per
    /// [`CONFLICT_INTERVAL`].
    pub(super) fn own_name_conflict(&mut self, now: Duration, other: &Info) {
        if self.conflict_at.is_some_and(|at| now < at + CONFLICT_INTERVAL) {
            return;
        }
        self.conflict_at = Some(now);
        let name = self.own.info.name.clone();
        let (other, tags) = (other.addr, decode_tags(&other.meta));
        self.emit(Event::NameConflict { name: name.clone(), other, tags });
        let vote = InternalQuery { own_addr: self.own.info.addr, other, answers: 0, matching: 0 };
        // Rejected if too many queries are running; the next conflict asks again.
        if self.ask(now, CONFLICT, &name, &QueryParams::default(), Some(vote)).is_err() {
            self.stats.rejected += 1;
        }
    }

    pub(super) fn internal_query_done(&mut self, _now: Duration, vote: InternalQuery) {
        // A majority of all live members, not of those that answer: a few fast ones must not be able to take a
        // name.
        let (others, against) = (self.alive_count().saturating_sub(1), vote.answers - vote.matching);
        if against > others / 2 {
            self.emit(Event::NameLost);
        } else if others == 0 {
            // Only the other claimant itself can have announced the name.
            self.emit(Event::NameClaimed { other: vote.other });
        }
    }

    pub(super) fn answer_internal(&mut self, now: Duration, query: &Query) {
        let answer = match query.name.as_bytes() {
            CONFLICT => self.conflict_answer(query),
            INSTALL_KEY | USE_KEY | REMOVE_KEY => Some(self.change_keys(&query.name, &query.payload)),
            LIST_KEYS => Some(self.list_keys(query.id)),
            // `_serf_ping` requires only the ack.
            _ => None,
        };
        if let Some(answer) = answer
            && self.respond(now, query, &answer).is_err()
        {
            self.stats.rejected += 1;
        }
    }

    fn conflict_answer(&mut self, query: &Query) -> Option<Vec<u8>> {
        let name = query.payload.as_slice();
        if *name == *self.own.info.name {
            if query.addr != self.own.info.addr {
                self.emit(Event::NameClaimed { other: query.addr });
            }
            // Both sides would claim the name.
            return None;
        }
        let Some(peer) = self.table.by_name(name) else {
            let mut nobody = vec![serf::kind::CONFLICT_RESPONSE];
            msgpack::write_nil(&mut nobody);
            return Some(nobody);
        };
        let [protocol_min, protocol_max, protocol_cur, delegate_min, delegate_max, delegate_cur] =
            peer.info.vsn;
        let member = ConflictResponse {
            addr: ip_bytes(peer.info.addr.ip()),
            delegate_cur,
            delegate_max,
            delegate_min,
            name: peer.info.name.clone(),
            port: peer.info.addr.port(),
            protocol_cur,
            protocol_max,
            protocol_min,
            status: match peer.status {
                Status::Alive => 1,
                Status::Leaving => 2,
                Status::Left => 3,
                Status::Failed => 4,
            },
            tags: decode_tags(&peer.info.meta),
        };
        Some(serf::encode_tagged(serf::kind::CONFLICT_RESPONSE, &member))
    }

    fn change_keys(&mut self, name: &[u8], payload: &[u8]) -> Vec<u8> {
        let result = self.try_change_keys(name, payload);
        if result.is_ok() {
            self.emit(Event::KeyringChanged);
        }
        let message = Text::from(result.err().unwrap_or_default());
        let response = KeyResponse { result: message.is_empty(), message, ..KeyResponse::default() };
        key_answer(&response)
    }

    fn try_change_keys(&mut self, name: &[u8], payload: &[u8]) -> Result<(), String> {
        let request = serf::decode_tagged::<KeyRequest>(serf::kind::KEY_REQUEST, payload)
            .map_err(|error| format!("cannot read the request: {error}"))?;
        let key = Key::new(&request.key.unwrap_or_default()).map_err(|error| error.to_string())?;
        let ring = self.config.framing.keyring.as_mut().ok_or("encryption is off: the keyring is empty")?;
        let changed: Result<(), KeyError> = match name {
            INSTALL_KEY => ring.install(key),
            USE_KEY => ring.use_key(&key),
            _ => ring.remove(&key),
        };
        changed.map_err(|error| error.to_string())?;
        if name == REMOVE_KEY {
            self.table.forget_answers();
        }
        Ok(())
    }

    /// Builds the response with all keys of the keyring, or as many as fit; a message in Serf's words then
    /// states the total.
    fn list_keys(&self, id: super::QueryId) -> Vec<u8> {
        let Some(ring) = &self.config.framing.keyring else {
            let message = "encryption is off: the keyring is empty".into();
            return key_answer(&KeyResponse { message, ..KeyResponse::default() });
        };
        let keys: Vec<Text> = ring.keys().iter().map(|key| key.to_base64().into()).collect();
        let primary_key = Text::from(ring.primary().to_base64());
        let answer = |shown: usize| {
            let message = match shown == keys.len() {
                true => Text::default(),
                false => format!("truncated key list response, showing first {shown} of {} keys", keys.len())
                    .into(),
            };
            let keys = keys.get(..shown).unwrap_or(&keys).to_vec().into();
            key_answer(&KeyResponse { keys, message, primary_key: primary_key.clone(), result: true })
        };
        let fits = |answer: &Vec<u8>| self.response_len(id, answer) <= self.config.limits.response;
        let most = (0..=keys.len()).rev().map(answer).find(fits);
        most.unwrap_or_else(|| key_answer(&KeyResponse::default()))
    }

    /// Asks all members, this one included, to change their keyrings. A [`KeyResponse`] of each arrives as its
    /// query response. Most callers only wait for [`Event::QueryDone`] and then list the keys.
    pub fn key_query(&mut self, now: Duration, change: KeyChange) -> Result<super::QueryId, CommandError> {
        self.check_staying()?;
        let (name, key) = match change {
            KeyChange::Install(key) => (INSTALL_KEY, key),
            KeyChange::Use(key) => (USE_KEY, key),
            KeyChange::Remove(key) => (REMOVE_KEY, key),
        };
        let request = KeyRequest { key: Some(key.as_bytes().to_vec()) };
        let payload = serf::encode_tagged(serf::kind::KEY_REQUEST, &request);
        let params = QueryParams { request_ack: true, ..QueryParams::default() };
        self.ask(now, name, &payload, &params, None)
    }

    /// Asks all members, this one included, for the keys in their keyrings. A [`KeyResponse`] of each arrives
    /// as its query response.
    pub fn list_keys_query(&mut self, now: Duration) -> Result<super::QueryId, CommandError> {
        self.check_staying()?;
        let payload = serf::encode_tagged(serf::kind::KEY_REQUEST, &KeyRequest::default());
        self.ask(now, LIST_KEYS, &payload, &QueryParams::default(), None)
    }
}

fn key_answer(response: &KeyResponse) -> Vec<u8> {
    serf::encode_tagged(serf::kind::KEY_RESPONSE, response)
}

/// Change of all members' keyrings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyChange {
    /// Add this key to each keyring, for decryption.
    Install(Key),
    /// Make this key of the keyring the one that encrypts.
    Use(Key),
    /// Remove this key from each keyring.
    Remove(Key),
}
