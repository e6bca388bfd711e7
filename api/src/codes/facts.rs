//! Codes of facts. Names and texts are those of [`Code`]; exit codes and HTTP statuses are added here.

use super::{CodeInfo, Exit, row};
use kvgossip_grants::Code;

/// Returns the catalogue entries of all codes of verdicts on facts.
pub(super) fn all() -> impl Iterator<Item = CodeInfo> {
    Code::ALL.iter().map(|code| {
        let help = code.help();
        let (meaning, advice) = match help.split_once("; ") {
            Some((meaning, advice)) => (meaning, Some(advice)),
            None => (help, None),
        };
        CodeInfo { code: code.as_str(), exit: exit(*code), status: Some(status(*code)), meaning, advice }
    })
}

const fn exit(code: Code) -> Exit {
    match code {
        Code::Known | Code::RevocationSuperseded | Code::FloorSuperseded => Exit::Ok,
        Code::Malformed | Code::BadSignature | Code::ValueMismatch => Exit::Integrity,
        Code::Floored | Code::Dominated => Exit::Conflict,
        Code::WrongSigner
        | Code::OutOfReach
        | Code::OutsideWindow
        | Code::GrantUnknown
        | Code::GrantRevoked
        | Code::GrantExpired
        | Code::GrantNotYet
        | Code::NotRoot
        | Code::RootCites
        | Code::WrongIssuer
        | Code::NoSubgrant
        | Code::TooDeep => Exit::NotAuthorised,
        _ => Exit::Error,
    }
}

/// Returns the HTTP status with which a write is refused for this code.
const fn status(code: Code) -> u16 {
    match code {
        Code::TooLarge | Code::OverAgentLimit => 413,
        // The fact is early, known, floored or superseded: a conflict with the state, not a refusal of the fact.
        Code::NotYet
        | Code::Known
        | Code::Floored
        | Code::Dominated
        | Code::RevocationSuperseded
        | Code::FloorSuperseded => 409,
        // A fault of the agent: it passed the fact to the wrong judge.
        Code::ForeignCluster | Code::NotAuthority => 500,
        _ => 403,
    }
}

/// Codes of planning a grant.
pub(super) const PLANS: &[CodeInfo] = &[
    row(
        "grant.out_of_reach",
        Exit::NotAuthorised,
        "a key of the pattern is beyond what the issuer holds with --subgrant",
        "give a narrower pattern, or ask for a wider grant",
    ),
    row(
        "grant.not_proven",
        Exit::NotAuthorised,
        "it could not be shown in time that the issuer's grants cover the pattern",
        "split it into simpler patterns",
    ),
];
