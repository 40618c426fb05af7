//! Reading tables of all versions.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::json::Place;
use super::{
    Address, MAX_TABLE_RANKS, RankPlace, RankTable, RankTableError, Result, SuperPod, Version, checks,
};

/// Most characters of a server's name.
const MAX_NAME: usize = 64;
/// Limits of version 2.0.
const MAX_LOCAL: u64 = 64;
const MAX_LAYER: u64 = 7;
const MAX_LEVELS: usize = 8;
const MAX_ADDRESSES: usize = 24;

/// A rank, its number, and the place in the file where it stands.
struct Entry {
    rank: usize,
    at: String,
    place: RankPlace,
}

pub(super) fn read(text: &str) -> Result<RankTable> {
    let json: Value = serde_json::from_str(text).map_err(|error| RankTableError::Json(error.to_string()))?;
    let root = Place::root(&json);
    let version = version(&root)?;
    check_status(&root, version)?;
    let entries = match version {
        Version::Template => instances(&root)?,
        Version::V1_0 | Version::V1_2 => servers(&root, version)?,
        Version::V2_0 => ranks(&root)?,
    };
    in_order(&root, version, entries)
}

fn version(root: &Place<'_>) -> Result<Version> {
    let Some(version) = root.field("version")? else {
        return match (root.field("group_list")?, root.field("server_list")?) {
            (Some(_), _) => Ok(Version::Template),
            (None, Some(_)) => Ok(Version::V1_0),
            (None, None) => {
                Err(root.invalid("\"version\" is missing, and so are server_list and group_list"))
            }
        };
    };
    match version.text()?.as_str() {
        "1.0" => Ok(Version::V1_0),
        "1.2" => Ok(Version::V1_2),
        "2.0" => Ok(Version::V2_0),
        other => Err(version.invalid(format!("version {other:?} is not known; there are 1.0, 1.2 and 2.0"))),
    }
}

fn check_status(root: &Place<'_>, version: Version) -> Result<()> {
    let status = match version {
        Version::V2_0 => root.field("status")?,
        _ => Some(root.required("status")?),
    };
    match status.as_ref().map(Place::text).transpose()?.as_deref() {
        None | Some("completed") => Ok(()),
        Some("initializing") => {
            Err(root.required("status")?.invalid("it is \"initializing\": wait until it is \"completed\""))
        }
        Some(other) => {
            Err(root.required("status")?.invalid(format!("it must be \"completed\", not {other:?}")))
        }
    }
}

/// Versions 1.0 and 1.2.
fn servers(root: &Place<'_>, version: Version) -> Result<Vec<Entry>> {
    let list = root.required("server_list")?.items()?;
    check_count(root, "server_count", list.len())?;
    let pods = if version == Version::V1_2 { super_pods(root)? } else { BTreeMap::new() };
    let (mut entries, mut seen) = (Vec::new(), BTreeMap::new());
    for server in &list {
        let id = name(&server.required("server_id")?)?;
        if let Some(first) = seen.insert(id.clone(), server.path()) {
            let reason = format!("{id:?} is the server of {first}, too: list its devices there");
            return Err(server.required("server_id")?.invalid(reason));
        }
        if let (false, None) = (pods.is_empty(), pods.get(&id)) {
            return Err(server.invalid(format!("server {id:?} is in no super-pod of super_pod_list")));
        }
        for device in server.required("device")?.items()? {
            let super_device =
                device.field("super_device_id")?.map(|place| place.number(u64::MAX)).transpose()?;
            let pod = pods.get(&id).zip(super_device);
            entries.push(Entry {
                rank: device.required("rank_id")?.number(MAX_TABLE_RANKS as u64 - 1)? as usize,
                at: device.path(),
                place: RankPlace {
                    server: id.clone(),
                    super_pod: pod.map(|(id, device)| SuperPod { id: id.clone(), device }),
                    ..of_device(&device)?
                },
            });
        }
    }
    if let Some(id) = pods.keys().find(|id| !seen.contains_key(*id)) {
        return Err(root.required("super_pod_list")?.invalid(format!("server {id:?} is not in server_list")));
    }
    check_all_in_pods(&entries)?;
    Ok(entries)
}

/// A device without its server.
fn of_device(device: &Place<'_>) -> Result<RankPlace> {
    let mut addresses = Vec::new();
    addresses.extend(ip(device, "device_ip")?.map(Address::Ip));
    addresses.extend(ip(device, "backup_device_ip")?.map(Address::Backup));
    let number = device.required("device_id")?.number(u64::from(u32::MAX))?;
    Ok(RankPlace { server: String::new(), device: number as u32, local: None, addresses, super_pod: None })
}

fn ip(device: &Place<'_>, name: &str) -> Result<Option<IpAddr>> {
    let Some(place) = device.field(name)? else { return Ok(None) };
    let text = place.text()?;
    match text.trim().parse() {
        Ok(ip) => Ok(Some(ip)),
        Err(_) => Err(place.invalid(format!("{text:?} is no IP address"))),
    }
}

/// The super-pod of each server, by name; empty where the file lists none, and servers count alone.
fn super_pods(root: &Place<'_>) -> Result<BTreeMap<String, String>> {
    let mut pods = BTreeMap::new();
    let Some(list) = root.field("super_pod_list")? else { return Ok(pods) };
    for pod in list.items()? {
        let id = name(&pod.required("super_pod_id")?)?;
        for server in pod.required("server_list")?.items()? {
            let server_id = server.required("server_id")?;
            if let Some(other) = pods.insert(name(&server_id)?, id.clone()) {
                return Err(server_id.invalid(format!("the server is in super-pod {other:?}, too")));
            }
        }
    }
    Ok(pods)
}

