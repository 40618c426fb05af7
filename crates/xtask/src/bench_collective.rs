//! `cargo xtask bench-collective`: our collectives, and those of other programs on this machine beside them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::Result;
use crate::programs::{build_mslite, exit_code, status};
use crate::workspace::Workspace;

/// Sources of the peers.
const PEERS: &str = "crates/xtask/peers";

/// What is measured unless flags say otherwise.
const DEFAULTS: [(&str, &str); 3] = [
    ("--ops", "all_reduce,all_gather,reduce_scatter"),
    ("--ranks", "2,4"),
    ("--sizes", "8,4K,64K,1M,16M,64M"),
];

/// Seconds after which a peer's run ends without the rest: some MPIs take minutes with more ranks than cores.
const PATIENCE: u32 = 120;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A Python that has torch, for gloo.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Further flags of `mslite bench collective`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

/// An MPI: its compiler, and how it starts ranks.
struct Mpi {
    name: &'static str,
    compiler: &'static str,
    launcher: &'static str,
}

/// The two of Debian; another one goes by its plain name.
const NAMED: [Mpi; 2] = [
    Mpi {
        name: "openmpi",
        compiler: "mpicc.openmpi",
        launcher: "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun.openmpi --oversubscribe",
    },
    Mpi { name: "mpich", compiler: "mpicc.mpich", launcher: "mpirun.mpich" },
];
const OTHER: [Mpi; 1] = [Mpi { name: "mpi", compiler: "mpicc", launcher: "mpirun" }];

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let mslite = build_mslite(workspace)?;
    let mut command = Command::new(&mslite);
    command.args(["bench", "collective"]);
    for (flag, value) in DEFAULTS {
        if !args.flags.iter().any(|given| is_instead_of(given, flag)) {
            command.args([flag, value]);
        }
    }
    for peer in peers(workspace, args, &mslite)? {
        command.arg("--peer").arg(peer);
    }
    Ok(exit_code(status(command.args(&args.flags))?))
}

/// Whether a flag takes the place of a default.
fn is_instead_of(given: &str, default: &str) -> bool {
    let name = given.split('=').next().unwrap_or_default();
    name == default
        || (default == "--ranks" && name.starts_with("-n"))
        || (default == "--sizes" && matches!(name, "--min" | "--max" | "--factor"))
}

/// The peers of this machine, as `--peer` takes them.
fn peers(workspace: &Workspace, args: &Args, mslite: &Path) -> Result<Vec<OsString>> {
    let is_there = |mpi: &&Mpi| answers(Command::new(mpi.compiler).arg("--version"));
    let mut mpis: Vec<&Mpi> = NAMED.iter().filter(is_there).collect();
    if mpis.is_empty() {
        mpis.extend(OTHER.iter().filter(is_there));
    }
    let mut peers = Vec::new();
    for mpi in mpis {
        let program = compile(workspace, mpi)?;
        peers.push(peer(mpi.name, &format!("{} -n {{ranks}} {}", mpi.launcher, quoted(&program))));
    }
    if answers(
        Command::new(&args.python)
            .args(["-c", "import torch.distributed as d; assert d.is_gloo_available()"]),
    ) {
        let script = workspace.root.join(PEERS).join("gloo.py");
        let [mslite, python, script] = [mslite, &args.python, &script].map(quoted);
        peers.push(peer("gloo", &format!("{mslite} launch --unmarked -n {{ranks}} -- {python} {script}")));
    } else {
        eprintln!("without gloo: {} has no torch (--python P names another)", args.python.display());
    }
    Ok(peers)
}

/// `NAME=COMMAND` for a program that takes operations, sizes, batches and milliseconds.
fn peer(name: &str, start: &str) -> OsString {
    format!("{name}=timeout --foreground {PATIENCE} env {start} {{ops}} {{sizes}} {{batches}} {{time}} || echo '{name} was cut off' >&2")
        .into()
}

fn compile(workspace: &Workspace, mpi: &Mpi) -> Result<PathBuf> {
    let folder = workspace.target.join("peers");
    std::fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
    let program = folder.join(mpi.name);
    let mut command = Command::new(mpi.compiler);
    command.args(["-O3", "-o"]).arg(&program).arg(workspace.root.join(PEERS).join("mpi.c"));
    match status(&mut command)?.success() {
        true => Ok(program),
        false => Err(format!("{} does not compile the peer", mpi.compiler)),
    }
}

/// Whether a command is there, and content.
fn answers(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_take_the_place_of_defaults() {
        for given in ["--sizes", "--sizes=8", "--min", "--max=4K"] {
            assert!(is_instead_of(given, "--sizes"), "{given}");
        }
        assert!(is_instead_of("-n2", "--ranks") && is_instead_of("--ranks", "--ranks"));
        assert!(!is_instead_of("--size", "--sizes") && !is_instead_of("--rounds", "--ranks"));
    }

    #[test]
    fn paths_are_words_of_the_shell() {
        let echo = |path: &str| {
            let line = format!("printf %s {}", quoted(Path::new(path)));
            Command::new("sh").args(["-c", &line]).output().unwrap().stdout
        };
        for path in ["/a b/c", "it's $HOME", "`x`"] {
            assert_eq!(echo(path), path.as_bytes());
        }
    }
}
