//! Rank tables of all versions: read, checked, written.

use mslite_collective::rank_table::{
    Address, RankTable, Version, address_of_tool, addresses_of_conf, merged_file_name, server_file_name,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Two servers of two devices; numbers are text, as the tools write them.
fn v1_0() -> Value {
    let device = |id: &str, ip: &str, rank: &str| json!({"device_id": id, "device_ip": ip, "rank_id": rank});
    json!({
        "version": "1.0", "server_count": "2", "status": "completed",
        "server_list": [
            {"server_id": "10.0.0.1", "host_nic_ip": "reserve",
             "device": [device("0", "192.168.0.1", "0"), device("1", "192.168.0.2", "1")]},
            {"server_id": "10.0.0.2", "host_nic_ip": "reserve",
             "device": [device("0", "192.168.0.3", "2"), device("1", "192.168.0.4", "3")]},
        ],
    })
}

/// Two super-pods of one server each; numbers are numbers.
fn v1_2() -> Value {
    let device = |id: u32, pod: u32, rank: u32| {
        json!({"device_id": id, "super_device_id": pod, "rank_id": rank, "device_ip": format!("192.168.0.{rank}"),
               "backup_device_ip": format!("192.168.1.{rank}"), "host_port": 16666})
    };
    json!({
        "version": "1.2", "status": "completed",
        "server_list": [
            {"server_id": "a", "device": [device(0, 0, 0), device(1, 2, 1)]},
            {"server_id": "b", "device": [device(0, 0, 2), device(1, 2, 3)]},
        ],
        "super_pod_list": [
            {"super_pod_id": "0", "server_list": [{"server_id": "a"}]},
            {"super_pod_id": "1", "server_list": [{"server_id": "b"}]},
        ],
    })
}

fn v2_0() -> Value {
    let level = |layer: u32, id: &str, kind: &str, addr: &str| {
        json!({"net_layer": layer, "net_instance_id": id, "net_type": "CLOS",
               "rank_addr_list": [{"addr_type": kind, "addr": addr, "ports": ["0/1"], "plane_id": "p"}]})
    };
    let rank = |id: u32, local: u32, eid: &str| {
        json!({"rank_id": id, "local_id": local, "device_id": local, "device_port": 16666,
               "level_list": [level(0, "rack0", "EID", eid), level(3, "all", "IPV4", &format!("10.1.0.{id}"))]})
    };
    json!({"version": "2.0", "rank_count": 2, "rank_list": [rank(1, 9, "ffff"), rank(0, 8, "fffe")]})
}

fn template() -> Value {
    let instance = |server: &str, ip: &str| json!({"pod_name": "p", "server_id": server, "devices": [{"device_id": "4", "device_ip": ip}]});
    let group = |name: &str, server: &str, ip: &str| {
        json!({"group_name": name, "instance_count": "1", "device_count": "1",
               "instance_list": [instance(server, ip)]})
    };
    json!({
        "status": "completed", "group_count": "2",
        "group_list": [group("a", "10.0.0.1", "192.168.0.1"), group("b", "10.0.0.2", "192.168.0.2")],
    })
}

fn read(table: &Value) -> Result<RankTable, String> {
    RankTable::from_json(&table.to_string()).map_err(|error| error.to_string())
}

#[test]
fn all_versions_become_one_table() {
    let table = read(&v1_0()).unwrap();
    assert_eq!((table.version, table.size()), (Version::V1_0, 4));
    assert_eq!(table.servers(), [("10.0.0.1", vec![0, 1]), ("10.0.0.2", vec![2, 3])]);
    assert_eq!(table.ranks[3].addresses, [Address::Ip("192.168.0.4".parse().unwrap())]);

    let table = read(&v1_2()).unwrap();
    let pods: Vec<_> = table.ranks.iter().map(|place| place.super_pod.clone().unwrap()).collect();
    assert_eq!((pods[1].id.as_str(), pods[1].device, pods[2].id.as_str()), ("0", 2, "1"));
    assert_eq!(table.ranks[0].addresses[1], Address::Backup("192.168.1.0".parse().unwrap()));

    let table = read(&v2_0()).unwrap();
    assert_eq!(
        (table.version, table.ranks[0].local, table.ranks[1].local),
        (Version::V2_0, Some(8), Some(9))
    );
    assert_eq!(table.ranks[0].server, "rack0");
    assert_eq!(table.ranks[1].addresses[1].to_string(), "layer 3 IPV4 10.1.0.1");

    let table = read(&template()).unwrap();
    assert_eq!((table.version, table.ranks[1].server.as_str()), (Version::Template, "10.0.0.2"));
    assert_eq!(table.ranks[1].device, 4);
}

#[test]
fn without_super_pods_servers_count_alone() {
    let mut table = v1_2();
    table.as_object_mut().unwrap().remove("super_pod_list");
    assert!(read(&table).unwrap().ranks.iter().all(|place| place.super_pod.is_none()));
    let mut table = v1_2();
    for server in 0..2 {
        for device in 0..2 {
            table["server_list"][server]["device"][device].as_object_mut().unwrap().remove("super_device_id");
        }
    }
    assert!(read(&table).unwrap().ranks.iter().all(|place| place.super_pod.is_none()));
}

/// Sets the value at a pointer; `None` removes it.
fn set(table: &mut Value, pointer: &str, value: Option<Value>) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = table.pointer_mut(parent).unwrap();
    match (parent, value) {
        (Value::Object(fields), Some(value)) => drop(fields.insert(key.to_owned(), value)),
        (Value::Object(fields), None) => drop(fields.remove(key)),
        (Value::Array(items), Some(value)) => items[key.parse::<usize>().unwrap()] = value,
        (parent, _) => panic!("{parent} has no {key}"),
    }
}

