//! Rank tables: which rank runs on which device of which server, as Ascend's tools write it.
//!
//! All versions of the JSON file become one [`RankTable`]: 1.0, 1.2 with super-pods, 2.0, and the older template with
//! groups of instances. Numbers may be text, and keys that are not known are passed over.
//!
//! ```
//! use mslite_collective::rank_table::RankTable;
//!
//! let devices = [("0", "192.168.100.101"), ("1", "192.168.100.102")];
//! let devices: Vec<_> = devices.iter().map(|(id, ip)| (id.parse().unwrap(), ip.parse().ok())).collect();
//! let table = RankTable::of_server("10.0.0.1", &devices)?;
//! assert_eq!(table.ranks[1].device, 1);
//! assert_eq!(RankTable::from_json(&table.to_json()?)?, table);
//! # Ok::<(), mslite_collective::rank_table::RankTableError>(())
//! ```

mod checks;
mod hccn;
mod json;
mod read;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use hccn::{address_of_tool, addresses_of_conf};
pub use write::{merged_file_name, server_file_name};

/// Most ranks of a table.
pub const MAX_TABLE_RANKS: usize = 65536;

/// Most bytes of a file: room for the largest table, many times over.
const MAX_BYTES: u64 = 256 << 20;

/// Which rank runs where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankTable {
    /// Version of the file.
    pub version: Version,
    /// All ranks, in order.
    pub ranks: Vec<RankPlace>,
}

/// Version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Version {
    /// The older template, without a version: groups of instances.
    Template,
    /// 1.0: servers with devices.
    V1_0,
    /// 1.2: servers in super-pods.
    V1_2,
    /// 2.0: ranks with their addresses in layers of networks.
    V2_0,
}

/// Where a rank runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankPlace {
    /// Server; in version 2.0, the instance of the innermost network.
    pub server: String,
    /// Number of the device on its server.
    pub device: u32,
    /// Number of the rank on its server, in version 2.0.
    pub local: Option<u32>,
    /// Addresses of the device, the main one first.
    pub addresses: Vec<Address>,
    /// Super-pod of the server, and number of the device in it.
    pub super_pod: Option<SuperPod>,
}

/// Place in a super-pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperPod {
    /// The super-pod.
    pub id: String,
    /// The device's number in it.
    pub device: u64,
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// On the network between devices.
    Ip(IpAddr),
    /// Used when the first one fails.
    Backup(IpAddr),
    /// Of a layer of networks, in version 2.0.
    Layer {
        /// Number of the layer, 0 is the innermost.
        layer: u32,
        /// How the address is written, such as `EID` or `IPV4`.
        kind: String,
        /// The address.
        address: String,
    },
}

/// What is wrong with a rank table, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RankTableError {
    /// The file cannot be read.
    #[error("cannot read the rank table {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no JSON.
    #[error("the rank table is not JSON: {0}")]
    Json(String),
    /// It is no rank table, or contradicts itself.
    #[error("rank table, {place}: {reason}")]
    Invalid {
        /// Place in the JSON, such as `server_list[0].device[1].rank_id`.
        place: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}

type Result<T> = std::result::Result<T, RankTableError>;

impl RankTable {
    /// Reads a table of any version.
    ///
    /// # Errors
    /// [`RankTableError`] names the place in the file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |source| RankTableError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(failed(std::io::Error::other(format!("it has more than {MAX_BYTES} bytes"))));
        }
        RankTable::from_json(&text)
    }

    /// Reads the text of a table.
    ///
    /// # Errors
    /// As [`RankTable::open`].
    pub fn from_json(text: &str) -> Result<Self> {
        read::read(text)
    }

    /// The table of one server: ranks from 0, one for each device with its address.
    ///
    /// # Errors
    /// [`RankTableError::Invalid`] for devices that are listed twice, and the like.
    pub fn of_server(server: &str, devices: &[(u32, Option<IpAddr>)]) -> Result<Self> {
        let place = |&(device, ip): &(u32, Option<IpAddr>)| RankPlace {
            server: server.to_owned(),
            device,
            local: None,
            addresses: ip.map(Address::Ip).into_iter().collect(),
            super_pod: None,
        };
        RankTable::checked(Version::V1_0, devices.iter().map(place).collect())
    }

    /// The table of several: their ranks are renumbered in this order.
    ///
    /// # Errors
    /// [`RankTableError::Invalid`] for tables of other versions than 1.0, and those that name the same server.
    pub fn merged(tables: &[RankTable]) -> Result<Self> {
        if let Some(at) = tables.iter().position(|table| table.version != Version::V1_0) {
            let reason =
                format!("its version is {}, but only tables of version 1.0 are merged", tables[at].version);
            return Err(RankTableError::Invalid { place: format!("table {at}"), reason });
        }
        let ranks = tables.iter().flat_map(|table| table.ranks.iter().cloned()).collect();
        RankTable::checked(Version::V1_0, ranks)
    }

    /// The file's text in version 1.0, as `hccl_tools.py` writes it.
    ///
    /// # Errors
    /// [`RankTableError::Invalid`] for what that version does not have.
    pub fn to_json(&self) -> Result<String> {
        write::write(self)
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.ranks.len()
    }

    /// The servers in order of their first rank, with their ranks.
    pub fn servers(&self) -> Vec<(&str, Vec<usize>)> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut servers: Vec<(&str, Vec<usize>)> = Vec::new();
        for (rank, place) in self.ranks.iter().enumerate() {
            let at = *places.entry(&place.server).or_insert(servers.len());
            if at == servers.len() {
                servers.push((&place.server, Vec::new()));
            }
            servers[at].1.push(rank);
        }
        servers
    }

    fn checked(version: Version, ranks: Vec<RankPlace>) -> Result<Self> {
        let table = RankTable { version, ranks };
        let place_of = |rank: usize| format!("rank {rank}");
        checks::check(&table, &place_of)?;
        Ok(table)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Version::Template => "template",
            Version::V1_0 => "1.0",
            Version::V1_2 => "1.2",
            Version::V2_0 => "2.0",
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(ip) => write!(f, "{ip}"),
            Address::Backup(ip) => write!(f, "backup {ip}"),
            Address::Layer { layer, kind, address } => write!(f, "layer {layer} {kind} {address}"),
        }
    }
}
