//! Checks what one client is told about one channel: no message before `subscribed`, every `seq` the successor of the
//! one before, every gap announced.

use memchr::memmem;

use crate::probe::{is_message, number_after};
use crate::wire::Transport;

pub struct Follower {
    expects: Expects,
    pub last_number: Option<u64>,
    pub messages: u64,
    /// Losses it was told of; a fault only where the outbox had room for everything.
    pub gaps: u64,
    pub faults: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Expects {
    /// Not subscribed: no message may come.
    Nothing,
    /// Subscribed, but nobody said from where.
    Anything,
    Seq(u64),
}

/// Where a client stands with its subscription.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    Connected,
    Subscribed,
    Unsubscribed,
    Other,
}

impl Follower {
    /// An event stream names its channel in the URL; whether it hears `subscribed` is the server's choice.
    pub fn new(transport: Transport) -> Follower {
        let expects = if transport == Transport::Sse { Expects::Anything } else { Expects::Nothing };
        Follower { expects, last_number: None, messages: 0, gaps: 0, faults: Vec::new() }
    }

    pub fn hear(&mut self, unit: &[u8]) -> Told {
        let says = |what: &str| memmem::find(unit, format!(r#""type":"{what}""#).as_bytes()).is_some();
        let seq = number_after(unit, r#""seq":"#);
        if is_message(unit) {
            self.hear_message(seq, number_after(unit, r#""n":"#));
        } else if says("subscribed") {
            self.expects = seq.map_or(Expects::Anything, |seq| Expects::Seq(seq + 1));
            return Told::Subscribed;
        } else if says("unsubscribed") {
            self.expects = Expects::Nothing;
            return Told::Unsubscribed;
        } else if says("gap") {
            self.gaps += 1;
            self.expects = seq.map_or(Expects::Anything, |seq| Expects::Seq(seq + 1));
        } else if says("error") {
            self.faults.push(format!("was told {}", String::from_utf8_lossy(unit)));
        } else if says("connected") || memmem::find(unit, b"event: connected").is_some() {
            return Told::Connected;
        }
        Told::Other
    }

    fn hear_message(&mut self, seq: Option<u64>, number: Option<u64>) {
        self.messages += 1;
        match (self.expects, seq) {
            (_, None) => self.faults.push("a message without seq".to_owned()),
            (Expects::Nothing, Some(seq)) => self.faults.push(format!("message {seq} while not subscribed")),
            (Expects::Seq(expected), Some(seq)) if seq != expected => {
                self.faults.push(format!("message {seq} where {expected} was due"));
            }
            _ => {}
        }
        self.last_number = number;
        if let (Expects::Seq(_) | Expects::Anything, Some(seq)) = (self.expects, seq) {
            self.expects = Expects::Seq(seq + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(units: &[&str]) -> usize {
        let mut follower = Follower::new(Transport::Ws);
        for unit in units {
            follower.hear(unit.as_bytes());
        }
        follower.faults.len()
    }

    const SUBSCRIBED: &str = r#"{"type":"subscribed","channel":"c","epoch":"e","seq":4}"#;
    const UNSUBSCRIBED: &str = r#"{"type":"unsubscribed","channel":"c"}"#;

    fn message(seq: u64) -> String {
        format!(r#"{{"type":"message","channel":"c","data":{{"n":1}},"seq":{seq}}}"#)
    }

    #[test]
    fn successors_after_subscribed_are_right() {
        assert_eq!(faults(&[SUBSCRIBED, &message(5), &message(6), UNSUBSCRIBED]), 0);
    }

    #[test]
    fn a_message_that_overtakes_subscribed_is_a_fault() {
        assert_eq!(faults(&[&message(4), SUBSCRIBED, &message(5)]), 1);
        assert_eq!(faults(&[SUBSCRIBED, &message(5), UNSUBSCRIBED, &message(6)]), 1);
    }

    #[test]
    fn a_hole_and_a_repetition_are_faults_and_an_announced_gap_is_none() {
        assert_eq!(faults(&[SUBSCRIBED, &message(6)]), 1);
        assert_eq!(faults(&[SUBSCRIBED, &message(5), &message(5)]), 1);
        assert_eq!(faults(&[SUBSCRIBED, r#"{"type":"gap","channel":"c","seq":9}"#, &message(10)]), 0);
    }
}
