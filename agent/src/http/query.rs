//! The parameters of a request: read once and as a whole, so that none is passed over.

use super::error::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::str::FromStr;

/// The parameters that a route takes, `()` for none. What is left over, and what stands there twice where one is meant,
/// is refused.
pub(crate) struct Query<T>(pub(crate) T);

/// What a route makes of its parameters.
pub(crate) trait Parameters: Sized {
    /// Takes what the route knows.
    fn take(given: &mut Given) -> Result<Self, Refusal>;
}

impl Parameters for () {
    fn take(_: &mut Given) -> Result<Self, Refusal> {
        Ok(())
    }
}

impl<S: Sync, T: Parameters> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: Parameters>(query: &str) -> Result<T, Refusal> {
    let mut given = Given::parse(query)?;
    let taken = T::take(&mut given)?;
    match given.0.first() {
        None => Ok(taken),
        Some((name, _)) => Err(malformed(format!("{name} is no parameter of this route"))),
    }
}

/// A parameter that is unknown, or whose value is not what the route takes.
pub(crate) fn malformed(message: impl ToString) -> Refusal {
    Refusal::new("http.query", message)
}

/// Parameters that nobody has taken yet, in order.
pub(crate) struct Given(Vec<(String, String)>);

impl Given {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// All values of a parameter that may be repeated, in order.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.0).into_iter().partition(|(other, _)| other == name);
        self.0 = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that stands there once.
    pub(crate) fn once(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let mut values = self.all(name).into_iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(malformed(format!("{name} is given more than once"))),
        }
    }

    /// The same as another type; `what` says which texts are meant.
    pub(crate) fn once_as<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let parsed =
            |value: String| value.parse().map_err(|_| malformed(format!("{name}={value} is not {what}")));
        self.once(name)?.map(parsed).transpose()
    }
}

/// Undoes the percent-encoding of a name or a value, once. `+` is itself, as keys and globs may hold it.
fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || malformed(format!("{text:?} is not percent-encoded UTF-8"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            // A sign would do for the parser below.
            let digits = tail.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(bad)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One parameter that may be repeated, and one that may not.
    #[derive(Debug)]
    struct Two(Vec<String>, Option<u8>);

    impl Parameters for Two {
        fn take(given: &mut Given) -> Result<Self, Refusal> {
            Ok(Self(given.all("match"), given.once_as("limit", "a number")?))
        }
    }

    #[test]
    fn queries_are_decoded_once_and_keep_their_order() {
        let two: Two = parse("match=/a/**&&match=!/a/%252F&lim%69t=3&match=/a+b&match").expect("well-formed");
        assert_eq!((two.0, two.1), (["/a/**", "!/a/%2F", "/a+b", ""].map(Into::into).to_vec(), Some(3)));
        assert!(parse::<()>("").is_ok() && parse::<()>("&").is_ok());
    }

    #[test]
    fn what_is_unknown_repeated_or_malformed_is_refused() {
        for query in
            ["match=%4", "match=%ff", "match=%+1", "limit=1&limit=1", "limit=", "limit=-1", "limit=256"]
                .into_iter()
                .chain(["other=1", "match=/a&other", "=1", "Limit=1", "limit=1;match=2"])
        {
            assert!(parse::<Two>(query).is_err(), "{query}");
            assert!(parse::<()>(query).is_err(), "{query}");
        }
    }
}
