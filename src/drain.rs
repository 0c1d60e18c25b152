//! The stop signal, and who still holds it. Whoever serves somebody keeps a [`Draining`]; the process ends when the
//! last one is dropped, or at the deadline.

use tokio::sync::{mpsc, watch};

/// The side that says stop and waits. Owned by `app`.
#[derive(Debug)]
pub struct Drain {
    stop: watch::Sender<bool>,
    last: mpsc::Receiver<()>,
    /// Handed out with every [`Draining`]; dropped before waiting, so that `last` ends with the last of them.
    held: mpsc::Sender<()>,
}

/// Held by whoever is at work. Cloning it makes one more holder.
#[derive(Clone, Debug)]
pub struct Draining {
    stop: watch::Receiver<bool>,
    _held: mpsc::Sender<()>,
}

/// For whoever lives as long as the node and gives out holds for what is done in its name; holds nothing itself.
#[derive(Clone, Debug)]
pub struct Holds {
    stop: watch::Receiver<bool>,
    held: mpsc::WeakSender<()>,
}

impl Holds {
    /// A hold; none once the drain is over.
    pub fn hold(&self) -> Option<Draining> {
        let held = self.held.upgrade()?;
        Some(Draining { stop: self.stop.clone(), _held: held })
    }
}

impl Drain {
    pub fn new() -> (Self, Draining) {
        let (stop, stopped) = watch::channel(false);
        let (held, last) = mpsc::channel(1);
        let draining = Draining { stop: stopped, _held: held.clone() };
        (Self { stop, last, held }, draining)
    }

    /// Gives out holds without being one.
    pub fn holds(&self) -> Holds {
        Holds { stop: self.stop.subscribe(), held: self.held.downgrade() }
    }

    /// Tells every holder to finish.
    pub fn begin(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the last holder is gone. Call [`Drain::begin`] first.
    pub async fn finished(self) {
        let Self { mut last, held, stop: _stop } = self;
        drop(held);
        let _ = last.recv().await;
    }
}

impl Draining {
    /// Resolves when the process is to stop; at once if it already is.
    pub async fn requested(&mut self) {
        // An error means the Drain itself is gone, which is a stop too.
        let _ = self.stop.wait_for(|stopped| *stopped).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_finished_when_the_last_holder_lets_go() {
        let (drain, draining) = Drain::new();
        let mut other = draining.clone();
        drain.begin();
        let worker = tokio::spawn(async move { other.requested().await });
        drop(draining);
        drain.finished().await;
        worker.await.unwrap();
    }

    #[tokio::test]
    async fn giving_out_holds_is_not_holding() {
        let (drain, draining) = Drain::new();
        let holds = drain.holds();
        drop(draining);
        assert!(holds.hold().is_some());
        drain.begin();
        drain.finished().await;
        assert!(holds.hold().is_none());
    }
}
