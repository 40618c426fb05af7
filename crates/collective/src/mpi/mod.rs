//! Ranks of any hosts over MPI.
//!
//! MPI moves bytes between two ranks; which bytes, and how they are combined, is decided here. Its own collectives
//! would not do: they wait without a limit, trust that all ranks call the same with the same counts, and leave the order
//! in which they add up to chance. Groups are lists of ranks with a tag of their own, since making a communicator
//! waits for all its members. Calls are serialised, so that MPI needs no support for several threads at once.

mod blocks;
mod group;
mod header;
mod join;
mod library;
mod member;
mod messages;
mod notice;
mod plan;
mod process;
mod wait;

use std::sync::Arc;
use std::time::Duration;

use self::group::MpiGroup;
use self::member::Presence;
use crate::{Cancellation, Collective, Group, GroupName, JoinOptions, Result, Transport, TransportKind};

/// Ranks over MPI.
#[derive(Debug)]
pub(crate) struct Mpi {
    member: Arc<Presence>,
    /// All ranks.
    everybody: Arc<MpiGroup>,
}

impl Mpi {
    /// Joins the first `size` processes that MPI's launcher has started, as which this one is `rank`, and waits until all
    /// have come.
    pub(crate) fn join(options: &JoinOptions) -> Result<Self> {
        let member = join::join(options).inspect_err(process::note_failure)?;
        let member = Arc::new(Presence::new(member));
        let ranks = (0..member.size).collect();
        let everybody = Group { name: GroupName::world(), ranks, rank: member.rank };
        let everybody = Arc::new(MpiGroup::open(&member, everybody)?);
        Ok(Mpi { member, everybody })
    }
}

impl Transport for Mpi {
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
        Ok(Arc::new(MpiGroup::open(&self.member, group)?))
    }

    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.everybody.exchange(bytes)
    }

    fn send_capacity(&self) -> usize {
        TransportKind::Mpi.send_capacity()
    }

    fn abort(&self, reason: &str) {
        self.member.give_up(notice::WORLD, reason);
    }

    fn cancellation(&self) -> Option<&Cancellation> {
        Some(&self.member.cancellation)
    }

    fn cancel(&self, by: &str) {
        self.member.cancel(by);
    }
}
