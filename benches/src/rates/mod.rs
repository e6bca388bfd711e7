//! Rates of real agents beside the bare cost of what they cannot do without, in turns inside one run.

pub mod fresh;
pub mod puts;
mod rig;

use anyhow::{Context, Result};
use serde::Serialize;
use std::time::Instant;

/// What one side did in its turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Side {
    /// Per second.
    pub rate: f64,
    /// Microseconds of processor time for each, of this whole process: both agents and the clients.
    pub cpu_us: f64,
}

/// One turn of both sides.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Turn {
    /// The bare operation.
    pub bare: Side,
    /// The agent.
    pub agent: Side,
}

impl Turn {
    /// How much of the bare rate the agent reaches.
    pub fn ratio(&self) -> f64 {
        self.agent.rate / self.bare.rate
    }

    /// How much of the agent's processor time the bare operation takes. Others on the machine change it little.
    pub fn cpu_ratio(&self) -> f64 {
        self.bare.cpu_us / self.agent.cpu_us
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

/// Does something `count` times, and says at which cost.
fn measured(count: usize, work: impl FnOnce() -> Result<()>) -> Result<Side> {
    let (began, cpu) = (Instant::now(), cpu_us()?);
    work()?;
    let took = began.elapsed().as_secs_f64();
    Ok(Side { rate: count as f64 / took, cpu_us: (cpu_us()? - cpu) / count as f64 })
}

/// Processor time of this process, in steps of 10 ms (proc_pid_stat(5), fields 14 and 15; a tick has been 10 ms on every
/// Linux of the last decades).
fn cpu_us() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("the name ends with a bracket")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 * 10_000.0)
}