#[test]
fn faults_are_named_with_their_place() {
    let first = "/server_list/0/device/0";
    let cases: &[(Value, &str, Option<Value>, &str)] = &[
        (v1_0(), "/status", Some(json!("initializing")), "status: it is \"initializing\": wait"),
        (v1_0(), "/status", None, "at its top: \"status\" is missing"),
        (
            v1_0(),
            "/version",
            Some(json!("3.0")),
            "version: version \"3.0\" is not known; there are 1.0, 1.2 and 2.0",
        ),
        (v1_0(), "/server_count", Some(json!(3)), "server_count: it is 3, but there are 2"),
        (v1_0(), "/server_list", Some(json!({})), "server_list: it must be a list, not an object"),
        (v1_0(), &format!("{first}/rank_id"), Some(json!("4")), "rank 0 is missing before rank 1"),
        (v1_0(), &format!("{first}/rank_id"), Some(json!(1)), "rank 0 is missing"),
        (
            v1_0(),
            "/server_list/1/device/1/rank_id",
            Some(json!(2)),
            "server_list[1].device[1].rank_id: rank 2 is that of server_list[1].device[0], too",
        ),
        (
            v1_0(),
            &format!("{first}/rank_id"),
            Some(json!("-1")),
            "server_list[0].device[0].rank_id: it must be a number from 0 to 65535, not \"-1\"",
        ),
        (
            v1_0(),
            "/server_list/0/device/1/device_id",
            Some(json!(0)),
            "server_list[0].device[1]: device 0 of server \"10.0.0.1\" is that of server_list[0].device[0], too",
        ),
        (v1_0(), &format!("{first}/device_ip"), None, "server_list[0].device[0]: \"device_ip\" is missing"),
        (
            v1_0(),
            &format!("{first}/device_ip"),
            Some(json!("192.168.0.4")),
            "server_list[1].device[1]: device_ip 192.168.0.4 is that of",
        ),
        (
            v1_0(),
            &format!("{first}/device_ip"),
            Some(json!("x")),
            "server_list[0].device[0].device_ip: \"x\" is no IP address",
        ),
        (
            v1_0(),
            "/server_list/1/server_id",
            Some(json!("10.0.0.1")),
            "server_list[1].server_id: \"10.0.0.1\" is the server of server_list[0], too",
        ),
        (
            v1_0(),
            "/server_list/1/server_id",
            Some(json!("s".repeat(65))),
            "it has 65 characters; there may be at most 64",
        ),
        (
            v1_2(),
            "/super_pod_list/1/server_list/0/server_id",
            Some(json!("a")),
            "the server is in super-pod \"0\", too",
        ),
        (
            v1_2(),
            "/super_pod_list/1/server_list/0/server_id",
            Some(json!("c")),
            "server \"b\" is in no super-pod",
        ),
        (
            v1_2(),
            "/server_list/0/device/1/super_device_id",
            None,
            "server_list[0].device[1]: \"super_device_id\" is missing",
        ),
        (
            v1_2(),
            "/server_list/0/device/1/super_device_id",
            Some(json!(0)),
            "super_device_id 0 of \"0\" is that of",
        ),
        (v2_0(), "/rank_count", Some(json!("1")), "rank_count: it is 1, but there are 2"),
        (
            v2_0(),
            "/rank_list/0/local_id",
            Some(json!(65)),
            "rank_list[0].local_id: it must be a number from 0 to 64, not 65",
        ),
        (v2_0(), "/rank_list/0/local_id", Some(json!(8)), "local_id 8 of \"rack0\""),
        (
            v2_0(),
            "/rank_list/1/level_list/1/net_layer",
            Some(json!(0)),
            "rank_list[1].level_list[1].net_layer: layers must stand in ascending order",
        ),
        (v2_0(), "/rank_list/1/level_list", Some(json!([])), "it has 0 levels; there are 1 to 8"),
        (template(), "/group_count", Some(json!(1)), "group_count: it is 1, but there are 2"),
        (
            template(),
            "/group_list/1/device_count",
            Some(json!(2)),
            "group_list[1].device_count: it is 2, but there are 1",
        ),
    ];
    for (table, pointer, value, expected) in cases {
        let mut table = table.clone();
        set(&mut table, pointer, value.clone());
        let error = read(&table).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    for (text, expected) in [
        ("", "not JSON"),
        ("[]", "it must be an object, not a list"),
        ("{}", "\"version\" is missing"),
        (r#"{"version": "1.0", "status": "completed", "server_list": []}"#, "it has 0 ranks"),
    ] {
        let error = RankTable::from_json(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(RankTable::from_json(&"[".repeat(1 << 20)).is_err());
    let error = RankTable::open("no/such/table.json").unwrap_err().to_string();
    assert!(error.contains("no/such/table.json"), "{error}");
}

#[test]
fn ranks_of_a_server_follow_each_other() {
    let mut table = v1_0();
    set(&mut table, "/server_list/0/device/1/rank_id", Some(json!(2)));
    set(&mut table, "/server_list/1/device/0/rank_id", Some(json!(1)));
    let error = read(&table).unwrap_err();
    assert!(error.contains("the ranks of server \"10.0.0.1\" must follow each other"), "{error}");
}

/// What `json.dump(table, file, indent=4)` of Python writes for the table that `hccl_tools.py` makes.
const OF_PYTHON: &str = r#"{
    "version": "1.0",
    "server_count": "1",
    "server_list": [
        {
            "server_id": "10.0.0.1",
            "device": [
                {
                    "device_id": "0",
                    "device_ip": "192.168.100.101",
                    "rank_id": "0"
                },
                {
                    "device_id": "1",
                    "device_ip": "192.168.100.102",
                    "rank_id": "1"
                }
            ],
            "host_nic_ip": "reserve"
        }
    ],
    "status": "completed"
}"#;

#[test]
fn what_is_written_is_what_hccl_tools_writes() {
    let ip = |last: u8| Some(format!("192.168.100.{last}").parse().unwrap());
    let table = RankTable::of_server("10.0.0.1", &[(0, ip(101)), (1, ip(102))]).unwrap();
    assert_eq!(table.to_json().unwrap(), OF_PYTHON);
    assert_eq!(server_file_name(&[0, 1], "10.0.0.1"), "hccl_2p_01_10.0.0.1.json");
    assert!(RankTable::of_server("10.0.0.1", &[(0, ip(1)), (0, ip(2))]).is_err());
    assert!(read(&v2_0()).unwrap().to_json().is_err());
}

#[test]
fn merged_tables_are_renumbered_in_order() {
    let ip = |last: u8| Some(format!("192.168.100.{last}").parse().unwrap());
    let one = RankTable::of_server("b", &[(0, ip(1)), (1, ip(2))]).unwrap();
    let two = RankTable::of_server("a", &[(4, ip(3))]).unwrap();
    let merged = RankTable::merged(&[one.clone(), two]).unwrap();
    assert_eq!(merged.servers(), [("b", vec![0, 1]), ("a", vec![2])]);
    assert_eq!(merged_file_name(&merged), "hccl_2s_3p.json");
    assert!(RankTable::merged(&[one.clone(), one]).is_err());
    assert!(RankTable::merged(&[read(&v1_2()).unwrap()]).is_err());
}

#[test]
fn addresses_are_found_in_what_the_driver_says() {
    let conf = "# comment\naddress_0=192.168.100.101\nnetmask_0=255.255.255.0\n address_10 = 10.1.1.1 \naddress_x=1\n";
    let found = addresses_of_conf(conf);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 10]);
    assert_eq!(found[&10].to_string(), "10.1.1.1");
    let printed = "ipaddr:192.168.100.102\nnetmask:255.255.255.0\n";
    assert_eq!(address_of_tool(printed).map(|ip| ip.to_string()).as_deref(), Some("192.168.100.102"));
    assert_eq!(address_of_tool("no address"), None);
}

/// All places of a table.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut child = |key: &str, value: &Value| {
        let pointer = format!("{at}/{key}");
        pointers(value, &pointer, found);
        found.push(pointer);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| child(key, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(i, value)| child(&i.to_string(), value)),
        _ => {}
    }
}

