//! Sliced models give MindSpore's outputs, whoever starts the ranks: `mslite launch`, MPI's launchers, something like
//! Slurm, two shells. With the feature `mpi`, ranks go through MPI where they are asked to, or are on two hosts.
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

mod support;

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use mslite_testkit::cases::{Case, discover};
use rustix::process::{Signal, kill_process};
use support::hosts::TwoHosts;
use support::job::{Job, unique};
use support::mpirun::{self, Mpirun};
use support::{check_started, errors, mslite};

/// Runs all distributed models; prints a line with the number of them, and how long they took.
fn check_all(how: &str, start: impl Fn(&Case, &[OsString]) -> Vec<io::Result<Output>>) {
    let mut cases = discover(support::models().join("dev")).unwrap();
    cases.retain(|case| case.ranks > 1);
    if cases.is_empty() {
        println!("skipped: no models beside the checkout");
        return;
    }
    let since = Instant::now();
    let result = |case: &Case| check_started(case, |run| start(case, run)).err();
    let wrong: Vec<String> =
        cases.iter().filter_map(|case| Some(format!("{}: {}", case.name, result(case)?))).collect();
    assert!(wrong.is_empty(), "{how}: {} of {} cases fail:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{how}: {} cases in {:.1} s", cases.len(), since.elapsed().as_secs_f32());
}

/// Starts one process for each rank, with what a launcher would set.
fn one_by_one(
    case: &Case,
    run: &[OsString],
    variables: &dyn Fn(usize) -> Vec<(&'static str, String)>,
) -> Vec<io::Result<Output>> {
    let start = |rank: usize| {
        let mut command = mslite();
        command.args(run).envs(variables(rank)).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn()
    };
    let children: Vec<_> = (0..case.ranks).map(start).collect();
    children.into_iter().map(|child| child?.wait_with_output()).collect()
}

#[test]
fn mslite_launch() {
    check_all("mslite launch", |case, run| {
        let mut command = mslite();
        command.args(["launch", "--ranks", &case.ranks.to_string(), "--"]).arg(mslite().get_program());
        vec![command.args(run).output()]
    });
}

#[test]
fn shells() {
    check_all("shells", |case, run| {
        let meet = unique();
        one_by_one(case, run, &|rank| {
            let size = case.ranks.to_string();
            vec![("RANK_ID", rank.to_string()), ("RANK_SIZE", size), ("MSLITE_RENDEZVOUS", meet.clone())]
        })
    });
}

#[test]
fn like_srun() {
    check_all("like srun", |case, run| {
        let job = unique();
        one_by_one(case, run, &|rank| {
            let size = case.ranks.to_string();
            let place = [("SLURM_PROCID", rank.to_string()), ("SLURM_NTASKS", size)];
            place
                .into_iter()
                .chain([("SLURM_JOB_ID", job.clone()), ("SLURM_NNODES", "1".to_owned())])
                .collect()
        })
    });
}

#[test]
fn mpirun_over_shared_memory() {
    for mpirun in launchers() {
        check_all(&format!("{} over shared memory", mpirun.program), |case, run| {
            vec![under(&mpirun, case.ranks, run).output()]
        });
    }
}

#[test]
fn mpirun_over_mpi() {
    if !cfg!(feature = "mpi") {
        println!("skipped: the feature mpi is off");
        return;
    }
    let Some(mpirun) = fitting() else { return };
    check_all(&format!("{} over MPI", mpirun.program), |case, run| {
        vec![under(&mpirun, case.ranks, run).args(["--transport", "mpi"]).output()]
    });
}

#[test]
fn a_signal_to_a_rank_under_mpirun_ends_all() {
    let over_mpi = cfg!(feature = "mpi").then(fitting).flatten().map(|mpirun| (mpirun, "mpi"));
    for (mpirun, transport) in launchers().into_iter().map(|mpirun| (mpirun, "shared")).chain(over_mpi) {
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
            let run = ["run".into(), example(), "--transport".into(), transport.into()];
            let mut command = under(&mpirun, 2, &run);
            command.args(["--repeat", "100000000"]);
            let job = Job::start(command);
            job.until_joined(1);
            kill_process(job.rank(1), signal).unwrap();
            let (status, lines, took) = job.end();
            println!("{name} to a rank of {} over {transport}: ended after {took:?}", mpirun.program);
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{lines:#?}");
            let named = format!("cancelled by {name} at rank 1 ");
            for rank in ["[rank 0] ", "[rank 1] "] {
                assert!(lines.iter().any(|line| line.contains(rank) && line.contains(&named)), "{lines:#?}");
            }
        }
    }
}

#[test]
fn a_signal_to_a_rank_whose_peer_never_leaves_ends_all() {
    let Some(mpirun) = cfg!(feature = "mpi").then(fitting).flatten() else {
        println!("skipped: no MPI");
        return;
    };
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let mut command = under(&mpirun, 2, &["run".into(), example()]);
        command.args(["--transport", "mpi", "--repeat", "100000000"]);
        let job = Job::start(command);
        [0, 1].into_iter().for_each(|rank| job.until_joined(rank));
        // The other one waits for it, until it is told to end, and MPI's end does so, too.
        kill_process(job.rank(0), Signal::STOP).unwrap();
        kill_process(job.rank(1), signal).unwrap();
        job.until_gone();
        let (status, lines, _) = job.end();
        // Open MPI's launcher may crash when it ends while ranks do.
        match status.code() {
            Some(code) => assert_eq!(code, 128 + signal.as_raw(), "{lines:#?}"),
            None => println!("{} has ended with {status}", mpirun.program),
        }
        let own: Vec<_> = lines.iter().filter(|line| line.contains("[rank 1] ")).collect();
        let named = format!("cancelled by {name} at rank 1 during ");
        assert!(own.len() == 1 && own[0].contains(&named), "{lines:#?}");
    }
}

