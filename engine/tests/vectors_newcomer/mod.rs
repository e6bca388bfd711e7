//! A vector of a newcomer's hello.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use super::{NONCES, Peer};
use bytes::Bytes;
use kvgossip_engine::Storage;
use kvgossip_engine::session::{Config, Newcomer, OTHERS_EXTENSION, Role, SHORT_REPLICA_ID_BYTES, Session};
use kvgossip_grants::PathPrefix;
use kvgossip_testkit::vectors::Vectors;
use kvgossip_testkit::vectors::cast::Cast;

/// The others stand in the hello as the page says, and a hello that names them otherwise is read without them.
pub(crate) fn write(out: &mut Vectors, cast: &Cast) {
    let peer = Peer::new(cast);
    let session = |newcomer: Option<Newcomer>| {
        let (role, scope) = (Role::Initiator, PathPrefix::root());
        let config = Config { role, scope, nonce: NONCES[0], takes_facts: true, newcomer };
        Session::new(config, peer.replica.view())
    };
    let hello = |newcomer: Option<Newcomer>| -> Bytes {
        session(newcomer).poll_frame(peer.replica.view(), peer.store.reader().as_ref()).unwrap().unwrap()
    };
    let read = |hello: Vec<u8>| {
        let config = Config {
            role: Role::Responder,
            scope: PathPrefix::root(),
            nonce: NONCES[1],
            takes_facts: true,
            newcomer: None,
        };
        let mut responder = Session::new(config, peer.replica.view());
        responder.handle_frame(hello.into(), peer.replica.view()).unwrap();
        responder.peer_newcomer()
    };
    let others = [[0x11; SHORT_REPLICA_ID_BYTES], [0x22; SHORT_REPLICA_ID_BYTES]];
    let newcomer = Newcomer { others: Some(others.into()) };
    let (plain, unknown) = (hello(None), hello(Some(Newcomer::default())));
    let told = hello(Some(newcomer.clone()));
    let mut front = plain[..plain.len() - 1].to_vec();
    front[2] |= 4;
    let with = |content: &[u8]| [&front[..], &[1, 3, content.len() as u8], content].concat();
    assert_eq!(told, with(others.as_flattened()), "put together by hand");
    assert_eq!(read(told.to_vec()), Some(newcomer));
    assert_eq!(read(plain.to_vec()), None);
    let of_nobody_known = Some(Newcomer { others: None });
    assert_eq!(read(unknown.to_vec()), of_nobody_known);
    let [one, other] = others;
    for odd in [&[one, one].concat()[..], &[other, one].concat(), &[0; 15], &[0; 33]] {
        assert_eq!(read(with(odd)), of_nobody_known, "skipped like an unknown one");
    }
    out.section("newcomer");
    out.hex("hello", &told);
    out.field("number", OTHERS_EXTENSION);
}
