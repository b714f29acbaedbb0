//! How fast the probe makes and records connections, beside a bare epoll loop that records nothing:
//! alone, and with `tcpdump -w /dev/null` running next to it. Needs root, nginx and tcpdump.
//!
//!     cargo bench --bench connections [-- ROUNDS [CONNECTIONS]]
//!
//! The contenders take turns, in a network namespace of their own; what is printed are medians and
//! ratios to the bare loop of the same run.
#![expect(
    clippy::cast_precision_loss,
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a benchmark starts processes, connects, reads the clock and divides"
)]

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::event::epoll;
use socket2::{Domain, Socket, Type};

const TARGET: &str = "127.0.0.1:8088";
const CONCURRENCY: usize = 64;
/// What the probe sends, but for its X-Request-Id.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8088\r\nUser-Agent: bare\r\n\
    Accept: */*\r\nX-Request-Id: 20261122T234816-6775-12345\r\nConnection: close\r\n\r\n";

fn main() -> io::Result<()> {
    // Cargo hands `--bench` on.
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let rounds: usize = numbers.next().unwrap_or(7);
    let connections: usize = numbers.next().unwrap_or(30_000);
    unshare(CloneFlags::CLONE_NEWNET)?;
    run("ip", &["link", "set", "lo", "up"])?;
    let folder = tempfile::tempdir()?;
    let nginx = Nginx::start(folder.path())?;
    bare_loop(connections / 10)?;

    let mut bare = Vec::new();
    let mut with_tcpdump = Vec::new();
    let mut probe = Vec::new();
    let mut sockets = Vec::new();
    let mut walls = Vec::new();
    for round in 1..=rounds {
        bare.push(rate(connections, bare_loop(connections)?));
        let tcpdump = Tcpdump::start()?;
        with_tcpdump.push(rate(connections, bare_loop(connections)?));
        tcpdump.stop()?;
        let run = run_probe(connections, "auto", folder.path())?;
        assert!(run.complete, "{}", run.table);
        probe.push(rate(connections, run.span));
        walls.push(run.wall.as_secs_f64());
        let run = run_probe(connections, "socket", folder.path())?;
        sockets.push(rate(connections, run.span));
        let last = |rates: &[f64]| rates.last().copied().unwrap_or(0.0);
        eprintln!(
            "round {round}: bare {:.0}/s, with tcpdump {:.0}/s, probe {:.0}/s, probe without wire {:.0}/s",
            last(&bare),
            last(&with_tcpdump),
            last(&probe),
            last(&sockets),
        );
    }
    let base = median(&mut bare);
    println!("{connections} connections, {CONCURRENCY} at a time, {rounds} rounds, medians");
    println!("bare loop                    {base:>8.0}/s  1.000");
    for (name, rates) in [
        ("bare loop beside tcpdump", &mut with_tcpdump),
        ("probe, all rows to CSV", &mut probe),
        ("probe --observe socket", &mut sockets),
    ] {
        let rate = median(rates);
        println!("{name:<28} {rate:>8.0}/s  {:.3}", rate / base);
    }
    println!("probe, exec to exit          {:>8.2} s", median(&mut walls));

    let fifty = |observe: &str| -> io::Result<f64> {
        let mut walls = Vec::new();
        for _ in 0..rounds {
            walls.push(run_probe_with(&["-n", "50", "--observe", observe])?.as_secs_f64() * 1e3);
        }
        Ok(median(&mut walls))
    };
    println!(
        "50 connections, exec to exit: {:.1} ms from the sockets alone",
        fifty("socket")?
    );
    println!(
        "50 connections, exec to exit: {:.1} ms with packets",
        fifty("socket,wire")?
    );
    nginx.stop()
}

/// The loop that records nothing: connect, write, read until the end, close.
fn bare_loop(connections: usize) -> io::Result<Duration> {
    let target: SocketAddr = TARGET.parse().map_err(io::Error::other)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut open: Vec<Option<(TcpStream, bool)>> = (0..CONCURRENCY).map(|_| None).collect();
    let mut events = vec![
        epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        };
        256
    ];
    let mut buffer = vec![0; 64 * 1024];
    let interest = epoll::EventFlags::IN
        | epoll::EventFlags::OUT
        | epoll::EventFlags::RDHUP
        | epoll::EventFlags::ET;
    let connect = |slot: usize| -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let stream = TcpStream::from(socket);
        epoll::add(
            &epoll,
            &stream,
            epoll::EventData::new_u64(slot as u64),
            interest,
        )?;
        Ok(stream)
    };
    let began = Instant::now();
    let mut started = 0;
    let mut ended = 0;
    for (slot, entry) in open.iter_mut().enumerate().take(connections) {
        *entry = Some((connect(slot)?, false));
        started += 1;
    }
    while ended < connections {
        let ready = epoll::wait(&epoll, &mut events[..], None)?;
        for event in &events[..ready] {
            let slot = usize::try_from(event.data.u64()).unwrap_or(0);
            let Some((stream, asked)) = &mut open[slot] else {
                continue;
            };
            if !*asked {
                stream.write_all(REQUEST)?;
                *asked = true;
            }
            let flags = event.flags;
            let over = loop {
                if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP) {
                    break false;
                }
                match stream.read(&mut buffer) {
                    Ok(0) => break true,
                    Ok(n) if n < buffer.len() && !flags.contains(epoll::EventFlags::RDHUP) => {
                        break false;
                    }
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                    Err(error) => return Err(error),
                }
            };
            if over {
                ended += 1;
                open[slot] = None;
                if started < connections {
                    open[slot] = Some((connect(slot)?, false));
                    started += 1;
                }
            }
        }
    }
    Ok(began.elapsed())
}

struct ProbeRun {
    /// From the first SYN to the end of the last connection, by its own CSV.
    span: Duration,
    wall: Duration,
    complete: bool,
    table: String,
}

fn run_probe(connections: usize, observe: &str, folder: &Path) -> io::Result<ProbeRun> {
    let csv = folder.join("connections.csv");
    let began = Instant::now();
    let output = probe(&[
        "-n",
        &connections.to_string(),
        "-c",
        &CONCURRENCY.to_string(),
        "--observe",
        observe,
        "--csv",
        &csv.to_string_lossy(),
    ])
    .output()?;
    let wall = began.elapsed();
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let wired = observe == "socket" || table.contains(", 0 dropped by the kernel");
    let served = table.contains(&format!("lost 0 of the {connections} "));
    Ok(ProbeRun {
        span: span(&csv)?,
        wall,
        complete: output.status.success() && wired && served,
        table,
    })
}

fn span(csv: &Path) -> io::Result<Duration> {
    let mut reader = csv::Reader::from_path(csv)?;
    let header = reader.headers()?.clone();
    let column = |name| header.iter().position(|h| h == name).unwrap_or(0);
    let (opened, end) = (column("opened_unix_ns"), column("end_us"));
    let (mut first, mut last) = (f64::INFINITY, 0_f64);
    let mut base = None;
    for row in reader.records() {
        let row = row?;
        let opened: i64 = row[opened].parse().unwrap_or(0);
        // Relative to the first row, so that a double is exact enough.
        let opened = (opened - *base.get_or_insert(opened)) as f64 / 1e9;
        first = first.min(opened);
        last = last.max(opened + row[end].parse::<f64>().unwrap_or(0.0) / 1e6);
    }
    Ok(Duration::from_secs_f64(last - first))
}

fn run_probe_with(args: &[&str]) -> io::Result<Duration> {
    let began = Instant::now();
    let output = probe(args).output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(began.elapsed())
}

fn probe(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_probe"));
    command.args(["--target", TARGET]).args(args);
    command
}

fn rate(connections: usize, span: Duration) -> f64 {
    connections as f64 / span.as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(tool: &str, args: &[&str]) -> io::Result<()> {
    let status = Command::new(tool).args(args).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("{tool} {args:?}: {status}")))
    }
}

struct Nginx(Child);

impl Nginx {
    fn start(folder: &Path) -> io::Result<Nginx> {
        let path = folder.join("nginx.conf");
        let at = folder.display();
        fs::write(
            &path,
            format!(
                "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
                 events {{ worker_connections 4096; }}\n\
                 http {{ access_log off; server {{ listen {TARGET} backlog=4096;\n\
                 location / {{ return 200 'ok\\n'; }} }} }}\n"
            ),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()?;
        while TcpStream::connect(TARGET).is_err() {
            std::thread::yield_now();
        }
        Ok(Nginx(child))
    }

    fn stop(mut self) -> io::Result<()> {
        terminate(&self.0, Signal::SIGTERM);
        self.0.wait().map(drop)
    }
}

struct Tcpdump(Child);

impl Tcpdump {
    fn start() -> io::Result<Tcpdump> {
        let mut child = Command::new("tcpdump")
            .args(["-i", "lo", "-w", "/dev/null", "tcp", "port", "8088"])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let stderr = child.stderr.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        BufReader::new(stderr).read_line(&mut line)?;
        assert!(line.contains("listening on"), "{line}");
        Ok(Tcpdump(child))
    }

    fn stop(mut self) -> io::Result<()> {
        terminate(&self.0, Signal::SIGINT);
        self.0.wait().map(drop)
    }
}

fn terminate(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // It may have ended by itself; waiting shows that.
    let _ = kill(pid, signal);
}
