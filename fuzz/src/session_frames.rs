//! Fuzz target that feeds arbitrary frames to a session: it continues or ends in an error, and its answers stay within
//! the limits.
//!
//! ```text
//! role and whether facts are taken (u8) ‖ scope (u8) ‖ frames, each: what it is (u8) ‖ operands
//! ```
//!
//! A frame is given byte by byte, or is a real one of a session with another replica, possibly with changed bytes. So
//! an input can get past the hellos without guessing hashes.

use crate::Seed;
use crate::input::Input;
use bytes::Bytes;
use kvgossip_engine::session::{
    Config, MAX_FLIGHT_BYTES, MAX_FRAME_BYTES, MAX_ROUNDS, Role, Session, SessionError,
};
use kvgossip_grants::{By, Fact, PathPrefix, Verdict};
use kvgossip_sim::scribe::{Terms, at};
use kvgossip_sim::{Scribe, SimReplica};
use std::sync::OnceLock;

const NOW: u64 = 1_000_000;
/// Path prefixes that limit the session.
const SCOPES: [&str; 4] = ["/", "/dc1", "/dc1/host3", "/nothing"];
/// Maximum number of frames of an input.
const MAX_FRAMES: usize = 200;
/// Maximum number of frames in an answer to frames as small as these.
const MAX_ANSWER_FRAMES: usize = 10_000;

/// The environment of the session: one of two differing replicas, and all frames of a session between them.
struct Stage {
    here: SimReplica,
    /// Frames that the other replica sends as responder, and as initiator.
    frames: [Vec<Bytes>; 2],
}

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let frames = [0, 1].map(|role| {
            let [mut here, mut there] = replicas();
            let roles = if role == 0 {
                [Role::Initiator, Role::Responder]
            } else {
                [Role::Responder, Role::Initiator]
            };
            record(&mut here, &mut there, roles)
        });
        let [here, _] = replicas();
        Stage { here, frames }
    })
}

/// Makes replicas with a few dozen keys in different states, grants, revocations and floors.
fn replicas() -> [SimReplica; 2] {
    let mut scribe = Scribe::new(4);
    let top = scribe.grant(0, 1, "/**", None, Terms::default());
    let below = scribe.grant(1, 2, "/dc1/**", Some(top.id()), Terms::default());
    let ended = scribe.grant(1, 3, "/dc2/**", Some(top.id()), Terms::default());
    let root = scribe.root().clone();
    let mut pair = [0, 1].map(|_| SimReplica::new(root.clone(), at(NOW)));
    let mut both = vec![Fact::Grant(top.clone()), Fact::Grant(below.clone())];
    for number in 0..70 {
        let key = format!("/dc{}/host{}/cpu{}", number % 3, number / 6, number % 6);
        both.push(scribe.set(1, &key, b"value", 100 + number, Some(top.id())));
    }
    let own = [
        vec![
            Fact::Grant(ended.clone()),
            scribe.set(2, "/dc1/host3/cpu4", b"by two", 400, Some(below.id())),
            scribe.set(1, "/dc0/host0/cpu0", b"newer", 500, Some(top.id())),
            scribe.delete(1, "/dc2/host1/cpu2", 600, Some(top.id())),
            scribe.set(3, "/dc2/only/here", b"soon gone", 450, Some(ended.id())),
        ],
        vec![
            scribe.revoke(&ended, By::Issuer, 1, 700),
            scribe.floor(&["/dc0/host5/**"], 130),
            scribe.set(1, "/dc0/host0/cpu0", b"newest", 501, Some(top.id())),
            scribe.set(0, "/dc1/host3/cpu4", b"by root", 300, None),
            scribe.set(1, "/dc1/host3/more", b"new", 700, Some(top.id())),
        ],
    ];
    for (replica, own) in pair.iter_mut().zip(own) {
        for fact in both.iter().chain(&own) {
            assert!(replica.offer(fact.clone()).is_taken_in(), "every fact of the stage is acceptable");
        }
    }
    pair
}

fn config(role: Role, scope: &str, takes_facts: bool) -> Config {
    let scope = PathPrefix::parse(scope).unwrap_or_else(|error| panic!("{scope}: {error}"));
    Config { role, scope, nonce: [role as u8; 8], takes_facts, newcomer: None }
}

/// Returns the frames that `there` sends in an undisturbed session.
fn record(here: &mut SimReplica, there: &mut SimReplica, roles: [Role; 2]) -> Vec<Bytes> {
    let mut sessions = [(&mut *here, roles[0]), (there, roles[1])].map(|(replica, role)| {
        let session = Session::new(config(role, "/", true), replica.view());
        (replica, session)
    });
    let mut sent = Vec::new();
    loop {
        let mut idle = true;
        for from in [0, 1] {
            let (replica, session) = &mut sessions[from];
            let Ok(frames) = answer(session, replica, true) else { return sent };
            idle &= frames.is_empty();
            if from == 1 {
                sent.extend(frames.iter().cloned());
            }
            let (replica, session) = &mut sessions[1 - from];
            for frame in frames {
                if session.handle_frame(frame, replica.view()).is_err() {
                    return sent;
                }
            }
        }
        if idle {
            return sent;
        }
    }
}

