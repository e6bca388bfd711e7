//! A sample of random worlds; the example `worlds` judges as many as one likes.

use kvgossip_sim::{Judge, SimReplica, Stats, World};

const WORLDS: u64 = 100;
const ORDERS: u64 = 16;

#[test]
fn order_duplication_partition_and_clocks_do_not_matter() {
    let mut stats = Stats::default();
    for seed in 0..WORLDS {
        let world = World::new(seed);
        let judge = Judge::new(&world);
        let make = |now| SimReplica::new(world.root.clone(), now).with_journal();
        for order in 0..ORDERS {
            if let Err(failure) = judge.run(order, &make, &mut stats) {
                panic!("{failure}");
            }
        }
    }
    println!("{stats:#?}");
    assert_eq!(stats.runs, WORLDS * ORDERS);
    assert_eq!((stats.needless_rounds, stats.early), (0, 0));
    assert!(stats.sessions > 4 * WORLDS && stats.cut > WORLDS / 4 && stats.restarts > WORLDS / 4);
}
