#![doc = include_str!("../README.md")]

mod call;
mod cancellation;
mod collective;
#[cfg(any(feature = "nccl", feature = "hccl"))]
#[cfg_attr(
    not(all(feature = "nccl", feature = "hccl")),
    allow(dead_code, reason = "each library uses a part")
)]
mod device;
mod env;
mod error;
mod group;
#[cfg(feature = "hccl")]
pub mod hccl;
pub mod launch;
mod meter;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
pub mod nccl;
mod op;
pub mod rank_table;
mod reduce;
mod registered;
mod rendezvous;
mod shared;
mod transport;
mod tuning;
mod world;

pub use cancellation::Cancellation;
pub use collective::{Collective, CollectiveExt};
#[cfg(any(feature = "nccl", feature = "hccl"))]
pub use device::{DeviceBuffer, DeviceTransport, WatchedStream};
pub use env::{RENDEZVOUS_VARIABLE, TIMEOUT_VARIABLE, TRANSPORT_VARIABLE, TUNING_VARIABLE};
pub use error::{Error, Result};
pub use group::{Group, GroupName, WORLD_GROUP, is_world_group};
pub use meter::Meter;
pub use op::{CollectiveKind, CollectiveOp, ParseOpError, Reduction};
pub use registered::RegisteredMemory;
pub use rendezvous::{JoinOptions, Rendezvous, TransportKind};
pub use shared::{MAX_RANKS, SEND_CAPACITY};
#[cfg(loom)]
pub use shared::{Waiting, note_read, note_write};
pub use transport::Transport;
pub use tuning::{Tuning, Tunings};
pub use world::World;
