//! What launchers tell a rank through its environment.

use std::time::Duration;

use crate::{Error, JoinOptions, Rendezvous, Result, TransportKind, Tunings};

/// Variable that names the rendezvous.
pub const RENDEZVOUS_VARIABLE: &str = "MSLITE_RENDEZVOUS";

/// Variable that sets the timeout, in seconds.
pub const TIMEOUT_VARIABLE: &str = "MSLITE_TIMEOUT";

/// Variable that says what the ranks exchange data through: `shared` or `mpi`.
pub const TRANSPORT_VARIABLE: &str = "MSLITE_TRANSPORT";

/// Variable that names a file of what was measured on this machine ([`Tunings`]).
pub const TUNING_VARIABLE: &str = "MSLITE_TUNING";

/// A launcher, by the variables it sets. Of several that mean the same, the first that is set counts.
struct Launcher {
    rank: &'static str,
    size: &'static [&'static str],
    /// Number of ranks on this host.
    local_size: Option<&'static str>,
    hosts: Hosts,
    /// What tells its jobs apart.
    job: &'static [&'static str],
    /// Whether the ranks of a job, and only they, have the same parent, so that it can stand for the job.
    common_parent: bool,
}

/// How many hosts a launcher uses, where it does not say how many ranks are on this one.
enum Hosts {
    /// One, as far as is known.
    One,
    /// As many as these variables say.
    Number(&'static [&'static str]),
    /// One for each rank, unless it is told where they meet.
    EachRank,
}

const SLURM_HOSTS: Hosts = Hosts::Number(&["SLURM_STEP_NUM_NODES", "SLURM_NNODES"]);

const LAUNCHERS: [Launcher; 6] = [
    // `mslite launch`, msrun, or a person: nothing else need be set, and the shells may be several.
    Launcher {
        rank: "RANK_ID",
        size: &["RANK_SIZE"],
        local_size: None,
        hosts: Hosts::One,
        job: &["MS_SCHED_PORT", "MASTER_PORT"],
        common_parent: false,
    },
    // Open MPI.
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        size: &["OMPI_COMM_WORLD_SIZE"],
        local_size: Some("OMPI_COMM_WORLD_LOCAL_SIZE"),
        hosts: Hosts::One,
        job: &["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"],
        common_parent: true,
    },
    // MPICH and its kin, by their own launcher or by Slurm's.
    Launcher {
        rank: "PMI_RANK",
        size: &["PMI_SIZE"],
        local_size: Some("MPI_LOCALNRANKS"),
        hosts: SLURM_HOSTS,
        job: &["PMI_JOBID"],
        common_parent: true,
    },
    // torchrun.
    Launcher {
        rank: "RANK",
        size: &["WORLD_SIZE"],
        local_size: Some("LOCAL_WORLD_SIZE"),
        hosts: Hosts::One,
        job: &["MASTER_PORT", "TORCHELASTIC_RUN_ID"],
        common_parent: false,
    },
    // Slurm's srun.
    Launcher {
        rank: "SLURM_PROCID",
        size: &["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"],
        local_size: None,
        hosts: SLURM_HOSTS,
        job: &["SLURM_JOB_ID", "SLURM_STEP_ID"],
        common_parent: true,
    },
    // A Kubernetes job whose pods are indexed; it does not say how many there are, so that its manifest has to.
    Launcher {
        rank: "JOB_COMPLETION_INDEX",
        size: &["RANK_SIZE", "WORLD_SIZE", "JOB_COMPLETIONS"],
        local_size: None,
        hosts: Hosts::EachRank,
        job: &["JOB_NAME"],
        common_parent: false,
    },
];

