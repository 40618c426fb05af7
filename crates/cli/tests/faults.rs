//! Ranks that die, do not come, or do not fit: every other rank ends with an error that names the one to blame.
#![allow(clippy::print_stdout, reason = "tests say what they skip and measure")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::{Signal, kill_process};
use support::job::{Job, shared_memory, unique};
use support::{errors, models, mslite};

/// How long the launcher lets ranks end by themselves when one has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The slices of a case; nothing where only the repository is.
fn slices(case: &str) -> Option<PathBuf> {
    let folder = models().join("dev").join(case);
    if !folder.is_dir() {
        println!("skipped: no models beside the checkout");
        return None;
    }
    Some(folder.join("rank{rank}.mindir"))
}

fn at(pattern: &Path, rank: usize) -> PathBuf {
    pattern.to_string_lossy().replace("{rank}", &rank.to_string()).into()
}

fn run_ranks(pattern: &Path, ranks: usize, further: &[&str]) -> Command {
    let mut command = mslite();
    command.arg("run").arg(pattern).args(["--ranks", &ranks.to_string()]).args(further);
    command
}

/// The process of one rank, as a launcher would start it.
fn by_hand(model: &Path, rank: usize, size: usize, rendezvous: &str, further: &[&str]) -> Command {
    let mut command = mslite();
    command.arg("run").arg(model).args(further);
    command.env("RANK_ID", rank.to_string()).env("RANK_SIZE", size.to_string());
    command.env("MSLITE_RENDEZVOUS", rendezvous);
    command
}

/// Lines that a rank has marked as its own.
fn of_rank(lines: &[String], rank: usize) -> Vec<&String> {
    lines.iter().filter(|line| line.starts_with(&format!("[rank {rank}] "))).collect()
}

fn assert_names_lost_rank(lines: &[String], survivor: usize, lost: usize) {
    let own = of_rank(lines, survivor);
    let named = format!("rank {lost} is lost");
    assert!(
        own.len() == 1 && own[0].contains("error: PeerLost: ") && own[0].contains(&named),
        "rank {survivor} does not name rank {lost}: {lines:#?}"
    );
}

#[test]
fn a_killed_rank_ends_all() {
    for (case, ranks, kills) in [("d_gpt2_tp2_fp32", 2, 10), ("d_gpt2_tp4_fp32", 4, 4)] {
        let Some(pattern) = slices(case) else { return };
        let mut times = Vec::new();
        for i in 0..kills {
            let lost = (i + 1) % ranks;
            let job = Job::start(run_ranks(&pattern, ranks, &["--repeat", "100000000"]));
            job.until_running(lost);
            kill_process(job.rank(lost), Signal::KILL).unwrap();
            let (status, lines, took) = job.end();
            assert_eq!(status.code(), Some(137), "{lines:#?}");
            (0..ranks).filter(|&r| r != lost).for_each(|r| assert_names_lost_rank(&lines, r, lost));
            assert!(lines.contains(&format!("error: rank {lost} was ended by signal 9")), "{lines:#?}");
            times.push(took);
        }
        times.sort();
        println!(
            "{ranks} ranks end after the kill of one: median {:?}, all {times:?}",
            times[times.len() / 2]
        );
    }
}

#[test]
fn a_rank_killed_at_start_up_ends_all() {
    let Some(pattern) = slices("d_gpt2_tp2_fp32") else { return };
    for i in 0..12u64 {
        let job = Job::start(run_ranks(&pattern, 2, &["--repeat", "100000000"]));
        let rank = job.rank(1);
        // Moments spread over what a start takes, unevenly.
        std::thread::sleep(Duration::from_micros(i * i * 1100));
        kill_process(rank, Signal::KILL).unwrap();
        let (status, lines, took) = job.end();
        println!("killed after {} us: {took:?}, {lines:?}", i * i * 1100);
        assert_eq!(status.code(), Some(137), "{lines:#?}");
        assert!(lines.iter().any(|line| line == "error: rank 1 was ended by signal 9"), "{lines:#?}");
        // On a slow machine the launcher's patience may end before the survivor comes to ask for its peer.
        if took < PATIENCE || !of_rank(&lines, 0).is_empty() {
            assert_names_lost_rank(&lines, 0, 1);
        }
    }
}

#[test]
fn a_stopped_rank_is_named_at_the_timeout_and_ended() {
    let Some(pattern) = slices("d_gpt2_tp2_fp32") else { return };
    let job = Job::start(run_ranks(&pattern, 2, &["--repeat", "100000000", "--timeout", "3"]));
    job.until_running(1);
    kill_process(job.rank(1), Signal::STOP).unwrap();
    let (status, lines, took) = job.end();
    println!("the job ended after {took:?}");
    assert_eq!(status.code(), Some(1), "{lines:#?}");
    let own = of_rank(&lines, 0);
    let is_right =
        |line: &str| line.contains("error: Timeout: ") && line.contains("no answer from rank 1 within 3s");
    assert!(is_right(own[0]), "{lines:#?}");
    // In whichever collective the stop has met the others.
    let is_report = |line: &str| line.contains("s for rank 1 in all_");
    assert!(own[1..].iter().all(|line| is_report(line)), "{lines:#?}");
}

