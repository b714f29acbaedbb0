//! How many connections a second one worker of `probe serve` takes, beside one worker of nginx that
//! answers `return 200`. Needs root and nginx.
//!
//!     cargo bench --bench serve [-- ROUNDS [CONNECTIONS]]
//!
//! The servers take turns, in a network namespace of their own and under the same bare client; what
//! is printed are medians and ratios to nginx of the same run.
#![expect(
    clippy::disallowed_types,
    reason = "a benchmark starts processes and files their output"
)]

mod common;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{
    CONCURRENCY, Nginx, TARGET, bare_loop, enter_namespace, median, rate, rounds_and_connections,
    terminate,
};
use nix::sys::signal::Signal;

fn main() -> io::Result<()> {
    let (rounds, connections) = rounds_and_connections();
    enter_namespace()?;
    let folder = tempfile::tempdir()?;
    let mut nginx = Vec::new();
    let mut serve = Vec::new();
    for round in 1..=rounds {
        let server = Nginx::start(folder.path())?;
        nginx.push(rate(connections, bare_loop(connections)?));
        server.stop()?;
        let server = Serve::start(&folder.path().join("server.log"))?;
        serve.push(rate(connections, bare_loop(connections)?));
        server.stop()?;
        let last = |rates: &[f64]| rates.last().copied().unwrap_or(0.0);
        eprintln!(
            "round {round}: nginx {:.0}/s, probe serve {:.0}/s",
            last(&nginx),
            last(&serve)
        );
    }
    let base = median(&mut nginx);
    println!("{connections} connections, {CONCURRENCY} at a time, {rounds} rounds, medians");
    println!("nginx, return 200            {base:>8.0}/s  1.000");
    let rate = median(&mut serve);
    println!(
        "probe serve, log to a file   {rate:>8.0}/s  {:.3}",
        rate / base
    );
    Ok(())
}

/// The embedded server, with one worker that answers at once.
struct Serve(Child);

impl Serve {
    fn start(log: &Path) -> io::Result<Serve> {
        let child = Command::new(env!("CARGO_BIN_EXE_probe"))
            .args(["serve", "--listen", TARGET, "--workers", "1"])
            .args(["--service-time", "0s", "--backlog", "4096"])
            .stdout(File::create(log)?)
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut lines = BufReader::new(File::open(log)?);
        let mut said = String::new();
        while !said.contains(" booted") {
            if lines.read_line(&mut said)? == 0 {
                std::thread::yield_now();
            }
        }
        Ok(Serve(child))
    }

    fn stop(mut self) -> io::Result<()> {
        terminate(&self.0, Signal::SIGTERM);
        let status = self.0.wait()?;
        assert!(status.success(), "{status}");
        Ok(())
    }
}
