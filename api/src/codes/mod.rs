//! The catalogue of stable codes: what each one means, what to do about it, and how a process or an answer over HTTP ends
//! with it.
//!
//! A code is a text such as `grant.revoked`. It is the same in messages of commands, JSON, logs, metrics and the close of a
//! QUIC connection. Error types name the code and tell what happened in the case at hand; what to do stands here alone.
//! `docs/errors.md` is rendered from this catalogue.

mod agent;
mod commands;
mod facts;
mod http;
mod peers;

use std::process::ExitCode;

/// What the catalogue knows of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeInfo {
    /// The code.
    pub code: &'static str,
    /// What a process ends with when this is its error.
    pub exit: Exit,
    /// The HTTP status of a refusal with this code; `None` for codes that no request is refused with.
    pub status: Option<u16>,
    /// What happened.
    pub meaning: &'static str,
    /// What to do; `None` where there is nothing to do but to accept it.
    pub advice: Option<&'static str>,
}

impl CodeInfo {
    /// What happened and what to do, in one line.
    pub fn help(&self) -> String {
        match self.advice {
            Some(advice) => format!("{}; {advice}", self.meaning),
            None => self.meaning.to_owned(),
        }
    }
}

/// What a process ends with. The discriminants are the exit codes; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Any other error.
    Error = 1,
    /// The command line is wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Not authorised.
    NotAuthorised = 4,
    /// No agent answers.
    Unreachable = 5,
    /// Another writer was faster.
    Conflict = 6,
    /// Out of time, or replicas still differ.
    TimedOut = 7,
    /// Bytes are not what they are said to be.
    Integrity = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The codes of one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// The codes.
    pub codes: Vec<CodeInfo>,
}

/// The whole catalogue, by origin. Every code is in it once.
pub fn sections() -> Vec<Section> {
    let facts: Vec<CodeInfo> = facts::all().chain(facts::PLANS.iter().copied()).collect();
    let facts = Section { title: "Facts and authority", codes: facts };
    let tables = TABLES.iter().map(|(title, codes)| Section { title, codes: codes.to_vec() });
    [facts].into_iter().chain(tables).collect()
}

/// What is known of a code; `None` for a text that is no code of this version.
pub fn find(code: &str) -> Option<CodeInfo> {
    let tables = TABLES.iter().flat_map(|(_, codes)| codes.iter()).chain(facts::PLANS).copied();
    tables.chain(facts::all()).find(|info| info.code == code)
}

/// What to do about a code.
pub fn advice(code: &str) -> Option<&'static str> {
    find(code)?.advice
}

const TABLES: [(&str, &[CodeInfo]); 8] = [
    ("The command line", commands::COMMANDS),
    ("Reaching an agent", commands::REACHING),
    ("The HTTP API", http::HTTP),
    ("Between replicas", peers::PEERS),
    ("How an agent is", agent::HEALTH),
    ("Gossip", agent::GOSSIP),
    ("The store", agent::STORE),
    ("Faults of the program", agent::FAULTS),
];

/// A code that no request is refused with.
const fn row(code: &'static str, exit: Exit, meaning: &'static str, advice: &'static str) -> CodeInfo {
    CodeInfo { code, exit, status: None, meaning, advice: Some(advice) }
}

/// A code that requests are refused with, by this HTTP status.
const fn refusal(
    code: &'static str,
    status: u16,
    exit: Exit,
    meaning: &'static str,
    advice: &'static str,
) -> CodeInfo {
    CodeInfo { status: Some(status), ..row(code, exit, meaning, advice) }
}
