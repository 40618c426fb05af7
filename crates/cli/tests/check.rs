//! `mslite check` and `mslite rank-table`, as commands.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::{errors, mslite};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models").join(name);
    folder.join("rank{rank}.mindir").to_string_lossy().into_owned()
}

fn run(arguments: &[&str]) -> Output {
    mslite().args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn slices_that_fit_are_listed() {
    let text = printed(&run(&["check", &example("matmul_row_tp4"), "--ranks", "4"]));
    assert!(
        text.starts_with(
            "The models of 4 ranks fit each other, with 1 exchange in group hccl_world_group.\n"
        ),
        "{text}"
    );
    for part in ["all_reduce(sum)", "f32", "AllReduce-op0", "Each rank sends "] {
        assert!(text.contains(part), "{text}");
    }
    let json: Value =
        serde_json::from_str(&printed(&run(&["check", &example("matmul_row_tp2"), "-n", "2", "--json"])))
            .unwrap();
    assert_eq!(json["fits"], true);
    let collective = &json["collectives"][0];
    assert_eq!((&collective["kind"], &collective["count"]), (&"all_reduce(sum)".into(), &"128".into()));
    // A ring over two ranks: each half of 512 bytes is sent twice.
    assert_eq!(json["sent"], serde_json::json!([512, 512]));
}

#[test]
fn the_status_tells_what_does_not_fit_from_trouble() {
    let four = example("matmul_row_tp4");
    let output = run(&["check", &four, "--ranks", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = errors(&output);
    assert!(
        text.contains("error: PlanMismatch: ") && text.contains("sliced for 4 ranks, but there are 2"),
        "{text}"
    );
    assert!(text.contains("note: there is a slice of rank 2, too"), "{text}");
    let output = run(&["check", &four, "--ranks", "2", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["fits"], &json["disagreement"]["sides"][1]["rank"]), (&false.into(), &1.into()));
    assert!(json["disagreement"]["sides"][0]["node"].as_str().unwrap().contains("AllReduce-op0"), "{json}");
    for arguments in [&["check", &four, "--ranks", "5"][..], &["check", "net.mindir", "--ranks", "2"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
    }
}

/// Makes the table of a server in a folder; the arguments and what was printed.
fn make(folder: &Path, arguments: &[&str]) -> (PathBuf, String) {
    let output = mslite().current_dir(folder).args(["rank-table", "make"]).args(arguments).output().unwrap();
    let name = printed(&output).trim().to_owned();
    let path = folder.join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn tables_are_made_merged_shown_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("hccn.conf");
    let lines: String =
        (0..8).map(|i| format!("address_{i}=192.168.100.{i}\nnetmask_{i}=255.255.255.0\n")).collect();
    std::fs::write(&conf, lines).unwrap();
    let conf = conf.to_string_lossy().into_owned();
    let (one, text) =
        make(folder.path(), &["--device_num", "[0,2)", "--server_ip", "10.0.0.1", "--hccn-conf", &conf]);
    assert_eq!(one.file_name().unwrap(), "hccl_2p_01_10.0.0.1.json");
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["server_list"][0]["device"][1]["device_ip"], "192.168.100.1");
    let given = ["--device-ip", "192.168.101.1", "--device-ip", "192.168.101.2"];
    let visible = ["--device-num", "[0,2)", "--visible-devices", "4,6", "--server-ip", "10.0.0.2"];
    let (two, text) = make(folder.path(), &[&visible[..], &given].concat());
    assert_eq!(two.file_name().unwrap(), "hccl_2p_01_10.0.0.2.json");
    assert!(text.contains("\"device_id\": \"6\""), "{text}");

    let output =
        mslite().current_dir(folder.path()).args(["rank-table", "merge"]).args([&one, &two]).output();
    assert_eq!(printed(&output.unwrap()), "hccl_2s_4p.json\n");
    let merged = folder.path().join("hccl_2s_4p.json");
    let merged = merged.to_str().unwrap();
    let shown: Value =
        serde_json::from_str(&printed(&run(&["rank-table", "show", merged, "--json"]))).unwrap();
    assert_eq!((&shown["ranks"][3]["device"], &shown["ranks"][3]["server"]), (&6.into(), &"10.0.0.2".into()));
    let text = printed(&run(&["rank-table", "show", merged]));
    assert!(text.starts_with("Version 1.0: 4 ranks on 2 servers\n"), "{text}");

    let model = example("matmul_row_tp4");
    let text = printed(&run(&["rank-table", "check", merged, "--model", &model]));
    assert!(text.contains("fit each other") && text.contains("is spread over 2 servers"), "{text}");
    let output = run(&["check", &model, "--ranks", "4", "--rank-table", one.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("the rank table has 2 ranks, but there are 4 models"));
}

#[test]
fn the_driver_is_asked_for_addresses() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let tool = folder.path().join("hccn_tool");
    std::fs::write(&tool, "#!/bin/sh\necho ipaddr:192.168.7.$2\necho netmask:255.255.255.0\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap_or_default());
    let arguments = ["rank-table", "make", "--device-num", "[4,8)", "--server-ip", "s", "--out", "t.json"];
    let output = mslite().current_dir(folder.path()).env("PATH", path).args(arguments).output().unwrap();
    printed(&output);
    let text = std::fs::read_to_string(folder.path().join("t.json")).unwrap();
    assert!(text.contains("\"device_ip\": \"192.168.7.4\"") && text.contains("192.168.7.7"), "{text}");
    let none = ["rank-table", "make", "--server-ip", "s", "--hccn-conf", "no/such/file"];
    let output = mslite().current_dir(folder.path()).env("PATH", "none").args(none).output().unwrap();
    assert!(!output.status.success() && errors(&output).contains("give --device-ip"), "{}", errors(&output));
}

#[test]
fn tables_are_checked_against_groups() {
    let folder = tempfile::tempdir().unwrap();
    let given = ["--device-num", "[0,1)", "--server-ip", "10.0.0.1", "--device-ip", "192.168.101.1"];
    let (table, _) = make(folder.path(), &given);
    // A group "tp" of the ranks 0 and 1.
    let groups = folder.path().join("groups");
    std::fs::write(&groups, b"\x0a\x0a\x0a\x02tp\x12\x04\x08\x00\x08\x01").unwrap();
    let output = mslite().args(["rank-table", "check"]).arg(&table).arg("--group-file").arg(&groups).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        errors(&output).contains("group \"tp\" has rank 1, but the table has 1 rank"),
        "{}",
        errors(&output)
    );
    std::fs::write(&table, "{\"version\": \"1.0\"}").unwrap();
    let output = mslite().args(["rank-table", "show"]).arg(&table).output().unwrap();
    assert!(errors(&output).contains("\"status\" is missing"), "{}", errors(&output));
}
