#![doc = include_str!("../README.md")]

mod collective;
mod error;
mod group;
mod op;

pub use collective::{Collective, CollectiveExt};
pub use error::{Error, Result};
pub use group::{Group, GroupName, WORLD_GROUP, is_world_group};
pub use op::{CollectiveKind, CollectiveOp, ParseOpError, Reduction};
