use std::sync::Arc;
use std::time::Duration;

use super::group::SharedGroup;
use super::join::{join, threads};
use super::member::Member;
use crate::{Cancellation, Collective, Group, GroupName, JoinOptions, Result, Transport, TransportKind};

/// Ranks of one host over shared memory.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    member: Arc<Member>,
    /// All ranks.
    everybody: Arc<SharedGroup>,
}

impl SharedMemory {
    /// Joins as one process, and waits until all ranks have come.
    pub(crate) fn join(options: &JoinOptions) -> Result<Self> {
        SharedMemory::new(join(options)?)
    }

    /// The ranks of a job whose ranks are threads of this process, in order.
    pub(crate) fn threads(size: usize, timeout: Duration) -> Result<Vec<Self>> {
        threads(size, timeout)?.into_iter().map(SharedMemory::new).collect()
    }

    fn new(member: Member) -> Result<Self> {
        let member = Arc::new(member);
        let everybody =
            Group { name: GroupName::world(), ranks: (0..member.size).collect(), rank: member.rank };
        let everybody = Arc::new(SharedGroup::open(&member, everybody)?);
        Ok(SharedMemory { member, everybody })
    }
}

impl Transport for SharedMemory {
    fn rank(&self) -> usize {
        self.member.rank
    }

    fn size(&self) -> usize {
        self.member.size
    }

    fn timeout(&self) -> Duration {
        self.member.timeout
    }

    fn open(&self, group: Group) -> Result<Arc<dyn Collective>> {
        if group.name.is_world() {
            return Ok(Arc::clone(&self.everybody) as _);
        }
        Ok(Arc::new(SharedGroup::open(&self.member, group)?))
    }

    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.everybody.exchange(bytes)
    }

    fn send_capacity(&self) -> usize {
        TransportKind::SharedMemory.send_capacity()
    }

    fn abort(&self, reason: &str) {
        self.member.abort(reason);
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        Some(&self.member.cancellation)
    }

    fn cancel(&self, by: &str) {
        self.member.cancel(by);
    }
}
