#![doc = include_str!("../README.md")]

mod collective;
mod env;
mod error;
mod group;
pub mod launch;
mod op;
pub mod rank_table;
mod reduce;
mod registered;
mod rendezvous;
mod shared;
mod transport;
mod world;

pub use collective::{Collective, CollectiveExt};
pub use env::{RENDEZVOUS_VARIABLE, TIMEOUT_VARIABLE};
pub use error::{Error, Result};
pub use group::{Group, GroupName, WORLD_GROUP, is_world_group};
pub use op::{CollectiveKind, CollectiveOp, ParseOpError, Reduction};
pub use registered::RegisteredMemory;
pub use rendezvous::{JoinOptions, Rendezvous};
pub use shared::{MAX_RANKS, SEND_CAPACITY};
pub use transport::Transport;
pub use world::World;
