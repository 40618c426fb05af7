//! Shared memory that is small, or runs out.

use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use mslite_collective::Rendezvous;

use crate::plan::{Fault, Plan};
use crate::{meeting_in, output, result_of, start_ranks};

#[test]
fn small_file_systems_are_avoided_or_errors() {
    in_namespace("file_systems::small_file_systems_are_avoided_or_errors", |folder| {
        if !mount(folder, "64k") {
            return false;
        }
        let plan = successful_plan();
        let meeting = meeting_in(folder);
        for result in results(start_ranks(&plan, 0..plan.size, &meeting)) {
            assert!(result.starts_with("unsupported") && result.contains("are free"), "{result}");
        }
        meeting.cleanup().unwrap();
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);

        // As in a container: the ranks meet elsewhere.
        assert!(mount(Path::new("/dev/shm"), "64k"));
        let meeting = Rendezvous::unique();
        assert!(results(start_ranks(&plan, 0..plan.size, &meeting)).iter().all(|result| result == "ok"));
        assert!(!meeting.path().exists());
        true
    });
}

#[test]
fn file_systems_that_fill_up_are_errors() {
    in_namespace("file_systems::file_systems_that_fill_up_are_errors", |folder| {
        if !mount(folder, "16m") {
            return false;
        }
        let plan = successful_plan();
        let meeting = meeting_in(folder);
        let mut early = start_ranks(&plan, 1..plan.size, &meeting);
        let is_set_up = || std::fs::metadata(meeting.path()).is_ok_and(|file| file.len() > 0);
        while !is_set_up() && early.iter_mut().all(|rank| rank.try_wait().unwrap().is_none()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Writes until nothing more fits.
        let _ = std::fs::write(folder.join("filler"), vec![0; 16 << 20]);
        let late = start_ranks(&plan, 0..1, &meeting);
        for result in results(early).into_iter().chain(results(late)) {
            assert!(!result.contains("signal"), "{result}");
        }
        true
    });
}

/// Runs a test in a mount namespace, where it can have file systems of its own: this program runs itself there.
/// `run` says whether it could mount one.
fn in_namespace(test: &str, run: impl Fn(&Path) -> bool) {
    const FOLDER: &str = "COLLECTIVE_FAULT_FOLDER";
    if let Some(folder) = std::env::var_os(FOLDER) {
        println!("\n{}", if run(Path::new(&folder)) { "MOUNTED" } else { "REFUSED" });
        return;
    }
    // What is mounted there goes with the namespace.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    let output = match command.env(FOLDER, folder.path()).output() {
        Ok(output) => output,
        Err(error) => return println!("skipped: unshare does not start: {error}"),
    };
    let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    match said.contains("running 1 test") {
        true if said.contains("REFUSED") => println!("skipped: cannot mount a file system: {complained}"),
        true => assert!(output.status.success() && said.contains("MOUNTED"), "{said}{complained}"),
        false => println!("skipped: no mount namespace: {complained}"),
    }
}

/// A job that ends by itself.
fn successful_plan() -> Plan {
    (0..).map(|number| Plan::draw(5, number)).find(|plan| plan.fault == Fault::Slow).unwrap()
}

fn mount(folder: &Path, size: &str) -> bool {
    let options = format!("size={size}");
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", &options, "none"]).arg(folder);
    command.status().is_ok_and(|status| status.success())
}

/// What ranks have said, or how they have ended without a word.
fn results(ranks: Vec<Child>) -> Vec<String> {
    let result = |mut rank: Child| {
        let status = rank.wait().unwrap();
        result_of(&output(&mut rank)).map_or_else(|| status.to_string(), str::to_owned)
    };
    ranks.into_iter().map(result).collect()
}
