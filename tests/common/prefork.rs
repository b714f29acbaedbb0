//! The embedded server under test: its log event by event, the server on its own with its log on its
//! way to the test, clients of the test's own, and runs of the probe against it.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests start the server, connect to it, and end at the first surprise"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::kernel::{PATIENCE, Port};
use super::process::descendants;
use super::{Row, probe, read_csv, run_json, stderr};

/// A request as short as they come.
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// How far two processes' clocks may lie apart, in nanoseconds. Both run on CLOCK_MONOTONIC, and
/// packets are stamped by CLOCK_REALTIME; the difference is taken once at each process's start, to
/// within the narrowest of five pairs of readings, which is microseconds.
pub(crate) const CLOCKS: i64 = 1_000_000;

/// One line of the log: `UNIX_NANOSECONDS PID EVENT [DETAIL...]`.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// When, in Unix nanoseconds.
    pub(crate) at: i64,
    /// Whose.
    pub(crate) pid: Pid,
    /// What.
    pub(crate) name: String,
    detail: String,
}

impl Event {
    fn parse(line: &str) -> Event {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("no event: {line}"));
        Event {
            at: word().parse().unwrap_or_else(|_| panic!("no time: {line}")),
            pid: Pid::from_raw(word().parse().unwrap_or_else(|_| panic!("no pid: {line}"))),
            name: word().to_owned(),
            detail: words.next().unwrap_or_default().to_owned(),
        }
    }

    /// What it is about: its first word as an address, a number or whatever is asked for.
    pub(crate) fn subject<T: std::str::FromStr>(&self) -> T {
        let word = self.detail.split(' ').next().unwrap_or_default();
        word.parse().unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The value of `key=value`.
    pub(crate) fn value(&self, key: &str) -> &str {
        let mut pairs = self
            .detail
            .split(' ')
            .filter_map(|word| word.split_once('='));
        let found = pairs.find(|(name, _)| *name == key);
        found.unwrap_or_else(|| panic!("no {key}: {self:?}")).1
    }

    /// The same as a number.
    pub(crate) fn number(&self, key: &str) -> u64 {
        self.value(key).parse().unwrap()
    }
}

/// What a server logged, in the order in which it was written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(pub(crate) Vec<Event>);

impl Log {
    /// Reads a log, of which every line is an event.
    pub(crate) fn parse(text: &str) -> Log {
        Log(text.lines().map(Event::parse).collect())
    }

    /// The events of one name.
    pub(crate) fn of(&self, name: &str) -> Vec<&Event> {
        self.0.iter().filter(|event| event.name == name).collect()
    }

