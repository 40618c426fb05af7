//! What holds in tables of every version.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};

use super::{Address, RankPlace, RankTable, RankTableError, Result, Version};

/// Checks a table; `place_of` names the place of a rank.
pub(super) fn check(table: &RankTable, place_of: &dyn Fn(usize) -> String) -> Result<()> {
    let invalid =
        |rank: usize, reason: String| Err(RankTableError::Invalid { place: place_of(rank), reason });
    let unique = |name: &str, key: &dyn Fn(&RankPlace) -> Option<String>| {
        let mut seen = BTreeMap::new();
        for (rank, place) in table.ranks.iter().enumerate() {
            let Some(key) = key(place) else { continue };
            match seen.entry(key) {
                Occupied(first) => {
                    let (key, first) = (first.key(), place_of(*first.get()));
                    return invalid(rank, format!("{name} {key} is that of {first}, too; list each once"));
                }
                Vacant(vacant) => drop(vacant.insert(rank)),
            }
        }
        Ok(())
    };
    match table.version {
        Version::V2_0 => unique("local_id", &|p| Some(format!("{} of {:?}", p.local?, p.server)))?,
        _ => unique("device", &|p| Some(format!("{} of server {:?}", p.device, p.server)))?,
    }
    unique("device_ip", &|p| {
        p.addresses.iter().find_map(|a| matches!(a, Address::Ip(_)).then(|| a.to_string()))
    })?;
    unique("super_device_id", &|p| {
        p.super_pod.as_ref().map(|pod| format!("{} of {:?}", pod.device, pod.id))
    })?;
    if table.version != Version::V2_0 {
        together(table, "server", &|place| Some(&place.server), place_of)?;
        together(table, "super-pod", &|place| place.super_pod.as_ref().map(|pod| pod.id.as_str()), place_of)?;
    }
    check_addresses(table, place_of)
}

/// The ranks of a server, or of a super-pod, follow each other.
fn together<'a>(
    table: &'a RankTable,
    what: &str,
    of: &dyn Fn(&'a RankPlace) -> Option<&'a str>,
    place_of: &dyn Fn(usize) -> String,
) -> Result<()> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (rank, place) in table.ranks.iter().enumerate() {
        let Some(name) = of(place) else { continue };
        match last.insert(name, rank) {
            Some(before) if before + 1 != rank => {
                let reason = format!(
                    "the ranks of {what} {name:?} must follow each other, but rank {rank} comes after rank {before}"
                );
                return Err(RankTableError::Invalid { place: place_of(rank), reason });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Devices of several servers find each other by address.
fn check_addresses(table: &RankTable, place_of: &dyn Fn(usize) -> String) -> Result<()> {
    let needs = matches!(table.version, Version::V1_0 | Version::Template) && table.servers().len() > 1;
    match table.ranks.iter().position(|place| place.addresses.is_empty()).filter(|_| needs) {
        Some(rank) => {
            let reason = "\"device_ip\" is missing, which devices of several servers need".to_owned();
            Err(RankTableError::Invalid { place: place_of(rank), reason })
        }
        None => Ok(()),
    }
}
