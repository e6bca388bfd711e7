use super::super::frame::MAX_TELLS;
use super::super::pair::{Peer, entry};
use super::*;

fn walk(facts: usize) -> Walk {
    let facts: Vec<_> = (0..facts).map(|number| entry(number, 1)).collect();
    let [one, _] = Peer::pair([&facts, &[]]);
    Walk::new(Phase::Entries, one.view(), &PathPrefix::root(), Salt::new([1; 8], [2; 8], 1))
}

#[test]
fn a_flight_has_as_many_bytes_as_its_frames_and_an_end() {
    let mut walk = walk(0);
    let put = |walk: &mut Walk, subject, bytes: usize| {
        walk.put(kind::LISTS, subject, |out, _, _| out.extend(vec![7; bytes]))
    };
    assert_eq!(FRAME_BYTES, 32_768, "docs/protocol.md has the same number");
    let mut written = 0;
    for subject in 0..200 {
        assert!(put(&mut walk, subject, 1_000));
        written += 1_000;
        let frames = walk.frames.iter().chain(&walk.open).map(Vec::len);
        assert_eq!(walk.bytes, frames.clone().sum::<usize>());
        // Each frame begins with its kind.
        assert_eq!(walk.bytes, written + frames.filter(|len| *len > 0).count());
    }
    assert!(walk.frames.iter().all(|frame| (FRAME_BYTES..FRAME_BYTES + 1_000).contains(&frame.len())));
    for (bytes, asked, has_room) in [
        (MAX_FLIGHT_BYTES - 1, 0, true),
        (MAX_FLIGHT_BYTES, 0, false),
        (0, MAX_ASKED_BYTES - 1, true),
        (0, MAX_ASKED_BYTES, false),
        (MAX_FLIGHT_BYTES - 1, MAX_ASKED_BYTES - 1, true),
    ] {
        (walk.bytes, walk.asked_bytes, walk.truncated) = (bytes, asked, false);
        assert_eq!(put(&mut walk, 1_000 + bytes as u64 + asked as u64, 1), has_room);
        assert_eq!(walk.truncated, !has_room);
        walk.coding = Coding::default();
    }
}

/// Where the other side lists an id that is unknown here, it is told of what it lacks before that is sent; of very much,
/// all is sent.
#[test]
fn the_other_side_is_told_of_as_many_as_may_be_told() {
    for (here, told) in [(1, true), (MAX_TELLS, true), (MAX_TELLS + 1, false)] {
        let mut walk = walk(here);
        let region = Forest::scope(Phase::Entries, &PathPrefix::root()).remove(0);
        walk.answer_list(&region, vec![0]);
        assert_eq!((walk.sends.is_empty(), walk.replies.len()), (told, 1), "{here}");
        walk.write_replies();
        assert_eq!(walk.asked.tells.iter().map(Vec::len).sum::<usize>(), if told { here } else { 0 });
        let sent = std::iter::from_fn(|| walk.next_send()).count();
        assert_eq!(sent, if told { 0 } else { here });
    }
}
