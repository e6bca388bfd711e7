//! Files of test vectors, and their quotes in `docs/protocol.md`.
//!
//! A file has sections, `[name]`, of lines `field value`; lines that begin with `#` are comments. A code block of the
//! document with the info string `vector FILE SECTION` quotes fields of a section. In such a block, a value may be
//! divided by blanks and line breaks (the lines after the first are indented), and `#` begins a comment, so that bytes
//! can be explained in place.
//!
//! With `KVGOSSIP_BLESS=1` in the environment, a test writes its file instead of comparing it. The document is never
//! written: a failing test prints what it should quote.

pub mod cast;

use kvgossip_grants::SigningKey;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};

/// Returns the root directory of the workspace.
fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Loads a key of `grants/tests/fixtures/test-only-keys`.
pub fn key(name: &str) -> SigningKey {
    let path = workspace().join(format!("grants/tests/fixtures/test-only-keys/{name}.pem"));
    SigningKey::from_pem(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The vectors of one file.
pub struct Vectors {
    path: PathBuf,
    text: String,
    section: String,
    fields: BTreeMap<(String, String), String>,
}

impl Vectors {
    /// Starts a file. `path` is relative to the workspace; `header` becomes comments.
    pub fn new(path: &str, header: &str) -> Self {
        let text = header.lines().map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect();
        Self { path: workspace().join(path), text, section: String::new(), fields: BTreeMap::new() }
    }

    /// Starts a section `[name]` of the file.
    pub fn section(&mut self, name: &str) {
        self.section = name.into();
        writeln!(self.text, "\n[{name}]").unwrap();
    }

    /// Adds a line `name value` to the section.
    pub fn field(&mut self, name: &str, value: impl Display) {
        let value = value.to_string();
        self.text += format!("{name} {value}").trim_end();
        self.text.push('\n');
        let before = self.fields.insert((self.section.clone(), name.into()), value);
        assert_eq!(before, None, "[{}] has {name} twice", self.section);
    }

    /// Adds a line `name value` to the section, with the bytes in hexadecimal.
    pub fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.field(name, hex::encode(bytes));
    }

    /// Adds a comment line to the section.
    pub fn comment(&mut self, text: &str) {
        writeln!(self.text, "# {text}").unwrap();
    }

    /// Compares with the committed file, or writes it if `KVGOSSIP_BLESS` is set.
    pub fn settle(&self) {
        if std::env::var_os("KVGOSSIP_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&self.path, &self.text).unwrap();
        }
        let committed = std::fs::read_to_string(&self.path).unwrap_or_default();
        let differing = committed.lines().zip(self.text.lines()).find(|(old, new)| old != new);
        assert_eq!(differing, None, "{} says something else", self.path.display());
        assert_eq!(committed.len(), self.text.len(), "{} is not whole", self.path.display());
    }

    /// Checks every block of `docs/protocol.md` that quotes the file `name`, and that the number of those blocks is
    /// `blocks`.
    pub fn check_quotes(&self, name: &str, blocks: usize) {
        let document = std::fs::read_to_string(workspace().join("docs/protocol.md")).unwrap();
        let mut found = 0;
        let mut lines = document.lines();
        while let Some(line) = lines.next() {
            let Some(fence) = line.strip_prefix("```vector ") else { continue };
            let (file, section) = fence.split_once(' ').unwrap();
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if file == name {
                found += 1;
                self.check_block(section, &block);
            }
        }
        assert_eq!(found, blocks, "blocks of {name} in docs/protocol.md");
    }

    fn check_block(&self, section: &str, block: &[&str]) {
        let mut quoted: Vec<(&str, String)> = Vec::new();
        for line in block {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            if !line.starts_with(' ')
                && let Some(field) = words.next()
            {
                quoted.push((field, String::new()));
            }
            for word in words {
                quoted.last_mut().unwrap().1.push_str(word);
            }
        }
        assert!(!quoted.is_empty(), "an empty block about [{section}]");
        for (field, value) in quoted {
            let known = self.fields.get(&(section.into(), field.into()));
            let known = known.unwrap_or_else(|| panic!("there is no [{section}] {field}"));
            let known: String = known.split_whitespace().collect();
            assert_eq!(value, known, "docs/protocol.md misquotes [{section}] {field}");
        }
    }
}

/// Formats bytes for a comment: as text if they are text.
pub fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(u8::is_ascii_graphic) => format!("\"{text}\""),
        _ => format!("0x{}", hex::encode(bytes)),
    }
}
