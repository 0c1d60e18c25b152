//! What this node has of one channel it follows: every publication is either the next one, or a sign that something was
//! lost. Pure: publications in, steps out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::record::Link;
use crate::channel::{Epoch, Position, Publication};
use crate::engine::Gap;

/// Publications kept while a hole before them is being filled; beyond it the filling goes on from the store.
const MAX_HELD: usize = 1024;

/// Where a channel stands for this node.
#[derive(Debug, Default)]
pub(super) struct Track {
    /// The last publication the node was given, once it is known where it began.
    at: Option<Position>,
    /// Up to here the numbers were read from the store: what comes late with one of them was read already.
    read_to: u64,
    /// The store is being asked what came after `at`; meanwhile this is held.
    held: Option<VecDeque<Link>>,
    /// Something came that could not be held.
    missed: bool,
    /// The publication that the store was asked because of. It is asked once.
    doubted: Option<(Epoch, u64)>,
}

/// What is to be done, in this order: deliver, tell, ask.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) deliver: Vec<Arc<Publication>>,
    /// What lies before this is lost to this node. It stands before what is delivered.
    pub(super) gap: Option<(Position, Gap)>,
    /// The store is to be asked what came after this.
    pub(super) ask: Option<Position>,
}

/// What the store answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// Everything after the position asked about, or its beginning.
    Whole { publications: Vec<Arc<Publication>>, head: Position },
    /// The channel goes on from its head, but not from there.
    Broken { head: Position, why: Gap },
}

impl Track {
    /// The channel is followed from its head on.
    pub(super) fn begins(&mut self, head: Position) {
        if self.at.is_none() {
            self.read_to = head.seq;
            self.at = Some(head);
        }
    }

    pub(super) fn is_at(&self, head: &Position) -> bool {
        self.at.as_ref().is_none_or(|it| it == head)
    }

    /// The link is another one: what it did not bring has to be asked for. None if there is nothing to compare.
    pub(super) fn compare(&mut self) -> Option<Position> {
        if self.held.is_some() {
            self.missed = true;
            return None;
        }
        let at = self.at.clone()?;
        self.held = Some(VecDeque::new());
        Some(at)
    }

    /// Nobody answers what was asked over a link that ended.
    pub(super) fn link_ended(&mut self) {
        self.held = None;
        self.missed = false;
    }

    /// A publication came over the link.
    pub(super) fn arrived(&mut self, link: Link) -> Step {
        if let Some(held) = &mut self.held {
            if held.len() < MAX_HELD {
                held.push_back(link);
            } else {
                self.missed = true;
            }
            return Step::default();
        }
        match self.place_of(&link) {
            Place::Next => Step { deliver: vec![self.take(link)], ..Step::default() },
            Place::Known => Step::default(),
            Place::Elsewhere => {
                self.doubted = Some(name_of(&link));
                self.held = Some(VecDeque::from([link]));
                Step { ask: self.at.clone(), ..Step::default() }
            }
        }
    }

    /// The store answered what came after `at`.
    pub(super) fn answered(&mut self, answer: Answer) -> Step {
        let mut step = Step::default();
        let mut held = self.held.take().unwrap_or_default();
        match answer {
            Answer::Whole { publications, head } => {
                if let Some(last) = publications.last() {
                    self.at = Some(last.position());
                }
                let is_all = publications.last().is_none_or(|it| it.seq >= head.seq);
                self.read_to = self.at.as_ref().map_or(0, |it| it.seq);
                step.deliver = publications;
                if !is_all {
                    self.held = Some(held);
                    step.ask = self.at.clone();
                    return step;
                }
            }
            Answer::Broken { head, why } => {
                // What is held of an older epoch went with it.
                held.retain(|it| it.publication.epoch == head.epoch);
                let from = held.front().map_or(head, before);
                self.read_to = from.seq;
                self.at = Some(from.clone());
                step.gap = Some((from, why));
            }
        }
        while let Some(link) = held.pop_front() {
            match self.place_of(&link) {
                Place::Next => step.deliver.push(self.take(link)),
                Place::Known => {}
                // The store was asked after it came, and does not know it: it is of a branch that is gone.
                Place::Elsewhere if self.doubted == Some(name_of(&link)) => {}
                Place::Elsewhere => {
                    self.doubted = Some(name_of(&link));
                    held.push_front(link);
                    self.held = Some(held);
                    step.ask = self.at.clone();
                    return step;
                }
            }
        }
        if std::mem::take(&mut self.missed) {
            self.held = Some(VecDeque::new());
            step.ask = self.at.clone();
        }
        step
    }

    fn place_of(&self, link: &Link) -> Place {
        let Some(at) = &self.at else { return Place::Next };
        let it = &link.publication;
        if it.epoch != at.epoch {
            return Place::Elsewhere;
        }
        if it.seq <= self.read_to {
            return Place::Known;
        }
        let is_chained = match (&link.before, &at.id) {
            (Some(theirs), Some(ours)) => theirs == ours,
            _ => true,
        };
        if it.seq == at.seq + 1 && is_chained { Place::Next } else { Place::Elsewhere }
    }

    fn take(&mut self, link: Link) -> Arc<Publication> {
        self.at = Some(link.publication.position());
        link.publication
    }
}

fn name_of(link: &Link) -> (Epoch, u64) {
    (link.publication.epoch, link.publication.seq)
}

/// Where somebody stands who has everything but this.
fn before(link: &Link) -> Position {
    let it = &link.publication;
    Position { epoch: it.epoch, seq: it.seq - 1, id: link.before.clone() }
}

