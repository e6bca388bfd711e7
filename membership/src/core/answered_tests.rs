//! Tracking of which members have proved that they have a key of the cluster.

use rand::{SeedableRng, rngs::StdRng};

use super::{
    Answered, Config, Core, KeyChange,
    sim::{addr, name},
    tests::{NOW, alive, sent},
};
use crate::wire::{
    Framing,
    crypto::{Key, Keyring},
    memberlist::{Ack, Message},
    packet,
};

#[test]
fn who_has_answered_has_a_key_until_one_is_taken_away() {
    let key = |byte| Key::new(&[byte; 32]).expect("a key");
    let mut ring = Keyring::new(key(1));
    ring.install(key(2)).expect("room");
    let mut config = Config::new("viewer", "10.9.9.9:7946".parse().expect("an address"));
    config.framing = Framing { keyring: Some(ring), ..Framing::default() };
    let mut core = Core::new(config, NOW, [3; 32]).expect("valid");
    let feed = |core: &mut Core, now, message: &Message| {
        let mut rng = StdRng::from_seed([7; 32]);
        let packet = packet::encode(core.framing(), &[message.encode()], false, &mut rng).expect("small");
        core.handle_udp(now, addr(1), &packet);
    };
    let answered = |core: &Core| core.member(name(1)).expect("known").answered;
    feed(&mut core, NOW, &alive(1, 1));
    assert_eq!(answered(&core), Answered::Never);
    let probed = loop {
        let due = core.poll_timeout().expect("it probes");
        core.handle_timeout(due);
        if let Some(ping) = sent(&mut core).into_iter().find_map(|(_, message)| match message {
            Message::Ping(ping) => Some(ping),
            _ => None,
        }) {
            break (due, ping.seq_no);
        }
    };
    feed(&mut core, probed.0, &Message::Ack(Ack { payload: None, seq_no: probed.1 }));
    assert_eq!(answered(&core), Answered::Yes);
    core.key_query(probed.0, KeyChange::Remove(key(2))).expect("asked");
    assert_eq!(answered(&core), Answered::NotSinceRemoval);
}
