//! Keeps `docs/errors.md` complete: the page is rendered from the codes themselves.

use super::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::{env, fs};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");

const HEAD: &str = "\
# Errors

Every error has a stable code, such as `grant.revoked`. It is the same wherever the error shows: in brackets behind the
message on standard error, as `code` in JSON, as a label in metrics, and in the reason of a QUIC close. The wording of
messages may change; codes and exit codes do not.

On the command line, `--output json` puts an error as one JSON object on standard error, on the last line:

    {\"code\":\"key.unset\",\"message\":\"/my/key is not set\",\"exit\":3}

## Exit codes

| exit | meaning |
|---|---|
| 0 | done |
| 1 | error |
| 2 | the command line is wrong |
| 3 | not found |
| 4 | not authorised |
| 5 | no agent answers |
| 6 | conflict |
| 7 | timed out, or not converged |
| 8 | integrity failure |
";

type Row = (&'static str, Exit, String);

fn sections() -> Vec<(&'static str, Vec<Row>)> {
    let facts =
        Code::ALL.iter().map(|code| (code.as_str(), of_fact(*code), code.help().to_owned())).collect();
    let agent = ClientError::CODES.iter().map(|info| {
        let help = format!("{}; {}", info.meaning, info.advice);
        (info.code, exit(info.code).unwrap_or(Exit::Error), help)
    });
    let own = OWN.iter().map(|info| (info.code, info.exit, info.help.to_owned())).collect();
    vec![("Facts and authority", facts), ("Reaching an agent", agent.collect()), ("The command line", own)]
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, rows) in sections() {
        let _ = write!(page, "\n## {title}\n\n| code | exit | what happened, what to do |\n|---|---|---|\n");
        for (code, exit, help) in rows {
            let _ = writeln!(page, "| `{code}` | {} | {help} |", exit as u8);
        }
    }
    page
}

/// `UPDATE_DOCS=1 cargo test -p kvgossip` writes the page anew.
#[test]
fn the_page_lists_every_code() {
    let page = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &page).unwrap();
    }
    let found = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        found == page,
        "docs/errors.md is not what the codes say; run `UPDATE_DOCS=1 cargo test -p kvgossip`"
    );
}

#[test]
fn a_code_stands_in_one_place() {
    let mut seen = BTreeSet::new();
    for (code, exit_code, help) in sections().into_iter().flat_map(|(_, rows)| rows) {
        assert!(seen.insert(code), "{code} twice");
        assert!(!help.contains('|') && !help.is_empty(), "{code}");
        assert_eq!(exit(code), Some(exit_code), "{code}");
    }
}
