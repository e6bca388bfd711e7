//! Bytes captured from the newest members (msgpack v2), with labels, and in every kind of encryption.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::StdRng};

use super::{
    Framing,
    crypto::{Key, Keyring},
    fixture_tests::{Fixture, parse},
    memberlist::{Message, kind},
    packet, serf,
    stream::{self, StreamDecoder, StreamMessage},
};

fn key() -> Keyring {
    Keyring::new(Key::new(b"0123456789abcdef0123456789abcdef").expect("a key"))
}

/// Decodes a datagram, and checks that encoding its messages again preserves their meaning.
fn datagram(framing: &Framing, fixture: &Fixture) -> Vec<Message> {
    let decoded = packet::decode(framing, &fixture.bytes).expect("a valid packet");
    assert_eq!((decoded.malformed, decoded.too_large), (0, 0), "{}", hex::encode(&fixture.bytes));
    let parts: Vec<_> = decoded.messages.iter().map(Message::encode).collect();
    let again = packet::encode(framing, &parts, true, &mut StdRng::seed_from_u64(0)).expect("encodes");
    assert_eq!(packet::decode(framing, &again).expect("own bytes").messages, decoded.messages);
    for message in &decoded.messages {
        if let Message::User(bytes) = message {
            let inner = serf::Message::decode(bytes).expect("a Serf message");
            assert_eq!(serf::Message::decode(&inner.encode()).as_ref(), Ok(&inner));
            if let serf::Message::Query(query) = &inner {
                for filter in query.filters.as_slice() {
                    assert!(serf::Filter::decode(filter).is_ok(), "{filter:?}");
                }
            }
        }
    }
    decoded.messages
}

/// Decodes a stream, of the dialling or of the accepting side.
fn on_stream(framing: &Framing, fixture: &Fixture) -> StreamMessage {
    let dialled = StreamDecoder::new(framing.clone()).push(&fixture.bytes);
    let read = match dialled {
        Ok(message) => message,
        Err(_) => StreamDecoder::for_reply(framing.clone()).push(&fixture.bytes).expect("a valid stream"),
    };
    let message = read.expect("a whole message");
    let again = stream::encode(framing, &message, &mut StdRng::seed_from_u64(0)).expect("encodes");
    assert_eq!(StreamDecoder::new(framing.clone()).push(&again), Ok(Some(message.clone())));
    message
}

/// Collects the kinds of messages in datagrams and streams.
fn kinds(framing: &Framing, text: &str) -> (BTreeSet<u8>, Vec<StreamMessage>) {
    let (mut found, mut streams) = (BTreeSet::new(), Vec::new());
    for fixture in parse(text) {
        if fixture.tcp {
            streams.push(on_stream(framing, &fixture));
        } else {
            found.extend(datagram(framing, &fixture).iter().map(|message| message.encode()[0]));
        }
    }
    (found, streams)
}

fn joins(streams: &[StreamMessage]) -> Vec<bool> {
    let join = |message: &StreamMessage| match message {
        StreamMessage::PushPull(state) => Some(state.join),
        _ => None,
    };
    streams.iter().filter_map(join).collect()
}

