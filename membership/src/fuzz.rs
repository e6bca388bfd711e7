//! Bodies of fuzz targets: one function per kind of input. None may panic, hang or grow without bounds,
//! whatever the bytes are. The first byte chooses the framing, the rest is the input.

use crate::wire::{
    Framing,
    crypto::{Key, Keyring},
    memberlist, packet, serf,
    stream::{StreamDecoder, StreamMessage},
};

/// A framing chosen by the bits of `selector`: label, keyring, compression.
fn framing(selector: u8) -> Framing {
    Framing {
        label: if selector & 1 == 0 { String::new() } else { "blue".to_owned() },
        keyring: (selector & 2 != 0).then(|| Key::new(&[7; 16]).map(Keyring::new).ok()).flatten(),
        compress: selector & 4 != 0,
    }
}

/// A datagram: everything in it is decoded down to Serf's messages and filters.
pub fn fuzz_udp(data: &[u8]) {
    let Some((selector, data)) = data.split_first() else { return };
    let Ok(decoded) = packet::decode(&framing(*selector), data) else { return };
    for message in decoded.messages {
        // What was understood survives a round trip.
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

/// A Serf message, as it stands in a user message.
pub fn fuzz_serf(data: &[u8]) {
    let Ok(message) = serf::Message::decode(data) else { return };
    assert_eq!(serf::Message::decode(&message.encode()).as_ref(), Ok(&message));
    if let serf::Message::Query(query) = message {
        for filter in query.filters.as_slice() {
            let _ = serf::Filter::decode(filter);
        }
    }
}

/// A TCP stream, in chunks whose size the second byte gives.
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
