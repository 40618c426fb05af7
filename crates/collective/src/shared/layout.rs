//! Where things are in a region: the header, a slot for each rank, the table of groups, and a pool from which
//! each group gets its channel. Pages that nobody touches cost nothing.

/// Most ranks of a world.
pub const MAX_RANKS: usize = 128;
/// Most groups of a world, that of all ranks included.
pub(crate) const MAX_GROUPS: usize = 64;
/// Longest name of a group, in bytes.
pub(crate) const MAX_NAME: usize = 256;

/// Identifies a region.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"mslite\x01\x01");

const PAGE: usize = 4096;
const LINE: usize = 64;

/// Number of chunks that a rank may publish before its peers have read the first.
pub(crate) const SLOTS: usize = 4;
/// Bytes of a chunk.
pub(crate) const CHUNK: usize = 256 << 10;
/// Bytes that a channel between two ranks holds.
pub(crate) const RING: usize = 256 << 10;

/// Offsets in the header. The failure record of the world is at `FAILURE`.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const SIZE: usize = 8;
    pub(crate) const READY: usize = 64;
    pub(crate) const JOINED: usize = 72;
    pub(crate) const CLOSED: usize = 76;
    pub(crate) const POOL_NEXT: usize = 128;
    pub(crate) const FAILURE: usize = 1024;
    pub(crate) const LEN: usize = super::PAGE;
}

/// Offsets in the slot of a rank.
pub(crate) mod rank {
    pub(crate) const STATE: usize = 0;
    pub(crate) const PID: usize = 4;
    pub(crate) const STARTED: usize = 8;
    pub(crate) const LEN: usize = super::LINE;
}

/// Offsets in an entry of the table of groups.
pub(crate) mod entry {
    pub(crate) const STATE: usize = 0;
    pub(crate) const COUNT: usize = 4;
    pub(crate) const CHANNEL: usize = 8;
    pub(crate) const NAME_LEN: usize = 16;
    pub(crate) const NAME: usize = 64;
    pub(crate) const RANKS: usize = 512;
    pub(crate) const FAILURE: usize = 1024;
    pub(crate) const LEN: usize = super::PAGE;
}

/// Offsets in the control block of a member: three counters, each in a line of its own with the number of those
/// who sleep on it.
pub(crate) mod control {
    pub(crate) const POSTED: usize = 0;
    pub(crate) const REDUCED: usize = super::LINE;
    pub(crate) const DONE: usize = 2 * super::LINE;
    pub(crate) const LEN: usize = 4 * super::LINE;
}

/// Offsets in the control block of a ring.
pub(crate) mod ring {
    pub(crate) const HEAD: usize = 0;
    pub(crate) const TAIL: usize = super::LINE;
    pub(crate) const LEN: usize = 2 * super::LINE;
}

/// From a counter to the number of those who sleep on it.
pub(crate) const WAITERS: usize = 4;

/// A slot: a line with the operation's signature, then a chunk.
const SLOT: usize = LINE + CHUNK;

/// Offset of the slot of a rank.
pub(crate) fn rank_slot(rank: usize) -> usize {
    header::LEN + rank * rank::LEN
}

/// Offset of an entry of the table of groups.
pub(crate) fn group_entry(index: usize) -> usize {
    (header::LEN + MAX_RANKS * rank::LEN).next_multiple_of(PAGE) + index * entry::LEN
}

/// Offset of the pool of channels.
pub(crate) fn pool() -> usize {
    group_entry(MAX_GROUPS)
}

/// Bytes of the region of a world.
pub(crate) fn region_len(size: usize) -> usize {
    const MOST: usize = 64 << 30;
    let channel = Channel { base: 0, members: size }.len();
    pool() + (MAX_GROUPS * channel).min(MOST.max(channel))
}

/// Bytes that the collectives of a group of this size may touch.
pub(crate) fn footprint(members: usize) -> usize {
    members * SLOTS * SLOT + members * members * ring::LEN
}

/// Where things are in the channel of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    /// Offset in the region, of a whole page.
    pub(crate) base: usize,
    /// Number of members.
    pub(crate) members: usize,
}

impl Channel {
    /// Control block of a member.
    pub(crate) fn control(&self, member: usize) -> usize {
        self.base + member * control::LEN
    }

    /// Control block of the ring from one member to another.
    pub(crate) fn ring(&self, src: usize, dest: usize) -> usize {
        self.control(self.members) + (src * self.members + dest) * ring::LEN
    }

    /// Signature of what a member published in a round.
    pub(crate) fn signature(&self, member: usize, round: u32) -> usize {
        let slots = self.ring(self.members, 0).next_multiple_of(PAGE);
        slots + (member * SLOTS + round as usize % SLOTS) * SLOT
    }

    /// Chunk that a member published in a round.
    pub(crate) fn chunk(&self, member: usize, round: u32) -> usize {
        self.signature(member, round) + LINE
    }

    /// Bytes of the ring from one member to another.
    pub(crate) fn ring_bytes(&self, src: usize, dest: usize) -> usize {
        let rings = self.signature(self.members, 0).next_multiple_of(PAGE);
        rings + (src * self.members + dest) * RING
    }

    /// Bytes of the channel.
    pub(crate) fn len(&self) -> usize {
        (self.ring_bytes(self.members, 0) - self.base).next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_fit_the_pool_and_their_parts_do_not_overlap() {
        for members in [1, 2, 3, 5, MAX_RANKS] {
            let base = pool();
            assert_eq!(base % PAGE, 0);
            let channel = Channel { base, members };
            let last = members - 1;
            assert!(channel.control(last) + control::LEN <= channel.ring(0, 0));
            assert!(channel.ring(last, last) + ring::LEN <= channel.signature(0, 0));
            let end = channel.chunk(last, SLOTS as u32 - 1) + CHUNK;
            assert!(end <= channel.ring_bytes(0, 0));
            assert!(channel.ring_bytes(last, last) + RING <= base + channel.len());
            assert!(base + channel.len() <= region_len(members));
        }
    }

    #[test]
    fn rounds_map_to_slots_when_the_counter_wraps() {
        let channel = Channel { base: 0, members: 2 };
        assert_ne!(channel.chunk(0, u32::MAX), channel.chunk(0, 0));
        assert_eq!(channel.chunk(0, u32::MAX), channel.chunk(0, SLOTS as u32 - 1));
    }
}
