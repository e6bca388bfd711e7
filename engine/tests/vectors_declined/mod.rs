//! Vectors of a session in which the responder declines facts.

#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use super::{Peer, run_declining, write_run};
use kvgossip_engine::declined::Reason;
use kvgossip_engine::session::{Obstacles, Outcome};
use kvgossip_grants::FactId;
use kvgossip_testkit::vectors::Vectors;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// The same two replicas again: the responder keeps the entry that is early, and says so. Another it refused once.
pub(crate) fn write_session(out: &mut Vectors, peers: &mut [Peer; 2], future: FactId) {
    let (nonces, refused) = ([[5; 8], [6; 8]], FactId([0xee; 32]));
    let declined = vec![(future, Reason::NotYet), (refused, Reason::Refused)];
    let unsettled = run_declining(peers, "/", nonces, declined);
    assert!(unsettled.frames.iter().all(|(_, frame)| frame[0] != 6), "no fact moves");
    let preimage = [b"kvgossip/salt\0\0\0", &nonces[0][..], &nonces[1], &[0]].concat();
    let key: [u8; 16] = blake3::hash(&preimage).as_bytes()[..16].try_into().unwrap();
    let short = |id: FactId| {
        let mut hasher = SipHasher24::new_with_key(&key);
        hasher.write(&id.0);
        ((hasher.finish() & 0xffff_ffff) as u32).to_le_bytes()
    };
    let by_hand = [&[11, 1][..], &short(future), &short(refused)].concat();
    assert!(unsettled.frames.contains(&(1, by_hand)), "the frame is put together as the page says");
    let expected = Outcome::Unsettled(Obstacles { not_yet: true, ..Obstacles::default() });
    write_run(out, "session-5", &unsettled, expected);
    out.field("declined_as_not_yet", future);
    out.field("declined_as_refused", refused);
}
