//! A server as a process on a core of its own, and what it costs.

use std::{
    io::{self, BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

/// Ticks of `/proc/PID/stat` in a second; Linux tells user space 100 on every architecture.
const TICKS: f64 = 100.0;

/// A running server, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
    collects_garbage: bool,
}

impl Process {
    /// Starts a program on `core` and waits until it says `listening on ADDRESS:PORT`. One that ends instead is started
    /// once more: ten minutes of figures are not to be lost for it.
    pub fn start(core: usize, program: &[String], directory: &Path) -> io::Result<Self> {
        Self::try_start(core, program, directory)
            .or_else(|_| Self::try_start(core, program, directory))
    }

    fn try_start(core: usize, program: &[String], directory: &Path) -> io::Result<Self> {
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(program)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening on ");
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            let _ = child.kill();
            let status = child.wait()?;
            return Err(io::Error::other(format!("it does not start: {status}")));
        };
        let collects_garbage = program.iter().any(|argument| argument == "--expose-gc");
        Ok(Self {
            child,
            address,
            collects_garbage,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Seconds of CPU so far, its own and the kernel's for it.
    pub fn cpu(&self) -> io::Result<f64> {
        let stat = self.read("stat")?;
        // The name before the last parenthesis may hold anything; utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        match (times.next(), times.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) as f64 / TICKS),
            _ => Err(io::Error::other("no times in /proc/PID/stat")),
        }
    }

    /// Bytes of memory in use (proportional set size), after a garbage collection where there is one.
    pub fn memory(&self) -> io::Result<f64> {
        if self.collects_garbage {
            Command::new("kill")
                .args(["-USR2", &self.child.id().to_string()])
                .status()?;
        }
        sleep(Duration::from_secs(1));
        let rollup = self.read("smaps_rollup")?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
        kibibytes
            .map(|kibibytes| f64::from(kibibytes) * 1_024.0)
            .ok_or_else(|| io::Error::other("no Pss in /proc/PID/smaps_rollup"))
    }

    fn read(&self, file: &str) -> io::Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
