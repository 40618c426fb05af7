//! `mslite opt`: what is written computes the same, and the table says what was done.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use mslite_testkit::cases::discover;
use serde_json::Value as Json;
use support::{errors, mslite};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2/model.mindir")
}

fn opt(from: &Path, to: &Path, further: &[&str]) -> Output {
    mslite().arg("opt").arg(from).arg("-o").arg(to).args(further).output().unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", errors(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(output: &Output) -> Json {
    serde_json::from_str(&text(output)).unwrap()
}

/// A development model of one rank.
fn model(name: &str) -> Option<PathBuf> {
    Some(support::models().join("dev").join(name).join("model.mindir")).filter(|path| path.exists())
}

#[test]
fn optimised_models_compute_the_same() {
    for mut case in discover(support::models().join("dev")).unwrap() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("rank{rank}.mindir");
        let ranks = case.ranks.to_string();
        let mut further = vec!["--ranks", &ranks];
        let key =
            case.encryption.as_ref().map(|encryption| [&encryption.key, &encryption.mode].map(Clone::clone));
        if let Some([key, mode]) = &key {
            further.extend(["--key", key, "--dec-mode", mode]);
        }
        let output = opt(&support::model_pattern(&case), &out, &further);
        text(&output);
        case.folder = folder.path().to_owned();
        case.models = (0..case.ranks).map(|rank| folder.path().join(format!("rank{rank}.mindir"))).collect();
        support::check(&case, &["--in-process"]).unwrap_or_else(|reason| panic!("{}: {reason}", case.name));
    }
}

#[test]
fn the_table_has_a_row_for_each_pass() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mindir");
    let table = text(&opt(&example(), &out, &[]));
    for word in ["pass", "hits", "nodes", "FLOPs", "moved", "peak", "time", "as imported", "fusion", "total"]
    {
        assert!(table.contains(word), "{word} is not in\n{table}");
    }
    let rows = text(&opt(&example(), &out, &["--without", "fusion,layout"]));
    assert!(!rows.contains("fusion") && !rows.contains("layout") && rows.contains("algebra"), "{rows}");
    let rows = text(&opt(&example(), &out, &["--passes", "dead_code"]));
    assert!(rows.contains("dead_code") && !rows.contains("algebra"), "{rows}");
    let rows = text(&opt(&example(), &out, &["--level", "O0"]));
    assert!(!rows.contains("dead_code"), "{rows}");
}

#[test]
fn products_are_lowered_unless_they_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mindir");
    let row = |further: &[&str]| {
        let table = text(&opt(&example(), &out, further));
        table
            .lines()
            .find(|line| line.trim_start().starts_with("precision"))
            .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
    };
    assert_eq!(row(&[]), None);
    assert_ne!(row(&["--precision", "f16"]).unwrap(), "0");
    assert_eq!(row(&["--precision", "bf16", "--keep", "matmul"]).unwrap(), "0");
    let output = opt(&example(), &out, &["--precision", "i8"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("f16 or bf16"), "{}", errors(&output));
}

#[test]
fn json_says_the_same() {
    let Some(model) = model("w_bert") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mindir");
    let report = json(&opt(&model, &out, &["--json"]));
    assert_eq!(report["files"][0], out.to_str().unwrap());
    let (before, after) = (&report["before"], &report["after"]);
    assert!(
        after["nodes"].as_u64() < before["nodes"].as_u64()
            && after["peak"].as_u64() <= before["peak"].as_u64()
    );
    assert!(after["flops"].as_u64() > Some(0) && after["moved"].as_u64() < before["moved"].as_u64());
    let hits = |list: &Json| -> u64 {
        list.as_array().unwrap().iter().map(|entry| entry["hits"].as_u64().unwrap()).sum()
    };
    assert!(hits(&report["passes"]) > 0);
    assert_eq!(hits(&report["passes"]), hits(&report["steps"]));
    // Each step begins where the one before has ended.
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(&steps[0]["before"], before);
    assert!(steps.windows(2).all(|pair| pair[0]["after"] == pair[1]["before"]));
    assert_eq!(&steps[steps.len() - 1]["after"], after);

    let stopped = json(&opt(&model, &out, &["--json", "--fuel", "3"]));
    assert_eq!((hits(&stopped["passes"]), &stopped["converged"]), (3, &Json::Bool(false)));
}

#[test]
fn steps_are_dumped_in_order() {
    let Some(model) = model("w_bert") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (out, dump) = (folder.path().join("out.mindir"), folder.path().join("steps"));
    let report = json(&opt(&model, &out, &["--json", "--dump", dump.to_str().unwrap(), "--dot"]));
    let mut names: Vec<String> = std::fs::read_dir(&dump)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let steps = report["steps"].as_array().unwrap();
    let passes = steps.iter().map(|step| step["pass"].as_str().unwrap());
    let expected: Vec<String> = (std::iter::once("import").chain(passes).enumerate())
        .flat_map(|(i, pass)| ["dot", "txt"].map(|extension| format!("{i:03}-{pass}.{extension}")))
        .collect();
    assert_eq!(names, expected);
    let last = std::fs::read_to_string(dump.join(&names[names.len() - 1])).unwrap();
    assert!(last.starts_with("graph ") && last.contains("attention("), "{last}");
    let picture = std::fs::read_to_string(dump.join(&names[names.len() - 2])).unwrap();
    assert!(picture.starts_with("digraph ") && picture.contains("->"), "{picture}");
}

#[test]
fn encrypted_models_stay_encrypted() {
    let Some(case) =
        discover(support::models().join("dev")).unwrap().into_iter().find(|case| case.encryption.is_some())
    else {
        return;
    };
    let encryption = case.encryption.as_ref().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mindir");
    text(&opt(&case.models[0], &out, &["--key", &encryption.key, "--dec-mode", &encryption.mode]));
    let without_key = mslite().arg("run").arg(&out).output().unwrap();
    assert!(!without_key.status.success());
}

#[test]
fn errors_are_a_line_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.mindir");
    let fails = |from: &Path, to: &Path, further: &[&str], advice: &str| {
        let output = opt(from, to, further);
        let message = errors(&output);
        assert!(!output.status.success() && message.contains(advice), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(!out.exists());
    };
    fails(&example(), &out, &["--passes", "foo"], "there is no pass \"foo\"; there are dead_code, ");
    fails(&example(), &out, &["--without", "foo"], "there is no pass \"foo\"");
    fails(&folder.path().join("none.mindir"), &out, &[], "none.mindir: cannot open");
    fails(&example(), &folder.path().join("no/such/folder.mindir"), &[], "folder.mindir");
    fails(&folder.path().join("{rank}.mindir"), &out, &[], "say with --ranks how many there are");
    fails(&example(), &out, &["--ranks", "2"], "need `{rank}`");
    fails(&example(), &out, &["--dump", example().to_str().unwrap()], "cannot make the folder");
    // Wrong use is explained by more lines.
    let usage = opt(&example(), &out, &["--level", "O7"]);
    assert!(!usage.status.success() && errors(&usage).contains("only O0, O1 and O2"), "{}", errors(&usage));
}

#[test]
fn help_teaches() {
    let help = text(&mslite().args(["opt", "--help"]).output().unwrap());
    for word in ["--passes", "--without", "--fuel", "--dump", "--dot", "{rank}", "Examples:"] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}
