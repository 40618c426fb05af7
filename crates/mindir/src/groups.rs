use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;

use crate::place::{Place, Source};
use crate::proto::{ParallelGroupItem, ParallelGroupMap};
use crate::{OpenOptions, Result, file};

/// Communication groups by name: the file that goes with models whose collectives use other groups than the one
/// of all ranks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GroupFile {
    /// Ranks of each group, in file order.
    pub groups: BTreeMap<String, Vec<u32>>,
    /// Ranks whose checkpoints restore this one.
    pub restore_ranks: Vec<u32>,
}

impl GroupFile {
    /// Reads a group file.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) and [`Error::Invalid`](crate::Error::Invalid), also for a group without a
    /// name or ranks, or described twice.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        GroupFile::from_bytes(file::map(path, &OpenOptions::new())?, path)
    }

    /// Reads the contents of a group file; errors name `path`.
    ///
    /// # Errors
    /// As [`GroupFile::open`].
    pub fn from_bytes(bytes: Bytes, path: impl AsRef<Path>) -> Result<Self> {
        let source = Source::new(path.as_ref(), &bytes);
        let root = Place::root(&source);
        let proto: ParallelGroupMap = root.decode()?;
        let mut groups = BTreeMap::new();
        for (i, bytes) in proto.items.iter().enumerate() {
            let place = root.entry("parallel_group_map", i, bytes);
            let item: ParallelGroupItem = place.decode()?;
            let name = place.text(&item.group_name).to_string();
            let ranks = item.ranks.unwrap_or_default().dim;
            if name.is_empty() || ranks.is_empty() {
                return Err(place.invalid("a group needs a name and ranks"));
            }
            if groups.insert(name, ranks).is_some() {
                return Err(place.invalid("the group is described twice"));
            }
        }
        Ok(GroupFile { groups, restore_ranks: proto.restore_ranks.unwrap_or_default().dim })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::ParallelGroupRanks;

    fn item(name: &'static str, ranks: &[u32]) -> Bytes {
        let ranks = Some(ParallelGroupRanks { dim: ranks.into() });
        let group_name = Some(Bytes::from_static(name.as_bytes()));
        Bytes::from(ParallelGroupItem { group_name, ranks }.encode_to_vec())
    }

    fn read(items: Vec<Bytes>) -> Result<GroupFile> {
        let bytes = ParallelGroupMap { items, restore_ranks: None }.encode_to_vec();
        GroupFile::from_bytes(bytes.into(), "groups.pb")
    }

    #[test]
    fn groups_are_read_by_name() {
        let file = read(vec![item("2-0", &[0, 2]), item("2-1", &[1, 3])]).unwrap();
        assert_eq!(file.groups["2-0"], [0, 2]);
        assert_eq!(file.groups["2-1"], [1, 3]);
    }

    #[test]
    fn nameless_empty_and_repeated_groups_are_refused() {
        assert!(read(vec![item("", &[0])]).is_err());
        assert!(read(vec![item("a", &[])]).is_err());
        let error = read(vec![item("a", &[0]), item("a", &[1])]).unwrap_err().to_string();
        assert!(error.contains("parallel_group_map[1]: the group is described twice"), "{error}");
    }
}
