//! Prints rates of real agents next to those of the bare operations: see `docs/benchmarks.md`.

use anyhow::Result;
use clap::{Parser, ValueEnum};
use kvgossip_benches::rates::{Rates, fresh, puts};
use std::io::Write;
use std::path::PathBuf;

/// The allocator that the program uses.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures agents with stores on a disk, alternating with the bare operation, and prints each turn.
#[derive(Debug, Parser)]
#[command(name = "rates")]
struct Args {
    /// Measurements to make.
    #[arg(value_enum, default_values_t = [What::Puts, What::Signed, What::Fresh])]
    what: Vec<What>,
    /// Directory for the stores, on a disk and not in memory.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Number of turns of each side.
    #[arg(long, default_value_t = 5)]
    turns: usize,
    /// Number of puts per turn.
    #[arg(long, default_value_t = 8_000)]
    puts: usize,
    /// Number of appends with a flush per turn.
    #[arg(long, default_value_t = 2_000)]
    flushes: usize,
    /// Number of entries that the fresh replica receives.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Print one JSON object per measurement instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// Pre-signed puts by 64 writers.
    Puts,
    /// Puts by 64 writers, signed by the agent.
    Signed,
    /// A fresh replica that receives everything.
    Fresh,
}

fn main() -> Result<()> {
    let args = Args::parse();
    for what in &args.what {
        let rates = match what {
            What::Puts => puts::presigned(&args.dir, args.turns, args.puts, args.flushes)?,
            What::Signed => puts::signed_by_the_agent(&args.dir, args.turns, args.puts)?,
            What::Fresh => fresh::fresh(&args.dir, args.turns, args.entries)?,
        };
        print(&rates, args.json)?;
    }
    Ok(())
}

fn print(rates: &Rates, json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, rates)?;
        writeln!(out)?;
        return Ok(());
    }
    writeln!(out, "{}\n", rates.name)?;
    writeln!(
        out,
        "| turn | bare, 1/s | agent, 1/s | ratio | bare, µs CPU | agent, µs CPU | ratio |\n|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    for (number, turn) in rates.turns.iter().enumerate() {
        let (bare, agent) = (turn.bare, turn.agent);
        writeln!(
            out,
            "| {} | {:.0} | {:.0} | {:.2} | {:.1} | {:.1} | {:.2} |",
            number + 1,
            bare.rate,
            agent.rate,
            turn.ratio(),
            bare.cpu_us,
            agent.cpu_us,
            turn.cpu_ratio()
        )?;
    }
    writeln!(out, "\nmedian {:.2}, wanted {:.2}\n", rates.median(), rates.target)?;
    Ok(())
}
