//! `mslite rank-table`: which rank runs on which device.

use std::collections::BTreeMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anstyle::Style;
use clap::{Args, Subcommand};
use mslite::{CheckOptions, Error, ErrorKind, Result};
use mslite_collective::rank_table::{
    RankTable, RankTableError, address_of_tool, addresses_of_conf, merged_file_name, server_file_name,
};
use mslite_mindir::GroupFile;
use serde_json::{Value, json};

use crate::check::{check_slices, print};
use crate::inspect::as_error;
use crate::output::{self, visible};
use crate::table::{Column, Table};

/// Makes, merges, prints and checks rank tables, which say on which device of which server each rank runs.
///
/// Examples:
///   mslite rank-table make --device-num '[0,4)' --server-ip 10.0.0.1
///   mslite rank-table merge hccl_8p_01234567_10.0.0.1.json hccl_8p_01234567_10.0.0.2.json
///   mslite rank-table show hccl_2s_16p.json
///   mslite rank-table check hccl_2s_16p.json --group-file groups.pb --model 'slice{rank}.mindir'
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct RankTableArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(about = "Write the table of one server, as hccl_tools.py does")]
    Make(MakeArgs),
    #[command(about = "Join the tables of several servers, as merge_hccl.py does")]
    Merge(MergeArgs),
    #[command(about = "Print a table of any version")]
    Show(ShowArgs),
    #[command(about = "Check a table, and whether it fits a group file and models")]
    Check(CheckArgs),
}

/// Writes the table of one server: hccl_NUMBERp_DEVICES_SERVER.json in the current directory.
///
/// Addresses of devices are those of --device-ip, else what `hccn_tool` says, else those of --hccn-conf.
#[derive(Debug, Args)]
struct MakeArgs {
    /// Places among the visible devices, the second number excluded
    #[arg(long, alias = "device_num", value_name = "[A,B)", default_value = "[0,8)", value_parser = parse_range)]
    device_num: Range,
    /// Numbers of the devices that can be used
    #[arg(
        long,
        alias = "visible_devices",
        value_name = "A,B",
        value_delimiter = ',',
        default_value = "0,1,2,3,4,5,6,7"
    )]
    visible_devices: Vec<u32>,
    /// Address of this server; by default the one that its name stands for
    #[arg(long, alias = "server_ip", value_name = "IP")]
    server_ip: Option<String>,
    /// Address of a device; once for each, in order
    #[arg(long, value_name = "IP")]
    device_ip: Vec<IpAddr>,
    /// File with the addresses of devices
    #[arg(long, value_name = "F", default_value = "/etc/hccn.conf")]
    hccn_conf: PathBuf,
    /// Where to write the table
    #[arg(long, short, value_name = "F.json")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct MergeArgs {
    /// Tables of version 1.0; ranks are renumbered in this order
    #[arg(value_name = "TABLE", required = true)]
    tables: Vec<PathBuf>,
    /// Where to write the table; by default hccl_SERVERSs_RANKSp.json in the current directory
    #[arg(long, short, value_name = "F.json")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Rank table
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// Print one JSON object, the same for all versions
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Rank table
    #[arg(value_name = "TABLE")]
    table: PathBuf,
    /// File with the ranks of named communication groups; with --model `{rank}` stands for the rank
    #[arg(long, value_name = "F")]
    group_file: Option<String>,
    /// Models of as many ranks as the table has, which are checked as `mslite check` does; `{rank}` stands for the rank
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Print one JSON object
    #[arg(long, requires = "model")]
    json: bool,
}

/// Devices from one to another, the second excluded.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: usize,
    end: usize,
}

pub(crate) fn rank_table(args: &RankTableArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Make(args) => make(args),
        Action::Merge(args) => merge(args),
        Action::Show(args) => show(args),
        Action::Check(args) => check(args),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn as_invalid(error: RankTableError) -> Error {
    invalid(error.to_string())
}

fn open(path: &Path) -> Result<RankTable> {
    RankTable::open(path).map_err(|error| match error {
        error @ RankTableError::Io { .. } => as_invalid(error),
        error => as_invalid(error).with("file", path.display()),
    })
}

fn parse_range(text: &str) -> Result<Range, String> {
    let range = text.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(')')).and_then(|inner| {
        let (first, end) = inner.split_once(',')?;
        Some(Range { first: first.trim().parse().ok()?, end: end.trim().parse().ok()? })
    });
    let Some(Range { first, end }) = range else { return Err("it is not of the form [A,B)".to_owned()) };
    match () {
        () if first >= end => Err(format!("there is no device from {first} to {end}")),
        () if end > 8 => Err("a server has the devices [0,8)".to_owned()),
        () if first < 4 && end > 4 && (first, end) != (0, 8) => {
            Err("the devices must all be in [0,4), or in [4,8), unless they are [0,8)".to_owned())
        }
        () => Ok(Range { first, end }),
    }
}

fn make(args: &MakeArgs) -> Result<ExitCode> {
    let Range { first, end } = args.device_num;
    let Some(devices) = args.visible_devices.get(first..end) else {
        let count = args.visible_devices.len();
        return Err(invalid(format!("there is no device {} among {count} visible devices", end - 1)));
    };
    let server = match &args.server_ip {
        Some(server) => server.clone(),
        None => own_address()?,
    };
    let addresses = addresses(args, devices)?;
    let devices: Vec<(u32, Option<IpAddr>)> =
        devices.iter().map(|device| (*device, addresses.get(device).copied())).collect();
    let table = RankTable::of_server(&server, &devices).map_err(as_invalid)?;
    let places: Vec<u32> = (first as u32..end as u32).collect();
    let out = args.out.clone().unwrap_or_else(|| server_file_name(&places, &server).into());
    write(&table, &out)
}

