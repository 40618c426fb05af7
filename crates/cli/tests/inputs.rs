//! Bad input: one clear line for each rank, an exit code that is not 0, and no panic.
#![allow(clippy::print_stdout, reason = "tests say what they skip and measure")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use mslite::{Context, Model, ModelType, Ranks, Tensor as Input};
use mslite_tensor::{Tensor, npz};
use mslite_testkit::Generator;
use support::{errors, models, mslite};

fn case(name: &str) -> Option<PathBuf> {
    let folder = models().join("dev").join(name);
    if !folder.is_dir() {
        println!("skipped: no models beside the checkout");
        return None;
    }
    Some(folder)
}

fn run(model: impl AsRef<Path>) -> Command {
    let mut command = mslite();
    command.arg("run").arg(model.as_ref());
    command
}

/// Checks that the command fails with one line that has all of `expected`.
#[track_caller]
fn refused(command: &mut Command, expected: &[&str]) {
    let output = command.output().unwrap();
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{command:?}: {text}");
    assert!(text.starts_with("error: ") || text.starts_with("[rank "), "{command:?}: {text}");
    assert!(!text.contains("panicked") && output.stdout.is_empty(), "{command:?}: {text}");
    for part in expected {
        assert!(text.contains(part), "{command:?} does not say {part:?}: {text}");
    }
    println!("{}", text.trim_end());
}

/// Checks that the command is refused as wrongly used.
#[track_caller]
fn misused(command: &mut Command, expected: &str) {
    let output = command.output().unwrap();
    let text = errors(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.starts_with("error: ") && text.contains(expected), "{text}");
}