    /// How many of them there are.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.of(name).len()
    }

    /// The first of them.
    pub(crate) fn first(&self, name: &str) -> &Event {
        let found = self.0.iter().find(|event| event.name == name);
        found.unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    /// The last of them.
    pub(crate) fn last(&self, name: &str) -> &Event {
        let found = self.0.iter().rfind(|event| event.name == name);
        found.unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    /// The event of that name about a client, which happens to it once at most.
    pub(crate) fn about(&self, name: &str, peer: SocketAddr) -> Option<&Event> {
        let mut found = self.of(name).into_iter();
        let event = found.find(|event| event.subject::<SocketAddr>() == peer);
        assert!(!found.any(|event| event.subject::<SocketAddr>() == peer));
        event
    }

    /// The master's number.
    pub(crate) fn master(&self) -> Pid {
        self.first("listening").pid
    }
}

/// `probe serve` under way, killed with its workers where a test fails.
pub(crate) struct Serving {
    child: Child,
    lines: Receiver<String>,
    log: Log,
}

/// A server that has ended.
pub(crate) struct Served {
    /// Its exit code; none where a signal killed it.
    pub(crate) code: Option<i32>,
    /// All that it logged.
    pub(crate) log: Log,
    /// All that it said beside that.
    pub(crate) stderr: String,
}

/// `probe serve` with options separated by spaces, on a free port unless they say where.
pub(crate) fn serve_command(options: &str) -> Vec<String> {
    let listen = if options.contains("--listen") {
        ""
    } else {
        "--listen 127.0.0.1:0"
    };
    let words = ["serve"].into_iter();
    let words = words.chain(listen.split_whitespace());
    let words = words.chain(options.split_whitespace()).map(str::to_owned);
    let program = env!("CARGO_BIN_EXE_probe").to_owned();
    std::iter::once(program).chain(words).collect()
}

impl Serving {
    /// Starts it and waits until it serves.
    pub(crate) fn start(options: &str) -> Serving {
        let words = serve_command(options);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Serving::of(command)
    }

    /// Starts it by a shell's `script`, in which `"$@"` stands for it.
    pub(crate) fn by_shell(script: &str, options: &str) -> Serving {
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .args(serve_command(options));
        Serving::of(command)
    }

    /// Starts it by a command, and waits until it serves.
    pub(crate) fn of(mut command: Command) -> Serving {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // The server must never wait for its reader.
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                for line in stdout.lines().map_while(Result::ok) {
                    // A test that has failed reads no more.
                    let _ = sender.send(line);
                }
            })
            .unwrap();
        let log = Log::default();
        let mut serving = Serving { child, lines, log };
        serving.wait_for("listening", 1);
        let workers = usize::try_from(serving.log.first("listening").number("workers")).unwrap();
        serving.wait_for("booted", workers);
        serving
    }

    /// Waits until there are so many events of a name.
    pub(crate) fn wait_for(&mut self, name: &str, n: usize) {
        self.wait_until(name, |log| log.count(name) >= n);
    }

    /// Waits until the log `holds` what is awaited.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&Log) -> bool) {
        while !holds(&self.log) {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("waited in vain for {what}: {:#?}", self.log);
            };
            self.log.0.push(Event::parse(&line));
        }
    }

    /// What it has logged as far as was waited for.
    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.log.first("listening").subject()
    }

    /// The port there.
    pub(crate) fn port(&self) -> Port {
        Port(self.address().port())
    }

    /// The master's number.
    pub(crate) fn master(&self) -> Pid {
        self.log.master()
    }

    /// The workers' numbers, of those that it started with.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        self.log
            .of("booted")
            .iter()
            .map(|event| event.pid)
            .collect()
    }

    /// Signals the master.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.master(), signal).unwrap();
    }

    /// Waits for the end of all its processes.
    pub(crate) fn end(mut self) -> Served {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.log.0.push(Event::parse(&line));
        }
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        Served {
            code: self.child.wait().unwrap().code(),
            log: std::mem::take(&mut self.log),
            stderr,
        }
    }

    /// Has it end at once.
    pub(crate) fn interrupt(self) -> Served {
        self.signal(Signal::SIGINT);
        self.end()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended, or the test has failed.
        for pid in descendants(Pid::from_raw(self.child.id().cast_signed())) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of the test's own.
pub(crate) struct Client(TcpStream);

impl Client {
    /// Connects and sends nothing.
    pub(crate) fn connect(server: SocketAddr) -> Client {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client(stream)
    }

    /// Connects and sends `bytes`.
    pub(crate) fn asking(server: SocketAddr, bytes: &[u8]) -> Client {
        let mut client = Client::connect(server);
        client.send(bytes);
        client
    }

    /// What the server knows it by.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Sends more.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// All that the server sends until it closes.
    pub(crate) fn answer(mut self) -> std::io::Result<String> {
        let mut answer = String::new();
        self.0.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Asserts that it gets one whole answer with that status.
    pub(crate) fn gets(self, status: u16) {
        let answer = self.answer().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{answer}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
    }
}

/// A run of the probe against the server, and what both left.
#[derive(Debug)]
pub(crate) struct Measured {
    /// What the probe saw.
    pub(crate) rows: Vec<Row>,
    /// What the server did.
    pub(crate) log: Log,
    /// The probe's own account.
    pub(crate) run: Value,
}

/// `probe OPTIONS -- probe serve SERVE_OPTIONS`.
pub(crate) fn measure(options: &str, serve_options: &str) -> Measured {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = probe()
        .arg("--out")
        .arg(&out)
        .args(options.split_whitespace())
        .arg("--")
        .args(serve_command(serve_options))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let log = std::fs::read_to_string(out.join("server.log")).unwrap();
    Measured {
        rows: read_csv(&out.join("connections.csv")),
        log: Log::parse(&log),
        run: run_json(&out),
    }
}

/// The client's end of a row, as the server knows it.
pub(crate) fn peer(row: &Row) -> SocketAddr {
    let address = row["src_addr"].parse().unwrap();
    SocketAddr::new(address, row["src_port"].parse().unwrap())
}

/// When a row's connection was opened, in Unix nanoseconds.
pub(crate) fn opened(row: &Row) -> i64 {
    row["opened_unix_ns"].parse().unwrap()
}

/// A time in a row, in Unix nanoseconds: its column counts microseconds from the SYN.
pub(crate) fn time(row: &Row, column: &str) -> i64 {
    let cell = &row[column];
    // Three decimals: nanoseconds.
    let ns = cell.replace('.', "").parse::<i64>();
    opened(row) + ns.unwrap_or_else(|_| panic!("{column} is `{cell}`: {row:?}"))
}

impl Measured {
    /// The rows of one outcome.
    pub(crate) fn of(&self, outcome: &str) -> Vec<&Row> {
        let rows = self.rows.iter();
        rows.filter(|row| row["outcome"] == outcome).collect()
    }

    /// How many of them there are.
    pub(crate) fn count(&self, outcome: &str) -> usize {
        self.of(outcome).len()
    }

    /// How many connections were lost.
    pub(crate) fn lost(&self) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row["lost"] == "true").count()
    }

    /// When the first trigger was pulled, in Unix nanoseconds.
    pub(crate) fn signalled(&self) -> i64 {
        self.run["triggers"][0]["at_unix_ns"].as_i64().unwrap()
    }

    /// The event of that name about a row's connection. A port can be used again while the probe
    /// runs, once its earlier connection is over on the client's side: what the log says of it from
    /// then on is about the later one.
    pub(crate) fn event(&self, name: &str, row: &Row) -> Option<&Event> {
        let events = self.log.of(name).into_iter();
        let ours = |event: &&Event| event.subject::<SocketAddr>() == peer(row);
        let mut ours = events
            .filter(ours)
            .filter(|event| std::ptr::eq(self.row(event), row));
        let event = ours.next();
        assert!(ours.next().is_none(), "{name} twice: {row:?}");
        event
    }

    /// The row of the connection that an event is about: the last that was opened by then.
    pub(crate) fn row(&self, event: &Event) -> &Row {
        let client = event.subject();
        let rows = self.rows.iter().filter(|row| peer(row) == client);
        let rows = rows.filter(|row| opened(row) < event.at + CLOCKS);
        let row = rows.max_by_key(|row| opened(row));
        row.unwrap_or_else(|| panic!("no row of {event:?}"))
    }
}
