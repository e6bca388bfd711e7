//! Tests of the multicast DNS messages against those of Serf's agents.

use super::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::net::Ipv4Addr;

/// The answer of an agent of Serf 0.8.2 named "theirs" with `-discover=blue -bind=10.77.0.1`.
const OF_SERF: &str = "0000840000000004000000000a5f736572665f626c7565045f746370056c6f63616c00000c000100000078000906746865697273\
    c00cc02d0021000100000078000a000a00011f0a02766d00c048000100010000007800040a4d0001c02d001000010000007800141353\
    6572662027626c75652720636c7573746572";
/// The answer of an agent named "them.two", a name of two labels, with the address 10.77.0.2.
const OF_SERF_WITH_A_DOT: &str = "0000840000000004000000000a5f736572665f626c7565045f746370056c6f63616c00000c000100000078000b047468656d\
    0374776fc00cc02d0021000100000078000a000a00011f0a02766d00c04a000100010000007800040a4d0002c02d001000010000007800\
    1413536572662027626c75652720636c7573746572";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.chunks(2).map(byte).collect()
}

fn service(cluster: &str) -> Service {
    Service::new(cluster).expect("a name")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn answers_of_serf_s_agents_are_understood() {
    assert_eq!(service("blue").found(&bytes(OF_SERF)), [at("10.77.0.1:7946")]);
    assert_eq!(service("blue").found(&bytes(OF_SERF_WITH_A_DOT)), [at("10.77.0.2:7946")]);
    assert_eq!(service("green").found(&bytes(OF_SERF)), []);
}

/// Serf's agents put all records into the answer section, in this order, and expect that order.
#[test]
fn an_answer_is_that_of_a_serf_agent_but_for_the_host_s_name() {
    let service = service("blue");
    let question = service.question().expect("a question");
    let asked = service.asked(&question).expect("it is one");
    let own = service.answer(&asked, "theirs", at("10.77.0.1:7946"), false).expect("an answer");
    let theirs = bytes(OF_SERF);
    let (own, theirs) = (Packet::parse(&own).expect("a packet"), Packet::parse(&theirs).expect("a packet"));
    assert_eq!((own.id(), own.questions.len()), (0, 0));
    assert!(own.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER));
    assert_eq!(own.answers.len(), 4);
    let host = Name::new("theirs.local").expect("a name");
    for (own, theirs) in own.answers.iter().zip(&theirs.answers) {
        match (&own.rdata, &theirs.rdata) {
            (RData::SRV(own), RData::SRV(theirs)) => {
                assert_eq!(
                    (own.port, own.priority, own.weight),
                    (theirs.port, theirs.priority, theirs.weight)
                );
                assert_eq!(own.target, host);
            }
            (RData::A(_), RData::A(_)) => assert_eq!(own.name, host),
            _ => assert_eq!(own, theirs),
        }
        assert_eq!((own.ttl, own.class), (theirs.ttl, theirs.class));
    }
}

#[test]
fn who_asks_from_a_port_of_its_own_gets_its_number_and_its_question_back() {
    let service = service("blue");
    let mut question = service.question().expect("a question");
    question[..2].copy_from_slice(&[0x12, 0x34]);
    let asked = service.asked(&question).expect("it is one");
    assert!(asked.is_unicast(at("10.0.0.1:40000")) && !asked.is_unicast(at("10.0.0.1:5353")));
    let answer = service.answer(&asked, "me", at("[fd00::7]:99"), true).expect("an answer");
    let packet = Packet::parse(&answer).expect("a packet");
    assert_eq!((packet.id(), packet.questions.len()), (0x1234, 1));
    assert_eq!(service.found(&answer), [at("[fd00::7]:99")]);
    assert!(service.asked(&answer).is_none(), "an answer is no question");
    assert_eq!(service.found(&question), [], "and the other way round");
    let last = question.len() - 2;
    question[last] |= 0x80;
    let asked = service.asked(&question).expect("it is one");
    assert!(asked.is_unicast(at("10.0.0.1:5353")), "it asks for an answer of its own");
    for other in ["green", "blu", "blue.x"] {
        assert!(super::Service::new(other).expect("a name").asked(&question).is_none(), "{other}");
    }
}

#[test]
fn names_are_kept_within_what_dns_has_room_for() {
    for name in ["", " ", "a b", "a..b", ".a", "a.", "a\\b", "a\nb", &"x".repeat(58)] {
        assert_eq!(Service::new(name), None, "{name:?}");
    }
    let long = service(&"x".repeat(57));
    let asked = long.asked(&long.question().expect("a question")).expect("it is one");
    for member in ["host.example", &"m".repeat(255), &"\u{e4}".repeat(100), "with space"] {
        let answer = long.answer(&asked, member, at("10.0.0.1:1"), false).expect(member);
        assert_eq!(long.found(&answer), [at("10.0.0.1:1")], "{member}");
    }
    assert_eq!(shortened(&"\u{e4}".repeat(100)).len(), 62);
}

#[test]
fn addresses_that_nobody_can_join_are_left_out() {
    let service = service("blue");
    let asked = service.asked(&service.question().expect("a question")).expect("it is one");
    for address in ["0.0.0.0:7", "224.0.0.1:7", "10.0.0.1:0", "[fe80::1]:7", "[::]:7", "[ff02::1]:7"] {
        let answer = service.answer(&asked, "x", at(address), false).expect("an answer");
        assert_eq!(service.found(&answer), [], "{address}");
    }
    // Of a message full of addresses, only some are taken.
    let answer = service.answer(&asked, "x", at("10.0.0.1:7"), false).expect("an answer");
    let mut packet = Packet::parse(&answer).expect("a packet");
    let host = packet.answers[2].name.clone();
    for n in 0..1000u16 {
        let ip = Ipv4Addr::from(u32::from(n) + 0x0a00_0100);
        let record = ResourceRecord::new(host.clone(), CLASS::IN, 1, RData::A(A::from(ip)));
        packet.additional_records.push(record);
    }
    let found = service.found(&packet.build_bytes_vec().expect("a packet"));
    assert_eq!(found.len(), MAX_FOUND);
}

#[test]
fn no_packet_does_harm() {
    let service = service("blue");
    let mut rng = StdRng::seed_from_u64(4);
    let asked = service.asked(&service.question().expect("a question")).expect("it is one");
    let own = service.answer(&asked, "x", at("10.0.0.1:7"), true).expect("an answer");
    let samples = [bytes(OF_SERF), bytes(OF_SERF_WITH_A_DOT), service.question().expect("a question"), own];
    for round in 0..20_000 {
        let mut packet = samples[round % samples.len()].clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..packet.len());
            packet[at] = rng.random();
        }
        packet.truncate(rng.random_range(0..=packet.len() * 2).min(packet.len()));
        let _ = (service.found(&packet), service.asked(&packet));
    }
    // Names whose compression pointers form a loop, or point at themselves.
    for loops in
        ["0000840000000001000000000c000c", "000084000000000100000000c00cc00c000c00010000000000020c00"]
    {
        assert_eq!(service.found(&bytes(loops)), []);
    }
}
