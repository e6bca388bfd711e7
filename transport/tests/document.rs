//! `docs/protocol.md` says of connections what the code does: close codes, replica ids, limits.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_engine::{declined, waiting_room};
use kvgossip_grants::{Signer, SigningKey};
use kvgossip_transport::{Code, FIRST_SHUT_OUT, FORGIVE_AFTER, MAX_OFFENDERS, MAX_SHUT_OUT, limits};
use std::time::Duration;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

/// The cells of the rows of the table below a heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let (_, below) = DOCUMENT.split_once(heading).unwrap();
    let lines =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    lines.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_close_codes_are_those_of_the_document() {
    let rows = table("### Close codes");
    let ours: Vec<[String; 3]> = Code::ALL
        .iter()
        .map(|code| {
            [format!("0x{:02x}", code.number()), format!("`{}`", code.name()), code.meaning().to_owned()]
        })
        .collect();
    assert_eq!(rows, ours);
}

#[test]
fn a_replica_id_is_the_hash_that_the_document_says() {
    assert!(DOCUMENT.contains("replica id = BLAKE3(\"kvgossip/replica\" ‖ SPKI of the replica's key)"));
    let pem = include_str!("../../grants/tests/fixtures/test-only-keys/root.pem");
    let key = SigningKey::from_pem(pem).unwrap().public().clone();
    let hashed = blake3::hash(&[b"kvgossip/replica", key.spki_der()].concat());
    assert_eq!(key.replica().as_bytes(), hashed.as_bytes());
}

#[test]
fn the_limits_of_connections_are_those_of_the_document() {
    let rows = table("These are this implementation's, and may differ between replicas:");
    let bytes = |bytes: usize| format!("{} MiB", bytes >> 20);
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    let thousands = |number: usize| format!("{},{:03}", number / 1_000, number % 1_000);
    let ours = [
        format!("{} and {}", limits::MAX_BIDI_STREAMS, limits::MAX_UNI_STREAMS),
        format!("{}, {}", bytes(limits::STREAM_WINDOW as usize), bytes(limits::CONNECTION_WINDOW as usize)),
        bytes(limits::SEND_WINDOW as usize),
        seconds(limits::HANDSHAKE_TIMEOUT),
        format!(
            "{} beyond what arrives; {} bytes either way pay for 1 s, a frame that arrives for 1 s or more",
            seconds(limits::NO_PROGRESS_TIMEOUT),
            thousands(limits::MIN_PROGRESS_BYTES_PER_S as usize)
        ),
        format!("{} beyond what its bytes pay for", seconds(limits::SESSION_GRACE)),
        format!("{}; the one that waited most for its peer gives way", limits::MAX_SESSIONS),
        format!(
            "{}, twice as long after each further one, {} s at most; one is forgiven after {}; {} replicas",
            seconds(FIRST_SHUT_OUT),
            thousands(MAX_SHUT_OUT.as_secs() as usize),
            seconds(FORGIVE_AFTER),
            thousands(MAX_OFFENDERS)
        ),
        format!("{}, {}", seconds(limits::KEEP_ALIVE), seconds(limits::IDLE_TIMEOUT)),
        format!(
            "{}; {} of addresses not validated; {} of one address",
            limits::MAX_PENDING_HANDSHAKES,
            limits::MAX_UNVALIDATED_HANDSHAKES,
            limits::MAX_HANDSHAKES_PER_ADDRESS
        ),
        format!(
            "{}; {} of peers that only read",
            thousands(limits::MAX_CONNECTIONS),
            limits::MAX_PULL_ONLY_CONNECTIONS
        ),
        format!(
            "{}, or {} with {} bytes for each; the largest falls first",
            thousands(waiting_room::MAX_ROOM_FACTS),
            bytes(waiting_room::MAX_ROOM_BYTES),
            waiting_room::ROOM_COST_BYTES
        ),
        thousands(declined::MAX_FALLEN_IDS),
        thousands(declined::MAX_CONDEMNED_IDS),
        format!("{}, or {}", thousands(limits::MAX_JUDGED_FACTS), bytes(limits::MAX_JUDGED_BYTES)),
    ];
    let said: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(said, ours);
}
