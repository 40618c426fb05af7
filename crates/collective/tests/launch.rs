//! The launcher: this test program runs itself as the launcher, through `launcher`.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mslite_collective::launch::{LaunchOptions, run};
use mslite_collective::{Error, Rendezvous};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const SCRIPT: &str = "COLLECTIVE_TEST_SCRIPT";

/// Not a test by itself: launches a shell script as three ranks.
#[test]
fn launcher() {
    let Ok(script) = std::env::var(SCRIPT) else {
        return;
    };
    let mut options = LaunchOptions::new(3, ["/bin/sh", "-c", &script]);
    options.linger = Duration::from_secs(1);
    options.grace = Duration::from_millis(500);
    options.environment.push(("EXTRA".into(), "more".into()));
    std::process::exit(run(&options).unwrap());
}

fn start(script: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["launcher", "--exact", "--nocapture", "--test-threads=1", "--quiet"])
        .env(SCRIPT, script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn launch(script: &str) -> Output {
    start(script).wait_with_output().unwrap()
}

/// Lines that ranks printed, sorted.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines: Vec<String> = text.lines().filter(|l| l.starts_with("[rank")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn ranks_know_who_they_are_and_lines_are_marked() {
    let output = launch(
        "echo $RANK_ID/$RANK_SIZE $LOCAL_RANK $EXTRA; echo err $RANK_ID >&2; printf 'no end'; \
         test -n \"$MSLITE_RENDEZVOUS\" && ! read line",
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        lines(&output.stdout),
        [
            "[rank 0] 0/3 0 more",
            "[rank 0] no end",
            "[rank 1] 1/3 1 more",
            "[rank 1] no end",
            "[rank 2] 2/3 2 more",
            "[rank 2] no end"
        ]
    );
    assert_eq!(lines(&output.stderr), ["[rank 0] err 0", "[rank 1] err 1", "[rank 2] err 2"]);
}

#[test]
fn the_first_failure_ends_all_and_gives_the_code() {
    let output = launch("test $RANK_ID = 1 && exit 7; exec sleep 100");
    assert_eq!(output.status.code(), Some(7));
    let output = launch("test $RANK_ID = 2 && kill -KILL $$; exec sleep 100");
    assert_eq!(output.status.code(), Some(128 + 9));
    let output = launch("trap 'echo deaf' TERM; test $RANK_ID = 0 && exit 3; while :; do sleep 0.01; done");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(lines(&output.stdout), ["[rank 1] deaf", "[rank 2] deaf"]);
}

#[test]
fn others_may_report_before_they_are_ended() {
    let output = launch("test $RANK_ID = 1 && exit 7; sleep 0.1; echo I noticed; exit 9");
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(lines(&output.stdout), ["[rank 0] I noticed", "[rank 2] I noticed"]);
}

#[test]
fn signals_reach_the_ranks() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let script = "trap 'echo told; exit 1' INT TERM; echo ready $$; while :; do sleep 0.01; done";
        let (output, ranks) = signal_when_ready(script, signal);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(lines(&output.stdout), ["[rank 0] told", "[rank 1] told", "[rank 2] told"]);
        assert_gone(&ranks);
    }
}

#[test]
fn ranks_die_with_a_killed_launcher() {
    let (output, ranks) = signal_when_ready("echo ready $$; exec sleep 100", Signal::KILL);
    assert_eq!(output.status.code(), None);
    assert_gone(&ranks);
}

#[test]
fn what_ranks_leave_behind_is_killed() {
    let output = launch("sleep 100 & echo $!");
    assert_eq!(output.status.code(), Some(0));
    let left: Vec<i32> = lines(&output.stdout)
        .iter()
        .map(|line| line.split(' ').next_back().unwrap().parse().unwrap())
        .collect();
    assert_eq!(left.len(), 3);
    assert_gone(&left);
}

#[test]
fn what_cannot_start_is_an_error() {
    assert!(matches!(run(&LaunchOptions::new(2, ["/nonexistent/program"])), Err(Error::Io { .. })));
    assert!(matches!(run(&LaunchOptions::new(0, ["true"])), Err(Error::InvalidArgument(_))));
    assert!(matches!(run(&LaunchOptions::new(1, [""; 0])), Err(Error::InvalidArgument(_))));
}

#[test]
fn ranks_that_die_while_joining_leave_no_file() {
    let output = launch("echo $MSLITE_RENDEZVOUS; : > $MSLITE_RENDEZVOUS; chmod 600 $MSLITE_RENDEZVOUS");
    assert_eq!(output.status.code(), Some(0));
    for line in lines(&output.stdout) {
        assert!(!Rendezvous::new(line.split(' ').next_back().unwrap()).unwrap().path().exists());
    }
}

/// Sends a signal to the launcher once all ranks have printed their process numbers, which are returned.
fn signal_when_ready(script: &str, signal: Signal) -> (Output, Vec<i32>) {
    use std::io::{BufRead, BufReader, Read};
    let mut child = start(script);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut ranks = Vec::new();
    while ranks.len() < 3 {
        let mut line = String::new();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the launcher ended early");
        if let Some((_, number)) = line.trim_end().split_once("ready ") {
            ranks.push(number.parse().unwrap());
        }
    }
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    let mut output = child.wait_with_output().unwrap();
    output.stdout = rest;
    (output, ranks)
}

/// Waits until none of the processes runs; orphans may stay as zombies where nobody reaps them.
fn assert_gone(pids: &[i32]) {
    let since = Instant::now();
    let runs = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        test_kill_process(Pid::from_raw(*pid).unwrap()).is_ok() && !stat.contains(") Z ")
    };
    while pids.iter().any(runs) {
        assert!(since.elapsed() < Duration::from_secs(10), "{pids:?} still run");
        std::thread::sleep(Duration::from_millis(5));
    }
}
