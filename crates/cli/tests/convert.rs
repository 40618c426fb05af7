//! `mslite convert`: whatever the layout, the model stays the same.

mod support;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value as Json;
use support::{errors, mslite};

const KEY: &str = "hex:00112233445566778899aabbccddeeff";

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2/model.mindir")
}

fn convert(from: &Path, to: &Path, further: &[&str]) -> Output {
    mslite().arg("convert").arg(from).arg(to).args(further).output().unwrap()
}

/// Converts, and gives the paths of the files that were written, relative to the folder.
fn converted(from: &Path, to: &Path, further: &[&str]) -> Vec<String> {
    let output = convert(from, to, &[further, &["--json"]].concat());
    assert!(output.status.success(), "{}", errors(&output));
    let json: Json = serde_json::from_slice(&output.stdout).unwrap();
    let folder = to.parent().unwrap();
    let path = |file: &Json| {
        let path = Path::new(file["path"].as_str().unwrap());
        assert_eq!(path.metadata().unwrap().len(), file["bytes"].as_u64().unwrap());
        path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()
    };
    json["files"].as_array().unwrap().iter().map(path).collect()
}

fn assert_same(a: &Path, b: &Path, keys: &[&str]) {
    let keys = keys.iter().flat_map(|key| ["--key", key]);
    let output = mslite().arg("diff").arg(a).arg(b).args(keys).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", errors(&output));
}

/// The first values of the output for inputs of ones.
fn run(model: &Path, further: &[&str]) -> Vec<u8> {
    let output = mslite().arg("run").arg(model).args(further).output().unwrap();
    assert!(output.status.success(), "{}", errors(&output));
    output.stdout
}

#[test]
fn there_and_back_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let written = converted(&example(), &at("split.mindir"), &["--layout", "split"]);
    assert_eq!(written, ["split_graph.mindir", "split_variables/data_0"]);
    assert_same(&example(), &at("split_graph.mindir"), &[]);
    for (mode, key) in [("AES-GCM", KEY), ("AES-CBC", KEY), ("SM4-CBC", KEY)] {
        let encrypt = ["--encrypt", mode, "--new-key", key];
        converted(
            &at("split_graph.mindir"),
            &at("secret.mindir"),
            &[&encrypt[..], &["--layout", "split"]].concat(),
        );
        assert_same(&example(), &at("secret_graph.mindir"), &[key]);
        assert_eq!(run(&at("secret_graph.mindir"), &["--key", key]), run(&example(), &[]), "{mode}");
        let back = ["--key", key, "--dec-mode", mode, "--decrypt", "--layout", "single"];
        assert_eq!(converted(&at("secret_graph.mindir"), &at("plain.mindir"), &back), ["plain.mindir"]);
        assert_same(&example(), &at("plain.mindir"), &[]);
    }
}

#[test]
fn weights_are_divided_among_data_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("net.mindir");
    let Some(case) = Some(support::models().join("dev/w_mlp/model.mindir")).filter(|path| path.exists())
    else {
        return;
    };
    let written = converted(&case, &out, &["--layout", "split", "--data-file-size", "1"]);
    assert!(written.len() > 3, "{written:?}");
    assert_same(&case, &folder.path().join("net_graph.mindir"), &[]);
}

#[test]
fn secrets_are_not_written_in_plain_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    converted(&example(), &at("secret.mindir"), &["--encrypt", "AES-GCM", "--new-key", KEY]);
    for (further, reason) in [
        (&["--key", KEY][..], "is encrypted: say how"),
        (&[][..], "key"),
        (&["--key", KEY, "--encrypt", "AES-GCM"][..], "--new-key"),
        (&["--key", KEY, "--encrypt", "AES-GCM", "--new-key", "short"][..], "bytes"),
        (&["--key", KEY, "--decrypt", "--encrypt", "AES-GCM", "--new-key", KEY][..], "cannot be used with"),
    ] {
        let output = convert(&at("secret.mindir"), &at("out.mindir"), further);
        assert!(!output.status.success() && !at("out.mindir").exists());
        assert!(errors(&output).contains(reason), "{further:?}: {}", errors(&output));
    }
}

#[test]
fn foreign_files_are_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let variables = folder.path().join("net_variables");
    std::fs::create_dir(&variables).unwrap();
    std::fs::write(variables.join("notes"), "").unwrap();
    std::os::unix::fs::symlink("nowhere", variables.join("dangling")).unwrap();
    let written = converted(&example(), &folder.path().join("net.mindir"), &["--layout", "split"]);
    assert_eq!(written, ["net_graph.mindir", "net_variables/data_0"]);
}

#[test]
fn the_size_of_data_files_needs_data_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("net.mindir");
    for further in [&[][..], &["--layout", "auto"], &["--layout", "single"]] {
        let output = convert(&example(), &out, &[further, &["--data-file-size", "64"]].concat());
        assert!(!output.status.success() && !out.exists());
        assert!(errors(&output).contains("--data-file-size needs --layout split"), "{}", errors(&output));
    }
}
