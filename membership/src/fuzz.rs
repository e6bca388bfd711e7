//! Bodies of the fuzz targets, one function per kind of input. For any input they must not panic, hang, or use
//! unbounded memory.

mod again;
mod names;
mod texts;

use std::{net::SocketAddr, time::Duration};

use crate::core::{Config, Core, Event, PACKET_SIZE, Query, QueryParams, StreamId, Transmit};
use crate::rpc::{self, AuthKey, Limits, Session, Step};
use crate::wire::{
    Framing,
    crypto::{Key, Keyring},
    memberlist, packet, serf,
    stream::{StreamDecoder, StreamMessage},
};

pub use names::fuzz_names;

/// Returns the framing selected by the bits of `selector`: label, keyring, compression.
fn framing(selector: u8) -> Framing {
    Framing {
        label: if selector & 1 == 0 { String::new() } else { "blue".to_owned() },
        keyring: (selector & 2 != 0).then(|| Key::new(&[7; 16]).map(Keyring::new).ok()).flatten(),
        compress: selector & 4 != 0,
    }
}

/// Fuzzes a datagram, with the framing selected by the first byte. All its contents are decoded, down to Serf's
/// messages and filters.
pub fn fuzz_udp(data: &[u8]) {
    let Some((selector, data)) = data.split_first() else { return };
    let Ok(decoded) = packet::decode(&framing(*selector), data) else { return };
    for message in decoded.messages {
        // A decoded message survives a round trip.
        assert_eq!(memberlist::Message::decode(&message.encode()).as_ref(), Ok(&message));
        match message {
            memberlist::Message::User(bytes) => fuzz_serf(&bytes),
            memberlist::Message::Alive(alive) => {
                serf::decode_tags(&alive.meta.unwrap_or_default());
            }
            _ => {}
        }
    }
}

/// Fuzzes a Serf message, as carried in a user message.
pub fn fuzz_serf(data: &[u8]) {
    let Ok(message) = serf::Message::decode(data) else { return };
    assert_eq!(serf::Message::decode(&message.encode()).as_ref(), Ok(&message));
    if let serf::Message::Query(query) = message {
        for filter in query.filters.as_slice() {
            let _ = serf::Filter::decode(filter);
        }
    }
}

/// Fuzzes a TCP stream, with the framing selected by the first byte, in chunks of the size given by the second
/// byte.
pub fn fuzz_tcp(data: &[u8]) {
    let [selector, chunk, data @ ..] = data else { return };
    let mut decoder = StreamDecoder::new(framing(*selector));
    for part in data.chunks(usize::from(*chunk).max(1)) {
        match decoder.push(part) {
            Ok(None) => {}
            Ok(Some(message)) => return fuzz_stream_message(message),
            Err(_) => return,
        }
    }
}

fn fuzz_stream_message(message: StreamMessage) {
    if let StreamMessage::PushPull(state) = message {
        for node in &state.nodes {
            serf::decode_tags(node.meta.as_deref().unwrap_or_default());
        }
        let _ = serf::decode_tagged::<serf::PushPull>(serf::kind::PUSH_PULL, &state.user_state);
    }
}

/// Fuzzes a connection of Serf's RPC, in chunks of the size given by the second byte. If the first byte is odd,
/// the key `secret` is required.
pub fn fuzz_rpc(data: &[u8]) {
    let [selector, chunk, data @ ..] = data else { return };
    let limits = Limits { request_bytes: 4096, ..Limits::default() };
    let chunk = usize::from(*chunk).max(1);
    let mut session = Session::new(&limits, (selector & 1 == 1).then(|| AuthKey::new(b"secret")).flatten());
    for part in data.chunks(chunk) {
        session.push(part);
        loop {
            match session.poll() {
                Ok(Some(Step::Request { seq, request })) => {
                    assert!(session.is_open(), "nothing passes before the handshake and the key");
                    // A decoded request survives a round trip.
                    let mut again = Session::new(&limits, None);
                    again.push(
                        &rpc::Request::Handshake(rpc::message::Handshake { version: rpc::VERSION }).encode(0),
                    );
                    assert!(matches!(again.poll(), Ok(Some(Step::Reply(_)))));
                    again.push(&request.encode(seq));
                    match again.poll() {
                        Ok(Some(step)) => assert_eq!(step, Step::Request { seq, request }),
                        // Missing fields are written too, so the request may have grown over the limit.
                        other => assert!(other.is_err(), "{other:?}"),
                    }
                }
                Ok(Some(Step::Reply(bytes) | Step::Last(bytes))) => {
                    assert!(rpc::message::ReplyHeader::decode(&bytes).is_ok());
                }
                Ok(None) => break,
                Err(_) => return assert_eq!(session.poll(), Ok(None)),
            }
        }
        assert!(session.waiting() <= limits.request_bytes + chunk);
    }
}

