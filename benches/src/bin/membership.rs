//! Measures the cost of a large cluster for one member: merging the state of all others, and keeping it in memory.
//!
//! One exchange is a comparison of states by a member: it reads the other's list, answers with its own, and merges what
//! is new. All of it is measured, without network and compression. The members carry the tags of replicas.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kvgossip_membership::core::{Config, Core};
use kvgossip_membership::wire::memberlist::{NodeState, PushPull, VSN, ip_bytes};
use kvgossip_membership::wire::serf::{Tags, encode_tags};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// Numbers of members. With 100,000 members with these tags, the state would exceed the maximum length of a message
    /// (20 MiB).
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,50000")]
    n: Vec<u32>,
    /// Number of exchanges of each kind; the fastest counts.
    #[arg(long, default_value_t = 5)]
    turns: usize,
}

fn member(number: u32) -> NodeState {
    let [a, b, c, d] = number.to_be_bytes();
    let id = format!("{number:08x}").repeat(8);
    let tags =
        [("kvgossip", "2"), ("kvg_port", "7947"), ("kvg_cluster", "0123456789abcdef"), ("kvg_id", &id)];
    let tags: Tags = tags.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    NodeState {
        addr: ip_bytes(Ipv4Addr::new(10 + a, b, c, d).into()),
        incarnation: 1,
        meta: Some(encode_tags(&tags)),
        name: format!("kvgossip-{number:08x}").into(),
        port: 7946,
        state: 0,
        vsn: Some(VSN.to_vec()),
    }
}

fn viewer() -> Result<Core> {
    let mut config = Config::new("viewer", SocketAddr::from(([9, 9, 9, 9], 7946)));
    config.framing.compress = false;
    Ok(Core::new(config, Duration::ZERO, [7; 32])?)
}

/// Performs one exchange; returns its duration and the number of name look-ups.
fn exchange(core: &mut Core, state: &[u8]) -> Result<(Duration, u64)> {
    let before = core.stats().lookups;
    let began = Instant::now();
    let from = SocketAddr::from(([9, 9, 9, 8], 7946));
    let id = core.accept(Duration::ZERO, from).context("no room for an exchange")?;
    core.handle_stream(Duration::ZERO, id, state);
    while core.poll_transmit().is_some() {}
    let took = began.elapsed();
    while core.poll_event().is_some() {}
    Ok((took, core.stats().lookups - before))
}

fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!(
        "| members | state, kB | all new, ms | µs a member | all known, ms | look-ups | memory a member, B |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for n in args.n {
        let state = PushPull { nodes: (0..n).map(member).collect(), ..PushPull::default() }.encode();
        let before = resident_kib()?;
        let mut kept = viewer()?;
        exchange(&mut kept, &state)?;
        ensure!(kept.alive_count() == n as usize + 1, "not all members were taken in");
        let memory = (resident_kib()?.saturating_sub(before)) * 1024 / u64::from(n);
        let mut fresh = Duration::MAX;
        for _ in 0..args.turns {
            fresh = fresh.min(exchange(&mut viewer()?, &state)?.0);
        }
        let (mut known, mut lookups) = (Duration::MAX, 0);
        for _ in 0..args.turns {
            let (took, count) = exchange(&mut kept, &state)?;
            (known, lookups) = (known.min(took), count);
        }
        println!(
            "| {n} | {} | {:.1} | {:.2} | {:.1} | {lookups} | {memory} |",
            state.len() / 1000,
            fresh.as_secs_f64() * 1e3,
            fresh.as_secs_f64() * 1e6 / f64::from(n),
            known.as_secs_f64() * 1e3,
        );
    }
    Ok(())
}
