//! The catalogue of stable codes: meaning, advice, exit code and HTTP status of each.
//!
//! A code is a text such as `grant.revoked`. It is the same in messages of commands, JSON, logs, metrics and the close
//! of a QUIC connection. An error type gives its code and the details of the case; the advice is only here.
//! `docs/errors.md` is rendered from this catalogue.

mod agent;
mod commands;
mod facts;
mod http;
mod peers;

use std::process::ExitCode;

/// Catalogue entry of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeInfo {
    /// Stable code, such as `grant.revoked`.
    pub code: &'static str,
    /// Exit code of a process that fails with this code.
    pub exit: Exit,
    /// HTTP status of a refusal with this code; `None` if no request is refused with it.
    pub status: Option<u16>,
    /// What has happened when the code is reported, as text for people.
    pub meaning: &'static str,
    /// What the reader should do about it; `None` if nothing can be done.
    pub advice: Option<&'static str>,
}

impl CodeInfo {
    /// Returns meaning and advice in one line, or the meaning alone if there is no advice.
    pub fn help(&self) -> String {
        match self.advice {
            Some(advice) => format!("{}; {advice}", self.meaning),
            None => self.meaning.to_owned(),
        }
    }
}

/// Exit code of a process. The discriminants are the numbers; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// The command succeeded.
    Ok = 0,
    /// A failure for which no other exit code is meant.
    Error = 1,
    /// The command line is wrong, such as an unknown option.
    Usage = 2,
    /// The requested object, such as a key, does not exist.
    NotFound = 3,
    /// The grants, or the agent, do not permit the operation.
    NotAuthorised = 4,
    /// No agent answers at the given address or socket.
    Unreachable = 5,
    /// Somebody else changed the key meanwhile, or the target of the operation exists already.
    Conflict = 6,
    /// The time limit of the command was reached, or replicas still differ.
    TimedOut = 7,
    /// Data does not match its id, signature or checksum.
    Integrity = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Codes of one area of the program, as one section of `docs/errors.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// Heading of the section in `docs/errors.md`.
    pub title: &'static str,
    /// Catalogue entries of the area, in the order of the document.
    pub codes: Vec<CodeInfo>,
}

/// Returns the whole catalogue, one section for each area. Every code occurs once.
pub fn sections() -> Vec<Section> {
    let facts: Vec<CodeInfo> = facts::all().chain(facts::PLANS.iter().copied()).collect();
    let facts = Section { title: "Facts and authority", codes: facts };
    let tables = TABLES.iter().map(|(title, codes)| Section { title, codes: codes.to_vec() });
    [facts].into_iter().chain(tables).collect()
}

/// Returns the catalogue entry of a code; `None` if this version does not have the code.
pub fn find(code: &str) -> Option<CodeInfo> {
    let tables = TABLES.iter().flat_map(|(_, codes)| codes.iter()).chain(facts::PLANS).copied();
    tables.chain(facts::all()).find(|info| info.code == code)
}

/// Returns the advice for a code; `None` if the code has none or is unknown to this version.
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

/// Catalogue entry of a code with which no request is refused.
const fn row(code: &'static str, exit: Exit, meaning: &'static str, advice: &'static str) -> CodeInfo {
    CodeInfo { code, exit, status: None, meaning, advice: Some(advice) }
}

/// Catalogue entry of a code with which requests are refused, with the HTTP status of the refusal.
const fn refusal(
    code: &'static str,
    status: u16,
    exit: Exit,
    meaning: &'static str,
    advice: &'static str,
) -> CodeInfo {
    CodeInfo { status: Some(status), ..row(code, exit, meaning, advice) }
}
