//! Codes of facts. Their names and texts are those of [`Code`]; what a process or a refusal ends with is added here.

use super::{CodeInfo, Exit, row};
use kvgossip_grants::Code;

/// The codes of offering facts.
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

/// The status of a write that is refused with the code.
const fn status(code: Code) -> u16 {
    match code {
        Code::TooLarge | Code::OverAgentLimit => 413,
        // Another time, or another entry in its place.
        Code::NotYet
        | Code::Known
        | Code::Floored
        | Code::Dominated
        | Code::RevocationSuperseded
        | Code::FloorSuperseded => 409,
        // The agent handed the fact to the wrong judge.
        Code::ForeignCluster | Code::NotAuthority => 500,
        _ => 403,
    }
}

/// Planning of grants.
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
