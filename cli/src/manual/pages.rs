//! Examples and exit codes of each command.

mod cluster;
mod tree;

use crate::error::Exit;

/// What is said of one command beside its options.
#[derive(Debug)]
pub(super) struct Page {
    /// The command behind the program's name, such as `grant new`; empty for the program.
    pub(super) name: &'static str,
    /// What an example does, and its command line.
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// Exit codes with a meaning of their own here. They replace the general meanings.
    pub(super) exits: &'static [(Exit, &'static str)],
    /// Variables that no option names.
    pub(super) variables: &'static [(&'static str, &'static str)],
}

/// The page of a command that has none.
pub(super) const NONE: Page = Page { name: "", examples: &[], exits: &[], variables: &[] };

/// All pages.
pub(super) fn all() -> impl Iterator<Item = &'static Page> {
    tree::PAGES.iter().chain(cluster::PAGES)
}

/// The page of a command.
pub(super) fn find(name: &str) -> Option<&'static Page> {
    all().find(|page| page.name == name)
}

const fn page(
    name: &'static str,
    examples: &'static [(&'static str, &'static str)],
    exits: &'static [(Exit, &'static str)],
) -> Page {
    Page { name, examples, exits, variables: &[] }
}
