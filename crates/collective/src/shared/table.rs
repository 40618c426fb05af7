//! The table of groups: the first member to ask for a group enters it, the others find it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::channel::SharedGroup;
use super::layout::{
    Channel, MAX_GROUPS, MAX_NAME, MAX_RANKS, entry, footprint, group_entry, header, pool,
};
use super::member::Member;
use crate::{Error, Group, Result};

const FREE: u32 = 0;
const BEING_WRITTEN: u32 = 1;
const WRITTEN: u32 = 2;
const NO_ROOM: u32 = 3;

impl SharedGroup {
    /// This member's end of a group, whose ranks are valid and contain this one. Does not wait for the others.
    pub(crate) fn open(member: &Arc<Member>, group: Group) -> Result<Self> {
        let name = group.name.as_str();
        if name.len() > MAX_NAME {
            return Err(Error::InvalidArgument(format!("the group name {name:?} is over {MAX_NAME} bytes")));
        }
        let (at, channel) = member.find_group(&group).inspect_err(|error| member.report(error))?;
        Ok(SharedGroup::new(Arc::clone(member), group, channel, at + entry::FAILURE))
    }
}

impl Member {
    fn find_group(&self, group: &Group) -> Result<(usize, Channel)> {
        let operation = || format!("opening group {:?}", group.name.as_str());
        self.failure().check(self.rank, &operation)?;
        for index in 0..MAX_GROUPS {
            let at = group_entry(index);
            let state = self.region.word(at + entry::STATE);
            let entered = state.compare_exchange(FREE, BEING_WRITTEN, Ordering::AcqRel, Ordering::Acquire);
            if entered.is_ok() {
                state.store(self.enter(at, group), Ordering::Release);
            }
            match self.settled(state, &operation)? {
                WRITTEN if self.is_entry_of(at, group)? => {
                    let base = self.region.wide(at + entry::CHANNEL).load(Ordering::Relaxed) as usize;
                    return Ok((at, Channel { base, members: group.size() }));
                }
                NO_ROOM => return Err(no_room(group)),
                _ => {}
            }
        }
        Err(no_room(group))
    }

    /// Writes an entry, and gives its new state.
    fn enter(&self, at: usize, group: &Group) -> u32 {
        let channel = Channel { base: 0, members: group.size() };
        let next = self.region.wide(header::POOL_NEXT);
        let base = pool() + next.fetch_add(channel.len() as u64, Ordering::Relaxed) as usize;
        if base + channel.len() > self.region.len() || !self.has_memory(group.size()) {
            return NO_ROOM;
        }
        let mut ranks = [0u16; MAX_RANKS];
        for (word, rank) in ranks.iter_mut().zip(&group.ranks) {
            *word = *rank as u16;
        }
        let name = group.name.as_str().as_bytes();
        self.region.span(at + entry::RANKS, size_of_val(&ranks)).write(&ranks);
        self.region.word(at + entry::COUNT).store(group.size() as u32, Ordering::Relaxed);
        self.region.word(at + entry::NAME_LEN).store(name.len() as u32, Ordering::Relaxed);
        self.region.span(at + entry::NAME, name.len()).write(name);
        self.region.wide(at + entry::CHANNEL).store(base as u64, Ordering::Relaxed);
        WRITTEN
    }

    /// Writing to a full file system would end the process.
    fn has_memory(&self, members: usize) -> bool {
        let space = self.region.file().and_then(|file| rustix::fs::fstatvfs(file).ok());
        space.is_none_or(|s| s.f_bavail.saturating_mul(s.f_frsize) >= footprint(members) as u64)
    }

    /// The state of an entry once nobody writes it.
    fn settled(&self, state: &AtomicU32, operation: &dyn Fn() -> String) -> Result<u32> {
        let since = Instant::now();
        loop {
            let now = state.load(Ordering::Acquire);
            if now != BEING_WRITTEN {
                return Ok(now);
            }
            self.failure().check(self.rank, operation)?;
            if since.elapsed() >= self.timeout {
                let detail = "a rank stopped while it entered a group".to_owned();
                let (missing, waited) = (Vec::new(), self.timeout);
                return Err(Error::Timeout { missing, waited, operation: operation(), detail });
            }
            (0..self.size).filter(|&r| r != self.rank).try_for_each(|r| self.check_alive(r, operation))?;
            std::thread::yield_now();
        }
    }

    /// Whether the entry is this group's; fails if it has the same name, but other ranks, some of them shared.
    fn is_entry_of(&self, at: usize, group: &Group) -> Result<bool> {
        let mut name = [0u8; MAX_NAME];
        self.region.span(at + entry::NAME, MAX_NAME).read(&mut name);
        let name_len = self.region.word(at + entry::NAME_LEN).load(Ordering::Relaxed) as usize;
        if &name[..name_len.min(MAX_NAME)] != group.name.as_str().as_bytes() {
            return Ok(false);
        }
        let mut ranks = [0u16; MAX_RANKS];
        self.region.span(at + entry::RANKS, size_of_val(&ranks)).read(&mut ranks);
        let count = self.region.word(at + entry::COUNT).load(Ordering::Relaxed) as usize;
        let theirs: Vec<usize> = ranks[..count.min(MAX_RANKS)].iter().map(|&r| usize::from(r)).collect();
        if theirs == group.ranks {
            return Ok(true);
        }
        let Some(&other) = theirs.iter().find(|rank| group.ranks.contains(rank)) else {
            return Ok(false);
        };
        // A rank that is in both lists and is not this one, if there is any, is who will disagree.
        let other = theirs.iter().copied().find(|&rank| rank != self.rank).unwrap_or(other);
        let describe = |ranks: &[usize]| format!("group {:?} of ranks {ranks:?}", group.name.as_str());
        let mut sides = [(self.rank, describe(&group.ranks)), (other, describe(&theirs))];
        sides.sort();
        let [(a, first), (b, second)] = sides;
        Err(Error::Mismatch { ranks: [a, b], operations: [first, second] })
    }
}

fn no_room(group: &Group) -> Error {
    Error::Unsupported(format!(
        "no room for group {:?}: at most {MAX_GROUPS} groups, {} bytes of shared memory for this one",
        group.name.as_str(),
        footprint(group.size())
    ))
}
