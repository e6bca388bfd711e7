//! Prints the cost of sessions between diverged replicas: see `docs/benchmarks.md`.

use anyhow::Result;
use clap::Parser;
use kvgossip_benches::divergence::{Report, measure};
use kvgossip_benches::workload::{Mix, Spread, Workload};
use std::io::Write;

/// Makes pairs of diverged replicas, repairs each pair in one session, and counts every byte.
#[derive(Debug, Parser)]
#[command(name = "divergence")]
struct Args {
    /// Numbers of keys. A million takes about 2 GB of memory.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000])]
    n: Vec<usize>,
    /// Numbers of differences; those above the number of keys are skipped.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    d: Vec<usize>,
    /// Distribution of the differences.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Spread::Uniform, Spread::Clustered])]
    spread: Vec<Spread>,
    /// Kinds of differences.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mix::Mixed])]
    mix: Vec<Mix>,
    /// Seed of the replicas' random contents.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object per line instead of the table.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{HEADER}\n{RULE}")?;
    }
    for workload in workloads(&args) {
        let report = measure(workload)?;
        if args.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            write_row(&mut out, &report)?;
        }
    }
    Ok(())
}

fn workloads(args: &Args) -> Vec<Workload> {
    let mut all = Vec::new();
    for &keys in &args.n {
        for &spread in &args.spread {
            for &mix in &args.mix {
                let counts = args.d.iter().filter(|&&d| d <= keys);
                all.extend(counts.map(|&d| Workload { keys, differences: d, spread, mix, seed: args.seed }));
            }
        }
    }
    all
}

const HEADER: &str = "| N | d | spread | mix | B/difference | out | in | payload | waste | flights | rounds | nodes hashed | ms |";
const RULE: &str = "|--:|--:|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

fn write_row(out: &mut impl Write, report: &Report) -> Result<()> {
    let Workload { keys, differences, spread, mix, .. } = report.workload;
    let (spread, mix) = (format!("{spread:?}").to_lowercase(), format!("{mix:?}").to_lowercase());
    let per_difference = report.per_difference();
    let Report { overhead_out, overhead_in, payload, waste, flights, rounds, nodes_hashed, micros, .. } =
        report;
    let ms = *micros as f64 / 1000.0;
    writeln!(
        out,
        "| {keys} | {differences} | {spread} | {mix} | {per_difference:.1} | {overhead_out} | {overhead_in} | \
         {payload} | {waste} | {flights} | {rounds} | {nodes_hashed} | {ms:.1} |"
    )?;
    Ok(out.flush()?)
}
