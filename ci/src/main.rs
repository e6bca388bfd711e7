//! Refuses circles of files: sibling modules, each with everything below it, that name each other's items in a circle.
//!
//! A module and those below it may name each other. An item that a module re-exports (`pub use`) counts for the file
//! that defines it. Tests do not count. Method calls are not seen, as they do not name a module.
//!
//! `cargo run -p kvgossip-ci -- CRATE/src/lib.rs ...` prints each circle with its files.

mod circles;
mod source;
mod tokens;
mod tree;

use circles::{circles, edges_beside};
use std::process::ExitCode;
use tree::Tree;

fn main() -> ExitCode {
    let mut is_clean = true;
    for root in std::env::args().skip(1) {
        let tree = match Tree::read(&root) {
            Ok(tree) => tree,
            Err(error) => {
                eprintln!("{root}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let edges = edges_beside(&tree.named());
        for circle in circles(&edges) {
            is_clean = false;
            let names: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
            eprintln!("{root}: these modules name each other in a circle: {}", names.join(", "));
            for ((from, to), files) in &edges {
                if circle.contains(from) && circle.contains(to) {
                    for (from, to) in files {
                        eprintln!("    {} names {}", tree.file(from), tree.file(to));
                    }
                }
            }
        }
    }
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
