//! `mslite bench`.

mod support;

use std::process::Output;

use serde_json::Value;
use support::{errors, mslite};

/// Little of everything: tests look at what is measured, not at how long it takes.
const QUICK: [&str; 6] = ["--rounds", "2", "--batches", "2", "--time", "1"];

fn bench(arguments: &[&str]) -> Output {
    mslite().args(["bench", "collective"]).args(QUICK).args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", errors(output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn processes_and_threads_are_measured_and_checked() {
    for how in [&[][..], &["--threads"]] {
        let arguments = ["--ops", "allreduce,barrier", "--sizes", "8,4K", "-n", "2,3", "--check", "--json"];
        let lines = lines(&bench(&[&arguments[..], how].concat()));
        let cases: Vec<_> = lines
            .iter()
            .map(|l| (l["op"].as_str().unwrap(), l["ranks"].as_u64(), l["bytes"].as_u64()))
            .collect();
        let expected =
            [2, 3].map(|n| [("all_reduce", Some(n), Some(8)), ("all_reduce", Some(n), Some(4096))]);
        assert_eq!(cases[..4], expected.concat());
        assert_eq!(cases[4..], [2, 3].map(|n| ("barrier", Some(n), Some(0))));
        for line in lines {
            assert_eq!((line["wrong"].as_u64(), line["samples"].as_array().unwrap().len()), (Some(0), 4));
            let us = line["us"].as_f64().unwrap();
            let bandwidth = line["bytes"].as_f64().unwrap() / us / 1e3;
            assert!((line["algbw"].as_f64().unwrap() - bandwidth).abs() <= 1e-9 * bandwidth, "{line}");
        }
    }
}

#[test]
fn registered_buffers_are_measured_beside_others() {
    let arguments =
        ["--ops", "all_reduce,all_gather,ping_pong", "--sizes", "64,100K", "-n", "2,3", "--check"];
    let lines = lines(&bench(&[&arguments[..], &["--registered", "--json"]].concat()));
    let registered = lines.iter().filter(|line| line["impl"] == "mslite-registered").count();
    assert_eq!((lines.len(), registered), (24, 12));
    assert!(lines.iter().all(|line| line["wrong"] == 0), "{lines:?}");
    let text = bench(&["--sizes", "64", "--registered"]).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("2 ranks, processes, mslite-registered"), "{text}");
}

#[test]
fn a_launchers_job_is_measured_and_rank_0_prints() {
    let program = env!("CARGO_BIN_EXE_mslite");
    let launched = |arguments: &[&str]| {
        let mut command = mslite();
        command.args(["launch", "-n", "3", "--unmarked", "--", program, "bench", "collective"]).args(QUICK);
        command.args(arguments).output().unwrap()
    };
    let lines = lines(&launched(&["--sizes", "16", "--dtype", "f16", "--json"]));
    assert_eq!((lines.len(), &lines[0]["ranks"], &lines[0]["count"]), (1, &3.into(), &8.into()));
    let output = launched(&["--ranks", "3"]);
    assert!(!output.status.success() && errors(&output).contains("one of 3 ranks"), "{}", errors(&output));
}

#[test]
fn peers_stand_beside_in_table_and_plot() {
    let line =
        r#"echo "{\"op\":\"allreduce\",\"ranks\":{ranks},\"bytes\":{max},\"us\":1e6,\"impl\":\"slow\"}""#;
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("times.svg");
    let peer = format!("some={line}; echo and noise");
    let output = bench(&[
        "--sizes",
        "8,64",
        "--peer",
        &peer,
        "--peer",
        "absent=exit 3",
        "--svg",
        svg.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(
        errors(&output).contains("warning: 2 ranks: absent: its command has ended"),
        "{}",
        errors(&output)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("some:slow") && text.contains("1000000"), "{text}");
    assert!(std::fs::read_to_string(svg).unwrap().contains("all_reduce x 2, some:slow"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (arguments, reason) in [
        (&["--ops", "all"][..], "reduce_scatter"),
        (&["--sizes", "4x"], "no size"),
        (&["--sizes", "0"], "no size"),
        (&["--min", "64", "--max", "8"], "nothing to measure"),
        (&["--ops", "all_gather", "--sizes", "4"], "nothing to measure"),
        (&["--ranks", "0"], "ranks"),
        (&["--dtype", "f31"], "f31"),
        (&["--dtype", "bool", "--reduction", "mean"], "unsupported"),
        (&["--peer", "name"], "no name=command"),
        (&["--peer", "mslite=x"], "other than mslite"),
        (&["--ops", "ping_pong", "--ranks", "1"], "nothing to measure"),
    ] {
        let output = bench(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors(&output).to_lowercase().contains(reason), "{arguments:?}: {}", errors(&output));
    }
}
