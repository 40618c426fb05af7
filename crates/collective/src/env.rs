//! What launchers tell a rank through its environment.

use std::time::Duration;

use crate::{Error, JoinOptions, Rendezvous, Result};

/// Variable that names the rendezvous.
pub const RENDEZVOUS_VARIABLE: &str = "MSLITE_RENDEZVOUS";

/// Variable that sets the timeout, in seconds.
pub const TIMEOUT_VARIABLE: &str = "MSLITE_TIMEOUT";

/// A launcher, by the variables it sets. The first of `job` that are set tell its jobs apart.
struct Launcher {
    rank: &'static str,
    size: &'static str,
    local_size: Option<&'static str>,
    job: &'static [&'static str],
    /// Whether the ranks of a job, and only they, have the same parent, so that it can stand for the job.
    common_parent: bool,
}

const LAUNCHERS: [Launcher; 5] = [
    // `mslite launch`, msrun, or a person: nothing else need be set, and the shells may be several.
    Launcher {
        rank: "RANK_ID",
        size: "RANK_SIZE",
        local_size: None,
        job: &["MS_SCHED_PORT", "MASTER_PORT"],
        common_parent: false,
    },
    // Open MPI.
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        size: "OMPI_COMM_WORLD_SIZE",
        local_size: Some("OMPI_COMM_WORLD_LOCAL_SIZE"),
        job: &["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"],
        common_parent: true,
    },
    // MPICH and its kin.
    Launcher {
        rank: "PMI_RANK",
        size: "PMI_SIZE",
        local_size: Some("MPI_LOCALNRANKS"),
        job: &["PMI_JOBID"],
        common_parent: true,
    },
    // torchrun.
    Launcher {
        rank: "RANK",
        size: "WORLD_SIZE",
        local_size: Some("LOCAL_WORLD_SIZE"),
        job: &["MASTER_PORT", "TORCHELASTIC_RUN_ID"],
        common_parent: false,
    },
    // Slurm's srun.
    Launcher {
        rank: "SLURM_PROCID",
        size: "SLURM_NTASKS",
        local_size: None,
        job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
        common_parent: true,
    },
];

impl JoinOptions {
    /// What the environment says; `None` if no launcher has set rank and size.
    ///
    /// Looked for in this order: `RANK_ID` and `RANK_SIZE` (`mslite launch`, msrun, by hand),
    /// `OMPI_COMM_WORLD_RANK` and `_SIZE` (Open MPI), `PMI_RANK` and `PMI_SIZE` (MPICH), `RANK` and `WORLD_SIZE`
    /// (torchrun), `SLURM_PROCID` and `SLURM_NTASKS` (srun).
    ///
    /// The ranks meet where `MSLITE_RENDEZVOUS` says. Without it, the name is derived from the job's identity in
    /// the launcher's variables (`PMIX_NAMESPACE`, `SLURM_JOB_ID`, `MASTER_PORT`, ...), else, under MPI and Slurm,
    /// from the parent process, and else from the number of ranks alone: two such jobs of one user and one size
    /// cannot start at the same time. `MSLITE_TIMEOUT` sets the timeout, in seconds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for values that make no sense, [`Error::Unsupported`] when the launcher says
    /// that the ranks are on several hosts.
    pub fn from_env() -> Result<Option<JoinOptions>> {
        from_variables(&|name| std::env::var(name).ok())
    }
}

fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<JoinOptions>> {
    let is_used = |l: &&Launcher| get(l.rank).is_some() && get(l.size).is_some();
    let Some(launcher) = LAUNCHERS.iter().find(is_used) else {
        return Ok(None);
    };
    let (rank, size) = (number(get, launcher.rank)?, number(get, launcher.size)?);
    if rank >= size {
        let Launcher { rank: name, size: size_name, .. } = launcher;
        return Err(Error::InvalidArgument(format!("{name} is {rank}, but {size_name} is {size}")));
    }
    check_one_host(get, launcher, size)?;
    let rendezvous = match get(RENDEZVOUS_VARIABLE) {
        Some(name) => Rendezvous::new(&name)?,
        None => Rendezvous::new(&job_name(get, launcher, size))?,
    };
    let timeout = match get(TIMEOUT_VARIABLE) {
        Some(_) => seconds(get)?,
        None => JoinOptions::DEFAULT_TIMEOUT,
    };
    Ok(Some(JoinOptions { rank, size, rendezvous, timeout }))
}

