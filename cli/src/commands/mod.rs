//! The commands, one file per group.
//!
//! A new command needs (paths from `cli/`):
//! - `src/commands/NEW.rs` with its arguments (`NewArgs`) and its function, and a `mod` line below;
//! - a variant of `Command` in `src/args.rs`, and an arm of `run` in `src/main.rs`;
//! - an element of `PAGES` in `src/manual/pages/tree.rs` or `cluster.rs`: examples, exit codes, environment variables;
//! - its JSON in the hand-written part of `../docs/cli.md`, or its name in `NO_JSON` of `src/reference_tests.rs`;
//! - a test with real processes in `tests/`;
//! - `UPDATE_DOCS=1 cargo test -p kvgossip --bin kvgossip`, which renders the reference in `../docs/cli.md`, and
//!   `TRYCMD=overwrite cargo test -p kvgossip --test transcripts`, which takes its line over into the list of commands.

pub(crate) mod adopt;
pub(crate) mod agent;
mod agent_access;
pub(crate) mod agent_files;
mod agent_forgetting;
mod agent_gossip;
mod agent_log;
mod agent_serf;
mod agent_timings;
pub(crate) mod diff;
pub(crate) mod entry;
mod expiring;
pub(crate) mod export;
pub(crate) mod fsck;
pub(crate) mod gossip_admin;
pub(crate) mod grant;
pub(crate) mod import;
mod import_dir;
pub(crate) mod inspect;
pub(crate) mod key;
pub(crate) mod members;
mod rehearse;
pub(crate) mod render;
pub(crate) mod revoke;
pub(crate) mod shell;
pub(crate) mod sync;
mod template;
pub(crate) mod verify;
pub(crate) mod watch;
mod watch_command;
mod watch_told;
