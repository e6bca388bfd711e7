//! Fuzz target for a session between two replicas of a random world through the production driver, with an attacker on
//! the connection who changes, drops, doubles and reorders frames. The session must end or wait for a dropped frame,
//! each replica must be in the normal form of the facts taken in, and an honest session afterwards must make both
//! equal.
//!
//! ```text
//! world (u16) ‖ who has which facts (length ‖ bits) ‖ scope (u8) ‖ for each frame: what becomes of it (u8) ‖ operands
//! ```
//!
//! After the end of the input, frames arrive unchanged.

use crate::Seed;
use crate::input::Input;
use bytes::Bytes;
use kvgossip_engine::session::{
    Action, Config, MAX_FRAME_BYTES, MAX_ROUNDS, Outcome, Role, Session, SessionError,
};
use kvgossip_grants::PathPrefix;
use kvgossip_sim::naive_tree::roots;
use kvgossip_sim::scribe::at;
use kvgossip_sim::world::NOW;
use kvgossip_sim::{Carrier, Drive, Link, SimReplica, World, sync};
use std::sync::OnceLock;

/// Number of worlds that an input can select.
const WORLDS: u16 = 512;
/// Number of additional worlds with many keys, so that trees have inner nodes; they are numbered from [`WORLDS`].
const WIDE_WORLDS: u16 = 32;
/// Minimum number of keys of such a world.
const WIDE_KEYS: usize = 60;
const SCOPES: [&str; 4] = ["/", "/", "/a", "/a/x"];
/// Limit of frames of both sides; no session between such small replicas has more.
const MAX_FRAMES: usize = 4_096;
/// Maximum number of honest sessions that follow. One is enough unless the first ends with facts that are early or
/// unjustified.
const SETTLING: usize = 3;

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let world = world(input.u16() % (WORLDS + WIDE_WORLDS));
    let mut pair = populate(&world, input.chunk());
    let scope = PathPrefix::parse(SCOPES[input.below(SCOPES.len())]);
    let scope = scope.unwrap_or_else(|error| panic!("a prefix: {error}"));
    let untouched = input.is_empty();
    let ended = Wire::new(&pair, &scope).run(&mut pair, &mut input);
    if let Err(error) = &ended {
        assert!(!untouched, "honest sides: {error}");
    }
    for replica in &pair {
        check(&world, replica);
    }
    settle(&mut pair);
}

fn world(number: u16) -> World {
    static WIDE: OnceLock<Vec<u64>> = OnceLock::new();
    let wide = WIDE.get_or_init(|| {
        let is_wide = |seed: &u64| World::new(*seed).keys.len() >= WIDE_KEYS;
        (0..).filter(is_wide).take(usize::from(WIDE_WORLDS)).collect()
    });
    let seed = number.checked_sub(WORLDS).map_or(u64::from(number), |place| wide[usize::from(place)]);
    World::new(seed)
}

/// Offers each replica the facts that its bits select.
fn populate(world: &World, chosen: &[u8]) -> [SimReplica; 2] {
    let mut pair = [0, 1].map(|_| SimReplica::new(world.root.clone(), at(NOW)).with_journal());
    for (number, fact) in world.facts.iter().enumerate() {
        // Two bits per fact; without bits, both replicas get it.
        let bits = chosen.get(number / 4).map_or(0, |byte| byte >> (2 * (number % 4)));
        for (side, replica) in pair.iter_mut().enumerate() {
            if bits >> side & 1 == 0 {
                replica.offer(fact.clone());
            }
        }
    }
    pair
}

/// Asserts that the state is the normal form of the facts taken in, and that these are sound.
fn check(world: &World, replica: &SimReplica) {
    let taken = replica.taken().cloned().unwrap_or_default();
    let unsound = taken.values().find(|fact| !world.cluster.is_sound(fact));
    assert_eq!(unsound.map(|fact| world.describe(fact)), None, "{world}");
    let wanted = roots(&world.cluster.normal_form(&taken)).whole;
    assert_eq!(replica.view().root(), wanted, "{world}");
}

/// Asserts that undisturbed sessions make the replicas equal after any damage.
fn settle(pair: &mut [SimReplica; 2]) {
    let [a, b] = pair;
    let mut last = None;
    for seed in 0..SETTLING as u64 {
        let ended = sync(a, b, &Link { seed, ..Link::default() });
        assert!(ended.error.is_none(), "honest sides: {:?}", ended.error);
        if ended.outcome == Some(Outcome::Equal) {
            assert_eq!(a.view().root(), b.view().root());
            return;
        }
        last = ended.outcome;
    }
    panic!("not equal: {last:?}");
}

/// A session with an attacker in the middle.
struct Wire {
    sides: [Carrier; 2],
    frames: usize,
    /// Frame that is held back, with the side that sent it.
    held: Option<(usize, Bytes)>,
    /// Frames seen so far, which may be sent again.
    seen: Vec<Bytes>,
}

