//! The table of groups: the first member to ask for a group enters it, the others find it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::SharedGroup;
use super::handle::Handle;
use super::layout::{Channel, MAX_GROUPS, MAX_NAME, MAX_RANKS, entry, group_entry};
use super::member::Member;
use super::memory::Region;
use super::sync::{self, AtomicU32, Instant};
use crate::{Error, Group, Result};

const FREE: u32 = 0;
const WRITTEN: u32 = 1;
const FAILED: u32 = 2;
/// By the rank whose number is added.
const BEING_WRITTEN: u32 = 3;

impl SharedGroup {
    /// This member's end of a group, whose ranks are valid and contain this one. Does not wait for the others.
    pub(crate) fn open(member: &Arc<Member>, group: Group) -> Result<Self> {
        let name = group.name.as_str();
        if name.len() > MAX_NAME {
            return Err(Error::InvalidArgument(format!("the group name {name:?} is over {MAX_NAME} bytes")));
        }
        let (at, region) = member.find_group(&group).inspect_err(|error| member.report(error))?;
        Ok(SharedGroup::new(Arc::clone(member), group, region, at + entry::FAILURE))
    }
}

impl Member {
    /// The entry of a group, and the memory of its channel.
    fn find_group(&self, group: &Group) -> Result<(usize, Arc<Region>)> {
        let operation = || format!("opening group {:?}", group.name.as_str());
        self.check_world(&operation)?;
        for index in 0..MAX_GROUPS {
            let at = group_entry(index);
            let state = self.region.word(at + entry::STATE);
            let mine = BEING_WRITTEN + self.rank as u32;
            let entered = state.compare_exchange(FREE, mine, Ordering::AcqRel, Ordering::Acquire);
            if entered.is_ok() {
                let channel = self.enter(at, group);
                state.store(if channel.is_ok() { WRITTEN } else { FAILED }, Ordering::Release);
                return Ok((at, channel?));
            }
            if self.settled(state, &operation)? == WRITTEN && self.is_entry_of(at, group)? {
                return Ok((at, self.open_channel(at, group, &operation)?));
            }
        }
        Err(Error::Unsupported(format!("no room for group {:?}: at most {MAX_GROUPS}", group.name.as_str())))
    }

    /// Writes an entry, and makes the memory of its channel.
    fn enter(&self, at: usize, group: &Group) -> Result<Arc<Region>> {
        let mut ranks = [0u16; MAX_RANKS];
        for (word, rank) in ranks.iter_mut().zip(&group.ranks) {
            *word = *rank as u16;
        }
        let name = group.name.as_str().as_bytes();
        self.region.span(at + entry::RANKS, size_of_val(&ranks)).write(&ranks);
        self.region.word(at + entry::COUNT).store(group.size() as u32, Ordering::Relaxed);
        self.region.word(at + entry::NAME_LEN).store(name.len() as u32, Ordering::Relaxed);
        self.region.span(at + entry::NAME, name.len()).write(name);
        self.region.word(at + entry::CREATOR).store(self.rank as u32, Ordering::Relaxed);
        Handle::at(&self.region, at + entry::HANDLE).create(Channel::of(group.size()).len())
    }

    /// The memory that the first member has made for the group.
    fn open_channel(&self, at: usize, group: &Group, operation: &dyn Fn() -> String) -> Result<Arc<Region>> {
        let creator = self.region.word(at + entry::CREATOR).load(Ordering::Relaxed) as usize;
        let handle = Handle::at(&self.region, at + entry::HANDLE);
        self.open_handle(handle, Channel::of(group.size()).len(), creator, operation)
    }

    /// The state of an entry once nobody writes it.
    fn settled(&self, state: &AtomicU32, operation: &dyn Fn() -> String) -> Result<u32> {
        let since = Instant::now();
        loop {
            let now = state.load(Ordering::Acquire);
            let Some(writer) = now.checked_sub(BEING_WRITTEN) else {
                return Ok(now);
            };
            self.check_world(operation)?;
            if since.elapsed() >= self.timeout {
                let detail = "it stopped while it entered a group".to_owned();
                let (missing, waited) = (vec![writer as usize], self.timeout);
                return Err(Error::Timeout { missing, waited, operation: operation(), detail });
            }
            if writer as usize != self.rank {
                self.check_alive(writer as usize, operation)?;
            }
            sync::yield_now();
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
        Err(Error::mismatch([(self.rank, describe(&group.ranks)), (other, describe(&theirs))]))
    }
}
