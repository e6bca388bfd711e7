//! Broadcasts that are added to other packets.

use std::time::Duration;

use super::{
    Core,
    sim::{addr, name},
    tests::{NOW, alive, feed, sent, suspect, viewer},
};
use crate::wire::memberlist::{IndirectPing, Message, Ping, ip_bytes};

fn ping(from: usize) -> Message {
    Message::Ping(Ping { node: "viewer".into(), seq_no: 5, source_node: name(from), ..Ping::default() })
}

fn events(core: &mut Core) -> usize {
    sent(core).iter().filter(|(_, message)| matches!(message, Message::User(_))).count()
}

#[test]
fn acks_pings_and_nacks_carry_broadcasts_to_members_and_to_nobody_else() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    feed(&mut core, NOW, addr(2), &alive(2, 1));
    sent(&mut core);
    core.user_event("e", b"", false).expect("fits");
    feed(&mut core, NOW, addr(9), &ping(9));
    assert_eq!(events(&mut core), 0, "a stranger must not use up what is for members");
    feed(&mut core, NOW, addr(1), &ping(1));
    assert_eq!(events(&mut core), 1, "the ack");
    let request = IndirectPing {
        nack: true,
        node: name(2),
        port: 7946,
        seq_no: 6,
        target: ip_bytes(addr(2).ip()),
        ..IndirectPing::default()
    };
    feed(&mut core, NOW, addr(1), &Message::IndirectPing(request));
    assert_eq!(events(&mut core), 1, "the ping on behalf of another");
    let timeout = core.config.timing.probe_timeout;
    core.relay_due(core.probes.last_relay());
    assert_eq!(events(&mut core), 1, "the nack after {timeout:?}");
    // Four transmissions are enough in a cluster of three.
    feed(&mut core, NOW, addr(1), &ping(1));
    feed(&mut core, NOW, addr(1), &ping(1));
    assert_eq!(events(&mut core), 1);
    assert_eq!(core.queue_depths().events, 0);
}

/// foca fills whole packets with updates about others; this member's messages about itself do not wait for it.
#[test]
fn a_refutation_goes_out_while_hundreds_of_members_are_told_of() {
    let mut core = viewer();
    feed(&mut core, NOW, addr(1), &alive(1, 1));
    for index in 2..400 {
        feed(&mut core, NOW, addr(1), &alive(index, 1));
    }
    assert!(core.queue_depths().membership > 300);
    sent(&mut core);
    feed(&mut core, NOW, addr(500), &suspect("viewer", 1, "x"));
    let refutes =
        |message: &Message| matches!(message, Message::Alive(a) if a.node == "viewer" && a.incarnation == 2);
    assert!(!sent(&mut core).iter().any(|(_, message)| refutes(message)), "a stranger is not answered");
    let round = NOW + core.config.timing.gossip_interval + Duration::from_millis(1);
    while let Some(due) = core.poll_timeout().filter(|due| *due <= round) {
        core.handle_timeout(due);
    }
    let sent = sent(&mut core);
    assert!(sent.iter().filter(|(_, message)| refutes(message)).count() >= 1, "{} messages", sent.len());
}

/// Waiting messages about a member are dropped when newer information arrives.
#[test]
fn a_refutation_takes_back_the_suspicions_that_wait() {
    let mut core = viewer();
    for index in 1..=20 {
        feed(&mut core, NOW, addr(index), &alive(index, 1));
    }
    for accuser in ["x", "y", "z"] {
        feed(&mut core, NOW, addr(2), &suspect(name(1), 1, accuser));
    }
    assert_eq!(core.queues.depths().membership, 2, "foca has the first, two confirm it");
    feed(&mut core, NOW, addr(1), &alive(1, 2));
    assert_eq!(core.queues.depths().membership, 0);
}