impl Wire {
    fn new(pair: &[SimReplica; 2], scope: &PathPrefix) -> Self {
        let side = |side: usize, role| {
            let config = Config {
                role,
                scope: scope.clone(),
                nonce: [side as u8; 8],
                takes_facts: true,
                newcomer: None,
            };
            // Small batches and little capacity, so that facts wait and answers come out of order.
            let drive = Drive::random(side as u64 + u64::from(pair[0].view().root().0[0]));
            Carrier::new(Session::new(config, pair[side].view()), &drive)
        };
        let sides = [side(0, Role::Initiator), side(1, Role::Responder)];
        Self { sides, frames: 0, held: None, seen: Vec::new() }
    }

    fn run(&mut self, pair: &mut [SimReplica; 2], input: &mut Input<'_>) -> Result<(), SessionError> {
        loop {
            let mut idle = true;
            for from in [0, 1] {
                while let Some(frame) = self.poll(from, &mut pair[from])? {
                    idle = false;
                    self.frames += 1;
                    assert!(self.frames < MAX_FRAMES, "a session without end");
                    for frame in self.tamper(from, frame, input) {
                        self.sides[1 - from].receive(frame, &pair[1 - from])?;
                    }
                }
            }
            if idle {
                let tallies = self.sides.each_ref().map(|side| side.session().tally());
                assert!(tallies.iter().all(|tally| tally.rounds <= u32::from(MAX_ROUNDS)));
                return Ok(());
            }
        }
    }

    /// Performs the driver's actions until a frame is due; `None` if the driver waits for the other side.
    fn poll(&mut self, side: usize, replica: &mut SimReplica) -> Result<Option<Bytes>, SessionError> {
        let side = &mut self.sides[side];
        loop {
            if let Some(frame) = side.send() {
                assert!(frame.len() <= MAX_FRAME_BYTES);
                return Ok(Some(frame));
            }
            match side.advance(replica)? {
                None => {}
                // The latest job is answered first.
                Some(Action::Wait(wait)) if wait.for_jobs => side.answer(side.running() - 1, replica)?,
                Some(_) => return Ok(None),
            }
        }
    }

    /// Returns the frames that arrive in place of a frame.
    fn tamper(&mut self, from: usize, frame: Bytes, input: &mut Input<'_>) -> Vec<Bytes> {
        self.seen.push(frame.clone());
        let mut arriving = match input.byte() % 16 {
            1 => Vec::new(),
            2 => vec![frame.clone(), frame],
            3 => {
                self.held = Some((from, frame));
                return Vec::new();
            }
            4 => vec![frame.slice(..usize::from(input.u16()) % (frame.len() + 1))],
            5 => {
                let mut bytes = frame.to_vec();
                let place = usize::from(input.u16()) % bytes.len();
                bytes[place] ^= input.byte();
                vec![bytes.into()]
            }
            6 => vec![[&frame[..], input.chunk()].concat().into()],
            7 => vec![Bytes::copy_from_slice(input.chunk()), frame],
            8 => vec![self.seen[input.below(self.seen.len())].clone()],
            9 => vec![frame, self.seen[input.below(self.seen.len())].clone()],
            _ => vec![frame],
        };
        if let Some((_, held)) = self.held.take_if(|(side, _)| *side == from) {
            arriving.push(held);
        }
        arriving
    }
}

/// Returns complete sessions of several worlds, and one damage of each kind early and late.
pub fn seeds() -> Vec<Seed> {
    let start = |world: u16, chosen: &[u8], scope: u8| {
        [&world.to_le_bytes()[..], &(chosen.len() as u16).to_le_bytes(), chosen, &[scope]].concat()
    };
    // Owners of facts in rotation: here, there, both, here, …
    let split = [0b01_00_10_01_u8, 0b10_01_00_10, 0b00_10_01_00].repeat(30);
    let mut seeds = Vec::new();
    for world in (0..WORLDS).step_by(37) {
        seeds.push((format!("whole_{world:03}"), start(world, &split, 0)));
    }
    for world in 0..8 {
        seeds.push((format!("wide_{world}"), start(WORLDS + 4 * world, &split, 0)));
    }
    seeds.push(("scoped".into(), start(6, &split, 2)));
    seeds.push(("one_has_all".into(), start(9, &[0xaa; 80], 0)));
    for damage in 1..10 {
        for place in [0, 3, 6] {
            let mut bytes = start(WORLDS + u16::from(damage), &split, 0);
            bytes.extend(vec![0; place]);
            bytes.extend([damage, 3, 0, 1, 7, 9]);
            seeds.push((format!("damage_{damage}_{place}"), bytes));
        }
    }
    seeds
}
