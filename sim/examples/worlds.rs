//! Judges the merge laws over many random worlds: see the module `judge`.
//!
//! ```text
//! worlds [--worlds N] [--orders N] [--seed S] [--order K] [--show] [--minutes M]
//! ```
//! World i has the seed S + i. `--order` makes one run alone, `--show` lists the facts of the world.

use kvgossip_sim::{Judge, SimReplica, Stats, World};
use std::process::ExitCode;
use std::time::{Duration, Instant};

struct Args {
    worlds: u64,
    orders: u64,
    seed: u64,
    order: Option<u64>,
    show: bool,
    limit: Option<Duration>,
}

fn args() -> Result<Args, String> {
    let mut args = Args { worlds: 1, orders: 100, seed: 1, order: None, show: false, limit: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--show" {
            args.show = true;
            continue;
        }
        let number = words.next().and_then(|number| number.parse::<u64>().ok());
        let number = number.ok_or(format!("{word} needs a number"))?;
        match word.as_str() {
            "--worlds" => args.worlds = number,
            "--orders" => args.orders = number,
            "--seed" => args.seed = number,
            "--order" => args.order = Some(number),
            "--minutes" => args.limit = Some(Duration::from_secs(60 * number)),
            _ => return Err(format!("{word} is unknown")),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}; known are --worlds, --orders, --seed, --order, --minutes and --show");
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
        let judge = Judge::new(&world);
        let make = |now| SimReplica::new(world.root.clone(), now).with_journal();
        let orders = args.order.map_or(0..args.orders, |order| order..order + 1);
        for order in orders {
            if let Err(failure) = judge.run(order, &make, &mut stats) {
                println!("{failure}");
                return ExitCode::FAILURE;
            }
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
