//! What is written is what was read, in every layout.
#![allow(clippy::print_stdout, reason = "tests say when the files are absent")]

mod corpus_files;

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use corpus_files::{Case, cases};
use mslite_mindir::{Key, Layout, Mode, Model, ModelBuilder, OpenOptions, SaveOptions};
use mslite_tensor::Tensor;

const KEY: &str = "0123456789abcdef";

fn open(case: &Case) -> Model {
    Model::open(&case.path, &case.options).unwrap_or_else(|error| panic!("{error}"))
}

/// Equal but for how they are stored.
#[track_caller]
fn assert_same(mut written: Model, model: &Model, what: &str) {
    written.encryption = model.encryption;
    assert_eq!(&written, model, "{what}");
}

#[test]
fn every_model_comes_back_from_memory() {
    for case in cases() {
        let model = open(&case);
        assert!(model.warnings.is_empty(), "{}: {:?}", case.path.display(), model.warnings);
        let bytes = model.to_bytes().unwrap();
        let written = Model::from_bytes(bytes, "written.mindir", &OpenOptions::new()).unwrap();
        assert_same(written, &model, &case.path.display().to_string());
    }
}

#[test]
fn models_come_back_from_every_layout_and_encryption() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.mindir");
    let small = |case: &Case| fs::metadata(&case.path).is_ok_and(|metadata| metadata.len() < 20_000);
    let layouts = [Layout::Single, Layout::SPLIT, Layout::Split { data_file_size: 100 }];
    for (i, case) in cases().into_iter().filter(small).enumerate() {
        let model = open(&case);
        let layout = layouts[i % 3];
        let mode = [None, Some(Mode::AesGcm), Some(Mode::AesCbc), Some(Mode::Sm4Cbc)][i / 3 % 4];
        let mut save = SaveOptions::new().layout(layout);
        let mut options = OpenOptions::new();
        if let Some(mode) = mode {
            save = save.encrypt(mode, Key::new(KEY));
            options = options.key(Key::new(KEY)).mode(mode);
        }
        let what = format!("{} {layout:?} {mode:?}", case.path.display());
        let graph_file = model.save(&path, &save).unwrap().graph;
        let written = Model::open(&graph_file, &options).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(written.encryption, mode, "{what}");
        assert_same(written, &model, &what);
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains(".tmp")), "{left:?}");
    }
}