/// Either all devices have a number in their super-pod, or none has, and servers count alone.
fn check_all_in_pods(entries: &[Entry]) -> Result<()> {
    let missing = entries.iter().find(|entry| entry.place.super_pod.is_none());
    match missing {
        Some(entry) if entries.iter().any(|entry| entry.place.super_pod.is_some()) => {
            let reason = "\"super_device_id\" is missing, but other devices have one".to_owned();
            Err(RankTableError::Invalid { place: entry.at.clone(), reason })
        }
        _ => Ok(()),
    }
}

/// The older template: ranks are in the order of the file unless it says otherwise.
fn instances(root: &Place<'_>) -> Result<Vec<Entry>> {
    let groups = root.required("group_list")?.items()?;
    check_count(root, "group_count", groups.len())?;
    let mut entries = Vec::new();
    for group in &groups {
        let instances = group.required("instance_list")?.items()?;
        check_count(group, "instance_count", instances.len())?;
        let before = entries.len();
        for instance in &instances {
            let server = name(&instance.required("server_id")?)?;
            for device in instance.required("devices")?.items()? {
                let most = MAX_TABLE_RANKS as u64 - 1;
                let stated = device.field("rank_id")?.map(|place| place.number(most)).transpose()?;
                let rank = stated.map_or(entries.len(), |rank| rank as usize);
                let place = RankPlace { server: server.clone(), ..of_device(&device)? };
                entries.push(Entry { rank, at: device.path(), place });
            }
        }
        check_count(group, "device_count", entries.len() - before)?;
    }
    Ok(entries)
}

/// Version 2.0.
fn ranks(root: &Place<'_>) -> Result<Vec<Entry>> {
    let list = root.required("rank_list")?.items()?;
    check_count(root, "rank_count", list.len())?;
    let mut entries = Vec::with_capacity(list.len().min(MAX_TABLE_RANKS));
    for rank in &list {
        let (server, addresses) = levels(rank)?;
        entries.push(Entry {
            rank: rank.required("rank_id")?.number(MAX_TABLE_RANKS as u64 - 1)? as usize,
            at: rank.path(),
            place: RankPlace {
                server,
                device: rank.required("device_id")?.number(u64::from(u32::MAX))? as u32,
                local: Some(rank.required("local_id")?.number(MAX_LOCAL)? as u32),
                addresses,
                super_pod: None,
            },
        });
    }
    Ok(entries)
}

/// The instance of the innermost network, and the addresses in all layers.
fn levels(rank: &Place<'_>) -> Result<(String, Vec<Address>)> {
    let list = rank.required("level_list")?;
    let levels = list.items()?;
    if levels.is_empty() || levels.len() > MAX_LEVELS {
        return Err(list.invalid(format!("it has {} levels; there are 1 to {MAX_LEVELS}", levels.len())));
    }
    let (mut server, mut addresses, mut last) = (String::new(), Vec::new(), None);
    for level in &levels {
        let layer = level.required("net_layer")?.number(MAX_LAYER)?;
        if last.is_some_and(|last| last >= layer) {
            return Err(level
                .required("net_layer")?
                .invalid("layers must stand in ascending order, each once"));
        }
        if last.replace(layer).is_none() {
            server = name(&level.required("net_instance_id")?)?;
        }
        let Some(list) = level.field("rank_addr_list")? else { continue };
        let items = list.items()?;
        if items.len() > MAX_ADDRESSES {
            return Err(
                list.invalid(format!("it has {} addresses; there are at most {MAX_ADDRESSES}", items.len()))
            );
        }
        for item in items {
            let (kind, address) = (item.required("addr_type")?.text()?, item.required("addr")?.text()?);
            addresses.push(Address::Layer { layer: layer as u32, kind, address });
        }
    }
    Ok((server, addresses))
}

fn name(place: &Place<'_>) -> Result<String> {
    let text = place.text()?;
    match text.chars().count() {
        ..=MAX_NAME => Ok(text),
        count => Err(place.invalid(format!("it has {count} characters; there may be at most {MAX_NAME}"))),
    }
}

fn check_count(place: &Place<'_>, name: &str, actual: usize) -> Result<()> {
    let Some(field) = place.field(name)? else { return Ok(()) };
    match field.number(u64::MAX)? {
        stated if stated == actual as u64 => Ok(()),
        stated => Err(field.invalid(format!("it is {stated}, but there are {actual}"))),
    }
}

/// The ranks in order, each of which has to be there once.
fn in_order(root: &Place<'_>, version: Version, mut entries: Vec<Entry>) -> Result<RankTable> {
    if entries.is_empty() || entries.len() > MAX_TABLE_RANKS {
        return Err(root.invalid(format!("it has {} ranks; there are 1 to {MAX_TABLE_RANKS}", entries.len())));
    }
    entries.sort_by_key(|entry| entry.rank);
    for (expected, entry) in entries.iter().enumerate() {
        let reason = match expected.cmp(&entry.rank) {
            std::cmp::Ordering::Equal => continue,
            std::cmp::Ordering::Less => {
                format!(
                    "ranks count from 0 without gaps, but rank {expected} is missing before rank {}",
                    entry.rank
                )
            }
            std::cmp::Ordering::Greater => {
                format!("rank {} is that of {}, too", entry.rank, entries[expected - 1].at)
            }
        };
        return Err(RankTableError::Invalid { place: format!("{}.rank_id", entry.at), reason });
    }
    let (places, ranks) = entries.into_iter().map(|entry| (entry.at, entry.place)).unzip::<_, _, Vec<_>, _>();
    let table = RankTable { version, ranks };
    checks::check(&table, &|rank| places[rank].clone())?;
    Ok(table)
}
