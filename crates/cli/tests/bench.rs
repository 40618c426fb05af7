//! `mslite bench`.

mod support;

use std::path::Path;
use std::process::Output;

use mslite_mindir::{
    Attributes, DataType, ModelBuilder, Primitive, PrimitiveKind, SaveOptions, TensorType, Type,
};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use support::job::Job;
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
    let lines = lines(&bench(&[&arguments[..], &["--buffers", "private,registered", "--json"]].concat()));
    let registered = lines.iter().filter(|line| line["impl"] == "mslite-registered").count();
    assert_eq!((lines.len(), registered), (24, 12));
    assert!(lines.iter().all(|line| line["wrong"] == 0), "{lines:?}");
    let text = bench(&["--sizes", "64", "--buffers", "registered"]).stdout;
    let text = String::from_utf8_lossy(&text);
    let titles: Vec<_> = text.lines().filter(|line| line.contains("2 ranks, ")).collect();
    assert!(titles.len() == 1 && titles[0].contains("2 ranks, processes, mslite-registered"), "{text}");
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

#[test]
fn a_tuning_is_measured_kept_and_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.json");
    let other = r#"{"ranks":5,"direct":100,"one_shot":2,"chunk":65536,"stream":4}"#;
    std::fs::write(&path, format!(r#"{{"tunings":[{other}]}}"#)).unwrap();
    let tune = ["--tune", path.to_str().unwrap(), "--rounds", "1", "--batches", "1", "-n", "2", "--json"];
    let mut command = mslite();
    command.args(["bench", "collective", "--time", "1"]).args(tune);
    let lines = lines(&command.output().unwrap());
    assert_eq!((lines.len(), &lines[0]["ranks"]), (1, &2.into()));

    let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let [mine, there] = &written["tunings"].as_array().unwrap()[..] else { panic!("{written}") };
    assert_eq!((&mine["ranks"], there), (&2.into(), &serde_json::from_str::<Value>(other).unwrap()));
    for field in lines[0]["fields"].as_array().unwrap() {
        let (name, chosen) = (field["field"].as_str().unwrap(), &field["is"]);
        let measured: Vec<_> = field["us"].as_array().unwrap().iter().map(|score| &score[0]).collect();
        assert!(measured.contains(&chosen) && &mine[name] == chosen, "{field} {mine}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let sizes = [
        "--ops",
        "all_reduce,all_gather",
        "--sizes",
        "64,4K,300K",
        "-n",
        "2,5",
        "--buffers",
        "private,registered",
    ];
    let mut command = mslite();
    command.env("MSLITE_TUNING", &path).args(["bench", "collective", "--check", "--json"]).args(QUICK);
    let lines = self::lines(&command.args(sizes).output().unwrap());
    assert!(lines.len() == 24 && lines.iter().all(|line| line["wrong"] == 0), "{lines:?}");
}

#[test]
fn a_tuning_that_cannot_be_kept_is_refused_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let [broken, absent] = ["broken.json", "absent/t.json"].map(|name| folder.path().join(name));
    std::fs::write(&broken, r#"{"tunings":[{"ranks":2}]}"#).unwrap();
    let [broken, absent, folder] = [&broken, &absent, folder.path()].map(|path| path.to_str().unwrap());
    for (arguments, reason) in [
        (&["--tune", broken][..], "\"direct\" is no number"),
        (&["--tune", absent], "cannot write"),
        (&["--tune", folder], "no regular file"),
        (&["--tune", "/dev/null"], "no regular file"),
        (&["--tune", "t.json", "-n", "2,1"], "2 or more"),
        (&["--tune", "t.json", "--threads"], "cannot be used with"),
        (&["--tune", "t.json", "--sizes", "4"], "cannot be used with"),
        (&["--tune", "t.json", "--check"], "cannot be used with"),
        (&["--tune", "t.json", "--peer", "a=b"], "cannot be used with"),
    ] {
        // Whoever measured would need longer than a test lasts.
        let mut command = mslite();
        let output =
            command.args(["bench", "collective", "--time", "1000000"]).args(arguments).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(errors(&output).contains(reason), "{arguments:?}: {}", errors(&output));
    }
    assert_eq!(std::fs::read_to_string(broken).unwrap(), r#"{"tunings":[{"ranks":2}]}"#);
}

#[test]
fn every_rank_says_what_is_wrong_with_a_tuning() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, "{}").unwrap();
    let absent = folder.path().join("absent.json");
    for (path, reason) in [(&broken, "\"tunings\" is no list"), (&absent, "cannot read the tunings")] {
        for rank in ["0", "1"] {
            let mut command = mslite();
            command.env("MSLITE_TUNING", path).env("RANK_ID", rank).env("RANK_SIZE", "2");
            let output = command.args(["bench", "collective"]).output().unwrap();
            let said = errors(&output);
            let name = path.to_str().unwrap();
            assert!(!output.status.success(), "{said}");
            for part in ["MSLITE_TUNING", name, reason, "--tune"] {
                assert!(said.contains(part), "rank {rank}: {part:?} is not in {said}");
            }
        }
    }
}

#[test]
fn a_signal_ends_the_ranks_too() {
    let (slices, endless) = (example("rank{rank}.mindir"), ["--rounds", "1000", "--time", "1000000"]);
    for what in [&["collective"][..], &["model", &slices]] {
        for signal in [Signal::TERM, Signal::INT] {
            let mut command = mslite();
            command.arg("bench").args(what).args(endless).args(["--ranks", "2"]);
            let job = Job::start(command);
            let _ranks = [0, 1].map(|rank| job.rank(rank));
            kill_process(job.pid(), signal).unwrap();
            let (status, lines, _) = job.end();
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{lines:#?}");
            assert!(lines.last().is_some_and(|line| line.starts_with("error: Cancelled: ")), "{lines:#?}");
        }
    }
}

/// Little of everything, again.
const QUICK_MODEL: [&str; 6] = ["--rounds", "2", "--warm-up", "1", "--time", "1"];

fn bench_model(arguments: &[&str]) -> Output {
    mslite().args(["bench", "model"]).args(QUICK_MODEL).args(arguments).output().unwrap()
}

/// A file of the example whose matrix product is divided among two ranks.
fn example(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2");
    folder.join(file).to_str().unwrap().to_owned()
}

#[test]
fn a_model_and_its_slices_are_measured_in_turns() {
    let [whole, slices] = [example("model.mindir,threads=2"), example("rank{rank}.mindir,ranks=2,threads=1")];
    let lines = lines(&bench_model(&[&whole, &slices, "--json"]));
    let places = lines.iter().map(|line| (line["ranks"].as_u64(), line["threads"].as_u64()));
    assert_eq!(places.collect::<Vec<_>>(), [(Some(1), Some(2)), (Some(2), Some(1))]);
    let rounds = |line: &Value| line["rounds"].as_array().unwrap().len();
    assert_eq!((lines.len(), rounds(&lines[0]), rounds(&lines[1])), (2, 2, 2));
    let shares = |line: &Value| line["collectives"].as_array().unwrap().clone();
    assert_eq!(shares(&lines[0]), [0.0]);
    let of_ranks: Vec<_> = shares(&lines[1]).iter().filter_map(Value::as_f64).collect();
    assert!(of_ranks.len() == 2 && of_ranks.iter().all(|&part| 0.0 < part && part < 1.0), "{of_ranks:?}");
    for line in &lines {
        let [min, median, p90, max] =
            ["min_ms", "median_ms", "p90_ms", "max_ms"].map(|name| line[name].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= p90 && p90 <= max, "{line}");
        assert!(line["build_ms"].as_f64() > Some(0.0) && line["cores"].as_f64() > Some(0.0), "{line}");
    }
    // What the slices compute is what the whole computes, and the sum of both.
    let flops = |line: &Value| line["rounds"][0]["flops"].as_u64().unwrap();
    let sum = flops(&lines[1]) - flops(&lines[0]);
    assert!(0 < sum && sum < flops(&lines[0]) / 4, "{lines:?}");
    let text = bench_model(&[&whole, &slices]).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("collectives") && text.lines().count() == 3, "{text}");
}

#[test]
fn shapes_are_measured_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.mindir");
    let rows = Type::Tensor(TensorType::new(DataType::Float32, vec![-1, 4]));
    let mut builder = ModelBuilder::new("net");
    let x = builder.entry().input("x", rows.clone());
    let relu = Primitive::new("ReLU", PrimitiveKind::Function, Attributes::new("ReLU", []));
    let y = builder.entry().apply(&relu, &[x], None);
    builder.entry().output(&y, Some(rows));
    builder.finish().unwrap().save(&path, &SaveOptions::new()).unwrap();
    let net = path.to_str().unwrap();

    let lines =
        lines(&bench_model(&[net, "--shapes", "3,4", "--shapes", "500,4", "--threads", "1", "--json"]));
    let flops: Vec<_> = lines.iter().map(|l| (&l["shapes"][0][0], &l["rounds"][1]["flops"])).collect();
    assert_eq!(flops, [(&3.into(), &12.into()), (&500.into(), &2000.into())]);
    let text = bench_model(&[net, "--shapes", "3,4", "--shapes", "5,4"]).stdout;
    let text = String::from_utf8_lossy(&text);
    assert!(text.contains("inputs 3,4\n") && text.contains("inputs 5,4\n"), "{text}");
    for (arguments, reason) in [
        (&[][..], "extents that are not known"),
        (&["--shapes", "3,5"], "4"),
        (&["--shapes", "3,4:1"], "2 shapes"),
    ] {
        let output = bench_model(&[&[net], arguments].concat());
        assert!(!output.status.success() && errors(&output).contains(reason), "{}", errors(&output));
    }
}

