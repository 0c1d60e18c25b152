//! How fast new sessions are let in, all of a node together. Whoever comes too fast is told when to come back, and the
//! times given are as far apart as the rate: a crowd that obeys is through in its number divided by the rate.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// So far ahead appointments are made. Beyond it clients are told some time within the later half, and ask again then.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Nobody is told to come back sooner: a client takes that long to look whether there is room.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Gate(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Clients that may come at once.
    room: f64,
    at: Instant,
    /// When the last of those who were told to come back is expected.
    booked_until: Instant,
}

/// How a rate is kept. At most `rate` get in within any one second: a twentieth of them at once, the rest one by one and a
/// little slower than they could, because questions to the backend are sent a moment later, and not all by the same moment.
#[derive(Clone, Copy)]
struct Pace {
    at_once: f64,
    per_second: f64,
}

impl Pace {
    fn of(rate: f64) -> Self {
        let at_once = (rate / 20.0).max(1.0);
        Self { at_once, per_second: (0.85 * rate).min(rate - at_once).max(rate / 2.0) }
    }
}

impl Gate {
    pub(super) fn new(rate: f64) -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { room: Pace::of(rate).at_once, at: now, booked_until: now }))
    }

    /// Nothing, or how long the client is to stay away.
    pub(super) fn pass(&self, rate: f64) -> Result<(), Duration> {
        let pace = Pace::of(rate);
        let mut state = self.0.lock().expect("nothing panics under this lock");
        state.pass(pace, Instant::now())
    }

    /// When to come back, for a client that was let through and cannot be served.
    pub(super) fn book(&self, rate: f64) -> Duration {
        let mut state = self.0.lock().expect("nothing panics under this lock");
        state.book(Pace::of(rate), Instant::now())
    }
}

impl State {
    fn pass(&mut self, pace: Pace, now: Instant) -> Result<(), Duration> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.room += passed * pace.per_second;
        if self.room >= pace.at_once {
            self.room = pace.at_once;
            // Nobody came for a while, so those who were told to are gone: their places are free.
            self.booked_until = now;
        }
        if self.room >= 1.0 {
            self.room -= 1.0;
            return Ok(());
        }
        Err(self.book(pace, now))
    }

    /// The next appointment.
    fn book(&mut self, pace: Pace, now: Instant) -> Duration {
        let step = Duration::from_secs_f64(1.0 / pace.per_second);
        let first = now + SHORTEST_WAIT;
        self.booked_until = self.booked_until.max(first) + step;
        let wait = self.booked_until - now;
        if wait <= LONGEST_WAIT {
            // Within its own step, so that two nodes do not send their clients to the same moment.
            return wait - step.mul_f64(fastrand::f64());
        }
        self.booked_until = now + LONGEST_WAIT;
        LONGEST_WAIT.mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    /// Ten thousand clients that come at the same moment and obey: when each got in.
    fn a_crowd_of(clients: usize, rate: f64) -> Vec<Duration> {
        let begun = Instant::now();
        let mut gate = State { room: Pace::of(rate).at_once, at: begun, booked_until: begun };
        let mut coming: BinaryHeap<_> = (0..clients).map(|it| Reverse((Duration::ZERO, it))).collect();
        let mut came_in = Vec::new();
        while let Some(Reverse((at, client))) = coming.pop() {
            match gate.pass(Pace::of(rate), begun + at) {
                Ok(()) => came_in.push(at),
                Err(wait) => coming.push(Reverse((at + wait, client))),
            }
        }
        came_in
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_through_in_the_time_its_rate_needs_and_no_second_takes_more() {
        for (clients, rate) in [(10_000, 2000.0), (1000, 3.0), (200_000, 2000.0), (50, 100.0)] {
            let came_in = a_crowd_of(clients, rate);
            assert_eq!(came_in.len(), clients, "all are back");
            let needed = clients as f64 / Pace::of(rate).per_second;
            let last = came_in.last().unwrap().as_secs_f64();
            assert!(last <= needed * 1.3 + 2.0, "{clients} at {rate}: {last} s instead of {needed} s");
            for (first, at) in came_in.iter().enumerate() {
                let within = came_in.partition_point(|it| *it < *at + Duration::from_secs(1)) - first;
                assert!(within as f64 <= rate, "{within} within the second after {at:?}, at {rate}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_was_told_to_come_back_and_did_not_keeps_nobody_out() {
        let gate = Gate::new(10.0);
        let refused = (0..500).filter(|_| gate.pass(10.0).is_err()).count();
        assert_eq!(refused, 499);
        let long = gate.pass(10.0).unwrap_err();
        assert!(long > Duration::from_secs(20), "{long:?}");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(gate.pass(10.0).is_ok());
        let short = gate.pass(10.0).unwrap_err();
        assert!(short < Duration::from_secs(1), "{short:?}");
    }
}