#[test]
fn data_files_are_laid_out_as_mindspore_does() {
    let Some(case) = cases().into_iter().find(|case| case.path.ends_with("split/one_graph.mindir")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let saved = open(&case)
        .save(folder.path().join("one.mindir"), &SaveOptions::new().layout(Layout::SPLIT))
        .unwrap();
    assert_eq!(saved.graph, folder.path().join("one_graph.mindir"));
    assert_eq!(saved.data, [folder.path().join("one_variables/data_0")]);
    let theirs = fs::read(case.path.with_file_name("one_variables").join("data_0")).unwrap();
    let ours = fs::read(folder.path().join("one_variables/data_0")).unwrap();
    assert!(ours == theirs);
}

#[test]
fn a_model_is_replaced_as_a_whole() {
    let Some(case) = cases().into_iter().find(|case| case.path.ends_with("split/one_graph.mindir")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.mindir");
    let variables = folder.path().join("net_variables");
    let options = SaveOptions::new().layout(Layout::SPLIT);
    let mut model = open(&case);
    model.save(&path, &options).unwrap();
    let old = Model::open(&path, &OpenOptions::new()).unwrap();
    model.graph.parameters.truncate(0);
    // Nothing is touched when the model cannot be written.
    assert!(model.save(&path, &options).is_err());
    assert_same(Model::open(&path, &OpenOptions::new()).unwrap(), &old, "after a failure");
    old.save(&path, &options).unwrap();
    assert_same(Model::open(&path, &OpenOptions::new()).unwrap(), &old, "replaced by itself");
    assert_eq!(names(&variables), ["data_1"]);
}

#[test]
fn links_are_not_followed() {
    let Some(case) = cases().into_iter().next() else { return };
    let model = open(&case);
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    let inside = folder.path().join("inside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(&inside).unwrap();
    fs::write(outside.join("precious"), "precious").unwrap();
    symlink(outside.join("precious"), inside.join("net.mindir")).unwrap();
    symlink(&outside, inside.join("net_variables")).unwrap();
    let path = inside.join("net.mindir");
    let error = model.save(&path, &SaveOptions::new().layout(Layout::SPLIT)).unwrap_err().to_string();
    assert!(error.contains("net_variables: cannot write to: it is a link"), "{error}");
    model.save(&path, &SaveOptions::new()).unwrap();
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"precious");
    assert!(path.symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn keys_of_the_wrong_size_write_nothing() {
    let Some(case) = cases().into_iter().next() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.mindir");
    let options = SaveOptions::new().encrypt(Mode::Sm4Cbc, Key::new(vec![0; 24]));
    let error = open(&case).save(&path, &options).unwrap_err().to_string();
    assert!(error.contains("SM4-CBC takes a key of 16 bytes"), "{error}");
    assert!(!path.exists());
}

/// A model of one weight.
fn small(value: f32) -> Model {
    let mut builder = ModelBuilder::new("net");
    let mut graph = builder.entry();
    let weight = graph.parameter("w", Tensor::from_vec(vec![value; 4], &[4]).unwrap());
    graph.output(&weight, None);
    builder.finish().unwrap()
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// A folder that one may write but not read cannot be synchronised.
#[test]
fn a_graph_that_is_in_place_keeps_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.mindir");
    let options = SaveOptions::new().layout(Layout::SPLIT);
    small(1.0).save(&path, &options).unwrap();
    let permit = |mode| fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
    permit(0o300);
    if fs::read_dir(folder.path()).is_ok() {
        println!("permissions do not bind this user: nothing is tested");
        return;
    }
    let error = small(2.0).save(&path, &options).unwrap_err().to_string();
    permit(0o700);
    assert!(error.contains("cannot synchronise"), "{error}");
    assert_same(Model::open(&path, &OpenOptions::new()).unwrap(), &small(2.0), "not synchronised");
}

#[test]
fn only_data_files_are_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (path, variables) = (folder.path().join("net.mindir"), folder.path().join("net_variables"));
    fs::create_dir_all(variables.join("data_7")).unwrap();
    for name in ["data_+5", "data_05", "data_", "notes"] {
        fs::write(variables.join(name), name).unwrap();
    }
    let options = SaveOptions::new().layout(Layout::SPLIT);
    for (value, number) in [(1.0, 8), (2.0, 9)] {
        let saved = small(value).save(&path, &options).unwrap();
        assert_eq!(saved.data, [variables.join(format!("data_{number}"))]);
        assert_same(Model::open(&saved.graph, &OpenOptions::new()).unwrap(), &small(value), "written");
    }
    assert_eq!(names(&variables), ["data_", "data_+5", "data_05", "data_7", "data_9", "notes"]);
}

#[test]
fn names_that_cannot_serve_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = SaveOptions::new().layout(Layout::SPLIT);
    let refusal = |name: &OsStr| small(1.0).save(folder.path().join(name), &options).unwrap_err().to_string();
    for name in [OsStr::from_bytes(b"net\xff.mindir"), OsStr::new("n\u{10ff80}t.mindir"), OsStr::new("..")] {
        assert!(refusal(name).contains("has to be UTF-8"), "{}", refusal(name));
    }
    assert!(names(folder.path()).is_empty());
    let variables = folder.path().join("net_variables");
    fs::create_dir(&variables).unwrap();
    fs::write(variables.join(format!("data_{}", u64::MAX)), "foreign").unwrap();
    assert!(refusal(OsStr::new("net.mindir")).contains("no room for numbers"));
    assert_eq!((names(folder.path()).len(), names(&variables).len()), (1, 1));
}
