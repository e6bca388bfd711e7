//! Bearer token that an agent requires on TCP.

use std::fmt;
use std::str::FromStr;

/// Maximum length of a token in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024;

/// Bearer token. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Error of parsing a [`Token`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is one line of 1 to {MAX_TOKEN_BYTES} visible ASCII characters")]
pub struct TokenError;

impl Token {
    /// Returns the token text, for a server that compares it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    /// Parses a token, for example from a file; surrounding white space is ignored.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let token = text.trim();
        let visible = token.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (1..=MAX_TOKEN_BYTES).contains(&token.len()) {
            Ok(Self(token.to_owned()))
        } else {
            Err(TokenError)
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_visible_line() {
        let token: Token = " abc~+/= \n".trim_start().parse().unwrap();
        assert_eq!(token.header(), "Bearer abc~+/=");
        assert_eq!(format!("{token:?}"), "Token");
        for text in ["", "\n", "a b", "a\nb", "ä"] {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text:?}");
        }
        assert_eq!("a".repeat(MAX_TOKEN_BYTES + 1).parse::<Token>(), Err(TokenError));
    }
}