#[test]
fn a_launchers_job_measures_one_model() {
    let program = env!("CARGO_BIN_EXE_mslite");
    let launched = |arguments: &[&str]| {
        let mut command = mslite();
        command.args(["launch", "-n", "2", "--unmarked", "--", program, "bench", "model"]).args(QUICK_MODEL);
        command.args(arguments).output().unwrap()
    };
    let slices = example("rank{rank}.mindir");
    let lines = lines(&launched(&[&slices, "--json"]));
    let rounds = lines[0]["rounds"].as_array().unwrap().len();
    assert_eq!((lines.len(), &lines[0]["ranks"], rounds), (1, &2.into(), 2));
    for (arguments, reason) in
        [(&[&slices[..], &slices][..], "measures one model"), (&[&slices, "--ranks", "3"], "2 ranks, not 3")]
    {
        let output = launched(arguments);
        assert!(!output.status.success() && errors(&output).contains(reason), "{}", errors(&output));
    }
}

#[test]
fn models_that_make_no_sense_are_refused() {
    let slices = example("rank{rank}.mindir");
    for (arguments, reason) in [
        (&[&slices[..]][..], "how many ranks"),
        (&["absent.mindir"], "absent.mindir"),
        (&[&slices, "--ranks", "3"], "rank2.mindir"),
        (&["net,rank=2"], "is unknown"),
        (&["net", "--shapes", "a"], "no extent"),
        (&[], "required"),
    ] {
        let output = bench_model(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(errors(&output).contains(reason), "{arguments:?}: {}", errors(&output));
    }
}
