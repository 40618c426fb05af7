//! Where things are in shared memory: in the meeting place of a world, the header, a slot for each rank and the table of
//! groups; in the channel of a group, control blocks, slots and rings. Pages that nobody touches cost nothing.

use super::sync::sized;

/// Most ranks of a world.
pub const MAX_RANKS: usize = 128;
/// Most groups of a world, that of all ranks included.
pub(crate) const MAX_GROUPS: usize = 64;
/// Longest name of a group, in bytes.
pub(crate) const MAX_NAME: usize = 256;

/// Identifies a meeting place.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"mslite\x01\x02");

const PAGE: usize = 4096;
const LINE: usize = 64;

/// Most pieces of registered memory of a rank.
pub(crate) const SEGMENTS: usize = 64;

/// Slots of a member: rounds that go by before one is used again. A power of two, as rounds wrap.
pub(crate) const SLOTS: usize = sized(8, 4);
/// Rounds that a member may publish before it comes to them.
pub(crate) const AHEAD: u32 = sized(2, 1) as u32;
// Who still reads round r has published up to r + AHEAD; the others may be in the round after that, and as far ahead.
// In operations of two parts it may read round r - 1, so that the model checker's slots are enough for four rounds.
const _: () = assert!(SLOTS > sized(2 * (AHEAD as usize + 1), 3));
/// Bytes of a chunk, of which an operation may use less.
pub(crate) const CHUNK: usize = crate::tuning::MAX_CHUNK;
/// Bytes that a channel between two ranks holds.
pub(crate) const RING: usize = sized(256 << 10, 64);

/// Offsets in the header. The failure record of the world is at `FAILURE`.
pub(crate) mod header {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const SIZE: usize = 8;
    pub(crate) const READY: usize = 64;
    pub(crate) const JOINED: usize = 72;
    pub(crate) const CLOSED: usize = 76;
    /// The number after that of the rank that has locked the file.
    pub(crate) const LOCKED_BY: usize = 80;
    pub(crate) const TUNING: usize = 128;
    pub(crate) const FAILURE: usize = 1024;
    pub(crate) const LEN: usize = super::PAGE;
}

/// Offsets in the slot of a rank.
pub(crate) mod rank {
    pub(crate) const STATE: usize = 0;
    pub(crate) const PID: usize = 4;
    pub(crate) const STARTED: usize = 8;
    /// Since when it has waited, and when it was last seen to, in milliseconds of a clock that all ranks share.
    pub(crate) const WAITS_SINCE: usize = 16;
    pub(crate) const SEEN_WAITING: usize = 24;
    pub(crate) const WAIT_LEN: usize = 32;
    /// For whom: a bit for each rank.
    pub(crate) const WAITS_FOR: usize = 40;
    /// For whom and in what, as text.
    pub(crate) const WAIT: usize = super::LINE;
    pub(crate) const LEN: usize = 512;
}

/// Offsets in the entry of a segment.
pub(crate) mod segment {
    pub(crate) const GENERATION: usize = 0;
    pub(crate) const LEN: usize = 8;
    pub(crate) const HANDLE: usize = 16;
    pub(crate) const SIZE: usize = 32;
}

/// Offsets in an entry of the table of groups.
pub(crate) mod entry {
    pub(crate) const STATE: usize = 0;
    pub(crate) const COUNT: usize = 4;
    pub(crate) const CREATOR: usize = 8;
    pub(crate) const NAME_LEN: usize = 12;
    pub(crate) const HANDLE: usize = 16;
    pub(crate) const NAME: usize = 64;
    pub(crate) const RANKS: usize = 512;
    pub(crate) const FAILURE: usize = 1024;
    pub(crate) const LEN: usize = super::PAGE;
}

/// Offsets of what others need to open a file of this process.
pub(crate) mod handle {
    pub(crate) const PID: usize = 0;
    pub(crate) const DESCRIPTOR: usize = 4;
    pub(crate) const MARK: usize = 8;
}

