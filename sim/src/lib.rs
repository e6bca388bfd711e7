//! Deterministic simulator of replicas under virtual time.
//!
//! All randomness comes from a seed, so that every failure can be replayed.

mod audit;
pub mod carrier;
pub mod chains;
mod complaint;
pub mod crossing;
pub mod dice;
pub mod drive;
mod expected;
pub mod fault;
pub mod hint;
pub mod judge;
pub mod ledger;
mod maker;
pub mod model;
pub mod naive;
pub mod naive_tree;
pub mod pair;
pub mod replica;
pub mod report;
pub mod scribe;
pub mod subject;
mod times;
pub mod world;

pub use carrier::{Carrier, Drive, DriveFlaw, HostKind};
pub use dice::Dice;
pub use drive::{Driven, drive};
pub use fault::{Fault, Tampering};
pub use judge::{Judge, check_state};
pub use ledger::Ledger;
pub use model::{Flaw, Model};
pub use pair::{Cut, Ended, Link, Meanwhile, sync};
pub use replica::SimReplica;
pub use report::{Failure, Stats};
pub use scribe::Scribe;
pub use subject::{Complaint, Subject};
pub use world::World;
