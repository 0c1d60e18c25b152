//! The answer for a client to whom this node cannot give a connection: it was not served, and nothing is known of it but the
//! head of its request.

use std::time::Duration;

use super::sse;
use crate::protocol::{Code, Format, Reply};

/// Room comes with connections that end, so there is no telling when; each client at its own time.
const COME_BACK_WITHIN: Duration = Duration::from_secs(8);

/// A native EventSource gives up for ever on any status but 200, so it gets one, the time to come back, and the end. A
/// browser cannot read why a WebSocket was not opened, and a person can read why a page was not: both get a 503.
pub fn no_room(head: &[u8]) -> Vec<u8> {
    let after = COME_BACK_WITHIN.mul_f64(0.4 + 0.6 * fastrand::f64());
    if accepts_events(head) {
        let error = Reply::error(Code::TooManyConnections, "too many connections");
        let answer = [sse::head(&[]), sse::retry(after), Format::EventStream.reply(&error)];
        return answer.concat();
    }
    let (text, seconds) = ("Too many connections\n", after.as_secs_f64().ceil());
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nretry-after: {seconds}\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )
    .into()
}

fn accepts_events(head: &[u8]) -> bool {
    head.split(|it| *it == b'\n').any(|line| {
        let Some((name, value)) = line.split_at_checked(b"accept:".len()) else { return false };
        let value = value.to_ascii_lowercase();
        name.eq_ignore_ascii_case(b"accept:") && value.windows(17).any(|it| it == b"text/event-stream")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(head: &str) -> String {
        String::from_utf8(no_room(head.as_bytes())).unwrap()
    }

    #[test]
    fn an_event_source_is_told_when_to_come_back_in_the_only_way_it_understands() {
        let answer = answer("GET /realtime/sse HTTP/1.1\r\nhost: a\r\nACCEPT: */*, text/Event-Stream\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\r\n\r\nretry: "), "{answer}");
        assert!(
            answer.contains("event: failure\ndata: {\"type\":\"error\",\"code\":\"too_many_connections\""),
            "{answer}"
        );
    }

    #[test]
    fn everybody_else_and_who_said_nothing_gets_a_503_with_the_time_to_come_back() {
        for head in
            ["", "GET / HTTP/1.1\r\naccept: text/html\r\n\r\n", "GET /?accept:text/event-stream HTTP/1.1\r\n", "\r\n"]
        {
            let answer = answer(head);
            assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
        }
    }
}
