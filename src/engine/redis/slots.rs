//! Which server has which channel: all of them one, or in a cluster the one that has the channel's slot.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::server::Server;

/// Slots of a Redis Cluster.
pub(super) const SLOTS: u16 = 16384;

/// The servers as they are known now; swapped whole.
#[derive(Default)]
pub(super) struct Table {
    servers: Vec<Arc<Server>>,
    /// By slot, the server's place in the list; none where one server has everything.
    by_slot: Option<Box<[Option<u16>]>>,
}

impl Table {
    pub(super) fn single(server: Arc<Server>) -> Self {
        Self { servers: vec![server], by_slot: None }
    }

    pub(super) fn sharded(servers: Vec<(Arc<Server>, Vec<RangeInclusive<u16>>)>) -> Self {
        let mut by_slot = vec![None; usize::from(SLOTS)];
        for (at, (_, ranges)) in servers.iter().enumerate() {
            for slot in ranges.iter().cloned().flatten() {
                by_slot[usize::from(slot)] = u16::try_from(at).ok();
            }
        }
        Self { servers: servers.into_iter().map(|(server, _)| server).collect(), by_slot: Some(by_slot.into()) }
    }

    pub(super) fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// The server of all keys with this tag: a channel's name, mostly.
    pub(super) fn server_of(&self, tag: &str) -> Option<&Arc<Server>> {
        let at = match &self.by_slot {
            None => 0,
            Some(by_slot) => by_slot[usize::from(slot_of(tag))]?,
        };
        self.servers.get(usize::from(at))
    }
}

/// The slot of what stands in a key's braces: CRC-16 as XMODEM has it.
pub(super) fn slot_of(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    });
    crc % SLOTS
}

/// A tag on one of these slots.
pub(super) fn tag_on(ranges: &[RangeInclusive<u16>]) -> Option<String> {
    let has = |slot| ranges.iter().any(|it| it.contains(&slot));
    // A single slot is found after some 16,000 tries on average.
    (0..1_000_000_u32).map(|it| it.to_string()).find(|it| has(slot_of(it)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_what_a_cluster_says_they_are() {
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!(slot_of("123456789"), 0x31C3 % SLOTS);
        assert_eq!(slot_of("foo"), 12182);
        assert_eq!(slot_of("room.5"), slot_of("room.5"));
    }

    #[test]
    fn every_slot_has_a_tag() {
        for slot in [0, 1, 8191, 16383] {
            let tag = tag_on(&[slot..=slot]).unwrap();
            assert_eq!(slot_of(&tag), slot);
        }
        assert_eq!(tag_on(&[]), None);
    }
}