fn write(table: &RankTable, out: &Path) -> Result<ExitCode> {
    output::write(out, table.to_json().map_err(as_invalid)?.as_bytes())?;
    output::print(&format!("{}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The address that the name of this machine stands for.
fn own_address() -> Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let found = (name.trim(), 0).to_socket_addrs().ok().and_then(|addresses| {
        let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
        addresses.iter().find(|ip| ip.is_ipv4()).or(addresses.first()).copied()
    });
    found.map(|ip| ip.to_string()).ok_or_else(|| {
        invalid(format!("the address of this server, {:?}, is not known; give --server-ip", name.trim()))
    })
}

fn addresses(args: &MakeArgs, devices: &[u32]) -> Result<BTreeMap<u32, IpAddr>> {
    if !args.device_ip.is_empty() {
        if args.device_ip.len() != devices.len() {
            let (given, wanted) = (args.device_ip.len(), devices.len());
            return Err(invalid(format!(
                "{given} --device-ip do not fit {wanted} devices: give one for each"
            )));
        }
        return Ok(devices.iter().copied().zip(args.device_ip.iter().copied()).collect());
    }
    let of_tool: Option<BTreeMap<u32, IpAddr>> =
        devices.iter().map(|&device| Some((device, ask_tool(device)?))).collect();
    if let Some(addresses) = of_tool {
        return Ok(addresses);
    }
    let conf = args.hccn_conf.display();
    let text = std::fs::read_to_string(&args.hccn_conf).map_err(|error| {
        let message = format!("hccn_tool does not tell the addresses of devices, and {conf} cannot be read");
        invalid(format!("{message}; give --device-ip for each, or --hccn-conf")).caused_by(error)
    })?;
    let addresses = addresses_of_conf(&text);
    match devices.iter().find(|device| !addresses.contains_key(device)) {
        Some(device) => {
            Err(invalid(format!("{conf} has no line address_{device}=IP; give --device-ip for each")))
        }
        None => Ok(addresses),
    }
}

fn ask_tool(device: u32) -> Option<IpAddr> {
    let output = Command::new("hccn_tool").args(["-i", &device.to_string(), "-ip", "-g"]).output().ok()?;
    address_of_tool(&String::from_utf8_lossy(&output.stdout))
}

fn merge(args: &MergeArgs) -> Result<ExitCode> {
    let tables = args.tables.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let table = RankTable::merged(&tables).map_err(as_invalid)?;
    write(&table, &args.out.clone().unwrap_or_else(|| merged_file_name(&table).into()))
}

fn show(args: &ShowArgs) -> Result<ExitCode> {
    let table = open(&args.table)?;
    match args.json {
        true => output::print(&format!("{}\n", as_json(&table)))?,
        false => output::print_styled(&as_text(&table))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn as_text(table: &RankTable) -> String {
    let count = table.servers().len();
    let servers = if count == 1 { "1 server".to_owned() } else { format!("{count} servers") };
    let rows = table.ranks.iter().enumerate().map(|(rank, place)| {
        let addresses: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
        let pod = place.super_pod.as_ref().map(|pod| format!("{} of {}", pod.device, visible(&pod.id)));
        vec![
            rank.to_string(),
            visible(&place.server),
            place.device.to_string(),
            pod.or(place.local.map(|local| local.to_string())).unwrap_or_default(),
            visible(&addresses.join(", ")),
        ]
    });
    let table_of_ranks = Table {
        columns: &[Column::Right, Column::Left, Column::Right, Column::Left, Column::CutEnd],
        heading: &["rank", "server", "device", "in pod", "addresses"],
        rows: rows.collect(),
    };
    let heading = format!("Version {}: {} ranks on {servers}\n", table.version, table.size());
    heading + &table_of_ranks.lines(Some(output::width()), |_| Style::new())
}

fn as_json(table: &RankTable) -> Value {
    let ranks = table.ranks.iter().map(|place| {
        let addresses: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
        json!({
            "server": place.server, "device": place.device, "local": place.local, "addresses": addresses,
            "super_pod": place.super_pod.as_ref().map(|pod| &pod.id),
            "super_device": place.super_pod.as_ref().map(|pod| pod.device),
        })
    });
    json!({ "version": table.version.to_string(), "ranks": ranks.collect::<Vec<_>>() })
}

fn check(args: &CheckArgs) -> Result<ExitCode> {
    let table = open(&args.table)?;
    if let Some(model) = &args.model {
        let mut options = CheckOptions::default();
        options.rank_table = Some(args.table.clone());
        return print(&check_slices(model, table.size(), args.group_file.as_deref(), options)?, args.json);
    }
    if let Some(path) = &args.group_file {
        let groups = GroupFile::open(path).map_err(as_error)?.groups;
        for (name, ranks) in &groups {
            if let Some(rank) = ranks.iter().find(|&&rank| rank as usize >= table.size()) {
                let size = table.size();
                eprintln!(
                    "error: {path}: group {name:?} has rank {rank}, but the table has {size} rank{}",
                    if size == 1 { "" } else { "s" }
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        output::print(&format!("{} groups have their ranks in the table.\n", groups.len()))?;
    }
    output::print_styled(&as_text(&table))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_hccl_tools() {
        for (text, first, end) in [("[0,8)", 0, 8), ("[4,8)", 4, 8), ("[1,3)", 1, 3), ("[0, 4)", 0, 4)] {
            let range = parse_range(text).unwrap();
            assert_eq!((range.first, range.end), (first, end));
        }
        for text in ["", "0,8", "[0,8]", "[2,2)", "[3,1)", "[0,9)", "[3,5)", "[0,5)", "[-1,2)", "[0,x)"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}
