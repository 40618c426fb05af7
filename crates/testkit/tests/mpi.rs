//! The suite of collectives over MPI: this test program runs itself as the ranks, by mpirun.
#![cfg(feature = "mpi")]
#![allow(clippy::print_stdout, reason = "the parent reads it")]

use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use mslite_collective::{CollectiveExt, JoinOptions, Result, World};
use mslite_testkit::collective::{Rank, conformance_of_process};

const ROLE: &str = "TESTKIT_MPI_ROLE";

/// Launchers, of which at least the one that comes with the MPI of this program starts it.
const LAUNCHERS: [&str; 4] = ["mpirun.openmpi", "mpirun.mpich", "mpirun", "mpiexec"];

#[test]
fn mpi_conforms() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let Some(launcher) = launcher() else {
        println!("skipped: there is no mpirun");
        return;
    };
    let output = run(launcher, "conformance", 4);
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts: Vec<&str> =
        text.lines().filter_map(|line| line.split_once("RESULT ")).map(|(_, v)| v).collect();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(verdicts, ["true"; 4], "{text}");
}

/// Not a test by itself: what a rank does.
#[test]
fn rank() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let options = JoinOptions::from_env().unwrap().expect("mpirun sets the environment");
    let mut patient = options.clone();
    patient.timeout = Duration::from_secs(120);
    let all = Arc::new(World::join(&patient).unwrap());
    all.everybody().barrier().unwrap();
    let is_success = role == "probe" || conforms(&all, &options);
    println!("\nRESULT {is_success}");
    assert!(is_success);
    all.everybody().barrier().unwrap();
}

fn conforms(all: &World, options: &JoinOptions) -> bool {
    let (rank, options) = (all.rank(), options.clone());
    let step = |all: &World, size: usize| match size == all.size() {
        true => all.everybody().barrier(),
        false => all.group(&format!("first {size}"), &(0..size).collect::<Vec<_>>())?.barrier(),
    };
    let all = World::join(&JoinOptions { timeout: Duration::from_secs(120), ..options.clone() }).unwrap();
    let provider = move |size: usize, timeout: Duration| -> Result<Rank> {
        step(&all, size)?;
        let world = World::join(&JoinOptions { size, timeout, ..options.clone() })?;
        Ok(Box::new(move |name, ranks| world.group(name, ranks)))
    };
    let report = conformance_of_process(rank, provider, &[]);
    println!("\nrank {rank}: {report}");
    report.is_success()
}

fn launcher() -> Option<&'static str> {
    let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let there: Vec<&str> = LAUNCHERS.into_iter().filter(is_there).collect();
    let fits = |name: &&str| run(name, "probe", 2).status.success();
    let fitting = there.iter().copied().find(fits);
    assert!(fitting.is_some() || there.is_empty(), "none of {there:?} starts this program");
    fitting
}

fn run(launcher: &str, role: &str, ranks: usize) -> Output {
    Command::new(launcher)
        .args(["-n", &ranks.to_string()])
        .arg(std::env::current_exe().unwrap())
        .args(["rank", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env("MSLITE_TRANSPORT", "mpi")
        .env("MSLITE_TIMEOUT", "30")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .output()
        .unwrap()
}
