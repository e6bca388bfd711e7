//! Reads keys and globs from the lines of a text.

use kvgossip_grants::{Key, KeyGlob};

/// A text in two parts, separated by an empty line: globs and keys.
pub(crate) struct Names<'a> {
    pub(crate) globs: Vec<&'a str>,
    pub(crate) keys: Vec<&'a str>,
}

/// Maximum number of lines of each part that are used.
const MAX_LINES: usize = 64;

impl<'a> Names<'a> {
    pub(crate) fn read(data: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(data).ok()?;
        let (globs, keys) = text.split_once("\n\n").unwrap_or((text, ""));
        let lines = |text: &'a str| text.split('\n').take(MAX_LINES).collect();
        Some(Self { globs: lines(globs), keys: lines(keys) })
    }

    /// Returns the lines of the second part that are keys.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.keys.iter().filter_map(|line| Key::parse(line).ok()).collect()
    }

    /// Returns the lines of the first part that are globs.
    pub(crate) fn globs(&self) -> Vec<KeyGlob> {
        self.globs.iter().filter_map(|line| KeyGlob::parse(line).ok()).collect()
    }
}

/// Makes a seed input in this format.
pub(crate) fn seed(name: &str, globs: &[&str], keys: &[&str]) -> crate::Seed {
    (name.to_owned(), format!("{}\n\n{}", globs.join("\n"), keys.join("\n")).into_bytes())
}

/// Returns keys that a glob matches or just misses, made by filling its wildcards with a few texts.
pub(crate) fn keys_like(glob: &KeyGlob) -> Vec<Key> {
    const FILLINGS: [[&str; 3]; 5] =
        [["", "a", "/a"], ["a", "b", "/%2F/b"], ["%20", "%", ""], ["..", ".", "/.a"], ["ab", "2", "/x/y/z"]];
    let fill = |[star, question, deep]: [&str; 3]| {
        let mut text = String::new();
        for segment in glob.as_str().split('/').skip(1) {
            if segment == "**" {
                text.push_str(deep);
            } else {
                text.push('/');
                text.push_str(&segment.replace('*', star).replace('?', question));
            }
        }
        Key::parse(&text).ok()
    };
    FILLINGS.into_iter().filter_map(fill).collect()
}