/// Offsets in the control block of a member.
pub(crate) mod control {
    /// Counts rounds whose second part this member has finished.
    pub(crate) const FINISHED: usize = 0;
    /// The round after the last in which this member has copied what it had published by place.
    pub(crate) const COPIED: usize = super::LINE;
    /// Whether this member is at others' buffers.
    pub(crate) const INSIDE: usize = super::LINE + 8;
    pub(crate) const LEN: usize = 2 * super::LINE;
}

/// Offsets in a slot: a line, and the chunk behind it.
pub(crate) mod slot {
    /// The round after the one that is published here.
    pub(crate) const POSTED: usize = 0;
    pub(crate) const SIGNATURE: usize = 8;
    pub(crate) const WORDS: usize = 48;
    pub(crate) const CHUNK: usize = super::LINE;
    pub(crate) const LEN: usize = CHUNK + super::CHUNK;
}

/// Offsets in the control block of a ring.
pub(crate) mod ring {
    pub(crate) const HEAD: usize = 0;
    pub(crate) const TAIL: usize = super::LINE;
    pub(crate) const LEN: usize = 2 * super::LINE;
}

/// From a counter to the number of those who sleep on it.
pub(crate) const WAITERS: usize = 4;

/// Offset of the slot of a rank.
pub(crate) fn rank_slot(rank: usize) -> usize {
    header::LEN + rank * rank::LEN
}

/// Offset of an entry of the table of groups.
pub(crate) const fn group_entry(index: usize) -> usize {
    (header::LEN + MAX_RANKS * rank::LEN).next_multiple_of(PAGE) + index * entry::LEN
}

/// Offset of the entry of a segment of a rank.
pub(crate) const fn rank_segment(rank: usize, index: usize) -> usize {
    group_entry(MAX_GROUPS) + (rank * SEGMENTS + index) * segment::SIZE
}

/// Bytes of the meeting place of a world.
pub(crate) const MEETING_LEN: usize = rank_segment(MAX_RANKS, 0);

/// Where things are in the channel of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Channel {
    /// Number of members.
    members: usize,
    /// Where the slots are.
    slots: usize,
}

impl Channel {
    /// The channel of so many members.
    pub(crate) fn of(members: usize) -> Self {
        let channel = Channel { members, slots: 0 };
        Channel { slots: channel.ring(members, 0).next_multiple_of(PAGE), ..channel }
    }

    /// Control block of a member.
    pub(crate) fn control(self, member: usize) -> usize {
        member * control::LEN
    }

    /// Control block of the ring from one member to another.
    pub(crate) fn ring(self, src: usize, dest: usize) -> usize {
        self.control(self.members) + (src * self.members + dest) * ring::LEN
    }

    /// Slot in which a member publishes a round.
    #[inline]
    pub(crate) fn slot(self, member: usize, round: u32) -> usize {
        self.slots + (member * SLOTS + round as usize % SLOTS) * slot::LEN
    }

    /// Bytes of the ring from one member to another.
    pub(crate) fn ring_bytes(self, src: usize, dest: usize) -> usize {
        let rings = self.slot(self.members, 0).next_multiple_of(PAGE);
        rings + (src * self.members + dest) * RING
    }

    /// Bytes of the channel.
    pub(crate) fn len(self) -> usize {
        self.ring_bytes(self.members, 0).next_multiple_of(PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_channel_do_not_overlap() {
        for members in [1, 2, 3, 5, MAX_RANKS] {
            let channel = Channel::of(members);
            let last = members - 1;
            assert!(channel.control(last) + control::LEN <= channel.ring(0, 0));
            assert!(channel.ring(last, last) + ring::LEN <= channel.slot(0, 0));
            assert!(channel.slot(last, SLOTS as u32 - 1) + slot::LEN <= channel.ring_bytes(0, 0));
            assert!(channel.ring_bytes(last, last) + RING <= channel.len());
        }
    }

    #[test]
    fn rounds_map_to_slots_when_the_counter_wraps() {
        let channel = Channel::of(2);
        assert_ne!(channel.slot(0, u32::MAX), channel.slot(0, 0));
        assert_eq!(channel.slot(0, u32::MAX), channel.slot(0, SLOTS as u32 - 1));
    }
}