#[test]
fn without_mpi_it_says_what_to_build() {
    if cfg!(feature = "mpi") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = mslite()
        .arg("run")
        .arg(folder.path())
        .args(["--transport", "mpi"])
        .envs([("RANK_ID", "0"), ("RANK_SIZE", "1")])
        .output()
        .unwrap();
    assert!(errors(&output).contains("Build it with the feature `mpi`"), "{}", errors(&output));
}

#[test]
fn two_hosts() {
    let all = launchers();
    let Some(case) =
        discover(support::models().join("dev")).unwrap().into_iter().find(|c| c.name == "d_gpt2_tp2_fp32")
    else {
        println!("skipped: no models beside the checkout");
        return;
    };
    let hosts = match TwoHosts::new() {
        Ok(hosts) => hosts,
        Err(reason) => return println!("skipped: no two hosts: {reason}"),
    };
    let start = |mpirun: &Mpirun, run: &[OsString]| {
        let mut program = mslite();
        program.args(run);
        hosts.run(mpirun, &program)
    };
    if cfg!(feature = "mpi") {
        let Some(mpirun) = fitting() else { return };
        let before = hosts.traffic();
        check_started(&case, |run| vec![start(&mpirun, &[run, &["--repeat".into(), "50".into()]].concat())])
            .unwrap();
        let moved = hosts.traffic() - before;
        println!("{} on two hosts: {moved} bytes through the cable", mpirun.program);
        assert!(moved > 1_000_000, "only {moved} bytes went through the cable");
        return;
    }
    for mpirun in all {
        let output = start(&mpirun, &["run".into(), case.models[0].clone().into()]).unwrap();
        let text = errors(&output);
        assert!(text.contains("is 1 of 2 ranks, so that ranks are on several hosts"), "{text}");
        assert!(text.contains("Build it with the feature `mpi`"), "{text}");
    }
}

fn launchers() -> Vec<Mpirun> {
    let all = mpirun::all();
    if all.is_empty() {
        println!("skipped: there is no mpirun");
    }
    all
}

/// The command as so many ranks.
fn under(mpirun: &Mpirun, ranks: usize, run: &[OsString]) -> Command {
    let mut command = mpirun.command(ranks);
    command.arg(mslite().get_program()).args(run);
    command
}

/// A model for two ranks.
fn example() -> OsString {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2");
    folder.join("rank{rank}.mindir").into()
}

/// The launcher of the MPI that the command was built with.
fn fitting() -> Option<Mpirun> {
    let all = launchers();
    let run = ["run".into(), example(), "--transport".into(), "mpi".into()];
    let works =
        |mpirun: &&Mpirun| under(mpirun, 2, &run).output().is_ok_and(|output| output.status.success());
    let fitting = all.iter().find(works).copied();
    assert!(fitting.is_some() || all.is_empty(), "none of {all:?} starts this program over MPI");
    fitting
}
