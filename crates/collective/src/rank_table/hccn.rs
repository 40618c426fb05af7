//! Addresses of devices, as Ascend's driver keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The addresses in a `hccn.conf`, by number of the device: its lines `address_N=IP`. Other lines say other things.
pub fn addresses_of_conf(text: &str) -> BTreeMap<u32, IpAddr> {
    let address = |line: &str| {
        let (device, ip) = line.trim().strip_prefix("address_")?.split_once('=')?;
        Some((device.trim().parse().ok()?, ip.trim().parse().ok()?))
    };
    text.lines().filter_map(address).collect()
}

/// The address in what `hccn_tool -i N -ip -g` prints: its line `ipaddr:IP`.
pub fn address_of_tool(text: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| line.trim().strip_prefix("ipaddr:")?.trim().parse().ok())
}
