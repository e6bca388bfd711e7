//! Examples and exit codes of each command.

mod cluster;
mod tree;

use crate::error::Exit;

/// Manual text of one command, apart from its options.
#[derive(Debug)]
pub(super) struct Page {
    /// Words after the program's name, such as `grant new`; empty for the program itself.
    pub(super) name: &'static str,
    /// Description and command line of each example.
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// Exit codes with a special meaning for this command. They replace the general meanings.
    pub(super) exits: &'static [(Exit, &'static str)],
    /// Environment variables that no option names, with their meanings.
    pub(super) variables: &'static [(&'static str, &'static str)],
}

/// An empty page, for commands without one.
pub(super) const NONE: Page = Page { name: "", examples: &[], exits: &[], variables: &[] };

/// Returns all pages.
pub(super) fn all() -> impl Iterator<Item = &'static Page> {
    tree::PAGES.iter().chain(cluster::PAGES)
}

/// Returns the page of a command by its name; `None` if it has none.
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