impl JoinOptions {
    /// What the environment says; `None` if no launcher has set rank and size.
    ///
    /// Looked for in this order: `RANK_ID` and `RANK_SIZE` (`mslite launch`, msrun, by hand),
    /// `OMPI_COMM_WORLD_RANK` and `_SIZE` (Open MPI), `PMI_RANK` and `PMI_SIZE` (MPICH), `RANK` and `WORLD_SIZE`
    /// (torchrun), `SLURM_PROCID` and `SLURM_NTASKS` (srun), `JOB_COMPLETION_INDEX` with `RANK_SIZE`, `WORLD_SIZE` or
    /// `JOB_COMPLETIONS` (an indexed job of Kubernetes, whose manifest sets one of these).
    ///
    /// Ranks of one host share memory, unless `MSLITE_TRANSPORT` is `mpi`; ranks on several hosts, by what the launcher
    /// says, go through MPI.
    ///
    /// Who shares memory meets where `MSLITE_RENDEZVOUS` says. Without it, the name is derived from the job's identity in
    /// the launcher's variables (`PMIX_NAMESPACE`, `SLURM_JOB_ID`, `MASTER_PORT`, ...), else, under MPI and Slurm,
    /// from the parent process, and else from the number of ranks alone: two such jobs of one user and one size
    /// cannot start at the same time. `MSLITE_TIMEOUT` sets the timeout, in seconds. `MSLITE_TUNING` names a file of
    /// [`Tunings`], which matter to ranks that share memory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for values that make no sense, [`Error::Unsupported`] when the launcher says
    /// that the ranks are on several hosts, or MPI is asked for, and MPI is not built in.
    pub fn from_env() -> Result<Option<JoinOptions>> {
        JoinOptions::from_env_over(None)
    }

    /// The same, but over this transport, if one is given, whatever `MSLITE_TRANSPORT` says.
    ///
    /// # Errors
    /// As [`JoinOptions::from_env`].
    pub fn from_env_over(transport: Option<TransportKind>) -> Result<Option<JoinOptions>> {
        from_variables(&|name| match (name, transport) {
            (TRANSPORT_VARIABLE, Some(kind)) => Some(kind.name().to_owned()),
            _ => std::env::var(name).ok(),
        })
    }
}

fn from_variables(get: &dyn Fn(&str) -> Option<String>) -> Result<Option<JoinOptions>> {
    let used = |l: &'static Launcher| Some((l, get(l.rank).and(first_set(get, l.size))?));
    let Some((launcher, size_name)) = LAUNCHERS.iter().find_map(used) else {
        return Ok(None);
    };
    let (rank, size) = (number(get, launcher.rank)?, number(get, size_name)?);
    if rank >= size {
        return Err(Error::InvalidArgument(format!(
            "{} is {rank}, but {size_name} is {size}",
            launcher.rank
        )));
    }
    let transport = transport(get, several_hosts(get, launcher, size)?)?;
    let rendezvous = match get(RENDEZVOUS_VARIABLE) {
        Some(name) => Rendezvous::new(&name)?,
        None => Rendezvous::new(&job_name(get, launcher, size))?,
    };
    let timeout = match get(TIMEOUT_VARIABLE) {
        Some(_) => seconds(get)?,
        None => JoinOptions::DEFAULT_TIMEOUT,
    };
    let tunings = match get(TUNING_VARIABLE) {
        Some(path) => Tunings::read(path.as_ref()).map_err(|error| {
            let way_out = "make it with `mslite bench collective --tune FILE`, or unset the variable";
            Error::InvalidArgument(format!("{TUNING_VARIABLE}: {error}; {way_out}"))
        })?,
        None => Tunings::default(),
    };
    Ok(Some(JoinOptions { timeout, transport, tunings, ..JoinOptions::new(rank, size, rendezvous) }))
}

