//! Query parameters, parsed as a whole, so that none is ignored.

use super::error::Refusal;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::str::FromStr;

/// The parsed parameters of a route; `()` for none. An unknown parameter, or a repeated one where one value is
/// expected, is rejected.
pub(crate) struct Query<T>(pub(crate) T);

/// Parameters of a route, parsed from its query string.
pub(crate) trait Parameters: Sized {
    /// Takes the parameters that the route knows out of `given`; a parameter left in `given` is unknown.
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

/// Returns the error response to an unknown parameter or an unacceptable value.
pub(crate) fn malformed(message: impl ToString) -> Refusal {
    Refusal::new("http.query", message)
}

/// The parameters of a request that the route has not taken yet, in order.
pub(crate) struct Given(Vec<(String, String)>);

impl Given {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        });
        pairs.collect::<Result<_, _>>().map(Self)
    }

    /// Takes all values of a repeatable parameter, in order.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let (taken, rest) = std::mem::take(&mut self.0).into_iter().partition(|(other, _)| other == name);
        self.0 = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes the value of a parameter that may occur once; `None`: the request lacks it.
    pub(crate) fn once(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let mut values = self.all(name).into_iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(malformed(format!("{name} is given more than once"))),
        }
    }

    /// Takes the value of a parameter that may occur once, and parses it; `what` describes the expected text.
    pub(crate) fn once_as<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let parsed =
            |value: String| value.parse().map_err(|_| malformed(format!("{name}={value} is not {what}")));
        self.once(name)?.map(parsed).transpose()
    }
}

/// Decodes the percent-encoding of a name or a value, once. `+` is itself, as keys and globs may hold it.
fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || malformed(format!("{text:?} is not percent-encoded UTF-8"));
    let begins_with_digits =
        |rest: &str| rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    // The library takes a percent sign without two digits for itself.
    if !text.split('%').skip(1).all(begins_with_digits) {
        return Err(bad());
    }
    percent_decode_str(text).decode_utf8().map(Cow::into_owned).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A repeatable parameter, and one that is not.
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
