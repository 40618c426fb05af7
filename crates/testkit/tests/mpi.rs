//! Ranks over MPI: this test program runs itself as the ranks, by mpirun, each a call of `rank` with a role.
#![cfg(feature = "mpi")]
#![allow(clippy::print_stdout, reason = "the parent reads it")]

use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use mslite_collective::{Cancellation, CollectiveExt, Error, JoinOptions, Reduction, Result, World};
use mslite_testkit::collective::{Rank, conformance_of_process};

const ROLE: &str = "MPI_TEST_ROLE";

/// Launchers; the one that comes with the MPI of this program starts it.
const LAUNCHERS: [&str; 4] = ["mpirun.openmpi", "mpirun.mpich", "mpirun", "mpiexec"];

/// How long processes that are in step may be apart.
const LONG: Duration = Duration::from_secs(120);

/// Not a test by itself: what a rank does.
#[test]
fn rank() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let result = JoinOptions::from_env().and_then(|options| {
        let options = options.expect("the test sets the environment");
        match role.as_str() {
            "conformance" => conform(&options),
            // Does not start MPI, for which the others wait.
            "late" if options.rank + 1 == options.size => {
                std::thread::sleep(Duration::from_secs(8));
                Ok(())
            }
            // Starts MPI, and does not join.
            "absent" if options.rank + 1 == options.size => {
                let refused = World::join(&JoinOptions { rank: 0, ..options });
                assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
                std::thread::sleep(LONG);
                Ok(())
            }
            _ => act(&role, &World::join(&options)?),
        }
    });
    match result {
        Ok(()) => println!("\nRESULT ok"),
        Err(error) => println!("\nRESULT {:?} {error}", error.culprits()),
    }
}

fn conform(options: &JoinOptions) -> Result<()> {
    let options = options.clone();
    let all = World::join(&JoinOptions { timeout: LONG, ..options.clone() })?;
    let rank = options.rank;
    let provider = move |size: usize, timeout: Duration| -> Result<Rank> {
        // Ranks that an earlier case has kept busy come late.
        all.group(&format!("first {size}"), &(0..size).collect::<Vec<_>>())?.barrier()?;
        let world = World::join(&JoinOptions { size, timeout, ..options.clone() })?;
        Ok(Box::new(move |name, ranks| world.group(name, ranks)))
    };
    let report = conformance_of_process(rank, provider, &[]);
    if report.is_success() { Ok(()) } else { Err(Error::Unsupported(report.to_string())) }
}

fn act(role: &str, world: &World) -> Result<()> {
    let (rank, group) = (world.rank(), world.everybody());
    let last = rank + 1 == world.size();
    match role {
        "work" => return work(world),
        "stop" if last => stop(),
        "die" if last => std::process::abort(),
        "exit" if last => std::process::exit(0),
        "leave" if last => return Ok(()),
        "panic" if last => panic!("a rank fails"),
        "groups" => return world.group("some", if last { &[0, 2] } else { &[0, 1, 2] })?.barrier(),
        "mismatch" if last => return group.all_reduce(&mut [1i32; 3], Reduction::Sum),
        "mismatch" => return group.all_reduce(&mut [1f32; 3], Reduction::Sum),
        "abort" if last => {
            world.abort("no more paper");
            return group.barrier();
        }
        "cancel" | "signal" if last => cancel_soon(role, world.cancellation().clone()),
        _ => {}
    }
    let mut data = vec![1.0f32; 1_000_000];
    loop {
        data.fill(1.0);
        group.all_reduce(&mut data, Reduction::Sum)?;
        assert!(data.iter().all(|&x| x == world.size() as f32));
    }
}

/// From another thread, or as the handler of a signal.
fn cancel_soon(role: &str, cancellation: Cancellation) {
    let is_handler = role == "signal";
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        if is_handler { cancellation.signal(15) } else { cancellation.cancel("SIGTERM") }
    });
}

fn stop() {
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
}

/// Operations of all sizes, whose results are the same at all ranks and those of additions in their order.
fn work(world: &World) -> Result<()> {
    let (rank, n, group) = (world.rank(), world.size(), world.everybody());
    let others = world.exchange(&vec![rank as u8; 300_000 * rank])?;
    assert!(others.iter().enumerate().all(|(r, bytes)| *bytes == vec![r as u8; 300_000 * r]));
    let value = |rank: usize, i: usize| ((i * 31 + rank * 17) % 1009) as f32 * 0.37 - 150.0;
    for count in [0, 1, 1000, 4097, 100_003, 1_500_001] {
        let mut data: Vec<f32> = (0..count).map(|i| value(rank, i)).collect();
        group.all_reduce(&mut data, Reduction::Sum)?;
        let sum = |i: usize| (1..n).fold(value(0, i), |sum, rank| sum + value(rank, i));
        assert!(data.iter().enumerate().all(|(i, &x)| x.to_bits() == sum(i).to_bits()), "{count}");
        for root in 0..n {
            let mut data: Vec<f32> = (0..count).map(|i| value(rank, i)).collect();
            group.broadcast(&mut data, root)?;
            assert!(data.iter().enumerate().all(|(i, &x)| x == value(root, i)), "{count}");
        }
    }
    Ok(())
}

#[test]
fn mpi_conforms() {
    let Some(job) = Job::run("conformance", 4, LONG) else { return };
    assert_eq!(job.results, ["ok"; 4], "{job:?}");
    assert!(job.is_success, "{job:?}");
}