fn number(get: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<usize> {
    let text = get(name).unwrap_or_default();
    text.trim().parse().map_err(|_| Error::InvalidArgument(format!("{name} is {text:?}, not a number")))
}

fn seconds(get: &dyn Fn(&str) -> Option<String>) -> Result<Duration> {
    let text = get(TIMEOUT_VARIABLE).unwrap_or_default();
    let seconds = text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    seconds.filter(|s| *s <= Duration::from_secs(365 * 24 * 3600)).ok_or_else(|| {
        Error::InvalidArgument(format!("{TIMEOUT_VARIABLE} is {text:?}, not a number of seconds"))
    })
}

fn first_set(get: &dyn Fn(&str) -> Option<String>, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| get(name).is_some())
}

/// What says that the ranks are on several hosts, if anything does.
fn several_hosts(
    get: &dyn Fn(&str) -> Option<String>,
    launcher: &Launcher,
    size: usize,
) -> Result<Option<String>> {
    if let Some(name) = launcher.local_size.filter(|name| get(name).is_some()) {
        let here = number(get, name)?;
        return Ok((here != size).then(|| format!("{name} is {here} of {size} ranks")));
    }
    Ok(match launcher.hosts {
        Hosts::Number(names) => match first_set(get, names) {
            Some(name) => Some((name, number(get, name)?))
                .filter(|&(_, hosts)| hosts > 1)
                .map(|(name, hosts)| format!("{name} is {hosts}")),
            None => None,
        },
        Hosts::EachRank if size > 1 && get(RENDEZVOUS_VARIABLE).is_none() => {
            Some(format!("{} is set, and {RENDEZVOUS_VARIABLE} is not", launcher.rank))
        }
        Hosts::EachRank | Hosts::One => None,
    })
}

fn transport(get: &dyn Fn(&str) -> Option<String>, spread: Option<String>) -> Result<TransportKind> {
    let wanted = get(TRANSPORT_VARIABLE).map(|text| text.parse()).transpose()?;
    match (wanted, spread) {
        (Some(TransportKind::SharedMemory), Some(why)) => Err(Error::Unsupported(format!(
            "{why}, but {TRANSPORT_VARIABLE} is {}: ranks on several hosts cannot share memory",
            TransportKind::SharedMemory
        ))),
        (Some(kind), _) if kind.is_available() => Ok(kind),
        (Some(kind), _) => Err(without_mpi(&format!("{TRANSPORT_VARIABLE} is {kind}"))),
        (None, Some(_)) if TransportKind::Mpi.is_available() => Ok(TransportKind::Mpi),
        (None, Some(why)) => Err(without_mpi(&format!("{why}, so that ranks are on several hosts"))),
        (None, None) => Ok(TransportKind::SharedMemory),
    }
}

/// The error where only MPI would do.
pub(crate) fn without_mpi(why: &str) -> Error {
    Error::Unsupported(format!(
        "{why}, but this build only knows shared memory, on one host. Build it with the feature `mpi` (of mslite-cli, \
         mslite or mslite-collective; it needs `mpicc` and libclang), and start it with the mpirun of that MPI"
    ))
}

fn job_name(get: &dyn Fn(&str) -> Option<String>, launcher: &Launcher, size: usize) -> String {
    let ids: Vec<String> = launcher.job.iter().filter_map(|name| get(name)).collect();
    let parent = rustix::process::getppid().filter(|_| launcher.common_parent && ids.is_empty());
    let parent = parent.map_or(0, |pid| pid.as_raw_nonzero().get());
    format!("job-{:016x}", fnv1a(format!("{} {size} {ids:?} {parent}", launcher.rank).as_bytes()))
}

