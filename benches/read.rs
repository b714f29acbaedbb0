//! How fast `probe read` makes rows of a capture, beside what tshark, tcptrace and tcpdump take to go
//! through it, and how much memory each of them needs. Needs root, nginx, tcpdump, tshark and tcptrace.
//!
//!     cargo bench --bench read [-- ROUNDS [CONNECTIONS]]
//!
//! The capture, of five times CONNECTIONS, is made on the spot, in a network namespace of its own. The
//! readers take turns, tshark in every third round only; what is printed are medians and how many
//! times as long as the probe each of them takes. Fails where the probe falls short of what is asked
//! of it.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark starts processes, reads the clock and divides"
)]

mod common;

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::mem::MaybeUninit;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use common::{
    Nginx, TARGET, bare_loop, enter_namespace, median, rounds_and_connections, terminate,
};
use nix::sys::signal::Signal;

/// Runs of the client that the capture holds.
const RUNS: usize = 5;
/// What is asked of the probe: how many times as long the others take, and its own memory.
const TIMES_TSHARK: f64 = 60.0;
const TIMES_TCPTRACE: f64 = 12.0;
const MOST_KIB: i64 = 64 << 10;

fn main() -> io::Result<ExitCode> {
    let (rounds, connections) = rounds_and_connections();
    enter_namespace()?;
    let folder = tempfile::tempdir()?;
    let capture = folder.path().join("capture.pcap");
    let packets = make(&capture, folder.path(), connections)?;
    let file = capture.to_string_lossy();
    let csv = folder.path().join("connections.csv");
    let rows = csv.to_string_lossy();

    let port = TARGET.rsplit(':').next().unwrap_or_default();
    let mut probe = Reader::new(
        "probe read, all rows to CSV",
        env!("CARGO_BIN_EXE_probe"),
        &["read", &file, "--port", port, "--csv", &rows, "-q"],
    );
    let mut tcpdump = Reader::new(
        "tcpdump -w /dev/null",
        "tcpdump",
        &["-r", &file, "-w", "/dev/null"],
    );
    let mut tcptrace = Reader::new("tcptrace -n", "tcptrace", &["-n", &file]);
    let mut fields = vec!["-r", &*file, "-T", "fields"];
    for field in [
        "frame.time_epoch",
        "tcp.stream",
        "tcp.flags",
        "tcp.seq",
        "tcp.len",
    ] {
        fields.extend(["-e", field]);
    }
    let mut tshark = Reader::new("tshark -T fields", "tshark", &fields);
    for round in 0..rounds {
        for reader in [&mut tcpdump, &mut probe, &mut tcptrace] {
            reader.run()?;
        }
        if round % 3 == 0 {
            tshark.run()?;
        }
    }
    let lines = fs::read_to_string(&csv)?.lines().count();
    assert_eq!(lines, RUNS * connections + 1, "a row for each connection");

    println!(
        "{packets} packets of {} connections, {rounds} rounds, medians: how many times as long as \
         the probe, seconds, seconds of processors, the most memory",
        RUNS * connections
    );
    let base = probe.median();
    for reader in [&mut tcpdump, &mut probe, &mut tcptrace, &mut tshark] {
        let (took, busy) = (reader.median(), median(&mut reader.busy));
        let (name, most) = (reader.name, reader.most_kib);
        println!(
            "{:>6.2}  {name:<28} {took:>7.3} s {busy:>7.3} s {most:>9} KiB",
            took / base
        );
    }
    let holds = tshark.median() / base >= TIMES_TSHARK
        && tcptrace.median() / base >= TIMES_TCPTRACE
        && probe.most_kib <= MOST_KIB;
    if !holds {
        println!(
            "too slow or too large: asked for are {TIMES_TSHARK} times tshark, {TIMES_TCPTRACE} \
             times tcptrace, {MOST_KIB} KiB"
        );
    }
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Makes the capture; returns how many packets it holds.
fn make(capture: &Path, folder: &Path, connections: usize) -> io::Result<usize> {
    let nginx = Nginx::start(folder)?;
    let tcpdump = Tcpdump::start(capture)?;
    for _ in 0..RUNS {
        bare_loop(connections)?;
    }
    let packets = tcpdump.stop()?;
    nginx.stop()?;
    Ok(packets)
}

struct Tcpdump {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Tcpdump {
    fn start(capture: &Path) -> io::Result<Tcpdump> {
        // Its buffer is in KiB: room for what comes while it has to wait for a processor. Without
        // --immediate-mode it leaves behind what the kernel has not handed it yet when it is stopped.
        let mut child = Command::new("tcpdump")
            .args(["-i", "lo", "-s", "128", "-B", "65536", "-Z", "root"])
            .args(["--immediate-mode", "-w"])
            .arg(capture)
            .args(["tcp", "port", "8088"])
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut said = BufReader::new(stderr);
        let mut line = String::new();
        said.read_line(&mut line)?;
        assert!(line.contains("listening on"), "{line}");
        Ok(Tcpdump { child, said })
    }

    fn stop(mut self) -> io::Result<usize> {
        terminate(&self.child, Signal::SIGINT);
        let mut said = String::new();
        self.said.read_to_string(&mut said)?;
        self.child.wait()?;
        assert!(said.contains("\n0 packets dropped by kernel"), "{said}");
        let captured = said.split(' ').next().and_then(|n| n.parse().ok());
        captured.ok_or_else(|| io::Error::other(said))
    }
}

/// Something that reads the capture.
struct Reader {
    name: &'static str,
    command: Command,
    /// In seconds.
    took: Vec<f64>,
    /// In seconds that all processors together were busy with it: steadier where others use them too.
    busy: Vec<f64>,
    /// The largest resident set of any run.
    most_kib: i64,
}

impl Reader {
    fn new(name: &'static str, program: &str, args: &[&str]) -> Reader {
        let mut command = Command::new(program);
        command
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Reader {
            name,
            command,
            took: Vec::new(),
            busy: Vec::new(),
            most_kib: 0,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        let began = Instant::now();
        let child = self.command.spawn()?;
        let (succeeded, usage) = wait(&child)?;
        let took = began.elapsed();
        assert!(succeeded, "{} failed", self.name);
        let busy = seconds(usage.ru_utime) + seconds(usage.ru_stime);
        self.took.push(took.as_secs_f64());
        self.busy.push(busy);
        self.most_kib = self.most_kib.max(usage.ru_maxrss);
        eprintln!(
            "{}: {took:.3?}, {busy:.3} s of processors, {} KiB",
            self.name, usage.ru_maxrss
        );
        Ok(())
    }

    fn median(&mut self) -> f64 {
        median(&mut self.took)
    }
}

fn seconds(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}

/// Waits for a child; returns whether it succeeded, and what it used: of memory the largest resident
/// set, in KiB.
fn wait(child: &Child) -> io::Result<(bool, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to memory of the right size that lives as long as the call.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, usage.as_mut_ptr()) };
    if waited != pid {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every field is a number, for which zero, or what the kernel wrote, is a value.
    let usage = unsafe { usage.assume_init() };
    let succeeded = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0;
    Ok((succeeded, usage))
}
