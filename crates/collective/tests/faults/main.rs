//! Faults injected into random jobs: whatever befalls a rank, every other one ends with an error that names it, and
//! nothing stays behind.
//!
//! `MSLITE_FAULTS` sets the number of jobs, `MSLITE_FAULT_SEED` what they are. This program runs itself as the ranks.
#![allow(clippy::print_stdout, reason = "ranks talk to their parent, and the parent prints a table")]

mod file_systems;
mod plan;
mod rank;

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mslite_collective::Rendezvous;
use rustix::process::{Pid, Signal, kill_process};

use plan::{Fault, Plan, TIMEOUT};
use rank::time_of;

const JOB: &str = "COLLECTIVE_FAULT_JOB";

/// Jobs unless the environment says otherwise.
const JOBS: u64 = 12;

/// Most jobs that run at the same time, so that most ranks have no core of their own.
const AT_A_TIME: usize = 3;

/// When a job hangs, however slow the machine.
const HANG: Duration = Duration::from_secs(60);

/// How much later than the timeout an error may come, where that is looked at.
const LATE: Duration = Duration::from_secs(1);

/// Not a test by itself: what a rank does.
#[test]
fn a_rank() {
    let Ok(job) = std::env::var(JOB) else { return };
    let (seed, number) = job.split_once(' ').unwrap();
    rank::run(&Plan::draw(seed.parse().unwrap(), number.parse().unwrap()));
}

#[test]
fn whatever_befalls_a_rank_the_others_end_with_its_name() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("MSLITE_FAULT_SEED").unwrap_or(5);
    let jobs = number("MSLITE_FAULTS");
    println!("MSLITE_FAULT_SEED={seed}");
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let numbers = || std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
    let work = || {
        for number in numbers().take_while(|&number| number < jobs.unwrap_or(JOBS)) {
            let plan = Plan::draw(seed, number);
            let result = Job::start(&plan).end();
            tally.lock().unwrap().add(&plan, result);
        }
    };
    std::thread::scope(|scope| (0..AT_A_TIME).for_each(|_| drop(scope.spawn(work))));
    let tally = tally.into_inner().unwrap();
    println!("{}", tally.table());
    assert!(
        tally.failures.is_empty(),
        "{} jobs failed:\n{}",
        tally.failures.len(),
        tally.failures.join("\n")
    );
    // A machine that does other things, too, may take any time; who asks for many jobs wants to know.
    assert!(jobs.is_none() || tally.late() == 0, "{} errors came too late", tally.late());
    assert_eq!(tally.left(), 0, "files are left");
}

/// The processes of a job, killed when it is dropped.
struct Job<'a> {
    plan: &'a Plan,
    started: Instant,
    ranks: Vec<Child>,
    rendezvous: Rendezvous,
    _folder: tempfile::TempDir,
}

impl<'a> Job<'a> {
    fn start(plan: &'a Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let rendezvous = if plan.is_in_memory { Rendezvous::unique() } else { meeting_in(folder.path()) };
        let ranks = start_ranks(plan, 0..plan.size, &rendezvous);
        Job { plan, started: Instant::now(), ranks, rendezvous, _folder: folder }
    }

    /// Lets the fault strike and waits for the ranks.
    fn end(mut self) -> Result<Outcome, String> {
        let struck = self.strike();
        let survivors: Vec<usize> = (0..self.plan.size).filter(|&rank| rank != self.plan.victim).collect();
        self.wait(&survivors)?;
        let victim = &mut self.ranks[self.plan.victim];
        if self.plan.fault == Fault::Stop {
            victim.kill().unwrap();
        } else {
            self.wait(&[self.plan.victim])?;
        }
        let outputs: Vec<String> = self.ranks.iter_mut().map(output).collect();
        let struck = struck.or_else(|| time_of(&outputs[self.plan.victim], "FAULT"));
        let struck = struck.ok_or("it did not strike")?;
        let times = survivors.iter().map(|&rank| {
            let result = result_of(&outputs[rank]).ok_or_else(|| format!("rank {rank} said nothing"))?;
            judge(self.plan, result).map_err(|reason| {
                let all: Vec<_> = outputs.iter().map(|output| result_of(output)).collect();
                format!("rank {rank}: {reason}: {all:#?}")
            })?;
            Ok(time_of(&outputs[rank], "RESULT").unwrap_or_default().saturating_sub(struck))
        });
        let times = times.collect::<Result<Vec<_>, String>>()?;
        let left = self.left_over(outputs.iter().any(|output| output.contains("\nJOINED\n")))?;
        Ok(Outcome { times, left })
    }

