//! `cargo xtask run-distributed`: a sliced model on several ranks of this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use crate::Result;
use crate::npz::{self, Array, Tolerance};
use crate::programs::{build_mslite, exit_code, status};
use crate::workspace::Workspace;

/// Where the shipped examples are, one folder per number of ranks.
const EXAMPLES: &str = "crates/examples/models";
const EXAMPLE_PREFIX: &str = "matmul_row_tp";
/// Slices add partial products in another order than the unsliced model.
const TOLERANCE: Tolerance = Tolerance { relative: 1e-4, absolute: 1e-5 };

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Number of ranks.
    #[arg(long)]
    pub(crate) ranks: usize,
    /// Files of the slices, with `{rank}` for the rank; without it, a shipped example.
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Further flags of `mslite run`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) flags: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<ExitCode> {
    let example = match &args.model {
        Some(_) => None,
        None => Some(Example::find(workspace, args.ranks)?),
    };
    let mslite = build_mslite(workspace)?;
    let Some(example) = example else {
        let model = args.model.as_deref().unwrap_or_default();
        return Ok(exit_code(run_ranks(&mslite, model, args)?));
    };
    let slices = example.slices();
    if !args.can_be_checked() {
        return Ok(exit_code(run_ranks(&mslite, &slices, args)?));
    }
    let status = example.run_with_ones(&mslite, args)?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    example.compare_with_unsliced(&mslite, args.ranks)?;
    example.compare_with_mindspore(&mslite, args)?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    /// Whether the run has the inputs and outputs that the checks of an example expect.
    fn can_be_checked(&self) -> bool {
        let others = ["--inputs", "--outputs", "--fill", "--json", "--help"];
        !others.iter().any(|flag| self.sets(flag))
    }

    fn sets(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag || f.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')))
    }
}

/// A shipped example, and a folder for what its runs write.
struct Example {
    folder: PathBuf,
    outputs: PathBuf,
}

impl Example {
    fn find(workspace: &Workspace, ranks: usize) -> Result<Self> {
        let all = workspace.root.join(EXAMPLES);
        let entries = fs::read_dir(&all).map_err(|e| format!("cannot list {}: {e}", all.display()))?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let shipped = shipped_ranks(names);
        if !shipped.contains(&ranks) {
            let list: Vec<String> = shipped.iter().map(usize::to_string).collect();
            return Err(format!(
                "no example for {ranks} ranks is shipped, only for {}; give --ranks one of these, or your own \
                 slices with --model 'FOLDER/rank{{rank}}.mindir'",
                list.join(" and ")
            ));
        }
        let outputs = workspace.target.join("run-distributed");
        make_empty(&outputs).map_err(|e| format!("cannot empty {}: {e}", outputs.display()))?;
        Ok(Example { folder: all.join(format!("{EXAMPLE_PREFIX}{ranks}")), outputs })
    }

    fn slices(&self) -> String {
        self.folder.join("rank{rank}.mindir").display().to_string()
    }

    /// Runs the slices with inputs of ones and prints what they print.
    fn run_with_ones(&self, mslite: &Path, args: &Args) -> Result<ExitStatus> {
        let mut command = ranks_command(mslite, &self.slices(), args);
        status(command.arg("--outputs").arg(self.outputs.join("ones_rank{rank}.npz")))
    }

    fn compare_with_unsliced(&self, mslite: &Path, ranks: usize) -> Result<()> {
        let outputs = self.outputs.join("ones_unsliced.npz");
        let mut command = Command::new(mslite);
        command.arg("run").arg(self.folder.join("model.mindir")).args(["--fill", "ones"]);
        run_quietly(command.arg("--outputs").arg(&outputs))?;
        self.compare(ranks, "ones_rank", &npz::read(&outputs)?, "inputs of ones: equal to the unsliced model")
    }

    fn compare_with_mindspore(&self, mslite: &Path, args: &Args) -> Result<()> {
        let mut command = Command::new(mslite);
        command.arg("run").arg(self.slices()).arg("--ranks").arg(args.ranks.to_string());
        command.arg("--inputs").arg(self.folder.join("inputs.npz")).args(&args.flags);
        run_quietly(command.arg("--outputs").arg(self.outputs.join("reference_rank{rank}.npz")))?;
        let expected = npz::read(&self.folder.join("outputs.npz"))?;
        self.compare(args.ranks, "reference_rank", &expected, "random inputs: equal to MindSpore's outputs")
    }

    fn compare(&self, ranks: usize, stem: &str, expected: &[Array], verdict: &str) -> Result<()> {
        for rank in 0..ranks {
            let actual = npz::read(&self.outputs.join(format!("{stem}{rank}.npz")))?;
            let difference = npz::compare(&actual, expected, TOLERANCE)
                .map_err(|reason| format!("rank {rank}, not {verdict}: {reason}"))?;
            println!("[rank {rank}] {verdict} (largest difference {difference:.1e})");
        }
        Ok(())
    }
}

/// Makes a folder, without what an earlier run has left there.
fn make_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => fs::create_dir_all(folder),
    }
}

/// The numbers of ranks for which there are examples, sorted.
fn shipped_ranks(folders: impl Iterator<Item = String>) -> Vec<usize> {
    let mut ranks: Vec<usize> =
        folders.filter_map(|name| name.strip_prefix(EXAMPLE_PREFIX)?.parse().ok()).collect();
    ranks.sort_unstable();
    ranks
}

fn run_ranks(mslite: &Path, model: &str, args: &Args) -> Result<ExitStatus> {
    status(&mut ranks_command(mslite, model, args))
}

fn ranks_command(mslite: &Path, model: &str, args: &Args) -> Command {
    let mut command = Command::new(mslite);
    command.arg("run").arg(model).arg("--ranks").arg(args.ranks.to_string());
    if !args.sets("--inputs") && !args.sets("--fill") {
        command.args(["--fill", "ones"]);
    }
    command.args(&args.flags);
    command
}

fn run_quietly(command: &mut Command) -> Result<()> {
    let status = status(command.stdout(Stdio::null()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> Args {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Args { ranks: 2, model: None, flags }
    }

    fn arguments(command: &Command) -> Vec<String> {
        command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn inputs_are_ones_unless_flags_say_otherwise() {
        let command = ranks_command(Path::new("mslite"), "m{rank}", &args(&["--threads", "1"]));
        assert_eq!(
            arguments(&command),
            ["run", "m{rank}", "--ranks", "2", "--fill", "ones", "--threads", "1"]
        );
        let command = ranks_command(Path::new("mslite"), "m{rank}", &args(&["--fill=zeros"]));
        assert_eq!(arguments(&command), ["run", "m{rank}", "--ranks", "2", "--fill=zeros"]);
    }

    #[test]
    fn only_runs_with_the_example_s_inputs_are_checked() {
        assert!(args(&["--threads", "1"]).can_be_checked());
        assert!(!args(&["--inputs=a.npz"]).can_be_checked());
        assert!(!args(&["--fill", "zeros"]).can_be_checked());
    }

    #[test]
    fn examples_are_listed_by_their_ranks() {
        let folders = ["matmul_row_tp4", "README.md", "matmul_row_tp2", "matmul_row_tpx"];
        assert_eq!(shipped_ranks(folders.map(str::to_owned).into_iter()), [2, 4]);
    }
}
