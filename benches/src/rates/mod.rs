//! Rates of real agents beside the bare cost of what they cannot do without, in turns inside one run.

pub mod fresh;
pub mod puts;
mod rig;

use serde::Serialize;
use std::time::{Duration, Instant};

/// One turn of both sides.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Turn {
    /// Of the bare operation, per second.
    pub bare: f64,
    /// Of the agent, per second.
    pub agent: f64,
}

impl Turn {
    /// How much of the bare rate the agent reaches.
    pub fn ratio(&self) -> f64 {
        self.agent / self.bare
    }
}

/// All turns of a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Rates {
    /// What was measured.
    pub name: &'static str,
    /// What a ratio below is too little.
    pub target: f64,
    /// Turn by turn.
    pub turns: Vec<Turn>,
}

impl Rates {
    /// The ratio in the middle.
    pub fn median(&self) -> f64 {
        let mut ratios: Vec<f64> = self.turns.iter().map(Turn::ratio).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(0.0)
    }
}

/// Times a second that something was done `count` times in.
fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// How long something takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let done = work();
    (done, began.elapsed())
}