#[test]
fn members_of_the_newest_kind_are_understood() {
    let text = include_str!("../../tests/fixtures/v2_plain.hex");
    let (found, streams) = kinds(&Framing::default(), text);
    assert_eq!(
        found,
        BTreeSet::from([kind::PING, kind::ACK, kind::SUSPECT, kind::ALIVE, kind::DEAD, kind::USER])
    );
    let mut serf_kinds = BTreeSet::new();
    let mut signed = 0;
    for fixture in parse(text).iter().filter(|fixture| !fixture.tcp) {
        // A 16-bit signed integer after its field's name, which the first edition of msgpack lacks.
        signed += usize::from(fixture.bytes.windows(5).any(|bytes| bytes == b"Port\xd1"));
        for message in datagram(&Framing::default(), fixture) {
            if let Message::User(bytes) = message {
                serf_kinds.insert(bytes[0]);
            }
        }
    }
    assert!(signed > 0, "none of the newest kind was captured");
    let wanted = [serf::kind::LEAVE, serf::kind::JOIN, serf::kind::USER_EVENT, serf::kind::QUERY];
    let wanted = wanted.into_iter().chain([serf::kind::QUERY_RESPONSE, serf::kind::RELAY]).collect();
    assert_eq!(serf_kinds, wanted);

    let StreamMessage::PushPull(last) = streams.last().expect("captured") else { panic!("a push/pull") };
    let names: BTreeSet<_> = last.nodes.iter().map(|node| (node.name.as_str(), node.state)).collect();
    assert!(names.contains(&("alpha", 0)), "{names:?}");
    let state: serf::PushPull =
        serf::decode_tagged(serf::kind::PUSH_PULL, &last.user_state).expect("a Serf state");
    assert_eq!(state.left_members.as_slice(), ["gamma"]);
    let slots = state.events.as_slice().iter().flatten();
    let events: Vec<_> =
        slots.flat_map(|slot| slot.events.as_slice()).map(|event| event.name.as_str()).collect();
    assert_eq!(events, ["deploy", "deploy2"]);
    let again = serf::encode_tagged(serf::kind::PUSH_PULL, &state);
    assert_eq!(serf::decode_tagged(serf::kind::PUSH_PULL, &again), Ok(state));
}

#[test]
fn compression_and_both_versions_of_encryption() {
    let packing = Framing { compress: true, ..Framing::default() };
    let (found, streams) = kinds(&packing, include_str!("../../tests/fixtures/v2_compressed.hex"));
    assert!(found.contains(&kind::USER) && found.contains(&kind::ALIVE), "{found:?}");
    assert_eq!(joins(&streams), [true, true], "a join is answered as one");
    let framing = Framing { keyring: Some(key()), compress: true, ..Framing::default() };
    for (version, text) in [
        (1, include_str!("../../tests/fixtures/v2_encrypted.hex")),
        (0, include_str!("../../tests/fixtures/v2_encrypted_v0.hex")),
    ] {
        for fixture in parse(text) {
            // On a stream, the type byte and the length precede it.
            assert_eq!(fixture.bytes[if fixture.tcp { 5 } else { 0 }], version);
            assert!(packet::decode(&Framing::default(), &fixture.bytes).is_err());
        }
        let (found, streams) = kinds(&framing, text);
        assert!(found.contains(&kind::PING), "{found:?}");
        assert_eq!(joins(&streams), [true, true], "a join is answered as one");
    }
    let (found, _) = kinds(&framing, include_str!("../../tests/fixtures/encrypted_udp.hex"));
    assert!(found.contains(&kind::PING) || found.contains(&kind::USER), "{found:?}");
}

/// The label precedes every datagram, and what the dialling side of a stream sends. Encryption authenticates it
/// even where it is not sent.
#[test]
fn labels_in_clear_and_encrypted() {
    for (keyring, text) in [
        (None, include_str!("../../tests/fixtures/v2_label.hex")),
        (Some(key()), include_str!("../../tests/fixtures/v2_label_encrypted.hex")),
    ] {
        let framing = Framing { label: "blue".into(), keyring, compress: false };
        let (found, streams) = kinds(&framing, text);
        assert!(!found.is_empty());
        assert_eq!(joins(&streams), [true, true], "a join is answered as one");
        let green = Framing { label: "green".into(), ..framing.clone() };
        let mut labelled_streams = Vec::new();
        for fixture in parse(text) {
            let labelled = fixture.bytes.starts_with(&[kind::LABEL, 4, b'b', b'l', b'u', b'e']);
            if fixture.tcp {
                assert!(StreamDecoder::new(green.clone()).push(&fixture.bytes).is_err());
                labelled_streams.push(labelled);
            } else {
                assert!(labelled && packet::decode(&green, &fixture.bytes).is_err());
            }
        }
        assert_eq!(labelled_streams, [true, false], "what was asked, and the answer");
    }
}
