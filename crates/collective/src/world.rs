use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::meter::{MeteredTransport, metered};
use crate::shared::SharedMemory;
use crate::{
    Cancellation, Collective, Error, Group, GroupName, JoinOptions, Meter, Result, Transport, TransportKind,
    is_world_group,
};

/// One rank among all ranks of a job: where groups come from.
///
/// The rank is part of the world until this and all groups made from it are dropped.
pub struct World {
    transport: Arc<dyn Transport>,
    cancellation: Cancellation,
    everybody: Arc<dyn Collective>,
    groups: Mutex<Vec<Arc<dyn Collective>>>,
}

impl World {
    /// Joins as one process of a job, and waits until all ranks have come.
    ///
    /// # Errors
    /// [`Error::Timeout`] naming the ranks that have not come, [`Error::PeerLost`] when one died meanwhile,
    /// [`Error::Cancelled`], [`Error::Mismatch`] when the ranks do not agree about their number, [`Error::InvalidArgument`] when the
    /// rank is taken, the rendezvous is not ours, or another MPI than the program's has started it;
    /// [`Error::Unsupported`] when there is not enough shared memory, or MPI is not built in; [`Error::Io`].
    pub fn join(options: &JoinOptions) -> Result<World> {
        match options.transport {
            TransportKind::SharedMemory => World::over(SharedMemory::join(options)?),
            #[cfg(feature = "mpi")]
            TransportKind::Mpi => World::over(crate::mpi::Mpi::join(options)?),
            #[cfg(not(feature = "mpi"))]
            TransportKind::Mpi => Err(crate::env::without_mpi("MPI was asked for")),
        }
    }

    /// The ranks of a job whose ranks are threads of this process, in order. A rank that waits longer than
    /// `timeout` for another one gives up.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for no or too many ranks, [`Error::Io`] when memory cannot be mapped.
    pub fn threads(size: usize, timeout: Duration) -> Result<Vec<World>> {
        SharedMemory::threads(size, timeout)?.into_iter().map(World::over).collect()
    }

    /// The world whose ranks exchange data through this transport.
    ///
    /// # Errors
    /// As [`Transport::open`] of the group of all ranks.
    pub fn over(transport: impl Transport + 'static) -> Result<World> {
        let (rank, ranks) = (transport.rank(), (0..transport.size()).collect());
        let everybody = transport.open(Group { name: GroupName::world(), ranks, rank })?;
        let cancellation = transport.cancellation().cloned().unwrap_or_default();
        let transport: Arc<dyn Transport> = Arc::new(transport);
        cancellation.attach(&transport);
        Ok(World { transport, cancellation, everybody, groups: Mutex::default() })
    }

    /// The same world, with a meter that tells how long this rank is inside operations of the groups that are asked of it
    /// from now on.
    pub fn metered(self) -> (World, Arc<Meter>) {
        let meter = Arc::new(Meter::default());
        let groups = self.groups.into_inner().unwrap_or_else(PoisonError::into_inner);
        let groups = groups.into_iter().map(|group| metered(group, &meter)).collect();
        let world = World {
            everybody: metered(self.everybody, &meter),
            groups: Mutex::new(groups),
            transport: Arc::new(MeteredTransport { transport: self.transport, meter: Arc::clone(&meter) }),
            cancellation: self.cancellation,
        };
        (world, meter)
    }

    /// This rank.
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.transport.size()
    }

    /// How long a rank waits for another.
    pub fn timeout(&self) -> Duration {
        self.transport.timeout()
    }

    /// The group of all ranks.
    pub fn everybody(&self) -> Arc<dyn Collective> {
        Arc::clone(&self.everybody)
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
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |group: &Group| group.name.as_str() == name && group.ranks == ranks;
        if let Some(group) = groups.iter().find(|group| is_it(group.group())) {
            return Ok(Arc::clone(group));
        }
        let group = self.transport.open(Group { name: name.into(), ranks: ranks.to_vec(), rank })?;
        groups.push(Arc::clone(&group));
        Ok(group)
    }

    /// Divides all ranks into groups of this name: one for each color, in the order of the keys, and of the ranks where
    /// keys are equal. Without a color a rank is in no group. All ranks call it in the same order; a name is used once.
    ///
    /// # Errors
    /// As [`World::group`] and [`World::exchange`].
    pub fn split(&self, name: &str, color: Option<u64>, key: i64) -> Result<Option<Arc<dyn Collective>>> {
        let answer = match color {
            Some(color) => [&color.to_le_bytes()[..], &key.to_le_bytes()].concat(),
            None => Vec::new(),
        };
        let ranks = self.same_color(&self.exchange(&answer)?);
        let rank = ranks.iter().position(|&rank| rank == self.rank());
        let part = rank.map(|rank| Group { name: name.into(), ranks, rank });
        let group = self.transport.split(part)?;
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.extend(group.clone());
        Ok(group)
    }

    /// The ranks that answered with the color of this one, by key.
    fn same_color(&self, answers: &[Vec<u8>]) -> Vec<usize> {
        let color = |answer: &Vec<u8>| answer.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
        let key = |answer: &Vec<u8>| answer.last_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes));
        let mine = color(&answers[self.rank()]);
        let mut ranks: Vec<usize> = (0..answers.len()).filter(|&r| color(&answers[r]) == mine).collect();
        ranks.retain(|_| mine.is_some());
        ranks.sort_by_key(|&rank| key(&answers[rank]));
        ranks
    }

    fn position(&self, name: &str, ranks: &[usize]) -> Result<usize> {
        let invalid =
            |why: String| Err(Error::InvalidArgument(format!("group {name:?} of ranks {ranks:?}: {why}")));
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

    /// As [`Transport::send_capacity`].
    pub fn send_capacity(&self) -> usize {
        self.transport.send_capacity()
    }

    /// Gives everybody's bytes to everybody, by rank. All ranks call it in the same order among the collectives
    /// of all ranks.
    ///
    /// # Errors
    /// As [`Collective::enqueue`].
    pub fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.transport.exchange(bytes)
    }

    /// Ends the job: pending and later operations fail with [`Error::PeerLost`] naming this rank and the reason
    /// at the other ranks, and with [`Error::Aborted`] here.
    pub fn abort(&self, reason: &str) {
        self.transport.abort(reason);
    }

    /// What ends the job from other threads, or from signals' handlers.
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("rank", &self.rank())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}
