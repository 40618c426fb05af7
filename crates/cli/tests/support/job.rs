//! Processes that a test starts, and what they leave behind.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// When a test gives up waiting: a hang, however slow the machine.
const HANG: Duration = Duration::from_secs(20);

/// Variables by which launchers tell a process its rank.
const RANK: [&str; 3] = ["RANK_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"];

/// A name that nothing else on this machine has.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A process that writes to files, and is killed if the test ends before it.
pub(crate) struct Job {
    child: Child,
    name: String,
    folder: tempfile::TempDir,
}

impl Job {
    pub(crate) fn start(mut command: Command) -> Job {
        let name = unique();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| Stdio::from(std::fs::File::create(folder.path().join(name)).unwrap());
        command.env("MSLITE_TEST", &name).stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        let child = command.spawn().unwrap();
        Job { child, name, folder }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The process of a rank of this job, once it is there.
    pub(crate) fn rank(&self, rank: usize) -> Pid {
        let start = Instant::now();
        loop {
            let found = processes().find(|&pid| {
                Some(pid) != Some(self.pid()) && {
                    let variables = variables(pid);
                    let is_rank = |name: &&str| variables.contains(&format!("{name}={rank}"));
                    variables.contains(&format!("MSLITE_TEST={}", self.name)) && RANK.iter().any(is_rank)
                }
            });
            if let Some(pid) = found {
                return pid;
            }
            assert!(start.elapsed() < HANG, "rank {rank} was not started");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the process has ended, and checks that it has left nothing in shared memory.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>, Duration) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < HANG, "it hangs; so far: {}", self.text("err"));
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = start.elapsed();
        let launched = format!("-{}-", self.pid().as_raw_nonzero());
        let left = shared_memory(&launched);
        assert!(left.is_empty(), "left in shared memory: {left:?}");
        let alive = self.alive();
        assert!(alive.is_empty(), "left running: {alive:?}");
        let lines = self.text("err").lines().map(str::to_owned).collect();
        (status, lines, took)
    }

    /// Waits until a rank has joined the others and opened its model.
    pub(crate) fn until_joined(&self, rank: usize) {
        let maps = || std::fs::read_to_string(format!("/proc/{}/maps", self.rank(rank).as_raw_nonzero()));
        let start = Instant::now();
        while !maps().is_ok_and(|maps| maps.contains(".mindir")) {
            assert!(start.elapsed() < HANG, "rank {rank} opens no model: {}", self.text("err"));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until the ranks are in the middle of their calls.
    pub(crate) fn until_running(&self, rank: usize) {
        self.rank(rank);
        std::thread::sleep(Duration::from_millis(700));
    }

    /// Waits until nothing of the job is running: MPICH's launcher does not wait for ranks that it has killed.
    pub(crate) fn until_gone(&self) {
        let start = Instant::now();
        while !self.alive().is_empty() {
            assert!(start.elapsed() < HANG, "it hangs; so far: {}", self.text("err"));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The processes of this job.
    fn alive(&self) -> Vec<Pid> {
        let name = format!("MSLITE_TEST={}", self.name);
        processes().filter(|&pid| variables(pid).contains(&name)).collect()
    }

    fn text(&self, name: &str) -> String {
        let mut text = String::new();
        std::fs::File::open(self.folder.path().join(name)).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// The environment of a process; empty once it has ended.
fn variables(pid: Pid) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
    bytes.split(|&b| b == 0).map(|variable| String::from_utf8_lossy(variable).into_owned()).collect()
}

/// Files of rendezvous in shared memory whose names contain `part`.
pub(crate) fn shared_memory(part: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/dev/shm") else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("mslite-") && name.contains(part)).collect()
}
