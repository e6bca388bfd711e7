//! The catalogue of codes is complete, and `docs/errors.md` is rendered from it.
#![allow(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use kvgossip_api::codes::{CodeInfo, find, sections};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const HEAD: &str = "\
# Errors

Every error has a stable code, such as `grant.revoked`. It is the same wherever the error shows: in brackets behind the
message on standard error, as `code` in JSON, as a label in metrics, and in the reason of a QUIC close. The wording of
messages may change; codes and exit codes do not.

On the command line, `--output json` puts an error as one JSON object on standard error, on the last line:

    {\"code\":\"key.unset\",\"message\":\"/my/key is not set\",\"exit\":3}

The column *HTTP* has the status of a refusal with the code. Where a request is refused for several reasons under one code,
some have another status: `http.body` is 413 for a body that is too large. `POST /v1/sync` and `POST /v1/diff` answer 502
with the code that the session ended with.

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

fn all() -> Vec<CodeInfo> {
    sections().into_iter().flat_map(|section| section.codes).collect()
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for section in sections() {
        let head = "| code | exit | HTTP | what happened | what to do |\n|---|---|---|---|---|\n";
        let _ = write!(page, "\n## {}\n\n{head}", section.title);
        for info in section.codes {
            let (exit, advice) = (info.exit as u8, info.advice.unwrap_or_default());
            let status = info.status.map(|status| status.to_string()).unwrap_or_default();
            let _ = writeln!(page, "| `{}` | {exit} | {status} | {} | {advice} |", info.code, info.meaning);
        }
    }
    page
}

/// `UPDATE_DOCS=1 cargo test -p kvgossip-api` writes the page anew.
#[test]
fn the_page_lists_every_code() {
    let (path, page) = (Path::new(REPOSITORY).join("docs/errors.md"), page());
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(path).unwrap() == page,
        "docs/errors.md is not what the catalogue says; run `UPDATE_DOCS=1 cargo test -p kvgossip-api`"
    );
}

#[test]
fn a_code_stands_once_and_has_a_meaning() {
    let mut seen = BTreeSet::new();
    for info in all() {
        assert!(seen.insert(info.code), "{} twice", info.code);
        assert_eq!(find(info.code), Some(info));
        for text in [Some(info.meaning), info.advice].into_iter().flatten() {
            assert!(!text.contains('|') && !text.is_empty() && !text.ends_with('.'), "{}: {text}", info.code);
        }
    }
}

/// Whoever gives a code adds it to the catalogue, and whoever gives it no more takes it out.
#[test]
fn the_catalogue_has_the_codes_of_the_sources_and_no_others() {
    let codes: BTreeSet<&str> = all().iter().map(|info| info.code).collect();
    let (mut missing, mut unused) = (BTreeSet::new(), codes.clone());
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let is_test = path.to_string_lossy().ends_with("tests.rs");
        let given = text.split("#[cfg(test)]\nmod tests {").next().filter(|_| !is_test).unwrap_or_default();
        for text in given.split('"') {
            unused.remove(text);
        }
        let unknown = text.split('"').filter(|text| is_like_a_code(text) && !codes.contains(text));
        missing.extend(unknown.map(str::to_owned));
    }
    assert!(missing.is_empty(), "the catalogue, api/src/codes, lacks {missing:?}");
    assert!(unused.is_empty(), "nothing gives {unused:?}: take them out of api/src/codes");
}

/// Every source file of the crates that have codes, but those of the catalogue itself.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let parts = ["agent", "api", "cli", "client", "engine", "grants", "membership", "transport"];
    let mut open: Vec<PathBuf> =
        parts.iter().map(|part| Path::new(REPOSITORY).join(part).join("src")).collect();
    while let Some(dir) = open.pop() {
        if dir.ends_with("api/src/codes") {
            continue;
        }
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// Whether a text looks like a code: `kind.reason`, where some code has that kind.
fn is_like_a_code(text: &str) -> bool {
    const NAMES_OF_FILES: [&str; 5] = ["agent.sock", "agent.toml", "store.new", "store.lock", "store.check"];
    let word =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let Some((kind, _)) = text.split_once('.').filter(|(kind, reason)| word(kind) && word(reason)) else {
        return false;
    };
    let is_kind = all().iter().any(|info| info.code.split_once('.').is_some_and(|(known, _)| known == kind));
    is_kind && !NAMES_OF_FILES.contains(&text)
}