    /// Sends the signal of the fault, if it is one; when.
    fn strike(&self) -> Option<Duration> {
        let signal = match self.plan.fault {
            Fault::Kill => Signal::KILL,
            Fault::Stop => Signal::STOP,
            _ => return None,
        };
        std::thread::sleep(self.plan.delay.saturating_sub(self.started.elapsed()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        kill_process(Pid::from_child(&self.ranks[self.plan.victim]), signal).unwrap();
        Some(now)
    }

    fn wait(&mut self, ranks: &[usize]) -> Result<(), String> {
        for &rank in ranks {
            while self.ranks[rank].try_wait().unwrap().is_none() {
                if self.started.elapsed() > HANG {
                    return Err(format!("rank {rank} hangs"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// Files that are left. A job whose ranks have all met has taken its file away; of others, the launcher does.
    fn left_over(&self, have_met: bool) -> Result<usize, String> {
        let path = self.rendezvous.path();
        let is_left = have_met && path.exists();
        self.rendezvous.cleanup().map_err(|error| error.to_string())?;
        Ok(usize::from(is_left || path.exists()))
    }
}

impl Drop for Job<'_> {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            let _ = rank.kill().and_then(|()| rank.wait());
        }
        let _ = self.rendezvous.cleanup();
    }
}

fn meeting_in(folder: &Path) -> Rendezvous {
    Rendezvous::new(folder.join("meet").to_str().unwrap()).unwrap()
}

fn start_ranks(plan: &Plan, ranks: Range<usize>, rendezvous: &Rendezvous) -> Vec<Child> {
    let start = |rank: usize| {
        Command::new(std::env::current_exe().unwrap())
            .args(["a_rank", "--exact", "--nocapture", "--test-threads=1"])
            .env(JOB, format!("{} {}", plan.seed, plan.number))
            .env("RANK_ID", rank.to_string())
            .env("RANK_SIZE", plan.size.to_string())
            .env("MSLITE_RENDEZVOUS", rendezvous.path())
            .env("MSLITE_TIMEOUT", TIMEOUT.as_secs_f64().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    ranks.map(start).collect()
}

fn output(rank: &mut Child) -> String {
    let mut bytes = Vec::new();
    rank.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `KIND [CULPRITS] MESSAGE`, or `ok`.
fn result_of(output: &str) -> Option<&str> {
    let line = output.lines().find_map(|line| line.strip_prefix("RESULT "))?;
    line.split_once(' ').map(|(_, result)| result)
}

/// The ranks that an error names.
fn culprits(result: &str) -> Vec<usize> {
    let list = result.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(", ").filter_map(|rank| rank.parse().ok()).collect()
}

/// Whether a survivor has ended as it must.
fn judge(plan: &Plan, result: &str) -> Result<(), &'static str> {
    let (kind, rest) = result.split_once(' ').unwrap_or((result, ""));
    let culprits = culprits(result);
    let (expected, reason): (&[&str], &str) = match plan.fault {
        Fault::Slow => return if result == "ok" { Ok(()) } else { Err("a slow rank is no error") },
        Fault::Stop => (&["timeout"], ""),
        Fault::Mismatch => (&["mismatch"], "u16[7]"),
        // Nobody notices the death of who never came.
        Fault::Kill | Fault::NoRoom if kind == "timeout" => (&["timeout"], "joining the world"),
        Fault::Kill | Fault::NoRoom => (&["lost"], "has died"),
        Fault::Exit | Fault::Abort => (&["lost"], "has died"),
        Fault::Panic => (&["lost"], "it "),
        Fault::GiveUp => (&["lost"], "no more paper"),
        Fault::NoMemory => (&["lost"], "no memory"),
    };
    if !expected.contains(&kind) {
        return Err("another kind of error");
    }
    // Who waits for the victim in one group may itself be waited for in another, and is not to blame.
    let is_named =
        if kind == "mismatch" { culprits.contains(&plan.victim) } else { culprits == [plan.victim] };
    if !is_named {
        return Err("it names another rank");
    }
    if rest.contains(reason) { Ok(()) } else { Err("another reason") }
}

/// What has come of a job that went as it must.
struct Outcome {
    /// From the fault to the error of each survivor.
    times: Vec<Duration>,
    /// Files that were left.
    left: usize,
}

/// What has come of all jobs with a fault.
#[derive(Default)]
struct Tally {
    faults: BTreeMap<Fault, Figures>,
    failures: Vec<String>,
}

#[derive(Default)]
struct Figures {
    jobs: usize,
    failed: usize,
    times: Vec<Duration>,
    left: usize,
}

impl Tally {
    fn add(&mut self, plan: &Plan, result: Result<Outcome, String>) {
        let figures = self.faults.entry(plan.fault).or_default();
        figures.jobs += 1;
        match result {
            Ok(outcome) => {
                figures.times.extend(outcome.times);
                figures.left += outcome.left;
            }
            Err(reason) => {
                figures.failed += 1;
                self.failures.push(format!("{plan:?}: {reason}"));
            }
        }
    }

    fn late(&self) -> usize {
        self.faults.iter().map(|(fault, figures)| figures.late(*fault)).sum()
    }

    fn left(&self) -> usize {
        self.faults.values().map(|figures| figures.left).sum()
    }

    fn table(&self) -> String {
        let line = |[fault, cells @ ..]: [&str; 8]| {
            let cells: String = cells.iter().map(|cell| format!("{cell:>11}")).collect();
            format!("{fault:<10}{cells}\n")
        };
        let heading =
            ["fault", "jobs", "survivors", "median(ms)", "worst(ms)", "late", "left over", "failed"];
        let row = |(fault, figures): (&Fault, &Figures)| {
            let [median, worst] = figures.median_and_worst().map(|ms| format!("{ms:.1}"));
            let counts =
                [figures.jobs, figures.times.len(), figures.late(*fault), figures.left, figures.failed];
            let [jobs, survivors, late, left, failed] = counts.map(|count| count.to_string());
            line([&format!("{fault:?}"), &jobs, &survivors, &median, &worst, &late, &left, &failed])
        };
        let rows: String = self.faults.iter().map(row).collect();
        line(heading) + &rows + &format!("late: an error after the timeout of {TIMEOUT:?} and {LATE:?}")
    }
}

impl Figures {
    /// In milliseconds.
    fn median_and_worst(&self) -> [f64; 2] {
        let mut times: Vec<f64> = self.times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        [times.get(times.len() / 2), times.last()].map(|time| time.copied().unwrap_or(f64::NAN))
    }

    /// Errors that came too late. A slow rank is no error.
    fn late(&self, fault: Fault) -> usize {
        self.times.iter().filter(|&&time| fault != Fault::Slow && time > TIMEOUT + LATE).count()
    }
}
