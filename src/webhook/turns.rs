//! Who may ask next. A bounded number is with the backend; the others wait in a line per asker, and the lines take turns,
//! so that one busy client with many connections does not push the others out of their time.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

/// In whose name something is asked: its line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    User(Box<str>),
    /// A client that is nobody in particular.
    Address(IpAddr),
    /// The node itself, telling what happened.
    Notices,
}

/// The slots of one destination. Handed on from generation to generation, so that a reload does not double them.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Lines>);

#[derive(Debug, Default)]
struct Lines {
    slots: usize,
    busy: usize,
    waiting: usize,
    /// Numbers those who wait, so that one who gives up is found.
    last: u64,
    lines: HashMap<Asker, VecDeque<Waiter>>,
    /// The askers with somebody waiting, next one first.
    order: VecDeque<Asker>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    call: oneshot::Sender<Slot>,
}

/// Leave to ask; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(Option<Arc<Turns>>);

/// Too many wait already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Those who wait for each slot at most. More would not get their turn in time, and each holds its question in memory.
const WAITING_PER_SLOT: usize = 64;

impl Turns {
    /// Waits for one of so many slots. Where too many wait, the last of the longest line has to go, be it this one.
    pub(super) async fn turn(self: &Arc<Self>, asker: Asker, slots: usize) -> Result<Slot, Full> {
        let mut waiting = {
            let mut lines = self.lock();
            if lines.slots != slots.max(1) {
                // A reload; those who are asking go on.
                lines.slots = slots.max(1);
                self.call(&mut lines);
            }
            if lines.busy < lines.slots {
                // Nobody waits while a slot is free.
                lines.busy += 1;
                return Ok(Slot(Some(self.clone())));
            }
            if lines.is_full() && asker != Asker::Notices {
                lines.make_room(&asker)?;
            }
            let (number, called) = lines.enter(asker.clone());
            Waiting { turns: self, asker, number, called }
        };
        (&mut waiting.called).await.map_err(|_| Full)
    }

