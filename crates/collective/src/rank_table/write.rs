//! Writing version 1.0, to the character as `hccl_tools.py` does.

use serde_json::Value;

use super::{Address, RankPlace, RankTable, RankTableError, Result, Version};

pub(super) fn write(table: &RankTable) -> Result<String> {
    if table.version != Version::V1_0 {
        let reason = format!("a table of version {} cannot be written as one of 1.0", table.version);
        return Err(RankTableError::Invalid { place: "at its top".to_owned(), reason });
    }
    let servers = table.servers();
    let list = servers.iter().map(|(server, ranks)| {
        let devices = ranks.iter().map(|&rank| device(&table.ranks[rank], rank)).collect();
        object(
            &[("server_id", text(server)), ("device", array(devices, 3)), ("host_nic_ip", text("reserve"))],
            2,
        )
    });
    let fields = [
        ("version", text("1.0")),
        ("server_count", text(&servers.len().to_string())),
        ("server_list", array(list.collect(), 1)),
        ("status", text("completed")),
    ];
    Ok(object(&fields, 0))
}

/// The name that `hccl_tools.py` gives the table of one server, with these numbers of devices.
pub fn server_file_name(numbers: &[u32], server: &str) -> String {
    let joined: String = numbers.iter().map(u32::to_string).collect();
    // A server's name may be anything, a file's may not.
    format!("hccl_{}p_{joined}_{}.json", numbers.len(), server.replace(['/', '\0'], "_"))
}

/// The name that `merge_hccl.py` gives the table of several servers.
pub fn merged_file_name(table: &RankTable) -> String {
    format!("hccl_{}s_{}p.json", table.servers().len(), table.size())
}

fn device(place: &RankPlace, rank: usize) -> String {
    let mut fields = vec![("device_id", text(&place.device.to_string()))];
    if let Some(Address::Ip(ip)) = place.addresses.first() {
        fields.push(("device_ip", text(&ip.to_string())));
    }
    fields.push(("rank_id", text(&rank.to_string())));
    object(&fields, 4)
}

fn text(text: &str) -> String {
    Value::from(text).to_string()
}

fn object(fields: &[(&str, String)], depth: usize) -> String {
    let fields = fields.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    lines('{', fields, '}', depth)
}

fn array(items: Vec<String>, depth: usize) -> String {
    lines('[', items, ']', depth)
}

/// Items on lines of their own, within brackets that stand `depth` levels deep.
fn lines(open: char, items: Vec<String>, close: char, depth: usize) -> String {
    let indent = |depth: usize| "    ".repeat(depth);
    let inner = indent(depth + 1);
    let items: Vec<String> = items.iter().map(|item| format!("{inner}{item}")).collect();
    format!("{open}\n{}\n{}{close}", items.join(",\n"), indent(depth))
}
