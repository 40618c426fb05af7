//! Programs that the commands build and run.

use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use crate::Result;
use crate::workspace::{Workspace, cargo};

/// Builds `mslite` in release.
pub(crate) fn build_mslite(workspace: &Workspace) -> Result<PathBuf> {
    eprintln!("building mslite (release)");
    let mut command = cargo();
    command.args(["build", "--release", "--quiet", "--package", "mslite-cli", "--target-dir"]);
    let status = status(command.arg(&workspace.target).current_dir(&workspace.root))?;
    if !status.success() {
        return Err("mslite does not build".to_owned());
    }
    Ok(workspace.target.join("release").join(format!("mslite{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs a program.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|e| format!("{} does not start: {e}", command.get_program().display()))
}

/// The code of a child as our own; 1 when a signal ended it.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}
