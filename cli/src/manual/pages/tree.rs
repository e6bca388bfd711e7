//! Manual pages of commands about keys, grants and files of facts.

use super::{Page, page};
use crate::error::Exit::{Conflict, Error, Integrity, NotAuthorised, NotFound, Ok, TimedOut};

const NO_GRANT: &str = "no live grant with that id is known";
const NO_ENTITY: &str = "no entity with that id is known";
const ROOT_ONLY: &str = "the identity is not root, or the agent asks for a token or a certificate";

/// Pages in the order of the help.
pub(super) const PAGES: &[Page] = &[
    page(
        "keygen",
        &[
            ("Make a key.", "kvgossip keygen -o web.pem"),
            ("Write its public half to a file.", "kvgossip keygen -y web.pem > web.pub"),
            ("Print the replica id for --allow-peers.", "kvgossip keygen -y replica.pem --replica-id"),
        ],
        &[],
    ),
    page(
        "get",
        &[
            ("Print a value.", "kvgossip get /app/web/greeting"),
            ("Print it with its entry's id, time and grant.", "kvgossip get /app/web/greeting --output json"),
            (
                "Ask two agents, and verify the answers.",
                "kvgossip get /app/web/greeting --agents 2 --agent http://127.0.0.1:7948 --agent http://127.0.0.1:7958 --root root.pub",
            ),
        ],
        &[
            (NotFound, "the key is not set"),
            (
                TimedOut,
                "the agent does not answer in time, is not ready, or does not know whether the key is set",
            ),
        ],
    ),
    page(
        "set",
        &[
            (
                "Set a value, and sign in the command.",
                "kvgossip set /app/web/greeting hello --identity web.pem",
            ),
            ("Let the agent sign.", "kvgossip set /app/web/greeting hello"),
            ("Take the value from a file.", "kvgossip set /app/web/logo --file logo.png"),
            ("Write only if the key is unset.", "kvgossip set /app/web/leader a --if-id none"),
        ],
        &[(
            Conflict,
            "--if-id does not hold, or a newer entry of the same or a higher authority was there first",
        )],
    ),
    page(
        "del",
        &[
            ("Unset a key.", "kvgossip del /app/web/greeting --identity web.pem"),
            ("Unset it only if it shows this entry.", "kvgossip del /app/web/greeting --if-id 1a2b3c4d"),
        ],
        &[
            (NotFound, "the key is not set"),
            (
                Conflict,
                "--if-id does not hold, or a newer entry of the same or a higher authority was there first",
            ),
        ],
    ),
    page(
        "ls",
        &[
            ("List all keys.", "kvgossip ls"),
            ("List some, with times, entries and grants.", "kvgossip ls -l '/app/**' '!/app/tmp/**'"),
        ],
        &[],
    ),
    Page {
        name: "watch",
        examples: &[
            ("Follow one key, and verify it.", "kvgossip watch /app/web/greeting --root root.pub"),
            ("Follow many, one JSON object a line.", "kvgossip watch '/app/**' '!/app/tmp/**' --output json"),
            ("Run a command at each change.", "kvgossip watch /app/web/greeting -- systemctl reload web"),
        ],
        exits: &[(Error, "any other error, such as a failure of CMD")],
        variables: &[
            ("KVGOSSIP_KEY", "set for CMD: the key"),
            ("KVGOSSIP_EVENT", "set for CMD: what happened"),
            ("KVGOSSIP_ENTRY", "set for CMD: the entry's id, where the key is set"),
            ("KVGOSSIP_VALUE", "set for CMD: the value, where it has no zero byte and at most 100 KiB"),
        ],
    },
    page(
        "render",
        &[
            ("Keep a file in step.", "kvgossip render web.conf.j2 -o /etc/web.conf -- systemctl reload web"),
            ("Write it once, at boot.", "kvgossip render web.conf.j2 -o /etc/web.conf --once"),
        ],
        &[
            (Error, "any other error: the template or CMD fails"),
            (TimedOut, "with --once: not everything that the template asks for was known in time"),
        ],
    ),
    page(
        "grant",
        &[
            (
                "Give authority.",
                "kvgossip grant new --to web.pub --pattern '/app/web/**' --identity root.pem",
            ),
            ("See what was given.", "kvgossip grant ls"),
        ],
        &[],
    ),
    page(
        "grant new",
        &[
            (
                "Give authority, as root.",
                "kvgossip grant new --to web.pub --pattern '/app/web/**' --identity root.pem",
            ),
            (
                "Give authority that can be passed on, for 90 days.",
                "kvgossip grant new --to team.pub --pattern '/app/**' --subgrant --expires 90d --identity root.pem",
            ),
            (
                "Sign without a network.",
                "kvgossip grant new --to team.pub --pattern '/app/**' --identity root.pem --from state.kvgossip --out grant.json",
            ),
        ],
        &[],
    ),
    page(
        "grant ls",
        &[
            ("List what is live.", "kvgossip grant ls"),
            ("List what ends soon.", "kvgossip grant ls --expiring 30d"),
        ],
        &[],
    ),
    page(
        "grant check",
        &[("Could this entity grant the pattern?", "kvgossip grant check --pattern '/app/**' --as team.pub")],
        &[
            (NotFound, NO_ENTITY),
            (
                NotAuthorised,
                "the entity cannot give the pattern, or the agent asks for a token or a certificate",
            ),
        ],
    ),
    page(
        "grant revoke",
        &[
            ("See what would end.", "kvgossip grant revoke 1a2b3c4d --dry-run"),
            ("Revoke the grant.", "kvgossip grant revoke 1a2b3c4d --identity root.pem"),
        ],
        &[
            (NotFound, NO_GRANT),
            (
                NotAuthorised,
                "the identity is neither root, issuer nor grantee, or the agent asks for a token",
            ),
        ],
    ),
    page(
        "explain",
        &[("May this entity write the key, and why?", "kvgossip explain /app/web/greeting --as web.pub")],
        &[
            (NotFound, NO_ENTITY),
            (
                NotAuthorised,
                "the entity may not write the key, or the agent asks for a token or a certificate",
            ),
        ],
    ),
    page(
        "floor",
        &[
            (
                "See what would end.",
                "kvgossip floor '/app/**' --before 2026-11-22T12:00:00Z --identity root.pem --dry-run",
            ),
            (
                "End all entries older than 90 days.",
                "kvgossip floor '/app/tmp/**' --before 90d --identity root.pem",
            ),
        ],
        &[(NotAuthorised, ROOT_ONLY)],
    ),
    page(
        "adopt",
        &[
            (
                "See which entries would be signed.",
                "kvgossip adopt '/app/web/**' --identity new.pem --dry-run",
            ),
            ("Sign them again.", "kvgossip adopt '/app/web/**' '!/app/web/old/**' --identity new.pem"),
        ],
        &[(
            NotAuthorised,
            "some keys were refused, as named, or the agent asks for a token or a certificate",
        )],
    ),
    page(
        "export",
        &[
            ("Write everything to a file.", "kvgossip export -o state.kvgossip"),
            ("Write one part to standard output.", "kvgossip export '/app/**' > app.kvgossip"),
        ],
        &[],
    ),
    page(
        "import",
        &[
            ("Take the facts of a file in.", "kvgossip import state.kvgossip"),
            (
                "Set one key for each file of a directory.",
                "kvgossip import --dir conf.d --under /app/web --identity web.pem",
            ),
        ],
        &[
            (
                NotAuthorised,
                "facts were refused for want of authority, or the agent asks for a token or a certificate",
            ),
            (Conflict, "entries were refused because newer ones are there"),
            (Integrity, "the file is damaged or of another cluster, or a fact in it does not verify"),
        ],
    ),
    page(
        "verify",
        &[("Check an export without an agent.", "kvgossip verify state.kvgossip --root root.pub")],
        &[
            (Ok, "every fact verifies, and the file is whole"),
            (Integrity, "a fact does not verify, or the file is damaged or of another cluster"),
        ],
    ),
];