/// Checks the received facts, then takes all frames that the session has to send.
fn answer(session: &mut Session, replica: &mut SimReplica, merges: bool) -> Result<Vec<Bytes>, SessionError> {
    let mut frames = Vec::new();
    loop {
        while let Some((ticket, fact)) = session.poll_offer() {
            let verdict = if merges { replica.offer(fact) } else { judge(replica, fact) };
            session.handle_verdict(ticket, verdict)?;
        }
        match session.poll_frame(replica.view(), replica.reader().as_ref())? {
            Some(frame) => frames.push(frame),
            None if session.outstanding() == 0 => return Ok(frames),
            None => {}
        }
    }
}

/// Returns the verdict that an offer would get, without merging.
fn judge(replica: &SimReplica, fact: Fact) -> Verdict {
    match replica.check(fact) {
        Ok(_) => Verdict::Merged,
        Err(verdict) => verdict,
    }
}

/// Runs one input: see the [module documentation](self).
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let (role, answers) = if flags & 1 == 0 { (Role::Initiator, 0) } else { (Role::Responder, 1) };
    let scope = SCOPES[input.below(SCOPES.len())];
    let stage = stage();
    // Cloning the replica would cost more than the session; this one is only read.
    let mut side =
        Side { session: Session::new(config(role, scope, flags & 2 == 0), stage.here.view()), stage };
    if side.answer().is_err() {
        return;
    }
    for _ in 0..MAX_FRAMES {
        if input.is_empty() {
            break;
        }
        let frame = next_frame(&mut input, &stage.frames[answers]);
        if side.take(frame).is_err() {
            return;
        }
    }
    let session = &side.session;
    assert!(session.tally().rounds <= u32::from(MAX_ROUNDS));
    assert!(session.outcome().is_some() || !session.is_finished());
}

/// The session under attack.
struct Side {
    session: Session,
    stage: &'static Stage,
}

impl Side {
    fn take(&mut self, frame: Bytes) -> Result<(), SessionError> {
        let was_finished = self.session.is_finished();
        let taken = self.session.handle_frame(frame, self.stage.here.view());
        assert!(!was_finished || taken.is_err(), "a finished session takes nothing");
        taken.and_then(|()| self.answer())
    }

    fn answer(&mut self) -> Result<(), SessionError> {
        let (mut count, mut bytes) = (0, 0);
        loop {
            while let Some((ticket, fact)) = self.session.poll_offer() {
                let verdict = judge(&self.stage.here, fact);
                self.session.handle_verdict(ticket, verdict)?;
            }
            let reader = self.stage.here.reader();
            match self.session.poll_frame(self.stage.here.view(), reader.as_ref())? {
                Some(frame) => {
                    assert!(!frame.is_empty() && frame.len() <= MAX_FRAME_BYTES);
                    (count, bytes) = (count + 1, bytes + frame.len());
                    assert!(count < MAX_ANSWER_FRAMES && bytes <= 2 * MAX_FLIGHT_BYTES, "{count} {bytes}");
                }
                None if self.session.outstanding() == 0 => return Ok(()),
                None => {}
            }
        }
    }
}

fn next_frame(input: &mut Input<'_>, real: &[Bytes]) -> Bytes {
    match input.byte() % 4 {
        0 => {
            let kind = 1 + input.byte() % 9;
            [&[kind], input.chunk()].concat().into()
        }
        1 => Bytes::copy_from_slice(input.chunk()),
        2 => real[input.below(real.len())].clone(),
        _ => {
            let mut frame = real[input.below(real.len())].to_vec();
            for _ in 0..=input.below(4) {
                let place = usize::from(input.u16()) % frame.len();
                frame[place] = input.byte();
            }
            frame.into()
        }
    }
}

/// Returns real sessions up to each frame, and small artificial frames of every type.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (role, name) in [(0, "initiator"), (1, "responder")] {
        let count = stage().frames[role].len() as u8;
        for taken in 1..=count {
            let mut bytes = vec![role as u8, 0];
            (0..taken).for_each(|frame| bytes.extend([2, frame]));
            seeds.push((format!("{name}_real_{taken:02}"), bytes.clone()));
            // The same session with the last frame changed, followed by a frame of any type.
            bytes.truncate(bytes.len() - 2);
            bytes.extend([3, taken - 1, 0, 5, 0, 1]);
            seeds.push((format!("{name}_changed_{taken:02}"), bytes));
        }
    }
    for kind in 0..9 {
        // Sent after the hello.
        seeds.push((
            format!("made_up_{}", kind + 1),
            vec![1, 0, 2, 0, 0, kind, 4, 0, 0x21, 0, 0, 0, 0, 6, 1, 0, 1],
        ));
    }
    seeds.push(("read_only".into(), vec![3, 0, 2, 0, 2, 1, 2, 2, 2, 3, 2, 4]));
    seeds.push(("scoped".into(), vec![0, 1, 2, 0, 2, 1, 2, 2, 2, 3]));
    seeds
}
