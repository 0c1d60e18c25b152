use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// Lets one log line a second through: a backend that is down would fill the log with one per question.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unsaid: u64,
}

const INTERVAL: Duration = Duration::from_secs(1);

impl Complaints {
    /// Whether to complain now, and how many complaints were not made since the last.
    pub(super) fn may_complain(&self) -> Option<u64> {
        let mut state = self.0.lock().expect("nothing panics under this lock");
        if state.last.is_some_and(|it| it.elapsed() < INTERVAL) {
            state.unsaid += 1;
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_second_of_trouble_is_one_line_and_a_count() {
        let complaints = Complaints::default();
        assert_eq!(complaints.may_complain(), Some(0));
        assert_eq!(complaints.may_complain(), None);
        assert_eq!(complaints.may_complain(), None);
        tokio::time::advance(INTERVAL).await;
        assert_eq!(complaints.may_complain(), Some(2));
    }
}
