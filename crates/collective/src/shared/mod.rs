//! Ranks of one host over shared memory; threads of one process are the same.

mod direct;
mod failure;
mod group;
mod handle;
mod join;
mod layout;
mod member;
mod memory;
mod messages;
mod operations;
mod process;
mod rounds;
mod segments;
mod signature;
mod staged;
mod sync;
mod table;
mod transport;
mod wait;
mod watch;
mod wide;

pub(crate) use join::{close, is_rendezvous};
pub use layout::MAX_RANKS;
pub(crate) use layout::MEETING_LEN;
pub(crate) use memory::Span;
#[cfg(feature = "mpi")]
pub(crate) use signature::Signature;
pub(crate) use sync::sized;
#[cfg(loom)]
pub use sync::{Waiting, note_read, note_write};
pub(crate) use transport::SharedMemory;
pub(crate) use wide::vectorise;

/// Bytes of a message that [`Send`](crate::CollectiveKind::Send) takes without waiting for the receiver, when no
/// other message from the same source to the same destination is under way in the group.
pub const SEND_CAPACITY: usize = layout::RING - messages::HEADER;
