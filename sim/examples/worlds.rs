//! Judges the merge laws over many random worlds: see the module `judge`.
//!
//! ```text
//! worlds [--worlds N] [--orders N] [--seed S] [--order K] [--minutes M] [--driver] [--show] [--shrink]
//! ```
//! `--driver` runs every session through the driver that production runs, not every other one, and lets a fresh replica
//! meet a cluster with chains of grants first, one for each world, of each depth in turn.
//! World i has the seed S + i. `--order` makes one run alone, `--show` lists the facts of the world, `--shrink`
//! leaves out facts of a world that fails as long as some run still fails.

use kvgossip_grants::MAX_DEPTH;
use kvgossip_sim::chains::fresh;
use kvgossip_sim::{Failure, Judge, SimReplica, Stats, World};
use std::ops::Range;
use std::process::ExitCode;
use std::time::{Duration, Instant};

struct Args {
    worlds: u64,
    orders: u64,
    seed: u64,
    order: Option<u64>,
    driver: bool,
    show: bool,
    shrink: bool,
    limit: Option<Duration>,
}

fn args() -> Result<Args, String> {
    let mut args = Args {
        worlds: 1,
        orders: 100,
        seed: 1,
        order: None,
        driver: false,
        show: false,
        shrink: false,
        limit: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--driver" => args.driver = true,
            "--show" => args.show = true,
            "--shrink" => args.shrink = true,
            _ => with_number(&mut args, &word, words.next())?,
        }
    }
    Ok(args)
}

fn with_number(args: &mut Args, word: &str, number: Option<String>) -> Result<(), String> {
    let number = number.and_then(|number| number.parse::<u64>().ok());
    let number = number.ok_or(format!("{word} needs a number"))?;
    match word {
        "--worlds" => args.worlds = number,
        "--orders" => args.orders = number,
        "--seed" => args.seed = number,
        "--order" => args.order = Some(number),
        "--minutes" => args.limit = Some(Duration::from_secs(60 * number)),
        _ => return Err(format!("{word} is unknown")),
    }
    Ok(())
}

/// The first of some runs that breaks a law.
fn judge(world: &World, driver: bool, orders: Range<u64>, stats: &mut Stats) -> Result<(), Failure> {
    let judge = Judge::new(world);
    let judge = if driver { judge.all_driven(None) } else { judge };
    let make = |now| SimReplica::new(world.root.clone(), now).with_journal();
    orders.into_iter().try_for_each(|order| judge.run(order, &make, stats))
}

/// Leaves out one fact after the other, as long as some run still fails.
fn shrink(mut world: World, driver: bool, mut failure: Failure) -> (World, Failure) {
    for index in (0..world.facts.len()).rev() {
        let fact = world.facts.remove(index);
        match judge(&world, driver, 0..200, &mut Stats::default()) {
            Ok(()) => world.facts.insert(index, fact),
            Err(smaller) => failure = smaller,
        }
    }
    (world, failure)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!(
                "{error}; known are --worlds, --orders, --seed, --order, --minutes, --driver, --show and --shrink"
            );
            return ExitCode::from(2);
        }
    };
    let start = Instant::now();
    let mut stats = Stats::default();
    let mut worlds = 0;
    for seed in (args.seed..).take(usize::try_from(args.worlds).unwrap_or(usize::MAX)) {
        if args.limit.is_some_and(|limit| start.elapsed() > limit) {
            break;
        }
        let world = World::new(seed);
        if args.show {
            print!("{world}");
        }
        let orders = args.order.map_or(0..args.orders, |order| order..order + 1);
        if args.driver && args.order.is_none() {
            let depth = 1 + (seed % u64::from(MAX_DEPTH)) as usize;
            if let Err(complaint) = fresh(seed, depth, None) {
                println!("a fresh replica, seed {seed}, chains of {depth}: {complaint}");
                return ExitCode::FAILURE;
            }
        }
        if let Err(failure) = judge(&world, args.driver, orders, &mut stats) {
            println!("{failure}");
            if args.shrink {
                let (world, failure) = shrink(world, args.driver, failure);
                println!("with less:\n{world}order {}: {}", failure.order, failure.complaint);
            }
            return ExitCode::FAILURE;
        }
        worlds += 1;
        if worlds % 500 == 0 {
            println!("{worlds} worlds in {:.0?}", start.elapsed());
        }
    }
    println!("{worlds} worlds, no law broken, in {:.1?}", start.elapsed());
    println!("{stats:#?}");
    ExitCode::SUCCESS
}
