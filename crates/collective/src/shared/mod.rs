//! Ranks of one host over shared memory; threads of one process are the same over a private mapping.

mod channel;
mod failure;
mod join;
mod layout;
mod member;
mod memory;
mod messages;
mod operations;
mod process;
mod signature;
mod table;
mod transport;
mod wait;

pub(crate) use join::{close, is_rendezvous};
pub use layout::MAX_RANKS;
pub(crate) use layout::footprint;
pub(crate) use memory::Span;
pub(crate) use transport::SharedMemory;

/// Bytes of a message that [`Send`](crate::CollectiveKind::Send) takes without waiting for the receiver, when no
/// other message from the same source to the same destination is under way in the group.
pub const SEND_CAPACITY: usize = layout::RING - messages::HEADER;
