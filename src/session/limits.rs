use std::time::Duration;

use tokio::time::Instant;

/// What one client may use. Part of a generation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub subscriptions: usize,
    /// Messages a second, in the long run.
    pub rate: f64,
    /// Messages at once.
    pub burst: f64,
    /// New sessions of this node a second.
    pub handshakes: f64,
}

/// A token bucket over a client's messages, refilled by the clock.
#[derive(Debug)]
pub(super) struct Bucket {
    left: f64,
    at: Instant,
    /// Refusals since the last message that was let through.
    refused: u32,
}

/// What to do with one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Take,
    /// Too many: told, and not acted on.
    Refuse,
    /// It does not listen: the connection ends.
    Flood,
}

/// A client that sends on after so many refusals in a row is not going to stop.
const PATIENCE: u32 = 500;

impl Bucket {
    pub(super) fn full(burst: f64) -> Self {
        Self { left: burst, at: Instant::now(), refused: 0 }
    }

    pub(super) fn take(&mut self, rate: f64, burst: f64, now: Instant) -> Verdict {
        let passed: Duration = now.saturating_duration_since(self.at);
        self.at = now;
        self.left = (self.left + passed.as_secs_f64() * rate).min(burst);
        if self.left >= 1.0 {
            self.left -= 1.0;
            self.refused = 0;
            return Verdict::Take;
        }
        self.refused += 1;
        if self.refused > PATIENCE { Verdict::Flood } else { Verdict::Refuse }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_over_many_windows_not_only_for_the_first_burst() {
        let mut bucket = Bucket::full(60.0);
        let mut taken = 0;
        for _ in 0..1000 {
            tokio::time::advance(Duration::from_millis(10)).await;
            taken += u32::from(bucket.take(20.0, 60.0, Instant::now()) == Verdict::Take);
        }
        // Ten seconds at 20 a second, and the burst.
        assert!((255..=261).contains(&taken), "{taken}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_stops_is_cut_off() {
        let mut bucket = Bucket::full(1.0);
        let verdicts: Vec<_> = (0..=PATIENCE + 1).map(|_| bucket.take(1.0, 1.0, Instant::now())).collect();
        assert_eq!(verdicts[0], Verdict::Take);
        assert_eq!(verdicts[1], Verdict::Refuse);
        assert_eq!(verdicts.last(), Some(&Verdict::Flood));
    }
}