#[test]
fn ranks_started_by_hand_notice_a_killed_one() {
    let Some(pattern) = slices("d_gpt2_tp2_fp32") else { return };
    let rendezvous = unique();
    let start =
        |rank| Job::start(by_hand(&at(&pattern, rank), rank, 2, &rendezvous, &["--repeat", "100000000"]));
    let (survivor, lost) = (start(0), start(1));
    std::thread::sleep(Duration::from_millis(1500));
    kill_process(lost.pid(), Signal::KILL).unwrap();
    lost.end();
    let (status, lines, took) = survivor.end();
    println!("the survivor ended after {took:?}");
    assert_eq!(status.code(), Some(1));
    assert_names_lost_rank(&lines, 0, 1);
    assert!(shared_memory(&rendezvous).is_empty());
}

#[test]
fn ranks_that_do_not_come_are_named() {
    let Some(pattern) = slices("d_matmul_row_tp4") else { return };
    let rendezvous = unique();
    let start = |rank| Job::start(by_hand(&at(&pattern, rank), rank, 4, &rendezvous, &["--timeout", "1"]));
    for (rank, job) in [0, 1, 3].map(|rank| (rank, start(rank))) {
        let (status, lines, _) = job.end();
        assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:#?}");
        assert!(lines[0].starts_with(&format!("[rank {rank}] error: ")), "{lines:#?}");
        assert!(lines[0].contains("rank 2 "), "{lines:#?}");
    }
    assert!(shared_memory(&rendezvous).is_empty());
}

/// The output of ranks with these models, all of which must fail with one line.
fn failing(models: &[PathBuf], further: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for (rank, model) in models.iter().enumerate() {
        std::fs::copy(model, folder.path().join(format!("rank{rank}.mindir"))).unwrap();
    }
    let written = folder.path().join("out{rank}.npz");
    let mut command = run_ranks(&folder.path().join("rank{rank}.mindir"), models.len(), further);
    let output: Output = command.arg("--outputs").arg(&written).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(output.stdout.is_empty() && !at(&written, 0).exists(), "something ran");
    let lines: Vec<String> = errors(&output).lines().map(str::to_owned).collect();
    for rank in 0..models.len() {
        assert_eq!(of_rank(&lines, rank).len(), 1, "{lines:#?}");
    }
    assert_eq!(lines.len(), models.len(), "{lines:#?}");
    lines
}

#[test]
fn models_that_do_not_fit_are_refused_with_both_nodes() {
    let Some(matmul) = slices("d_matmul_row_tp2") else { return };
    let (gpt, pipeline) = (slices("d_gpt2_tp2_fp32").unwrap(), slices("d_pipeline_pp2").unwrap());
    let tp4 = slices("d_matmul_row_tp4").unwrap();
    for how in [&[][..], &["--in-process"]] {
        for line in failing(&[at(&matmul, 0), at(&gpt, 1)], how) {
            assert!(line.contains("PlanMismatch") && line.contains("rank 0 has all_reduce"), "{line}");
            assert!(line.contains("Default/AllReduce-op0"), "{line}");
            assert!(
                line.contains("rank 1 has reduce_scatter") && line.contains("ReduceScatter-op0"),
                "{line}"
            );
        }
        for line in failing(&[at(&pipeline, 1), at(&pipeline, 0)], how) {
            assert!(line.contains("PlanMismatch"), "{line}");
            assert!(line.contains("rank 0 has receive") && line.contains("Default/Receive-op0"), "{line}");
            assert!(line.contains("rank 1 has send") && line.contains("Default/Send-op0"), "{line}");
        }
        for line in failing(&[at(&tp4, 0), at(&tp4, 1)], how) {
            assert!(line.contains("sliced for 4 ranks, but there are 2"), "{line}");
        }
        for line in failing(&[at(&matmul, 0), at(&tp4, 1)], how) {
            assert!(line.contains("sliced for 4 ranks, but there are 2"), "{line}");
        }
    }
}

#[test]
fn a_rank_that_cannot_read_its_model_tells_the_others() {
    let Some(matmul) = slices("d_matmul_row_tp2") else { return };
    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged");
    std::fs::write(&damaged, "no model").unwrap();
    for how in [&[][..], &["--in-process"]] {
        let lines = failing(&[at(&matmul, 0), damaged.clone()], how);
        assert_names_lost_rank(&lines, 0, 1);
        assert!(lines.iter().all(|line| line.contains("InvalidModel: ")), "{lines:#?}");
    }
}