/// The bytes with every occurrence of one text replaced by another of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = bytes.to_vec();
    let places: Vec<usize> =
        (0..=bytes.len() - from.len()).filter(|&i| bytes[i..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "there is no {from}");
    for at in places {
        out[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    out
}

fn archive(folder: &Path, name: &str, arrays: &[(&str, Tensor)]) -> PathBuf {
    let path = folder.join(name);
    npz::write(&path, arrays.iter().map(|(name, tensor)| ((*name).to_owned(), tensor))).unwrap();
    path
}

#[test]
fn files_that_are_no_models() {
    let Some(mlp) = case("w_mlp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let good = std::fs::read(mlp.join("model.mindir")).unwrap();
    let mut random = Generator::new(1);
    let noise: Vec<u8> = (0..5000).map(|_| random.bits() as u8).collect();
    let files: [(&str, &[u8], &[&str]); 6] = [
        ("empty", b"", &["InvalidModel", "the file is empty"]),
        ("text", b"hello\n", &["InvalidModel", "byte "]),
        ("noise", &noise, &["InvalidModel", "byte "]),
        ("half", &good[..good.len() / 2], &["InvalidModel", "byte ", "truncated"]),
        ("start", &good[..300], &["InvalidModel", "byte ", "truncated"]),
        ("last", &good[..good.len() - 1], &["InvalidModel", "byte ", "truncated"]),
    ];
    for (name, bytes, expected) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let expected = [expected, &[path.to_str().unwrap()]].concat();
        refused(&mut run(&path), &expected);
        refused(mslite().arg("inspect").arg(&path), &expected);
    }
    refused(&mut run(folder.path().join("none")), &["InvalidArgument", "none: cannot open: No such file"]);
    refused(&mut run(folder.path()), &["InvalidArgument", "not a regular file"]);
    let unknown = folder.path().join("unknown");
    std::fs::write(&unknown, replaced(&good, "BiasAdd", "BiasOdd")).unwrap();
    refused(&mut run(&unknown), &["Unsupported", "BiasOdd", "Default/"]);
}

#[test]
fn missing_or_damaged_parts() {
    let Some(split) = case("w_split_one_file") else { return };
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("model_graph.mindir");
    std::fs::copy(split.join("model_graph.mindir"), &graph).unwrap();
    refused(
        &mut run(&graph),
        &["InvalidModel", "model_graph.mindir", "model_variables/data_0", "No such file"],
    );
    let weights = std::fs::read(split.join("model_variables/data_0")).unwrap();
    std::fs::create_dir(folder.path().join("model_variables")).unwrap();
    std::fs::write(folder.path().join("model_variables/data_0"), &weights[..weights.len() / 2]).unwrap();
    refused(&mut run(&graph), &["InvalidModel", "data_0"]);
    let encrypted = case("w_enc_gcm").unwrap().join("model.mindir");
    refused(&mut run(&encrypted), &["encrypted (AES-GCM)", "give the key"]);
    refused(run(&encrypted).args(["--key", "0123456789ABCDEX"]), &["wrong key"]);
    refused(run(&encrypted).args(["--key", "short"]), &["16, 24 or 32 bytes", "has 5"]);
    let mode = ["--key", "0123456789ABCDEF", "--dec-mode", "AES-CBC"];
    refused(run(&encrypted).args(mode), &["encrypted with AES-GCM, not with AES-CBC"]);
    let plain = case("w_mlp").unwrap().join("model.mindir");
    refused(run(&plain).args(["--key", "0123456789ABCDEF"]), &["not encrypted"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let Some(mlp) = case("w_mlp") else { return };
    let folder = tempfile::tempdir().unwrap();
    let good = Tensor::zeros(mslite::DType::F32, &[4, 16]).unwrap();
    let of = |arrays: &[(&str, Tensor)]| archive(folder.path(), "in.npz", arrays);
    let with = |path: PathBuf, expected: &[&str]| {
        refused(run(mlp.join("model.mindir")).arg("--inputs").arg(path), expected);
    };
    let wrong_shape = Tensor::zeros(mslite::DType::F32, &[4, 17]).unwrap();
    with(of(&[("in_0", wrong_shape)]), &["InvalidArgument", "\"x\"", "[4, 16]", "[4, 17]"]);
    let wrong_type = Tensor::zeros(mslite::DType::F64, &[4, 16]).unwrap();
    with(of(&[("in_0", wrong_type)]), &["InvalidArgument", "\"x\"", "f32", "f64"]);
    with(of(&[("in_0", good.clone()), ("in_1", good.clone())]), &["has 2 inputs", "takes 1"]);
    with(of(&[("x", good.clone())]), &["has 0 inputs", "takes 1 (x)"]);
    with(of(&[("in_1", good.clone())]), &["in_0 is missing"]);
    with(folder.path().join("none.npz"), &["cannot read inputs", "none.npz", "No such file"]);
    let text = folder.path().join("text.npz");
    std::fs::write(&text, "no archive").unwrap();
    with(text, &["cannot read inputs", "text.npz"]);

    let bert = case("w_bert").unwrap();
    let arrays = npz::read(bert.join("inputs.npz")).unwrap();
    let with = |inputs: Vec<(String, Tensor)>, expected: &[&str]| {
        let path = folder.path().join("bert.npz");
        npz::write(&path, inputs.iter().map(|(name, tensor)| (name.clone(), tensor))).unwrap();
        refused(run(bert.join("model.mindir")).arg("--inputs").arg(path), expected);
    };
    let wide = |t: &Tensor| t.as_slice::<i32>().unwrap().iter().map(|&x| i64::from(x)).collect::<Vec<_>>();
    let widened = arrays.iter().map(|(name, t)| (name.clone(), Tensor::from_vec(wide(t), t.dims()).unwrap()));
    with(widened.collect(), &["InvalidArgument", "input 0", "i32", "i64"]);
    let far = Tensor::from_vec(vec![1_000_000i32; arrays[0].1.dims().iter().product()], arrays[0].1.dims())
        .unwrap();
    let mut ids = arrays.clone();
    ids[0].1 = far;
    with(ids, &["1000000", "Gather", "Default/"]);
}

#[test]
fn outputs_that_cannot_be_written() {
    let Some(mlp) = case("w_mlp") else { return };
    let model = mlp.join("model.mindir");
    let folder = tempfile::tempdir().unwrap();
    refused(run(&model).arg("--outputs").arg(folder.path().join("none/out.npz")), &["cannot write outputs"]);
    refused(run(&model).arg("--outputs").arg(folder.path()), &["cannot write outputs", "directory"]);
    if std::fs::metadata("/dev/full").is_ok_and(|full| !full.is_file()) {
        refused(run(&model).args(["--outputs", "/dev/full"]), &["cannot write outputs", "No space left"]);
        assert!(!std::fs::metadata("/dev/full").unwrap().is_file());
    }
    refused(run(&model).args(["--config", "/none.ini"]), &["configuration file /none.ini"]);
    refused(run(&model).args(["--group-file", "/none.pb"]), &["/none.pb: cannot open"]);
}

#[test]
fn wrong_use() {
    misused(run("m").args(["--outputs", "a", "--outputs", "b"]), "give one for each --inputs");
    misused(run("m").args(["--inputs", "a", "--inputs", "b", "--outputs", "c"]), "do not fit 2 calls");
    misused(run("m").arg("--timeout=-1"), "--timeout");
    misused(run("m").args(["--ranks", "0"]), "--ranks");
    misused(run("m").args(["--fill", "noise"]), "ones, zeros, random:SEED");
    misused(run("m").arg("--in-process"), "--ranks");
    misused(mslite().args(["launch", "--ranks", "2"]), "COMMAND");
    refused(
        run("m").env("RANK_ID", "2").env("RANK_SIZE", "2"),
        &["InvalidArgument", "RANK_ID is 2, but RANK_SIZE is 2"],
    );
    refused(run("m").env("RANK_ID", "x").env("RANK_SIZE", "2"), &["RANK_ID is \"x\", not a number"]);
}

/// Ranks may share one file: then the path needs no `{rank}`.
#[test]
fn one_file_for_all_ranks() {
    let Some(mlp) = case("w_mlp") else { return };
    for how in [&[][..], &["--in-process"]] {
        let output = run(mlp.join("model.mindir")).args(["--ranks", "2"]).args(how).output().unwrap();
        assert!(output.status.success(), "{}", errors(&output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("[rank 0] ") && text.contains("[rank 1] "), "{text}");
    }
}

/// Damaged copies of models build and run, or are refused; they do neither panic nor hang.
#[test]
fn damaged_models_do_no_harm() {
    let mut random = Generator::new(20);
    let (mut built, mut ran) = (0, 0);
    for (name, copies) in [("w_mlp", 120), ("w_tuple_io", 80)] {
        let Some(folder) = case(name) else { return };
        let good = std::fs::read(folder.join("model.mindir")).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("model.mindir");
        for copy in 0..copies {
            let mut bytes = good.clone();
            mutate(&mut bytes, copy, &mut random);
            std::fs::write(&path, &bytes).unwrap();
            let mut context = Context::new();
            context.ranks = Ranks::Alone;
            let Ok(model) = Model::build_from_file(&path, ModelType::MindIr, &context) else { continue };
            built += 1;
            ran += usize::from(predict(&model));
        }
    }
    println!("{built} of 200 copies were built, {ran} ran");
    assert!(ran > 0, "no copy ran: the damage is too great to show anything");
}

/// One to four damages anywhere in the file.
fn mutate(bytes: &mut Vec<u8>, copy: usize, random: &mut Generator) {
    for _ in 0..1 + copy % 4 {
        let at = random.bits() as usize % bytes.len();
        match random.bits() % 5 {
            0 => bytes[at] = random.bits() as u8,
            1 => bytes[at] ^= 1 << (random.bits() % 8),
            2 => drop(bytes.remove(at)),
            3 => bytes.insert(at, random.bits() as u8),
            _ => {
                let end = (at + 1 + random.bits() as usize % 16).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// Runs a model with zeros; whether it succeeded.
fn predict(model: &Model) -> bool {
    let mut inputs = model.inputs();
    let fill = |input: &mut Input| {
        let dims = input.shape().iter().map(|&d| usize::try_from(d).unwrap_or(2)).collect::<Vec<_>>();
        let small = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n < 1 << 20);
        small && Tensor::zeros(input.dtype(), &dims).is_ok_and(|data| input.set_tensor(data).is_ok())
    };
    inputs.iter_mut().all(fill) && model.predict(&inputs).is_ok()
}
