use http::HeaderName;

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A `traceparent` (W3C Trace Context) for one question: a new step of the client's trace, else a trace of its own.
///
/// The client's sampling decision is passed on. A trace that begins here is marked as not recorded, for nothing was.
pub(super) fn step(client: Option<&str>) -> String {
    let (trace, flags) = client.and_then(parse).map_or_else(|| (not_zero_128(), "00"), |(id, flags)| (id, flags));
    format!("00-{trace:032x}-{:016x}-{flags}", fastrand::u64(1..))
}

fn not_zero_128() -> u128 {
    fastrand::u128(1..)
}

/// The trace id and the flags. Versions after 00 may say more behind these; ff is none.
fn parse(text: &str) -> Option<(u128, &str)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_version = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !is_version || !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|it| *it != 0)?;
    let is_span = u64::from_str_radix(span, 16).is_ok_and(|it| it != 0);
    is_span.then_some((trace, flags))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_trace_goes_on_with_a_step_of_its_own() {
        let client = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let step = step(Some(client));
        assert!(step.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && step.ends_with("-01"), "{step}");
        assert!(parse(&step).is_some());
        assert_ne!(step, client);
    }

    #[test]
    fn nonsense_begins_a_trace_of_its_own() {
        for client in [
            None,
            Some(""),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
        ] {
            let step = step(client);
            assert!(parse(&step).is_some() && step.ends_with("-00"), "{step}");
            assert!(!step.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{step}");
        }
    }
}