#[test]
fn ctrl_c_ends_all() {
    let Some(pattern) = slices("d_gpt2_tp2_fp32") else { return };
    let mut launch = mslite();
    launch.args(["launch", "--ranks", "2", "--", "sh", "-c", "sleep 1000 & wait"]);
    for (command, says_so) in [(run_ranks(&pattern, 2, &["--repeat", "100000000"]), true), (launch, false)] {
        let job = Job::start(command);
        job.until_running(1);
        kill_process(job.pid(), Signal::INT).unwrap();
        let (status, lines, took) = job.end();
        println!("interrupted: ended after {took:?}");
        assert_eq!(status.code(), Some(130), "{lines:#?}");
        assert_eq!(lines.len(), if says_so { 2 } else { 0 }, "{lines:#?}");
        assert!(
            lines
                .iter()
                .all(|line| line.contains("error: Cancelled: ") && line.contains(" by SIGINT at rank ")),
            "{lines:#?}"
        );
    }
}

/// That a rank, and no other, was told to end.
fn assert_cancelled(lines: &[String], rank: usize, signal: &str, told: usize) {
    let own = of_rank(lines, rank);
    let named = format!("cancelled by {signal} at rank {told} ");
    assert!(
        own.len() == 1 && own[0].contains("error: Cancelled: ") && own[0].contains(&named),
        "rank {rank} does not say that rank {told} was told to end: {lines:#?}"
    );
}

#[test]
fn a_signal_to_one_rank_ends_all() {
    for (case, ranks) in [("d_gpt2_tp2_fp32", 2), ("d_gpt2_tp4_fp32", 4)] {
        let Some(pattern) = slices(case) else { return };
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
            let job = Job::start(run_ranks(&pattern, ranks, &["--repeat", "100000000"]));
            job.until_joined(1);
            kill_process(job.rank(1), signal).unwrap();
            let (status, lines, took) = job.end();
            println!("{name} to one of {ranks} ranks: ended after {took:?}");
            assert_eq!(status.code(), Some(128 + signal.as_raw()), "{lines:#?}");
            (0..ranks).for_each(|rank| assert_cancelled(&lines, rank, name, 1));
        }
    }
}

#[test]
fn a_signal_to_a_rank_that_waits_ends_all() {
    let Some(pattern) = slices("d_gpt2_tp4_fp32") else { return };
    let job = Job::start(run_ranks(&pattern, 4, &["--repeat", "100000000"]));
    job.until_joined(3);
    // Everybody waits for this one.
    kill_process(job.rank(3), Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    kill_process(job.rank(1), Signal::TERM).unwrap();
    let (status, lines, _) = job.end();
    assert_eq!(status.code(), Some(143), "{lines:#?}");
    (0..3).for_each(|rank| assert_cancelled(&lines, rank, "SIGTERM", 1));
}

#[test]
fn a_signal_ends_ranks_that_only_compute() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp2/model.mindir");
    let job = Job::start(run_ranks(&model, 2, &["--repeat", "100000000"]));
    job.until_joined(1);
    kill_process(job.rank(1), Signal::TERM).unwrap();
    let (status, lines, took) = job.end();
    println!("ended after {took:?}");
    assert_eq!(status.code(), Some(143), "{lines:#?}");
    assert_cancelled(&lines, 1, "SIGTERM", 1);
}

#[test]
fn a_signal_to_a_rank_that_joins_ends_those_that_wait() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/matmul_row_tp4/rank0.mindir");
    let rendezvous = unique();
    let start = |rank| Job::start(by_hand(&model, rank, 3, &rendezvous, &[]));
    let (waiting, told) = (start(0), start(1));
    let is_mapped = |job: &Job| {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", job.pid().as_raw_nonzero()));
        maps.is_ok_and(|maps| maps.contains(&rendezvous))
    };
    while ![&waiting, &told].into_iter().all(is_mapped) {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(100));
    kill_process(told.pid(), Signal::TERM).unwrap();
    for (rank, job) in [(1, told), (0, waiting)] {
        let (status, lines, _) = job.end();
        assert_eq!(status.code(), Some(143), "{lines:#?}");
        assert_cancelled(&lines, rank, "SIGTERM", 1);
        assert!(lines[0].contains("joining the world"), "{lines:#?}");
    }
    assert!(shared_memory(&rendezvous).is_empty());
}

#[test]
fn launch_tells_ranks_their_place_and_returns_the_first_failure() {
    let mut command = mslite();
    let script = "echo $RANK_ID of $RANK_SIZE at $LOCAL_RANK; test -n \"$MSLITE_RENDEZVOUS\" || exit 9; echo bad >&2; \
                  test $RANK_ID != 1 || exit 7; sleep 1000";
    let output = command.args(["launch", "--ranks", "3", "--", "sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[rank 0] 0 of 3 at 0", "[rank 1] 1 of 3 at 1", "[rank 2] 2 of 3 at 2"]);
    let mut marked: Vec<String> = errors(&output).lines().map(str::to_owned).collect();
    marked.sort_unstable();
    assert_eq!(marked, ["[rank 0] bad", "[rank 1] bad", "[rank 2] bad"]);
}
