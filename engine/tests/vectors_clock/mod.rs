//! A vector of a hello that tells the sender's time.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use super::{NONCES, NOON, Peer};
use bytes::Bytes;
use kvgossip_engine::Storage;
use kvgossip_engine::session::{CLOCK_EXTENSION, Config, Role, Session};
use kvgossip_grants::{PathPrefix, Timestamp};
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::{Cast, at};

/// The time stands in the hello as the page says, and a hello with what is no time is read without it.
pub(crate) fn write(out: &mut Vectors, cast: &Cast) {
    let peer = Peer::new(cast);
    let session = |role| {
        let config =
            Config { role, scope: PathPrefix::root(), nonce: NONCES[0], takes_facts: true, newcomer: None };
        Session::new(config, peer.replica.view())
    };
    let hello = |told: Option<Timestamp>| {
        let mut initiator = session(Role::Initiator);
        told.into_iter().for_each(|time| initiator.tell_time(time));
        initiator.poll_frame(peer.replica.view(), peer.store.reader().as_ref()).unwrap().unwrap()
    };
    let read = |hello: Vec<u8>| {
        let mut responder = session(Role::Responder);
        responder.handle_frame(hello.into(), peer.replica.view()).unwrap();
        responder.their_time()
    };
    let (plain, timed): (Bytes, Bytes) = (hello(None), hello(Some(at(NOON))));
    let (_, front) = plain.split_last().unwrap();
    let with = |content: &[u8]| [front, &[1, 2, content.len() as u8], content].concat();
    assert_eq!(timed, with(&NOON.to_le_bytes()), "put together by hand");
    assert_eq!(read(timed.to_vec()), Some(at(NOON)));
    assert_eq!(read(plain.to_vec()), None);
    for no_time in [&[0; 7][..], &[0; 9], &u64::MAX.to_le_bytes()] {
        assert_eq!(read(with(no_time)), None, "skipped like an unknown one");
    }
    out.section("clock");
    out.hex("hello", &timed);
    out.field("number", CLOCK_EXTENSION);
    out.field("time", NOON);
}