/// A hash that is the same in every build, since ranks may run different programs.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
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
            for &size in launcher.size {
                let meets =
                    if matches!(launcher.hosts, Hosts::EachRank) { RENDEZVOUS_VARIABLE } else { "OTHER" };
                let at = |rank: &'static str| read(&[(launcher.rank, rank), (size, "4"), (meets, "here")]);
                let options = at("2").unwrap().unwrap();
                assert_eq!((options.rank, options.size), (2, 4));
                assert_eq!(options.transport, TransportKind::SharedMemory);
                assert_eq!(options.rendezvous, at("0").unwrap().unwrap().rendezvous);
            }
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
        let named = [("RANK_ID", "0"), ("RANK_SIZE", "2"), (RENDEZVOUS_VARIABLE, "/some/where")];
        assert_eq!(read(&named).unwrap().unwrap().rendezvous.path().to_str(), Some("/some/where"));
    }

    #[test]
    fn nonsense_is_refused() {
        for (rank, size, timeout) in
            [("2", "2", "1"), ("-1", "2", "1"), ("0", "x", "1"), ("0", "2", "nan"), ("0", "2", "-1")]
        {
            let variables = [("RANK_ID", rank), ("RANK_SIZE", size), (TIMEOUT_VARIABLE, timeout)];
            assert!(matches!(read(&variables), Err(Error::InvalidArgument(_))), "{variables:?}");
        }
    }

    /// What launchers set on several hosts.
    const SPREAD: [&[(&str, &str)]; 6] = [
        &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "4"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "2")],
        &[("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("MPI_LOCALNRANKS", "1"), ("MPI_LOCALRANKID", "0")],
        &[("PMI_RANK", "1"), ("PMI_SIZE", "2"), ("SLURM_STEP_NUM_NODES", "2"), ("SLURM_PROCID", "1")],
        &[("RANK", "1"), ("WORLD_SIZE", "16"), ("LOCAL_WORLD_SIZE", "8"), ("MASTER_PORT", "29500")],
        &[("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("SLURM_NNODES", "2")],
        &[("JOB_COMPLETION_INDEX", "1"), ("WORLD_SIZE", "2")],
    ];

    #[test]
    fn ranks_on_several_hosts_go_through_mpi() {
        for variables in SPREAD {
            match read(variables) {
                Ok(options) => assert_eq!(options.unwrap().transport, TransportKind::Mpi, "{variables:?}"),
                Err(Error::Unsupported(text)) => {
                    assert!(!cfg!(feature = "mpi") && text.contains("feature `mpi`"), "{text}");
                }
                Err(error) => panic!("{variables:?}: {error}"),
            }
            let shared = [variables, &[(TRANSPORT_VARIABLE, "shared")]].concat();
            let Err(Error::Unsupported(text)) = read(&shared) else { panic!("{variables:?}") };
            assert!(text.contains("cannot share memory"), "{text}");
        }
    }

    #[test]
    fn ranks_of_one_host_share_memory_unless_told_otherwise() {
        let together: [&[(&str, &str)]; 4] = [
            &[
                ("OMPI_COMM_WORLD_RANK", "0"),
                ("OMPI_COMM_WORLD_SIZE", "4"),
                ("OMPI_COMM_WORLD_LOCAL_SIZE", "4"),
            ],
            &[
                ("SLURM_PROCID", "3"),
                ("SLURM_NTASKS", "4"),
                ("SLURM_STEP_NUM_NODES", "1"),
                ("SLURM_NNODES", "2"),
            ],
            &[("JOB_COMPLETION_INDEX", "1"), ("RANK_SIZE", "2"), (RENDEZVOUS_VARIABLE, "/mnt/job/meet")],
            &[("JOB_COMPLETION_INDEX", "0"), ("RANK_SIZE", "1")],
        ];
        for variables in together {
            assert_eq!(read(variables).unwrap().unwrap().transport, TransportKind::SharedMemory);
            let mpi = read(&[variables, &[(TRANSPORT_VARIABLE, "mpi")]].concat());
            match mpi {
                Ok(options) => assert_eq!(options.unwrap().transport, TransportKind::Mpi),
                Err(error) => {
                    assert!(!cfg!(feature = "mpi") && error.to_string().contains("mpicc"), "{error}")
                }
            }
            let other = read(&[variables, &[(TRANSPORT_VARIABLE, "pigeons")]].concat());
            assert!(matches!(other, Err(Error::InvalidArgument(_))), "{other:?}");
        }
    }
}
