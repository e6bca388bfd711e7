//! Tests that `docs/errors.md` is complete; the page is rendered from the catalogue.

use super::*;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
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

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (title, rows) in sections() {
        let _ = write!(page, "\n## {title}\n\n| code | exit | what happened, what to do |\n|---|---|---|\n");
        for CodeInfo { code, exit, help } in rows {
            let _ = writeln!(page, "| `{code}` | {} | {help} |", exit as u8);
        }
    }
    page
}

/// `UPDATE_DOCS=1 cargo test -p kvgossip` renders the page again.
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
    for info in sections().into_iter().flat_map(|(_, rows)| rows) {
        assert!(seen.insert(info.code), "{} twice", info.code);
        assert!(!info.help.contains('|') && !info.help.is_empty(), "{}", info.code);
    }
}

/// Some codes are literals in the sources; each has to be in the catalogue, too.
#[test]
fn no_code_of_the_sources_is_missing() {
    let mut missing = BTreeSet::new();
    for part in ["agent", "api", "cli", "client", "engine", "grants", "membership", "transport"] {
        let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(part).join("src")];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    missing.extend(
                        texts_like_codes(&text).filter(|code| find(code).is_none()).map(str::to_owned),
                    );
                }
            }
        }
    }
    assert!(missing.is_empty(), "add to cli/src/codes.rs: {missing:?}");
}

/// Returns quoted texts that look like a code: `kind.reason`, with the kind of some code.
fn texts_like_codes(source: &str) -> impl Iterator<Item = &str> {
    const NOT_CODES: [&str; 5] = ["agent.sock", "agent.toml", "store.new", "store.lock", "store.check"];
    let kinds: BTreeSet<&str> = sections()
        .into_iter()
        .flat_map(|(_, rows)| rows)
        .filter_map(|info| Some(info.code.split_once('.')?.0))
        .collect();
    source.split('"').filter(move |text| {
        let word = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let is_code = text.split_once('.').is_some_and(|(kind, reason)| kinds.contains(kind) && word(reason));
        is_code && !NOT_CODES.contains(text)
    })
}
