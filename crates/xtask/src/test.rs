//! `cargo xtask test`: everything that must hold, in one command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::workspace::{Workspace, cargo};
use crate::{Result, run_distributed, tidy};

/// One thing that must hold.
struct Step {
    name: &'static str,
    work: Work,
}

enum Work {
    Cargo {
        arguments: &'static [&'static str],
        needs: &'static [Needs],
        /// Set for the command.
        environment: &'static [(&'static str, &'static str)],
    },
    Tidy,
    Example {
        ranks: usize,
    },
}

/// What builds and is tested on every machine: libraries of vendors are opened at run time, by stand-ins here.
const FEATURES: &str =
    "mslite-collective/nccl,mslite-collective/hccl,mslite-testkit/nccl,mslite-testkit/hccl";

/// What needs an MPI to be built.
const MPI_FEATURES: &str = "mslite-testkit/mpi,mslite-cli/mpi";

/// What a step needs that may be absent.
enum Needs {
    /// A component of the Rust toolchain, and the cargo command that it brings.
    Component(&'static str, &'static str),
    /// An MPI with its compiler wrapper, and libclang, which reads its headers.
    Mpi,
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        work: Work::Cargo {
            arguments: &["fmt", "--all", "--check"],
            needs: &[Needs::Component("rustfmt", "fmt")],
            environment: &[],
        },
    },
    Step { name: "tidy", work: Work::Tidy },
    Step {
        name: "lints",
        work: Work::Cargo {
            arguments: &[
                "clippy",
                "--workspace",
                "--features",
                FEATURES,
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
            needs: &[Needs::Component("clippy", "clippy")],
            environment: &[],
        },
    },
    Step {
        name: "lints of what needs MPI",
        work: Work::Cargo {
            arguments: &[
                "clippy",
                "--workspace",
                "--features",
                MPI_FEATURES,
                "--all-targets",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ],
            needs: &[Needs::Component("clippy", "clippy"), Needs::Mpi],
            environment: &[],
        },
    },
    Step {
        name: "tests",
        work: Work::Cargo {
            arguments: &["test", "--workspace", "--features", FEATURES, "--quiet"],
            needs: &[],
            environment: &[],
        },
    },
    // Atomics are loom's then: a build of its own.
    Step {
        name: "model check of shared memory",
        work: Work::Cargo {
            arguments: &["test", "-p", "mslite-collective", "--test", "loom", "--quiet"],
            needs: &[],
            environment: &[("RUSTFLAGS", "--cfg loom"), ("CARGO_TARGET_DIR", "target/loom")],
        },
    },
    Step {
        name: "tests over MPI",
        work: Work::Cargo {
            arguments: &[
                "test",
                "--workspace",
                "--features",
                MPI_FEATURES,
                "--test",
                "mpi",
                "--test",
                "launchers",
                "--quiet",
            ],
            needs: &[Needs::Mpi],
            environment: &[],
        },
    },
    Step {
        name: "documentation",
        work: Work::Cargo {
            arguments: &["doc", "--workspace", "--features", FEATURES, "--no-deps", "--quiet"],
            needs: &[],
            environment: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    },
    Step { name: "example on 2 ranks", work: Work::Example { ranks: 2 } },
    Step { name: "example on 4 ranks", work: Work::Example { ranks: 4 } },
];

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// With the reason.
    Skipped(String),
}

pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let begin = Instant::now();
    let mut skipped = Vec::new();
    for step in STEPS {
        println!("== {}", step.name);
        let step_begin = Instant::now();
        let outcome = step.work.run(workspace)?;
        println!("== {}: {} ({:.1} s)", step.name, verb(&outcome), step_begin.elapsed().as_secs_f32());
        match outcome {
            Outcome::Passed => {}
            Outcome::Failed => {
                println!("FAILED: {}", step.name);
                return Ok(ExitCode::FAILURE);
            }
            Outcome::Skipped(reason) => skipped.push(format!("{} ({reason})", step.name)),
        }
    }
    println!("{}", summary(STEPS.len() - skipped.len(), &skipped, begin.elapsed().as_secs_f32()));
    Ok(ExitCode::SUCCESS)
}

impl Work {
    fn run(&self, workspace: &Workspace) -> Result<Outcome> {
        let passed = match self {
            Work::Cargo { arguments, environment, needs } => {
                if let Some(reason) = needs.iter().find_map(Needs::lacking) {
                    return Ok(Outcome::Skipped(reason));
                }
                let mut command = cargo();
                command.args(*arguments).envs(environment.iter().copied()).current_dir(&workspace.root);
                command.status().map_err(|e| format!("cargo does not start: {e}"))?.success()
            }
            Work::Tidy => tidy::run(workspace, &tidy::Args::default())? == ExitCode::SUCCESS,
            Work::Example { ranks } => {
                let args = run_distributed::Args { ranks: *ranks, model: None, flags: Vec::new() };
                match run_distributed::run(workspace, &args) {
                    Ok(code) => code == ExitCode::SUCCESS,
                    Err(message) => {
                        eprintln!("error: {message}");
                        false
                    }
                }
            }
        };
        Ok(if passed { Outcome::Passed } else { Outcome::Failed })
    }
}

impl Needs {
    /// What is absent, if anything.
    fn lacking(&self) -> Option<String> {
        match self {
            Needs::Component(component, command) if !is_installed(command) => {
                Some(format!("{component} is not installed: rustup component add {component}"))
            }
            Needs::Mpi if !runs(&std::env::var("MPICC").unwrap_or_else(|_| "mpicc".to_owned())) => {
                Some("there is no mpicc: install Open MPI or MPICH with its headers, or set MPICC".to_owned())
            }
            Needs::Mpi if !has_libclang() => {
                Some("there is no libclang: install it, or set LIBCLANG_PATH".to_owned())
            }
            _ => None,
        }
    }
}

fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Whether libclang is where systems have it, or where LIBCLANG_PATH says.
fn has_libclang() -> bool {
    let list = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let is_it = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("libclang") && name.contains(".so"))
    };
    let given = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let usual = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let versions = usual.iter().flat_map(|folder| list(folder)).filter(|path| path.is_dir());
    let nested: Vec<PathBuf> = versions.flat_map(|folder| [folder.join("lib"), folder]).collect();
    given
        .into_iter()
        .chain(usual.clone())
        .chain(nested)
        .any(|folder| is_it(&folder) || list(&folder).iter().any(is_it))
}

fn is_installed(command: &str) -> bool {
    let quiet = |c: &mut Command| c.stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet(cargo().args([command, "--version"])).is_ok_and(|status| status.success())
}

fn verb(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed => "failed".to_owned(),
        Outcome::Skipped(reason) => format!("skipped, {reason}"),
    }
}

fn summary(passed: usize, skipped: &[String], seconds: f32) -> String {
    let all = format!("{passed} steps passed in {seconds:.0} s");
    if skipped.is_empty() {
        format!("OK: {all}")
    } else {
        format!("OK: {all}; SKIPPED: {}", skipped.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_names_what_was_skipped() {
        assert_eq!(summary(7, &[], 12.4), "OK: 7 steps passed in 12 s");
        let skipped = ["lints (clippy is not installed)".to_owned()];
        assert_eq!(
            summary(6, &skipped, 1.0),
            "OK: 6 steps passed in 1 s; SKIPPED: lints (clippy is not installed)"
        );
    }

    #[test]
    fn cargo_knows_its_commands() {
        assert!(is_installed("metadata") || is_installed("tree"));
        assert!(!is_installed("no-such-command"));
    }
}
