use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::{Cancellation, Collective, Group, Result};

/// What the ranks of a world exchange data through: shared memory, or a library.
///
/// [`World`](crate::World) keeps the names of groups and checks what it is asked for, so that a transport only sees
/// lists of ranks that make sense. Dropping it leaves the world: whoever needs this rank later is told.
pub trait Transport: fmt::Debug + Send + Sync {
    /// This rank.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn size(&self) -> usize;

    /// How long a rank waits for another.
    fn timeout(&self) -> Duration;

    /// This rank's end of a group, which is asked for once. The ranks exist, are listed once, and contain this one. May
    /// wait for the other members, which all ask for it.
    ///
    /// # Errors
    /// As [`World::group`](crate::World::group).
    fn open(&self, group: Group) -> Result<Arc<dyn Collective>>;

    /// This rank's end of its part when the group of all ranks is divided, at all ranks at the same time. `None` where a
    /// rank takes no part.
    ///
    /// # Errors
    /// As [`open`](Transport::open).
    fn split(&self, part: Option<Group>) -> Result<Option<Arc<dyn Collective>>> {
        part.map(|group| self.open(group)).transpose()
    }

    /// Gives everybody's bytes to everybody, by rank, in order with the collectives of the group of all ranks.
    ///
    /// # Errors
    /// As [`Collective::enqueue`].
    fn exchange(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Bytes of a message that its source may hand over before the destination asks for it, when no other is under way
    /// between them; 0 if it has to wait.
    fn send_capacity(&self) -> usize {
        0
    }

    /// Ends the job, as [`World::abort`](crate::World::abort).
    fn abort(&self, reason: &str);

    /// What this transport looks for while it waits, if it does.
    fn cancellation(&self) -> Option<&Cancellation> {
        None
    }

    /// Ends the job because of a [`Cancellation`], by whom or what it says. Called from any thread; whatever this rank does
    /// goes on to notice. By default it is an abort.
    fn cancel(&self, by: &str) {
        self.abort(&format!("cancelled by {by}"));
    }
}
