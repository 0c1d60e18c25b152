//! Whether a rule can ever be the first to match.

/// Whether every channel of `narrow` is one of `broad` too, whoever asks.
pub(super) fn covers(broad: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('.');
    for segment in broad.split('.') {
        let Some(name) = narrow.next() else { return false };
        let fits = match segment {
            "**" => return true,
            "*" => name != "**",
            literal_or_user => literal_or_user == name,
        };
        if !fits {
            return false;
        }
    }
    narrow.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_broad_pattern_covers_what_it_would_always_match() {
        for (broad, narrow) in [("**", "a.*"), ("a.**", "a.*.b"), ("a.*", "a.{user}"), ("a.*", "a.b"), ("a.b", "a.b")] {
            assert!(covers(broad, narrow), "{broad} covers {narrow}");
        }
        for (broad, narrow) in [("a.*", "a.**"), ("a.{user}", "a.*"), ("a.b", "a.*"), ("a.*", "a"), ("a.**", "a"), ("a.b", "a.b.c")] {
            assert!(!covers(broad, narrow), "{broad} does not cover {narrow}");
        }
    }
}
