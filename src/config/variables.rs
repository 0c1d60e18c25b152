//! `${VAR}` and `${VAR:-default}` inside values. `$${` stands for `${` itself.

/// Where variables come from; the environment, or what a test says.
pub type Lookup<'a> = dyn Fn(&str) -> Option<String> + 'a;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the variable `{0}` is not set; `${{{0}:-…}}` would give it a default")]
    Unset(String),
    #[error("`${{` has no `}}`; write `$${{` if no variable is meant")]
    Open,
    #[error("`{0}` is no name of a variable")]
    Name(String),
}

/// Replaces every variable in `text`.
pub fn expand(text: &str, lookup: &Lookup) -> Result<String, Error> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let (inner, after) = from[2..].split_once('}').ok_or(Error::Open)?;
        out.push_str(&value(inner, lookup)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// As in a shell, a default also stands in for an empty variable.
fn value(inner: &str, lookup: &Lookup) -> Result<String, Error> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_word = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if !is_word || name.is_empty() || name.starts_with(|it: char| it.is_ascii_digit()) {
        return Err(Error::Name(name.to_owned()));
    }
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Error::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, Error> {
        expand(text, &|name| match name {
            "A" => Some("one".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn variables_and_defaults_are_put_in() {
        assert_eq!(expanded("<${A}> and ${A}").unwrap(), "<one> and one");
        assert_eq!(expanded("${NONE:-two}${A:-two}${EMPTY:-three}${EMPTY}").unwrap(), "twoonethree");
        assert_eq!(expanded("a $5 bill costs $${A}").unwrap(), "a $5 bill costs ${A}");
    }

    #[test]
    fn what_cannot_be_put_in_is_said() {
        assert_eq!(expanded("x${NONE}"), Err(Error::Unset("NONE".into())));
        assert_eq!(expanded("${A"), Err(Error::Open));
        assert_eq!(expanded("${not a name}"), Err(Error::Name("not a name".into())));
        assert_eq!(
            Error::Unset("X".into()).to_string(),
            "the variable `X` is not set; `${X:-…}` would give it a default"
        );
    }
}
