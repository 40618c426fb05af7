//! The launchers of MPI that there are.

use std::process::Command;

/// A launcher of MPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mpirun {
    pub(crate) program: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    OpenMpi,
    /// MPICH, and what comes of it.
    Hydra,
}

/// One of each kind, as far as there are any.
pub(crate) fn all() -> Vec<Mpirun> {
    let mut found: Vec<Mpirun> = Vec::new();
    for program in ["mpirun.openmpi", "mpirun.mpich", "mpirun", "mpiexec"] {
        let Ok(output) = Command::new(program).arg("--version").output() else { continue };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let kind = match text.contains("Open MPI") || text.contains("OpenRTE") {
            true => Kind::OpenMpi,
            false if text.contains("HYDRA") => Kind::Hydra,
            false => continue,
        };
        if found.iter().all(|mpirun| mpirun.kind != kind) {
            found.push(Mpirun { program, kind });
        }
    }
    found
}

impl Mpirun {
    /// The command that starts ranks, up to their program. Open MPI wants to be told that root may do so, and that there
    /// may be more ranks than cores.
    pub(crate) fn command(&self, ranks: usize) -> Command {
        let mut command = Command::new(self.program);
        command.args(["-n", &ranks.to_string()]);
        command.envs(self.environment());
        command
    }

    pub(crate) fn environment(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let open_mpi = [
            ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
            ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ];
        open_mpi.into_iter().filter(|_| self.kind == Kind::OpenMpi)
    }
}
