use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::shared::{self, Member, SharedGroup};
use crate::{Collective, Error, Group, GroupName, JoinOptions, Result, is_world_group};

/// One rank among all ranks of a job on this host: where groups come from.
///
/// The rank is part of the world until this and all groups made from it are dropped.
pub struct World {
    member: Arc<Member>,
    everybody: Arc<SharedGroup>,
    groups: Mutex<HashMap<(GroupName, Vec<usize>), Arc<SharedGroup>>>,
}

impl World {
    /// Joins as one process of a job on this host, and waits until all ranks have come.
    ///
    /// # Errors
    /// [`Error::Timeout`] naming the ranks that have not come, [`Error::PeerLost`] when one died meanwhile,
    /// [`Error::Mismatch`] when the ranks do not agree about their number, [`Error::InvalidArgument`] when the
    /// rank is taken or the rendezvous is not ours, [`Error::Unsupported`] when there is not enough shared
    /// memory, [`Error::Io`].
    pub fn join(options: &JoinOptions) -> Result<World> {
        let path = options.rendezvous.path();
        World::new(shared::join(path, options.rank, options.size, options.timeout)?)
    }

    /// The ranks of a job whose ranks are threads of this process, in order. A rank that waits longer than
    /// `timeout` for another one gives up.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no or too many ranks, [`Error::Io`] when memory cannot be mapped.
    pub fn threads(size: usize, timeout: Duration) -> Result<Vec<World>> {
        shared::threads(size, timeout)?.into_iter().map(World::new).collect()
    }

    fn new(member: Member) -> Result<World> {
        let member = Arc::new(member);
        let everybody =
            Group { name: GroupName::world(), ranks: (0..member.size).collect(), rank: member.rank };
        let everybody = Arc::new(SharedGroup::open(&member, everybody)?);
        Ok(World { member, everybody, groups: Mutex::default() })
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.member.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.member.size
    }

    /// How long a rank waits for another.
    pub fn timeout(&self) -> Duration {
        self.member.timeout
    }

    /// The group of all ranks.
    pub fn everybody(&self) -> Arc<dyn Collective> {
        Arc::clone(&self.everybody) as _
    }

    /// The group of this name, with these world ranks in this order; the same again when asked again.
    ///
    /// All members ask for the same name with the same ranks; groups without a common rank may share a name.
    /// A name of the world group stands for all ranks, whatever the list says. Does not wait for the others.
    ///
    /// # Errors
    /// [`Error::Mismatch`], at every rank, when members ask for different ranks under one name;
    /// [`Error::InvalidArgument`] for a list that is empty, has duplicates or ranks that do not exist, or lacks
    /// this rank; [`Error::Unsupported`] when there are too many groups.
    pub fn group(&self, name: &str, ranks: &[usize]) -> Result<Arc<dyn Collective>> {
        if is_world_group(name) {
            return Ok(self.everybody());
        }
        let rank = self.position(name, ranks)?;
        let key = (GroupName::from(name), ranks.to_vec());
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(&key) {
            return Ok(Arc::clone(group) as _);
        }
        let group = Group { name: key.0.clone(), ranks: key.1.clone(), rank };
        let group = Arc::new(SharedGroup::open(&self.member, group)?);
        groups.insert(key, Arc::clone(&group));
        Ok(group)
    }

    fn position(&self, name: &str, ranks: &[usize]) -> Result<usize> {
        let invalid = |why: String| Err(Error::InvalidArgument(format!("group {name:?} of ranks {ranks:?}: {why}")));
        let mut seen = vec![false; self.size()];
        for &rank in ranks {
            match seen.get_mut(rank) {
                None => return invalid(format!("there is no rank {rank} in a world of {}", self.size())),
                Some(true) => return invalid(format!("rank {rank} is listed twice")),
                Some(seen) => *seen = true,
            }
        }
        match ranks.iter().position(|&rank| rank == self.rank()) {
            Some(position) => Ok(position),
            None => invalid(format!("rank {}, which asks, is not among them", self.rank())),
        }
    }

    /// Gives everybody's bytes to everybody, by rank. All ranks call it in the same order among the collectives
    /// of all ranks.
    ///
    /// # Errors
    /// As [`Collective::enqueue`].
    pub fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.everybody.exchange(bytes)
    }

    /// Ends the job: pending and later operations fail with [`Error::PeerLost`] naming this rank and the reason
    /// at the other ranks, and with [`Error::Aborted`] here.
    pub fn abort(&self, reason: &str) {
        self.member.abort(reason);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("rank", &self.rank()).field("size", &self.size()).finish_non_exhaustive()
    }
}