#[test]
fn no_value_in_any_place_is_fatal() {
    let strange = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(u64::MAX),
        json!(""),
        json!("18446744073709551616"),
        json!([]),
        json!({}),
        json!([[]]),
        json!("é\u{0}"),
    ];
    for table in [v1_0(), v1_2(), v2_0(), template()] {
        let mut places = Vec::new();
        pointers(&table, "", &mut places);
        for place in places {
            for value in &strange {
                let mut other = table.clone();
                set(&mut other, &place, Some(value.clone()));
                let _ = read(&other);
            }
        }
    }
}

proptest! {
    #[test]
    fn no_change_of_bytes_is_fatal(which in 0..4usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = [v1_0(), v1_2(), v2_0(), template()][which].to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = RankTable::from_json(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn tables_are_read_as_they_were_written(servers in prop::collection::vec(1..9usize, 1..5)) {
        let mut next = 0u32;
        let mut tables = Vec::new();
        for (s, devices) in servers.iter().enumerate() {
            let devices: Vec<_> = (0..*devices as u32).map(|device| {
                next += 1;
                (device * 2, Some(std::net::Ipv4Addr::from(next).into()))
            }).collect();
            tables.push(RankTable::of_server(&format!("10.0.0.{s}"), &devices).unwrap());
        }
        let merged = RankTable::merged(&tables).unwrap();
        prop_assert_eq!(merged.size(), servers.iter().sum::<usize>());
        prop_assert_eq!(RankTable::from_json(&merged.to_json().unwrap()).unwrap(), merged);
    }
}
