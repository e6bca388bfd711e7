//! The names that one source file uses and defines.

use crate::tokens::{Token, tokens};
use std::collections::{BTreeMap, BTreeSet};

/// A path as written, first name first.
pub(crate) type Path = Vec<String>;

/// Names in a file, without its tests.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Modules that it declares and that are separate files.
    pub(crate) children: BTreeSet<String>,
    /// Items that it defines at its top level.
    pub(crate) items: BTreeSet<String>,
    /// Names that it imports, with their paths.
    pub(crate) imports: BTreeMap<String, Path>,
    /// Every path of two names or more, including imports.
    pub(crate) paths: BTreeSet<Path>,
}

/// Keywords that are followed by an item's name.
const NAMING: [&str; 9] =
    ["struct", "enum", "union", "trait", "type", "fn", "const", "static", "macro_rules"];

/// Keywords with which an item under `#[cfg(test)]` may begin.
const BEGINNING: [&str; 14] = [
    "pub", "mod", "use", "fn", "async", "const", "static", "unsafe", "impl", "struct", "enum", "trait",
    "type", "extern",
];

impl Source {
    pub(crate) fn read(text: &str) -> Self {
        let mut reader = Reader { tokens: tokens(text), at: 0, depth: 0, inline: Vec::new() };
        let mut source = Self::default();
        while reader.at < reader.tokens.len() {
            reader.step(&mut source);
        }
        source
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    /// Number of open brackets.
    depth: usize,
    /// Depths of the inline modules that are open.
    inline: Vec<usize>,
}

impl Reader {
    fn step(&mut self, source: &mut Source) {
        if self.skip_test() {
            return;
        }
        match self.tokens[self.at].clone() {
            Token::Sign(sign) => {
                self.count(sign);
                self.at += 1;
            }
            Token::Path => self.at += 1,
            Token::Word(word) => self.word(&word, source),
        }
    }

    fn count(&mut self, sign: char) {
        match sign {
            '(' | '[' | '{' => self.depth += 1,
            ')' | ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if sign == '}' && self.inline.last() == Some(&self.depth) {
            self.inline.pop();
        }
    }

    fn word(&mut self, word: &str, source: &mut Source) {
        let next = self.tokens.get(self.at + 1).and_then(Token::word).map(str::to_owned);
        match (word, next) {
            ("use", _) => {
                self.at += 1;
                self.import(&Vec::new(), source);
            }
            ("mod", Some(name)) => {
                self.at += 2;
                if self.sign_here(';') {
                    source.children.insert(name);
                } else {
                    source.items.insert(name);
                    self.inline.push(self.depth);
                }
            }
            (_, Some(name)) if self.depth == 0 && NAMING.contains(&word) && name != "fn" => {
                source.items.insert(name);
                self.at += 2;
            }
            ("macro_rules", None) => {
                if let Some(name) = self.tokens.get(self.at + 2).and_then(Token::word) {
                    source.items.insert(name.to_owned());
                }
                self.at += 3;
            }
            _ => {
                let path = self.path();
                self.add(path, source);
            }
        }
    }

    fn sign_here(&self, sign: char) -> bool {
        self.tokens.get(self.at).is_some_and(|token| token.is(sign))
    }

    /// Reads the path that begins at this word.
    fn path(&mut self) -> Path {
        let mut path = Path::new();
        while let Some(word) = self.tokens.get(self.at).and_then(Token::word) {
            path.push(word.to_owned());
            self.at += 1;
            let goes_on = self.tokens.get(self.at) == Some(&Token::Path)
                && self.tokens.get(self.at + 1).is_some_and(|token| token.word().is_some());
            if !goes_on {
                break;
            }
            self.at += 1;
        }
        path
    }

    fn add(&self, mut path: Path, source: &mut Source) {
        for _ in &self.inline {
            // The parent of an inline module is in the same file.
            if path.first().is_some_and(|first| first == "super") {
                path[0] = "self".into();
                if path.get(1).is_some_and(|second| second == "super") {
                    path.remove(0);
                }
            }
        }
        if path.len() > 1 {
            source.paths.insert(path);
        }
    }

    /// Reads one tree of a `use`. `before`: path in front of its braces.
    fn import(&mut self, before: &Path, source: &mut Source) {
        if self.tokens.get(self.at) == Some(&Token::Path) {
            self.at += 1;
        }
        let mut path = before.clone();
        path.extend(self.path());
        if self.tokens.get(self.at) == Some(&Token::Path) {
            self.at += 1;
        }
        if self.sign_here('{') {
            self.at += 1;
            while self.at < self.tokens.len() && !self.sign_here('}') {
                self.import(&path, source);
                if self.sign_here(',') {
                    self.at += 1;
                }
            }
            self.at += 1;
            return;
        }
        if self.sign_here('*') {
            self.at += 1;
            self.add(path, source);
            return;
        }
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let mut name = path.last().cloned();
        if self.tokens.get(self.at).and_then(Token::word) == Some("as") {
            name = self.tokens.get(self.at + 1).and_then(Token::word).map(str::to_owned);
            self.at += 2;
        }
        match name {
            Some(name) => {
                source.imports.insert(name, path.clone());
                self.add(path, source);
            }
            // Not a tree; without a step, the loop would not end.
            None => self.at += 1,
        }
    }

    /// Skips a test, or an item that only tests use. Returns whether there was one.
    fn skip_test(&mut self) -> bool {
        const TEST: [&str; 3] = ["cfg", "(", "test"];
        let is_test = self.sign_here('#')
            && self.tokens.get(self.at + 1).is_some_and(|token| token.is('['))
            && TEST.iter().enumerate().all(|(ahead, expected)| match self.tokens.get(self.at + 2 + ahead) {
                Some(Token::Word(word)) => word == expected,
                Some(Token::Sign(sign)) => *expected == sign.to_string(),
                _ => false,
            })
            && self.tokens.get(self.at + 5).is_some_and(|token| token.is(')'));
        if !is_test {
            return false;
        }
        while self.sign_here('#') {
            self.at += 1;
            self.skip_brackets();
        }
        let word = self.tokens.get(self.at).and_then(Token::word);
        let is_item = word.is_some_and(|word| BEGINNING.contains(&word));
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Sign('{') => {
                    self.skip_brackets();
                    return true;
                }
                Token::Sign('(' | '[') => self.skip_brackets(),
                Token::Sign(';') => {
                    self.at += 1;
                    return true;
                }
                Token::Sign(',' | '}' | ')') if !is_item => return true,
                _ => self.at += 1,
            }
        }
        true
    }

    /// Skips from an opening bracket to after the closing one.
    fn skip_brackets(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            self.at += 1;
            match token {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }
}
