use std::sync::Arc;

/// A user who follows a channel with presence, over however many connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: Arc<str>,
    /// What others are shown of them: one JSON value on one line, as [`member_info`] gives it.
    pub info: Option<Arc<str>>,
}

/// The largest info, in bytes: it is kept with every member and told to every other one.
pub const MAX_INFO: usize = 1024;

/// The info of a member from a token's claim or a verdict, which is valid JSON; `null` is none. An error completes the
/// sentence "the info …".
pub fn member_info(json: &str) -> Result<Option<Arc<str>>, &'static str> {
    let json = json.trim_ascii();
    if json.len() > MAX_INFO {
        return Err("is larger than 1024 bytes");
    }
    // Lists of members are deeper by a few levels, and a parser that gives up takes the whole list with it.
    if serde_json::from_str::<serde_json::Value>(&format!("[[[[[[[[{json}]]]]]]]]")).is_err() {
        return Err("is nested too deeply");
    }
    // A line break in valid JSON is always white space between two things.
    Ok((json != "null").then(|| json.replace(['\n', '\r'], " ").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_is_one_small_value_on_one_line() {
        assert_eq!(member_info("{\n\"name\": \"Ada\"\r\n}"), Ok(Some("{ \"name\": \"Ada\"  }".into())));
        assert_eq!(member_info(" null"), Ok(None));
        let text = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
        assert!(member_info(&text(MAX_INFO)).is_ok());
        let refused = member_info(&text(MAX_INFO + 1)).unwrap_err();
        assert!(refused.contains(&MAX_INFO.to_string()), "the limit is named: {refused}");
        assert!(member_info(&format!("{}{}", "[".repeat(125), "]".repeat(125))).is_err());
    }
}