/// Maximum number of members in the fuzzed member's table.
const FUZZ_MEMBERS: usize = 32;

/// Fuzzes a whole member with a sequence of operations, each `[operation][length, two bytes][payload]`. The
/// member is named "fake" and has the address 127.77.0.9:7946, as in the captured fixtures.
pub fn fuzz_member(data: &[u8]) {
    let mut config = Config::new("fake", SocketAddr::from(([127, 77, 0, 9], 7946)));
    config.framing.compress = false;
    config.max_members = FUZZ_MEMBERS;
    let Ok(core) = Core::new(config, Duration::ZERO, [0; 32]) else { return };
    let mut world = World { core, now: Duration::ZERO, streams: Vec::new(), query: None };
    let mut rest = data;
    while let [operation, high, low, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(tail.len());
        let (payload, tail) = tail.split_at(len);
        world.operate(*operation, payload);
        world.settle();
        rest = tail;
    }
}

/// Fuzzed member, with its clock, its open exchanges and the last query that it received.
struct World {
    core: Core,
    now: Duration,
    streams: Vec<StreamId>,
    query: Option<Query>,
}

impl World {
    fn operate(&mut self, operation: u8, payload: &[u8]) {
        let now = self.now;
        let from = SocketAddr::from(([127, 77, 0, 1 + operation % 4], 7946));
        let text = payload.get(..20).unwrap_or(payload);
        // Errors are allowed; the member must stay consistent.
        match operation / 4 % 16 {
            0..=4 => self.core.handle_udp(now, from, payload),
            5 => self.streams.extend(self.core.accept(now, from)),
            6 | 7 => {
                if let Some(stream) = self.streams.last() {
                    self.core.handle_stream(now, *stream, payload);
                }
            }
            8 => {
                if let Some(stream) = self.streams.pop() {
                    self.core.handle_stream_closed(now, stream, None);
                }
            }
            9 | 10 => {
                self.now += Duration::from_millis(payload.len() as u64 * 40);
                self.core.handle_timeout(self.now);
            }
            11 => {
                let _ = self.core.join(now, from, operation & 1 == 0);
            }
            12 => {
                let _ = self.core.user_event(text, payload, false);
            }
            13 => {
                let params = QueryParams { relay_factor: 2, request_ack: true, ..QueryParams::default() };
                let _ = self.core.query(now, text, payload, &params);
            }
            14 => match &self.query {
                Some(query) => {
                    let _ = self.core.respond(now, query, payload);
                }
                None => {
                    let _ = self.core.force_leave(now, text, operation & 1 == 0);
                }
            },
            _ => self.core.leave(now),
        }
    }

    fn settle(&mut self) {
        while let Some(transmit) = self.core.poll_transmit() {
            match transmit {
                Transmit::Udp { payload, .. } => assert!(payload.len() <= PACKET_SIZE),
                Transmit::Connect { stream, .. } => self.streams.push(stream),
                Transmit::Reply { stream, .. } | Transmit::Close { stream } => {
                    self.streams.retain(|open| *open != stream);
                }
            }
        }
        while let Some(event) = self.core.poll_event() {
            if let Event::Query(query) = event {
                self.query = Some(query);
            }
        }
        assert!(self.core.members().count() <= FUZZ_MEMBERS);
        self.core.assert_consistent();
    }
}
