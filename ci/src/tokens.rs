//! Tokens of Rust source: names and punctuation, without comments and literals.

/// A token. Literals and lifetimes are left out, as they are not part of paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// A name or a keyword.
    Word(String),
    /// `::`.
    Path,
    /// Any other punctuation character.
    Sign(char),
}

impl Token {
    /// Returns the name or keyword, if the token is one.
    pub(crate) fn word(&self) -> Option<&str> {
        if let Self::Word(word) = self { Some(word) } else { None }
    }

    pub(crate) fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

/// Returns the tokens of a source text.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut rest = Rest { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    while let Some(first) = rest.peek(0) {
        match first {
            '/' if rest.peek(1) == Some('/') => rest.skip_line(),
            '/' if rest.peek(1) == Some('*') => rest.skip_block_comment(),
            '"' => rest.skip_string(),
            '\'' => rest.skip_quote(),
            ':' if rest.peek(1) == Some(':') => {
                rest.at += 2;
                tokens.push(Token::Path);
            }
            _ if is_of_word(first) => {
                let word = rest.take_word();
                if !rest.skip_prefixed_string(&word) && !word.starts_with(|c: char| c.is_ascii_digit()) {
                    tokens.push(Token::Word(word));
                }
            }
            _ => {
                rest.at += 1;
                if !first.is_whitespace() {
                    tokens.push(Token::Sign(first));
                }
            }
        }
    }
    tokens
}

fn is_of_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Characters that are still to be read.
struct Rest {
    chars: Vec<char>,
    at: usize,
}

impl Rest {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn take_word(&mut self) -> String {
        let word: String = self.chars[self.at..].iter().copied().take_while(|c| is_of_word(*c)).collect();
        self.at += word.chars().count();
        word
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.at += 1;
        }
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0_usize;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => (depth, self.at) = (depth + 1, self.at + 2),
                ('*', Some('/')) => (depth, self.at) = (depth - 1, self.at + 2),
                _ => self.at += 1,
            }
            if depth == 0 {
                return;
            }
        }
    }

    /// Skips a string with escapes; the quote is the next character.
    fn skip_string(&mut self) {
        self.at += 1;
        while let Some(c) = self.peek(0) {
            self.at += if c == '\\' { 2 } else { 1 };
            if c == '"' {
                return;
            }
        }
    }

    /// Skips a character literal or a lifetime.
    fn skip_quote(&mut self) {
        let is_character = self.peek(1) == Some('\\') || self.peek(2) == Some('\'');
        self.at += 1;
        if !is_character {
            self.take_word();
            return;
        }
        while let Some(c) = self.peek(0) {
            self.at += if c == '\\' { 2 } else { 1 };
            if c == '\'' {
                return;
            }
        }
    }

    /// Skips the rest of a raw, byte or C string, if the word was its prefix.
    fn skip_prefixed_string(&mut self, word: &str) -> bool {
        if !matches!(word, "r" | "b" | "br" | "c" | "cr") {
            return false;
        }
        if word == "b" && self.peek(0) == Some('\'') {
            self.skip_quote();
            return true;
        }
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if self.peek(hashes) != Some('"') {
            return false;
        }
        if !word.contains('r') {
            self.skip_string();
            return true;
        }
        self.at += hashes + 1;
        while let Some(c) = self.peek(0) {
            self.at += 1;
            if c == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.at += hashes;
                return true;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).iter().filter_map(Token::word).map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        assert_eq!(words("a /* b /* c */ d */ e // f\ng"), ["a", "e", "g"]);
        assert_eq!(words(r#""a \" b" c b"d" '"' e '\'' f"#), ["c", "e", "f"]);
        assert_eq!(words(r###"r#"a " b"# c br"d" e"###), ["c", "e"]);
        assert_eq!(words("fn f<'a>(b: &'a str) -> u8 { 0x1f }"), ["fn", "f", "b", "str", "u8"]);
    }
}