#[test]
fn a_job_works_and_ends_in_silence() {
    for ranks in 1..=4 {
        let Some(job) = Job::run("work", ranks, LONG) else { return };
        assert_eq!(job.results, vec!["ok"; ranks], "{job:?}");
        assert!(job.is_success && job.stderr.is_empty(), "{job:?}");
    }
}

#[test]
fn different_operations_are_errors_at_all_ranks() {
    let Some(job) = Job::run("mismatch", 3, LONG) else { return };
    assert_eq!(job.results.len(), 3, "{job:?}");
    for result in &job.results {
        assert!(
            result.contains("2] ranks ") && result.contains("i32[3]") && result.contains("f32[3]"),
            "{job:?}"
        );
    }
}

#[test]
fn different_groups_of_one_name_are_errors_at_all_ranks() {
    let Some(job) = Job::run("groups", 3, LONG) else { return };
    assert_eq!(job.results.len(), 3, "{job:?}");
    for result in &job.results {
        assert!(result.contains("2] ranks ") && result.contains("group \"some\" of ranks [0, 2]"), "{job:?}");
    }
}

#[test]
fn ranks_that_end_are_named_with_the_reason() {
    let cases = [
        ("exit", "left the world"),
        ("leave", "left the world"),
        ("panic", "panicked"),
        ("abort", "no more paper"),
    ];
    for (role, reason) in cases {
        let Some(job) = Job::run(role, 3, LONG) else { return };
        let lost = job.results.iter().filter(|result| result.starts_with("[2] rank 2 is lost"));
        assert_eq!(lost.filter(|result| result.contains(reason)).count(), 2, "{role}: {job:?}");
    }
}

#[test]
fn cancellation_ends_all_ranks() {
    for role in ["cancel", "signal"] {
        let Some(job) = Job::run(role, 3, LONG) else { return };
        let named = job
            .results
            .iter()
            .filter(|result| result.starts_with("[2] cancelled by SIGTERM at rank 2 during all_reduce"));
        assert!(named.count() == 3 && job.took < LONG / 4, "{job:?}");
    }
}

#[test]
fn a_stuck_rank_is_named_at_the_timeout() {
    let Some(job) = Job::run("stop", 3, Duration::from_secs(2)) else { return };
    // The stuck one is woken up to be ended, and may say something, too.
    assert!(job.results.len() >= 2, "{job:?}");
    for result in &job.results {
        assert!(result.starts_with("[2] no answer from rank 2 within 2s"), "{job:?}");
    }
    assert!(!job.is_success);
}

#[test]
fn a_rank_that_does_not_start_mpi_is_missed_at_the_timeout() {
    let Some(job) = Job::run("late", 2, Duration::from_secs(2)) else { return };
    assert!(
        job.results.iter().any(|result| result.starts_with("[1] no answer from rank 1 within 2s")),
        "{job:?}"
    );
}

#[test]
fn a_rank_that_does_not_join_is_missed_at_the_timeout() {
    let Some(job) = Job::run("absent", 3, Duration::from_secs(2)) else { return };
    let named = job.results.iter().filter(|result| result.starts_with("[2] no answer from rank 2 within 2s"));
    assert!(named.count() == 2 && !job.is_success && job.took < LONG, "{job:?}");
}

#[test]
fn a_rank_that_dies_ends_the_job() {
    let Some(job) = Job::run("die", 3, LONG) else { return };
    assert!(!job.is_success && job.took < LONG, "{job:?}");
}

#[test]
fn a_program_without_its_mpirun_says_so() {
    if launcher().is_none() {
        return;
    }
    let mut command = program("work", LONG);
    let output = command.env("RANK_ID", "0").env("RANK_SIZE", "2").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("rank 0 of 2, but MPI says rank 0 of 1") && text.contains("its mpirun"), "{text}");
}

/// What came of a job.
#[derive(Debug)]
struct Job {
    results: Vec<String>,
    stderr: String,
    is_success: bool,
    took: Duration,
}

impl Job {
    /// `None` where there is no mpirun.
    fn run(role: &str, ranks: usize, timeout: Duration) -> Option<Job> {
        let Some(launcher) = launcher() else {
            println!("skipped: there is no mpirun");
            return None;
        };
        let since = Instant::now();
        Some(Job::new(run(launcher, role, ranks, timeout), since.elapsed()))
    }

    fn new(output: Output, took: Duration) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let results = stdout.lines().filter_map(|line| Some(line.split_once("RESULT ")?.1.to_owned()));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Job { results: results.collect(), stderr, is_success: output.status.success(), took }
    }
}

/// The mpirun that starts this program, if there is any at all.
fn launcher() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&str>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let is_there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
        let there: Vec<&str> = LAUNCHERS.into_iter().filter(is_there).collect();
        let starts =
            |name: &&str| Job::new(run(name, "work", 2, LONG), Duration::ZERO).results == ["ok", "ok"];
        let fitting = there.iter().copied().find(starts);
        assert!(fitting.is_some() || there.is_empty(), "none of {there:?} starts this program");
        fitting
    })
}

fn run(launcher: &str, role: &str, ranks: usize, timeout: Duration) -> Output {
    let program = program(role, timeout);
    let mut command = Command::new(launcher);
    command.args(["-n", &ranks.to_string()]).arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap()
}

/// This program in a role. Open MPI wants to be told that root may run it, and more ranks than there are cores.
fn program(role: &str, timeout: Duration) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["rank", "--exact", "--nocapture", "--test-threads=1"]);
    command
        .env(ROLE, role)
        .env("MSLITE_TRANSPORT", "mpi")
        .env("MSLITE_TIMEOUT", timeout.as_secs().to_string());
    for variable in
        ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe"]
    {
        command.env(variable, "1");
    }
    command
}