fn number(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<usize> {
    let text = get(name).unwrap_or_default();
    text.trim().parse().map_err(|_| Error::InvalidArgument(format!("{name} is {text:?}, not a number")))
}

fn seconds(get: &dyn Fn(&str) -> Option<String>) -> Result<Duration> {
    let text = get(TIMEOUT_VARIABLE).unwrap_or_default();
    let seconds = text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds
        .filter(|s| *s <= Duration::from_secs(365 * 24 * 3600))
        .ok_or_else(|| Error::InvalidArgument(format!("{TIMEOUT_VARIABLE} is {text:?}, not a number of seconds")))
}

fn check_one_host(get: &dyn Fn(&str) -> Option<String>, launcher: &Launcher, size: usize) -> Result<()> {
    let local = launcher.local_size.filter(|name| get(name).is_some());
    match local.map(|name| Ok((name, number(get, name)?))).transpose()? {
        Some((name, here)) if here != size => Err(Error::Unsupported(format!(
            "{name} is {here} of {size} ranks: ranks on several hosts cannot share memory"
        ))),
        _ => Ok(()),
    }
}

fn job_name(get: &dyn Fn(&str) -> Option<String>, launcher: &Launcher, size: usize) -> String {
    let ids: Vec<String> = launcher.job.iter().filter_map(|name| get(name)).collect();
    let parent = rustix::process::getppid().filter(|_| launcher.common_parent && ids.is_empty());
    let parent = parent.map_or(0, |pid| pid.as_raw_nonzero().get());
    format!("job-{:016x}", fnv1a(format!("{} {size} {ids:?} {parent}", launcher.rank).as_bytes()))
}

/// A hash that is the same in every build, since ranks may run different programs.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<JoinOptions>> {
        from_variables(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn launchers_are_recognised() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[("RANK_ID", "3")]), Ok(None));
        for launcher in &LAUNCHERS {
            let options = read(&[(launcher.rank, "2"), (launcher.size, "4")]).unwrap().unwrap();
            assert_eq!((options.rank, options.size), (2, 4));
            let other = read(&[(launcher.rank, "0"), (launcher.size, "4")]).unwrap().unwrap();
            assert_eq!(options.rendezvous, other.rendezvous);
        }
        let slurm = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2"), ("RANK_ID", "0"), ("RANK_SIZE", "3")];
        assert_eq!(read(&slurm).unwrap().unwrap().size, 3);
    }

    #[test]
    fn jobs_are_told_apart() {
        let at = |job: &str| {
            let variables = [("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_PORT", job)];
            read(&variables).unwrap().unwrap().rendezvous
        };
        assert_ne!(at("29500"), at("29501"));
        assert_eq!(at("29500"), at("29500"));
        let named = [("RANK_ID", "0"), ("RANK_SIZE", "2"), (RENDEZVOUS_VARIABLE, "/tmp/here")];
        assert_eq!(read(&named).unwrap().unwrap().rendezvous.path().to_str(), Some("/tmp/here"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (rank, size, timeout) in [("2", "2", "1"), ("-1", "2", "1"), ("0", "x", "1"), ("0", "2", "nan"), ("0", "2", "-1")] {
            let variables = [("RANK_ID", rank), ("RANK_SIZE", size), (TIMEOUT_VARIABLE, timeout)];
            assert!(matches!(read(&variables), Err(Error::InvalidArgument(_))), "{variables:?}");
        }
        let spread =
            [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "2")];
        assert!(matches!(read(&spread), Err(Error::Unsupported(_))));
    }
}
