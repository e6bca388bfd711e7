//! Fuzz targets for gossip packets, streams and a whole member under attack. The target functions are the membership
//! crate's own.

use crate::Seed;
use kvgossip_membership::fuzz;

/// Captured packets and streams of real agents, one per line: `udp` or `tcp`, then hexadecimal digits.
const CAPTURED: &str = include_str!("../../membership/tests/fixtures/plain.hex");

/// Captured conversations between Serf's command line and an agent: `C` and hexadecimal digits for the client's bytes.
const TALKS: &str = include_str!("../../membership/tests/fixtures/rpc.hex");

/// Runs one input: see [`fuzz::fuzz_udp`].
pub fn udp(data: &[u8]) {
    fuzz::fuzz_udp(data);
    fuzz::fuzz_serf(data);
}

/// Runs one input: see [`fuzz::fuzz_tcp`].
pub fn tcp(data: &[u8]) {
    fuzz::fuzz_tcp(data);
}

/// Runs one input: see [`fuzz::fuzz_member`].
pub fn member(data: &[u8]) {
    fuzz::fuzz_member(data);
}

/// Runs one input: see [`fuzz::fuzz_names`].
pub fn names(data: &[u8]) {
    fuzz::fuzz_names(data);
}

/// Runs one input: see [`fuzz::fuzz_rpc`].
pub fn rpc(data: &[u8]) {
    fuzz::fuzz_rpc(data);
}

fn captured(wanted: &str) -> Vec<Vec<u8>> {
    let lines = CAPTURED.lines().filter_map(|line| line.split_once(' '));
    let bytes = lines.filter(|(kind, _)| *kind == wanted).map(|(_, digits)| unhex(digits));
    let mut seen = std::collections::BTreeSet::new();
    // One of each length, and enough to include every type of message.
    bytes.filter(|bytes| seen.insert(bytes.len())).take(24).collect()
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
    digits.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// Returns captured packets, unencrypted.
pub fn udp_seeds() -> Vec<Seed> {
    let packets = captured("udp").into_iter().enumerate();
    packets.map(|(number, bytes)| (format!("captured_{number:02}"), [&[0], &bytes[..]].concat())).collect()
}

/// Returns captured streams, unencrypted, in chunks of 7 bytes.
pub fn tcp_seeds() -> Vec<Seed> {
    let streams = captured("tcp").into_iter().enumerate();
    streams.map(|(number, bytes)| (format!("captured_{number:02}"), [&[0, 7], &bytes[..]].concat())).collect()
}

/// Returns captured clients' bytes for an agent with an authentication key, in chunks of 5 bytes.
pub fn rpc_seeds() -> Vec<Seed> {
    let clients = TALKS.lines().filter_map(|line| line.strip_prefix("C ")).map(unhex).enumerate();
    clients.map(|(number, bytes)| (format!("captured_{number:02}"), [&[1, 5], &bytes[..]].concat())).collect()
}

/// Returns sequences of texts, each after its length: names that are hard to store or to display, in different orders.
pub fn names_seeds() -> Vec<Seed> {
    const TEXTS: [&[u8]; 16] = [
        b"own",
        b"caf\xe9",
        b"caf\xc3\xa9",
        b"a\nalive: b 10.0.0.1:1",
        b"\x1b[31mred",
        b"\x00",
        b"\\x41",
        b"\\x5c",
        b"\xff\xfe",
        b"\xc2\x85",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"user:a,b",
        b"_serf_ping",
        b"kvg_id",
        b"",
    ];
    let row = |texts: &mut dyn Iterator<Item = &'static [u8]>| {
        texts.take(200).flat_map(|text| [&[text.len() as u8][..], text].concat()).collect::<Vec<u8>>()
    };
    let turned = |by: usize| row(&mut TEXTS.into_iter().cycle().skip(by));
    let mut seeds: Vec<Seed> = (0..8).map(|by| (format!("turned_{by:02}"), turned(by))).collect();
    seeds.push(("alike".to_owned(), row(&mut std::iter::repeat(TEXTS[1]))));
    // The highest bit of a length makes a name that exceeds the limit.
    let long = |text: &[u8]| [&[0x9f][..], &text.repeat(31)[..31]].concat();
    seeds.push((
        "long".to_owned(),
        TEXTS[..15].iter().cycle().take(200).flat_map(|text| long(text)).collect(),
    ));
    seeds.push(("nothing".to_owned(), Vec::new()));
    seeds
}

/// Returns inputs in which a member receives captured packets and streams, with time passing in between.
pub fn member_seeds() -> Vec<Seed> {
    let operation = |number: u8, payload: &[u8]| {
        let len = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[number * 4], &len[..], payload].concat()
    };
    let (packets, streams) = (captured("udp"), captured("tcp"));
    let mut seeds = Vec::new();
    for (number, packets) in packets.chunks(4).enumerate() {
        let mut bytes: Vec<u8> = packets.iter().flat_map(|packet| operation(0, packet)).collect();
        bytes.extend(operation(9, &[0; 20]));
        bytes.extend(operation(13, b"uptime"));
        seeds.push((format!("packets_{number:02}"), bytes));
    }
    for (number, stream) in streams.iter().enumerate() {
        let bytes =
            [operation(5, &[]), operation(6, stream), operation(9, &[0; 10]), operation(12, b"deploy")];
        seeds.push((format!("stream_{number:02}"), bytes.concat()));
    }
    seeds
}
