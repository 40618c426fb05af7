//! Two hosts on this one: a network, a host name and mounts each, and a cable between them. Where that is not permitted,
//! the reason is the answer.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::mpirun::{Kind, Mpirun};

const ADDRESSES: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const NETWORK: &str = "10.77.0.0/24";
const CABLE: [&str; 2] = ["cable0", "cable1"];

/// What a host does: it says that it is there, and ends with this process. UCX asks the mounted /sys for its networks.
const HOST: &str = "mount -t sysfs sysfs /sys && hostname $0 && ip link set lo up && echo up && exec cat";

/// Two hosts, which go with this value.
#[derive(Debug)]
pub(crate) struct TwoHosts {
    hosts: [Child; 2],
    folder: TempDir,
}

impl TwoHosts {
    pub(crate) fn new() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let hosts = TwoHosts { hosts: [host("mslite-host0")?, host("mslite-host1")?], folder };
        hosts.lay_cable()?;
        hosts.write_agent().map_err(|e| e.to_string())?;
        Ok(hosts)
    }

    fn lay_cable(&self) -> Result<(), String> {
        let [a, b] = self.pids();
        let [near, far] = CABLE;
        done(
            Command::new("ip")
                .args(["link", "add", near, "netns", &a, "type", "veth", "peer", "name", far, "netns", &b]),
        )?;
        for i in 0..2 {
            let address = format!("{}/24", ADDRESSES[i]);
            done(self.on(i).args(["ip", "addr", "add", &address, "dev", CABLE[i]]))?;
            done(self.on(i).args(["ip", "link", "set", CABLE[i], "up"]))?;
        }
        let since = Instant::now();
        let is_up = |i: usize| {
            let output = self.on(i).args(["ip", "link", "show", CABLE[i]]).output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("state UP"))
        };
        while !(is_up(0) && is_up(1)) {
            if since.elapsed() > Duration::from_secs(20) {
                return Err("the cable between the hosts does not come up".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Writes what launchers call instead of ssh.
    fn write_agent(&self) -> std::io::Result<()> {
        let [a, b] = self.pids();
        let [first, _] = ADDRESSES;
        let script = format!(
            "#!/bin/sh\nwhile [ \"${{1#-}}\" != \"$1\" ]; do shift; done\n\
             case $1 in {first}) host={a};; *) host={b};; esac\nshift\n\
             exec nsenter -t $host -n -u -m sh -c \"$*\"\n"
        );
        std::fs::write(self.agent(), script)?;
        std::fs::set_permissions(self.agent(), std::fs::Permissions::from_mode(0o700))
    }

    /// Runs a program as one rank on each host, with nothing but TCP between them.
    pub(crate) fn run(&self, mpirun: &Mpirun, program: &Command) -> std::io::Result<Output> {
        let mut command = self.on(0);
        command.arg(mpirun.program).envs(mpirun.environment());
        let [a, b] = ADDRESSES;
        match mpirun.kind {
            Kind::OpenMpi => {
                command.args(["-n", "2", "--host", &format!("{a}:1,{b}:1"), "--mca", "plm_rsh_agent"]);
                command.arg(self.agent()).args(["--mca", "pml", "ob1", "--mca", "btl", "tcp,self"]);
                for layer in ["btl_tcp_if_include", "oob_tcp_if_include"] {
                    command.args(["--mca", layer, NETWORK]);
                }
            }
            Kind::Hydra => {
                command.args(["-launcher", "ssh", "-launcher-exec"]).arg(self.agent());
                command.args(["-hosts", &format!("{a},{b}"), "-n", "2"]).env("UCX_TLS", "tcp,self");
            }
        }
        command.arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.output()
    }

    /// Bytes that have gone through the cable, both ways.
    pub(crate) fn traffic(&self) -> u64 {
        let output = self.on(0).args(["cat", "/proc/net/dev"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix(CABLE[0])?.strip_prefix(':')).unwrap();
        let counts: Vec<u64> = line.split_whitespace().map(|count| count.parse().unwrap()).collect();
        counts[0] + counts[8]
    }

    fn on(&self, host: usize) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pids()[host], "-n", "-u", "-m"]);
        command
    }

    fn pids(&self) -> [String; 2] {
        [self.hosts[0].id().to_string(), self.hosts[1].id().to_string()]
    }

    fn agent(&self) -> std::path::PathBuf {
        self.folder.path().join("agent")
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}

fn host(name: &str) -> Result<Child, String> {
    let mut command = Command::new("unshare");
    command.args(["-n", "-u", "-m", "sh", "-c", HOST, name]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("unshare: {e}"))?;
    let mut line = String::new();
    let said = child.stdout.take().map(|pipe| BufReader::new(pipe).read_line(&mut line));
    if matches!(said, Some(Ok(_))) && line == "up\n" {
        return Ok(child);
    }
    let _ = child.kill();
    let mut reason = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        let _ = pipe.read_to_string(&mut reason);
    }
    let _ = child.wait();
    Err(reason.trim().to_owned())
}

fn done(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
