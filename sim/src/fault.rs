//! What a broken or hostile peer does to the frames of a session.

use crate::dice::Dice;
use bytes::Bytes;

/// The frame that says "this is a fact", as the session protocol numbers it.
pub const FACT_FRAME: u8 = 6;

/// One kind of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Turns over one bit.
    Flip,
    /// Leaves the end out.
    Shorten,
    /// Appends bytes.
    Lengthen,
    /// Puts any bytes in the place of the frame.
    Garble,
    /// Sends any bytes besides.
    Noise,
    /// Sends the frame twice.
    Repeat,
    /// Sends this frame first.
    Insert(Bytes),
}

impl Fault {
    /// Every kind that needs nothing more.
    pub const PLAIN: [Self; 6] =
        [Self::Flip, Self::Shorten, Self::Lengthen, Self::Garble, Self::Noise, Self::Repeat];

    /// A peer that sends this record as a fact, stored or not.
    pub fn send_record(record: &[u8]) -> Self {
        Self::Insert([&[FACT_FRAME], record].concat().into())
    }
}

/// Damage at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampering {
    /// Before so many frames of both sides together.
    pub at: usize,
    /// What is done.
    pub fault: Fault,
    /// Makes it the same every time.
    pub seed: u64,
}

/// What arrives in the place of frame number `at`.
pub(crate) fn tamper(frame: Bytes, at: usize, tampering: &[Tampering]) -> Vec<Bytes> {
    let mut frames = vec![frame];
    for it in tampering.iter().filter(|it| it.at == at) {
        let mut dice = Dice::new(it.seed, 0);
        let Some(frame) = frames.pop() else { return frames };
        frames.extend(damage(frame, &it.fault, &mut dice));
    }
    frames
}

fn damage(frame: Bytes, fault: &Fault, dice: &mut Dice) -> Vec<Bytes> {
    let last = frame.len().saturating_sub(1);
    let noise = |dice: &mut Dice| {
        let count = dice.within(0, 40);
        dice.bytes(count)
    };
    match fault {
        Fault::Flip => {
            let mut bytes = frame.to_vec();
            if let Some(byte) = bytes.get_mut(dice.within(0, last)) {
                *byte ^= 1 << dice.within(0, 7);
            }
            vec![bytes.into()]
        }
        Fault::Shorten => vec![frame.slice(..dice.within(0, last))],
        Fault::Lengthen => vec![[&frame[..], &noise(dice), &[0]].concat().into()],
        Fault::Garble => vec![noise(dice).into()],
        Fault::Noise => {
            // With a kind byte that exists, so that more than the first look is tried.
            let kind = dice.within(1, 9) as u8;
            vec![[&[kind], &noise(dice)[..]].concat().into(), frame]
        }
        Fault::Repeat => vec![frame.clone(), frame],
        Fault::Insert(other) => vec![other.clone(), frame],
    }
}