/// Where a publication stands as seen from what the node has.
enum Place {
    Next,
    /// The node has it from the store.
    Known,
    /// Behind a hole, or on a branch where writes were lost.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::{ChannelName, Data};

    fn link_of(epoch: u64, seq: u64, id: &str, before: &str) -> Link {
        let publication = Publication {
            channel: ChannelName::parse("a").unwrap(),
            epoch: Epoch(epoch),
            seq,
            prev: None,
            id: id.into(),
            event: None,
            user: None,
            subject: None,
            data: Data::Json(Bytes::from_static(b"1")),
            timestamp: 0,
            exclude: Vec::new(),
            erased: false,
        };
        Link { publication: Arc::new(publication), before: Some(before.into()) }
    }

    /// The `seq`-th of a channel that lost nothing.
    fn link(seq: u64) -> Link {
        link_of(1, seq, &format!("p{seq}"), &format!("p{}", seq - 1))
    }

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq, id: Some(format!("p{seq}").into()) }
    }

    fn seqs(step: &Step) -> Vec<u64> {
        step.deliver.iter().map(|it| it.seq).collect()
    }

    fn whole(seqs: std::ops::RangeInclusive<u64>, head: u64) -> Answer {
        Answer::Whole { publications: seqs.map(|seq| link(seq).publication).collect(), head: at(head) }
    }

    fn following(seq: u64) -> Track {
        let mut track = Track::default();
        track.begins(at(seq));
        track
    }

    #[test]
    fn what_comes_in_order_is_delivered_at_once() {
        let mut track = following(4);
        assert_eq!(seqs(&track.arrived(link(5))), [5]);
        assert_eq!(seqs(&track.arrived(link(6))), [6]);
        // It was on its way when the head was read: whoever began at the head has it.
        assert!(seqs(&track.arrived(link(4))).is_empty());
    }

    #[test]
    fn a_hole_is_filled_before_anything_behind_it_is_delivered() {
        let mut track = following(4);
        let step = track.arrived(link(7));
        assert_eq!((seqs(&step), step.ask), (vec![], Some(at(4))));
        assert!(seqs(&track.arrived(link(8))).is_empty(), "held");
        let step = track.answered(whole(5..=7, 7));
        assert_eq!((seqs(&step), step.ask.is_none(), step.gap.is_none()), (vec![5, 6, 7, 8], true, true));
        assert_eq!(seqs(&track.arrived(link(9))), [9]);
    }

    #[test]
    fn a_long_hole_is_filled_page_by_page() {
        let mut track = following(0);
        track.arrived(link(9));
        let step = track.answered(whole(1..=4, 9));
        assert_eq!((seqs(&step), step.ask), (vec![1, 2, 3, 4], Some(at(4))));
        assert_eq!(seqs(&track.answered(whole(5..=9, 9))), [5, 6, 7, 8, 9]);
    }

    #[test]
    fn what_cannot_be_filled_is_told_and_the_rest_goes_on() {
        let mut track = following(4);
        track.arrived(link(9));
        track.arrived(link(10));
        let step = track.answered(Answer::Broken { head: at(10), why: Gap::Engine });
        assert_eq!((seqs(&step), step.gap), (vec![9, 10], Some((at(8), Gap::Engine))));
    }

    #[test]
    fn a_branch_that_lost_writes_is_noticed_by_its_ids() {
        let mut track = following(4);
        track.arrived(link(5));
        track.arrived(link(6));
        // The promoted replica never had 6, and gave the number again.
        assert_eq!(track.arrived(link_of(1, 6, "other", "p5")).ask, Some(at(6)));
        let mut track = following(6);
        assert_eq!(track.arrived(link_of(1, 7, "p7", "other")).ask, Some(at(6)));
    }

    #[test]
    fn another_epoch_asks_and_goes_on_from_where_that_stands() {
        let mut track = following(4);
        let first = link_of(2, 1, "q1", "");
        assert_eq!(track.arrived(first).ask, Some(at(4)));
        let head = Position { epoch: Epoch(2), seq: 0, id: None };
        let step = track.answered(Answer::Broken { head, why: Gap::Epoch });
        assert_eq!((seqs(&step), step.gap.is_some()), (vec![1], true));
    }

    #[test]
    fn a_publication_the_store_does_not_know_is_doubted_once() {
        let mut track = following(4);
        track.arrived(link_of(7, 9, "stray", ""));
        let step = track.answered(Answer::Whole { publications: vec![], head: at(4) });
        assert!(seqs(&step).is_empty() && step.ask.is_none());
        assert_eq!(seqs(&track.arrived(link(5))), [5]);
    }

    #[test]
    fn more_than_can_be_held_is_asked_for_again() {
        let mut track = following(0);
        track.arrived(link(2));
        for seq in 3..=3000 {
            track.arrived(link(seq));
        }
        let step = track.answered(whole(1..=1500, 1500));
        assert_eq!(step.ask, Some(at(1500)));
        assert_eq!(track.answered(whole(1501..=3000, 3000)).deliver.len(), 1500);
        assert_eq!(seqs(&track.arrived(link(3001))), [3001]);
    }

    #[test]
    fn after_a_new_link_the_store_is_asked_what_was_missed() {
        let mut track = following(4);
        assert_eq!(track.compare(), Some(at(4)));
        assert!(seqs(&track.arrived(link(7))).is_empty());
        assert_eq!(track.compare(), None, "it is being asked already");
        let step = track.answered(whole(5..=7, 7));
        assert_eq!((seqs(&step), step.ask), (vec![5, 6, 7], Some(at(7))), "and once more for the newest link");
        track.link_ended();
        assert_eq!(track.compare(), Some(at(7)));
    }
}