    /// Gives free slots to those who are next.
    fn call(self: &Arc<Self>, lines: &mut Lines) {
        while lines.busy < lines.slots {
            let Some(waiter) = lines.next() else { return };
            lines.busy += 1;
            if let Err(mut slot) = waiter.call.send(Slot(Some(self.clone()))) {
                // It has just given up. Dropped as it is, the slot would want the lock that is held here.
                slot.0 = None;
                lines.busy -= 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().expect("nothing panics under this lock")
    }
}

impl Lines {
    fn is_full(&self) -> bool {
        self.waiting >= self.slots.saturating_mul(WAITING_PER_SLOT)
    }

    fn enter(&mut self, asker: Asker) -> (u64, oneshot::Receiver<Slot>) {
        let (call, called) = oneshot::channel();
        self.last += 1;
        let waiter = Waiter { number: self.last, call };
        let line = self.lines.entry(asker.clone()).or_default();
        if line.is_empty() {
            self.order.push_back(asker);
        }
        line.push_back(waiter);
        self.waiting += 1;
        (self.last, called)
    }

    /// The first of the line whose turn it is; the line goes to the end.
    fn next(&mut self) -> Option<Waiter> {
        let asker = self.order.pop_front()?;
        let line = self.lines.get_mut(&asker)?;
        let waiter = line.pop_front()?;
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(&asker);
        } else {
            self.order.push_back(asker);
        }
        Some(waiter)
    }

    /// Sends the last of the longest line away, unless the newcomer's own would be as long.
    fn make_room(&mut self, newcomer: &Asker) -> Result<(), Full> {
        let own = self.lines.get(newcomer).map_or(0, VecDeque::len);
        let longest = self.lines.iter_mut().max_by_key(|(_, line)| line.len()).map(|(_, line)| line);
        let longest = longest.filter(|it| it.len() > own + 1).ok_or(Full)?;
        // Its caller hears that the sender is gone.
        longest.pop_back();
        self.waiting -= 1;
        Ok(())
    }

    fn leave(&mut self, asker: &Asker, number: u64) {
        let Some(line) = self.lines.get_mut(asker) else { return };
        let Some(at) = line.iter().position(|it| it.number == number) else { return };
        line.remove(at);
        self.waiting -= 1;
        if line.is_empty() {
            self.lines.remove(asker);
            self.order.retain(|it| it != asker);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else { return };
        let mut lines = turns.lock();
        lines.busy -= 1;
        turns.call(&mut lines);
    }
}

/// A place in a line; dropping it leaves the line.
struct Waiting<'a> {
    turns: &'a Arc<Turns>,
    asker: Asker,
    number: u64,
    called: oneshot::Receiver<Slot>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.lock().leave(&self.asker, self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Asker {
        Asker::User(name.into())
    }

    /// Lets `askers` wait one after the other for the only slot, and answers in which order they get it.
    async fn order(askers: &[&'static str]) -> Vec<&'static str> {
        let turns = Arc::new(Turns::default());
        let first = turns.turn(user("first"), 1).await.unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for &name in askers {
            let (turns, tell) = (turns.clone(), tell.clone());
            tokio::spawn(async move {
                let _slot = turns.turn(user(name), 1).await.unwrap();
                tell.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop((first, tell));
        let mut served = Vec::new();
        while let Some(name) = told.recv().await {
            served.push(name);
        }
        served
    }

    #[tokio::test]
    async fn a_busy_client_takes_turns_with_the_others() {
        assert_eq!(order(&["a", "a", "a", "b", "c"]).await, ["a", "b", "c", "a", "a"]);
    }

    #[tokio::test]
    async fn where_too_many_wait_the_longest_line_loses_its_last() {
        let turns = Arc::new(Turns::default());
        let _busy = turns.turn(user("first"), 1).await.unwrap();
        let ask = |name: &'static str| {
            let turns = turns.clone();
            tokio::spawn(async move { turns.turn(user(name), 1).await.map(drop) })
        };
        let greedy: Vec<_> = (0..WAITING_PER_SLOT).map(|_| ask("greedy")).collect();
        while turns.lock().waiting < WAITING_PER_SLOT {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask("greedy").await.unwrap(), Err(Full), "its own line is the longest");
        let modest = ask("modest");
        while !turns.lock().lines.contains_key(&user("modest")) {
            tokio::task::yield_now().await;
        }
        assert_eq!(turns.lock().waiting, WAITING_PER_SLOT);
        assert!(!modest.is_finished(), "it waits");
        assert_eq!(greedy.into_iter().next_back().unwrap().await.unwrap(), Err(Full));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_no_trace() {
        let turns = Arc::new(Turns::default());
        let slot = turns.turn(user("first"), 1).await.unwrap();
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn(user("second"), 1).await.map(drop) }
        });
        tokio::task::yield_now().await;
        waiting.abort();
        assert!(waiting.await.unwrap_err().is_cancelled());
        {
            let lines = turns.lock();
            assert_eq!((lines.waiting, lines.lines.len(), lines.order.len()), (0, 0, 0));
        }
        drop(slot);
        assert_eq!(turns.lock().busy, 0);
    }

    #[tokio::test]
    async fn more_slots_are_used_at_once_and_fewer_as_they_come_back() {
        let turns = Arc::new(Turns::default());
        let first = turns.turn(user("a"), 1).await.unwrap();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn(user("b"), 1).await.unwrap() }
        });
        tokio::task::yield_now().await;
        let third = turns.turn(user("c"), 3).await.unwrap();
        let second = second.await.unwrap();
        assert_eq!(turns.lock().busy, 3);
        drop((first, third));
        let waiting = tokio::spawn({
            let turns = turns.clone();
            async move { turns.turn(user("d"), 1).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "one slot is left, and it is taken");
        assert_eq!(turns.lock().busy, 1);
        drop(second);
        waiting.await.unwrap().unwrap();
        assert_eq!(turns.lock().busy, 0);
    }
}
