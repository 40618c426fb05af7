//! Running `mslite` on models that MindSpore has exported.
#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod hosts;
pub(crate) mod job;
pub(crate) mod mpirun;
pub(crate) mod wire;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mslite_testkit::cases::Case;
use mslite_testkit::{compare, npz};

/// The command under test.
pub(crate) fn mslite() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mslite"));
    for name in [
        "RANK_ID",
        "RANK_SIZE",
        "LOCAL_RANK",
        "MSLITE_RENDEZVOUS",
        "MSLITE_TIMEOUT",
        "MSLITE_TRANSPORT",
        "MSLITE_TUNING",
    ] {
        command.env_remove(name);
    }
    command
}

/// Models exported by MindSpore, beside the checkout; absent where only the repository is.
pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models")
}

/// The files of all ranks as one path with `{rank}`.
pub(crate) fn model_pattern(case: &Case) -> PathBuf {
    match case.ranks {
        1 => case.models[0].clone(),
        _ => case.folder.join("rank{rank}.mindir"),
    }
}

/// Runs a case and compares the outputs of every rank; what is wrong, if anything.
pub(crate) fn check(case: &Case, further: &[&str]) -> Result<(), String> {
    let ranks = case.ranks.to_string();
    check_started(case, |run| vec![mslite().args(run).args(["--ranks", &ranks]).args(further).output()])
}

/// The same for ranks that something else starts: it is given the arguments of the command, and answers with what the
/// processes that it has started have said.
pub(crate) fn check_started(
    case: &Case,
    start: impl FnOnce(&[OsString]) -> Vec<io::Result<Output>>,
) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut run: Vec<OsString> = vec!["run".into(), model_pattern(case).into()];
    for (i, call) in case.calls.iter().enumerate() {
        run.extend(["--inputs".into(), call.inputs.clone().into_os_string()]);
        run.extend(["--outputs".into(), folder.path().join(format!("out{i}_{{rank}}.npz")).into()]);
    }
    if let Some(encryption) = &case.encryption {
        run.extend(["--key", &encryption.key, "--dec-mode", &encryption.mode].map(OsString::from));
    }
    for output in start(&run) {
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!("{}: {}", output.status, errors(&output)));
        }
    }
    for (i, call) in case.calls.iter().enumerate() {
        let expected = call.read_outputs().map_err(|error| error.to_string())?;
        for rank in 0..case.ranks {
            let path = folder.path().join(format!("out{i}_{rank}.npz"));
            let actual = npz::read_numbered(path, "out_").map_err(|error| error.to_string())?;
            if actual.len() != expected.len() {
                return Err(format!("{} outputs instead of {}", actual.len(), expected.len()));
            }
            for (k, (a, e)) in actual.iter().zip(&expected).enumerate() {
                compare(a, e, case.tolerance)
                    .map_err(|error| format!("call {i}, rank {rank}, output {k}: {error}"))?;
            }
        }
    }
    Ok(())
}

/// What a command has printed to stderr.
pub(crate) fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
