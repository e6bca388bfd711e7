//! Damage that a broken or hostile peer does to the frames of a session.

use crate::dice::Dice;
use bytes::Bytes;

/// Type number of a frame that contains a fact, in the session protocol.
pub const FACT_FRAME: u8 = 6;

/// One kind of damage to a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Inverts one bit of the frame.
    Flip,
    /// Cuts off the end of the frame.
    Shorten,
    /// Appends bytes to the frame.
    Lengthen,
    /// Replaces the frame by random bytes.
    Garble,
    /// Sends a frame of random bytes in addition.
    Noise,
    /// Sends the frame twice.
    Repeat,
    /// Sends these bytes as a frame before the original one.
    Insert(Bytes),
}

impl Fault {
    /// All kinds of damage that have no parameter.
    pub const PLAIN: [Self; 6] =
        [Self::Flip, Self::Shorten, Self::Lengthen, Self::Garble, Self::Noise, Self::Repeat];

    /// Makes the fault of a peer that sends `record` as a fact, whether or not it stores that fact.
    pub fn send_record(record: &[u8]) -> Self {
        Self::Insert([&[FACT_FRAME], record].concat().into())
    }
}

/// Damage to one frame of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampering {
    /// Number of the frame, counted over both sides from 0 in the order of sending.
    pub at: usize,
    /// Kind of damage to the frame.
    pub fault: Fault,
    /// Seed of the damage's random choices.
    pub seed: u64,
}

/// Returns the frames that arrive in place of `frame`, the frame with the number `at`.
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
            // With a valid frame type, so that the damage gets past the first check.
            let kind = dice.within(1, 9) as u8;
            vec![[&[kind], &noise(dice)[..]].concat().into(), frame]
        }
        Fault::Repeat => vec![frame.clone(), frame],
        Fault::Insert(other) => vec![other.clone(), frame],
    }
}
