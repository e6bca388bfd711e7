//! Command lines and what they print: `TRYCMD=overwrite cargo test -p kvgossip --test transcripts` takes changes over.

#[test]
fn transcripts() {
    let cases = trycmd::TestCases::new();
    for name in ["AGENT", "DATA_DIR", "IDENTITY", "TOKEN_FILE"] {
        cases.env(format!("KVGOSSIP_{name}"), "");
    }
    cases.env("COLUMNS", "100").case("tests/transcripts/*.trycmd");
}
