//! Random and mutated input for sessions.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::{Command, Request, golden_tests::captured, message::*};
use crate::{
    fuzz::fuzz_rpc,
    wire::{Text, fuzz_tests::mutations_of, serf::Tags},
};

fn name() -> impl Strategy<Value = Text> {
    prop_oneof!["[a-z]{0,40}".prop_map(Text::from), vec(any::<u8>(), 0..40).prop_map(Text::from)]
}

fn bytes() -> impl Strategy<Value = Bin> {
    prop_oneof![Just(Bin(None)), vec(any::<u8>(), 0..300).prop_map(Bin::from)]
}

fn tags() -> impl Strategy<Value = Tags> {
    vec((name(), name()), 0..20).prop_map(|tags| tags.into_iter().collect::<BTreeMap<_, _>>())
}

fn names() -> impl Strategy<Value = crate::wire::field::List<Text>> {
    prop_oneof![Just(Default::default()), vec(name(), 0..20).prop_map(Into::into)]
}

fn request() -> impl Strategy<Value = Request> {
    let ask = (names(), tags(), name(), bytes(), any::<(u8, bool, u64)>());
    let ask = ask.prop_map(
        |(filter_nodes, filter_tags, name, payload, (relay_factor, request_ack, timeout_ns))| {
            Request::Query(Ask {
                filter_nodes,
                filter_tags,
                name,
                payload,
                relay_factor,
                request_ack,
                timeout_ns,
            })
        },
    );
    prop_oneof![
        ask,
        (name(), bytes(), any::<bool>())
            .prop_map(|(name, payload, coalesce)| { Request::Event(SendEvent { coalesce, name, payload }) }),
        (name(), name(), tags()).prop_map(|(name, status, tags)| Request::MembersFiltered(MembersFiltered {
            name,
            status,
            tags
        })),
        (names(), tags()).prop_map(|(delete_tags, tags)| Request::Tags(ChangeTags { delete_tags, tags })),
        (names(), any::<bool>()).prop_map(|(existing, replay)| Request::Join(Join { existing, replay })),
        (any::<u64>(), bytes()).prop_map(|(id, payload)| Request::Respond(Respond { id, payload })),
        (name(), any::<bool>()).prop_map(|(node, prune)| Request::ForceLeave(ForceLeave { node, prune })),
        name().prop_map(|kind| Request::Stream(Stream { kind })),
        name().prop_map(|log_level| Request::Monitor(Monitor { log_level })),
        any::<u64>().prop_map(|stop| Request::Stop(Stop { stop })),
        name().prop_map(|key| Request::InstallKey(ChangeKey { key })),
        name().prop_map(|node| Request::GetCoordinate(GetCoordinate { node })),
        Just(Request::Members),
        Just(Request::Stats),
        Just(Request::ListKeys),
        Just(Request::Leave),
    ]
}

#[test]
fn every_command_has_a_name_of_its_own() {
    for command in Command::ALL {
        assert_eq!(Command::parse(command.name()), Some(*command));
    }
    assert_eq!(Command::parse("Members"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn requests_survive_a_round_trip(request in request(), seq: u64, chunk in 1usize..200) {
        use super::{Limits, Session, Step};
        let mut session = Session::new(&Limits::default(), None);
        let hello = Request::Handshake(Handshake { version: 1 }).encode(1);
        let mut steps = Vec::new();
        for part in [hello, request.encode(seq)].concat().chunks(chunk) {
            session.push(part);
            while let Some(step) = session.poll().expect("good requests") {
                steps.push(step);
            }
        }
        prop_assert_eq!(steps.len(), 2);
        prop_assert_eq!(steps.pop(), Some(Step::Request { seq, request }));
        prop_assert!(!session.is_partial());
    }

    #[test]
    fn mutated_requests_neither_panic_nor_grow(data in mutations_of(captured()), selector in 0u8..2, chunk: u8) {
        fuzz_rpc(&[&[selector, chunk][..], &data].concat());
    }

    #[test]
    fn random_bytes_neither_panic_nor_grow(data in vec(any::<u8>(), 0..600)) {
        fuzz_rpc(&data);
    }
}
