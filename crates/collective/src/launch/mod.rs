//! Starting a command as several ranks on this host.

mod child;
mod lines;
mod signals;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};

use self::lines::{Lines, Target};
use self::signals::Signals;
use crate::{Error, RENDEZVOUS_VARIABLE, Rendezvous, Result};

/// How long the output of processes that ranks have left behind is waited for.
const LAST_OUTPUT: Duration = Duration::from_millis(200);

/// A command, and as how many ranks it runs.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LaunchOptions {
    /// Number of ranks.
    pub ranks: usize,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Further environment variables.
    pub environment: Vec<(OsString, OsString)>,
    /// Whether each line that a rank prints is preceded by `[rank N] `; otherwise ranks print directly.
    pub mark_lines: bool,
    /// A file to which ranks print directly what else goes to standard output.
    pub stdout: Option<Arc<File>>,
    /// After a rank has failed: how long the others have to notice and end by themselves.
    pub linger: Duration,
    /// After ranks were told to end: how long until they are killed.
    pub grace: Duration,
}

impl LaunchOptions {
    /// Options with marked lines, 2 s to linger and 2 s of grace.
    pub fn new(ranks: usize, command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        LaunchOptions {
            ranks,
            command: command.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            mark_lines: true,
            stdout: None,
            linger: Duration::from_secs(2),
            grace: Duration::from_secs(2),
        }
    }
}

/// Runs a command as several ranks, and waits for all of them.
///
/// Each gets `RANK_ID`, `RANK_SIZE`, `LOCAL_RANK` and `MSLITE_RENDEZVOUS`, no standard input, and a process group
/// of its own, all of which is killed in the end. When one fails, the others are ended; a line on stderr
/// names the one that a signal has ended. SIGINT, SIGTERM and
/// SIGHUP are passed on to all ranks; the second such signal kills them. Should the launcher itself be killed,
/// the system kills the ranks; likewise when the thread that called this ends first. The signals stay caught, and
/// without effect, when this has returned.
///
/// Returns 0, or the exit code of the rank that failed first, which is 128 + N for death by signal N; after a
/// signal N to the launcher, 128 + N.
///
/// # Errors
/// [`Error::InvalidArgument`] without command or ranks; [`Error::Io`] when a rank cannot be started, or output
/// cannot be written. No rank is left running.
pub fn run(options: &LaunchOptions) -> Result<i32> {
    if options.ranks == 0 || options.command.is_empty() {
        return Err(Error::InvalidArgument("a launch needs a command and at least one rank".into()));
    }
    let signals = Signals::new().map_err(|e| Error::io("cannot receive signals", e))?;
    let mut job = Job::start(options, signals)?;
    job.wait(options)
}

/// What is being done to end a job.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Running,
    /// A rank has failed; the others may end by themselves until then.
    Lingering(Instant),
    /// All have been told to end, and are killed then.
    Ending(Instant),
    Killed,
}

/// The ranks of a launch. Dropping it leaves none of them.
#[derive(Debug)]
struct Job {
    ranks: Vec<Rank>,
    signals: Signals,
    rendezvous: Rendezvous,
    phase: Phase,
    failure: Option<i32>,
}

#[derive(Debug)]
struct Rank {
    child: Child,
    pid: Pid,
    /// Readable when the process has ended.
    handle: OwnedFd,
    output: Vec<Lines>,
    ended: bool,
}

impl Job {
    fn start(options: &LaunchOptions, signals: Signals) -> Result<Self> {
        let rendezvous = Rendezvous::unique();
        let mut job = Job { ranks: Vec::new(), signals, rendezvous, phase: Phase::Running, failure: None };
        for rank in 0..options.ranks {
            let started = Rank::start(options, rank, &job.rendezvous);
            job.ranks.push(started?);
        }
        Ok(job)
    }

    fn wait(&mut self, options: &LaunchOptions) -> Result<i32> {
        while self.ranks.iter().any(|rank| !rank.ended) {
            self.sleep(self.deadline())?;
            if let Some(signal) = self.signals.take() {
                self.interrupt(signal, options.grace);
            }
            self.forward_output()?;
            self.note_ends(options)?;
            self.advance(options.grace);
        }
        self.kill(Signal::KILL);
        self.finish_output()?;
        Ok(self.failure.unwrap_or(0))
    }

