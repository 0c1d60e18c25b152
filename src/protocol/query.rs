//! Parameters and path segments of a URL as clients and backends write them.

use std::borrow::Cow;

/// The pairs of a query, as they were written.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// The first value of a parameter, decoded. None if there is none, or it is not UTF-8.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let (_, value) = pairs(query).find(|(it, _)| *it == name)?;
    decoded_value(value)
}

/// A value of a query, where `+` is a space as forms write it.
pub fn decoded_value(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') { decoded(&text.replace('+', " ")).map(|it| it.into_owned().into()) } else { decoded(text) }
}

/// Percent-encoded text. None if it is not UTF-8, or an escape is broken off.
pub fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(out).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        assert_eq!(parameter("a=1&channels=room.5%2Cz%C3%BC&x", "channels").as_deref(), Some("room.5,zü"));
        assert_eq!(parameter("a=b+c%2Bd", "a").as_deref(), Some("b c+d"));
        assert_eq!(parameter("a=1", "b"), None);
        assert_eq!(parameter("a=%", "a"), None);
        assert_eq!(parameter("a=%ff", "a"), None);
    }
}
