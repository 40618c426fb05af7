use std::fmt;
use std::sync::Arc;

use crate::CollectiveOp;

/// Name of a group; copying it costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName(Arc<str>);

/// The group of all ranks, as MindSpore names it on Ascend and in files exported without a device.
pub const WORLD_GROUP: &str = "hccl_world_group";

/// Whether a name stands for all ranks: MindSpore's default group on Ascend, on a GPU or on the CPU.
pub fn is_world_group(name: &str) -> bool {
    matches!(name, WORLD_GROUP | "nccl_world_group" | "mccl_world_group")
}

impl GroupName {
    /// The name of the group of all ranks.
    pub fn world() -> Self {
        WORLD_GROUP.into()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all ranks, as [`is_world_group`].
    pub fn is_world(&self) -> bool {
        is_world_group(&self.0)
    }
}

impl From<&str> for GroupName {
    fn from(name: &str) -> Self {
        GroupName(name.into())
    }
}

impl From<String> for GroupName {
    fn from(name: String) -> Self {
        GroupName(name.into())
    }
}

impl AsRef<str> for GroupName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A group, seen by one of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// World ranks of the members, in the order of the group.
    pub ranks: Vec<usize>,
    /// Position of this member in `ranks`.
    pub rank: usize,
}

impl Group {
    /// Number of members.
    pub fn size(&self) -> usize {
        self.ranks.len()
    }

    /// World rank of this member.
    pub fn world_rank(&self) -> usize {
        self.ranks[self.rank]
    }

    /// Whether an operation that names `name` means this group.
    pub fn answers_to(&self, name: &GroupName) -> bool {
        let is_same = Arc::ptr_eq(&self.name.0, &name.0) || self.name == *name;
        is_same || (self.name.is_world() && name.is_world())
    }

    /// Whether an operation means this group, and the ranks that it names are members.
    pub(crate) fn has_all_of(&self, op: &CollectiveOp) -> bool {
        self.answers_to(&op.group) && op.kind.peer().is_none_or(|peer| peer < self.size())
    }
}