    /// Sleeps until something happens, or until the deadline.
    fn sleep(&self, deadline: Option<Instant>) -> Result<()> {
        let running = self.ranks.iter().filter(|rank| !rank.ended);
        let mut events: Vec<PollFd<'_>> = running
            .map(|rank| PollFd::new(&rank.handle, PollFlags::IN))
            .chain(self.ranks.iter().flat_map(|r| &r.output).map(|lines| PollFd::new(lines, PollFlags::IN)))
            .chain(self.signals.handles().map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN)))
            .collect();
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut events, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::io("cannot wait for the ranks", error)),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Lingering(at) | Phase::Ending(at) => Some(at),
            Phase::Running | Phase::Killed => None,
        }
    }

    fn interrupt(&mut self, signal: Signal, grace: Duration) {
        self.failure.get_or_insert(128 + signal.as_raw());
        match self.phase {
            Phase::Running | Phase::Lingering(_) => {
                self.kill(signal);
                self.phase = Phase::Ending(Instant::now() + grace);
            }
            Phase::Ending(_) | Phase::Killed => self.kill_now(),
        }
    }

    fn forward_output(&mut self) -> Result<()> {
        for rank in &mut self.ranks {
            rank.forward().map_err(|e| Error::io("cannot pass on the output of a rank", e))?;
        }
        Ok(())
    }

    fn note_ends(&mut self, options: &LaunchOptions) -> Result<()> {
        for (number, rank) in self.ranks.iter_mut().enumerate().filter(|(_, rank)| !rank.ended) {
            let Some(status) = rank.status()? else {
                continue;
            };
            rank.ended = true;
            // Ranks that have met notice it themselves; for others there is nothing to be done if this fails.
            let _ = self.rendezvous.close(number, options.ranks, &end_of(&status));
            let code = code_of(&status);
            if code != 0 && self.failure.is_none() {
                if let Some(signal) = status.terminating_signal() {
                    tell(&format!("error: rank {number} was ended by signal {signal}"));
                }
                self.failure = Some(code);
                self.phase = Phase::Lingering(Instant::now() + options.linger);
            }
        }
        Ok(())
    }

    fn advance(&mut self, grace: Duration) {
        let now = Instant::now();
        match self.phase {
            Phase::Lingering(at) if now >= at => {
                self.kill(Signal::TERM);
                self.phase = Phase::Ending(now + grace);
            }
            Phase::Ending(at) if now >= at => self.kill_now(),
            _ => {}
        }
    }

    fn kill_now(&mut self) {
        self.kill(Signal::KILL);
        self.phase = Phase::Killed;
    }

    /// Sends a signal to the ranks' process groups. They are not reaped yet, so that the numbers are still theirs.
    fn kill(&self, signal: Signal) {
        for rank in &self.ranks {
            // A group without processes needs no signal.
            let _ = kill_process_group(rank.pid, signal);
        }
    }

    fn finish_output(&mut self) -> Result<()> {
        let deadline = Instant::now() + LAST_OUTPUT;
        loop {
            self.forward_output()?;
            if Instant::now() >= deadline || self.ranks.iter().all(|rank| rank.output.is_empty()) {
                return Ok(());
            }
            self.sleep(Some(deadline))?;
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.kill(Signal::KILL);
        for rank in &mut self.ranks {
            // Waiting for a child of ours only fails if somebody else has waited for it.
            let _ = rank.child.wait();
        }
        // What cannot be removed is replaced when the name is used again, which it is not.
        let _ = self.rendezvous.cleanup();
    }
}

impl Rank {
    fn start(options: &LaunchOptions, rank: usize, rendezvous: &Rendezvous) -> Result<Self> {
        let program = &options.command[0];
        let failed = |e: std::io::Error| Error::io(format!("cannot start {}", program.display()), e);
        let output = || if options.mark_lines { Stdio::piped() } else { Stdio::inherit() };
        let file = options.stdout.as_ref().map(|file| file.try_clone()).transpose().map_err(failed)?;
        let mut command = Command::new(program);
        command
            .args(&options.command[1..])
            .envs(options.environment.iter().map(|(name, value)| (name, value)))
            .env("RANK_ID", rank.to_string())
            .env("RANK_SIZE", options.ranks.to_string())
            .env("LOCAL_RANK", rank.to_string())
            .env(RENDEZVOUS_VARIABLE, rendezvous.path())
            .stdin(Stdio::null())
            .stdout(file.map_or_else(output, Stdio::from))
            .stderr(output())
            .process_group(0);
        child::die_with_parent(&mut command);
        let mut child = command.spawn().map_err(failed)?;
        match Rank::watch(&mut child, rank) {
            Ok((pid, handle, output)) => Ok(Rank { child, pid, handle, output, ended: false }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(failed(error))
            }
        }
    }

    fn watch(child: &mut Child, rank: usize) -> std::io::Result<(Pid, OwnedFd, Vec<Lines>)> {
        let pid = Pid::from_child(child);
        let handle = pidfd_open(pid, PidfdFlags::empty())?;
        let stdout = child.stdout.take().map(|pipe| Lines::new(pipe.into(), Target::Stdout, rank));
        let stderr = child.stderr.take().map(|pipe| Lines::new(pipe.into(), Target::Stderr, rank));
        let output = stdout.into_iter().chain(stderr).collect::<Result<_, _>>()?;
        Ok((pid, handle, output))
    }

    fn forward(&mut self) -> std::io::Result<()> {
        let mut result = Ok(());
        self.output.retain_mut(|lines| {
            lines.forward().unwrap_or_else(|error| {
                result = Err(error);
                false
            })
        });
        result
    }

    /// How the process has ended, once it has, without reaping it.
    fn status(&self) -> Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let status = waitid(WaitId::Pid(self.pid), options);
        status.map_err(|e| Error::io("cannot wait for a rank", e))
    }
}

/// Writes what a rank can no longer say itself.
fn tell(line: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// How a process has ended, in words.
fn end_of(status: &WaitIdStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("its process has ended with code {code}"),
        (None, signal) => format!("its process was ended by signal {}", signal.unwrap_or(0)),
    }
}

fn code_of(status: &WaitIdStatus) -> i32 {
    let signal = || 128 + status.terminating_signal().unwrap_or(0);
    status.exit_status().unwrap_or_else(signal)
}
