//! Slips and bad input: one sentence with a remedy on stderr, exit code 2, nothing on stdout. Needs
//! no privilege.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests start the probe and read what it wrote"
)]

mod common;

use std::fs;

use common::{run_probe, stderr, stdout};

/// What is typed behind `probe`, and what it says.
const SLIPS: &[(&str, &str)] = &[
    (
        "matrix",
        "`probe matrix` needs a <SCENARIOS>; `probe matrix --help` shows how",
    ),
    (
        "matrix src tests",
        "`probe matrix` takes one folder of scenarios; leave out `tests`, or choose rows with --only tests",
    ),
    (
        "matrix no-such-folder",
        "cannot look into no-such-folder: no such file or directory; give a folder of scenarios",
    ),
    (
        "matrix src",
        "no folder in src holds a scenario.toml; give a folder of scenarios",
    ),
    (
        "matrix scenarios --at 500",
        "--at waits for 500 connections and only 200 are made; give a larger --count, or an earlier --at",
    ),
    (
        "127.0.0.1:80",
        "`127.0.0.1:80` looks like the target; give it as --target 127.0.0.1:80",
    ),
    (
        "http://a/",
        "a target has no scheme or path; give --target a:80, and the path with --path",
    ),
    (
        "--target https://user@a:8443/x",
        "a target has no scheme or path; give --target a:8443, and the path with --path",
    ),
    ("--target a", "`a` has no port; give --target a:PORT"),
    (
        "--target 127.0.0.1:0",
        "port 0 cannot be connected to; give the port the server listens on",
    ),
    (
        "--target 127.0.0.1:99999",
        "`127.0.0.1:99999` is no address; give --target HOST:PORT with a port up to 65535",
    ),
    (
        "--target ::1:80",
        "`::1:80` is no address; write an IPv6 address in brackets, as in [::1]:9292",
    ),
    (
        "--target nosuch.invalid:80",
        "the name `nosuch.invalid` does not resolve; give a name that does, or an address",
    ),
    (
        "--target [fe80::1]:80",
        "fe80::1 is of one link and does not say of which; name its interface, as in --target \
         [fe80::1%eth0]:80",
    ),
    (
        "--target [fe80::1%nosuch0]:80",
        "`nosuch0` is no interface of this host; give one that `ip link` lists, as in [fe80::1%eth0]",
    ),
    (
        "serve --listen [fe80::1]:80",
        "fe80::1 is of one link and does not say of which; name its interface, as in --listen \
         [fe80::1%eth0]:80",
    ),
    (
        "serve --listen [fe80::1%4000000000]:80",
        "`4000000000` is no interface of this host; give one that `ip link` lists, as in [fe80::1%eth0]",
    ),
    (
        "--target 127.0.0.1:80 -6",
        "`127.0.0.1` has no IPv6 address; leave out -4 or -6",
    ),
    (
        "--target 224.0.0.1:80",
        "224.0.0.1 is no single host; give a unicast address",
    ),
    (
        "--csv x",
        "nothing to connect to; give --target HOST:PORT, or the server's start command behind `--`",
    ),
    (
        "--count 5 puma -C x",
        "put `--` before the server's command: probe [OPTIONS] -- puma ...",
    ),
    (
        "--target 127.0.0.1:9 --",
        "`--` is followed by no command; put the server's start command behind it",
    ),
    (
        "--coun 5",
        "there is no option `--coun`; did you mean `--count`?",
    ),
    ("--count", "--count needs a value; give it as --count <N>"),
    (
        "--target 127.0.0.1:9 --observe socket --pcap x",
        "--pcap writes packets and --observe leaves them out; add wire to it, or leave out --pcap",
    ),
    (
        "--target 127.0.0.1:9 --csv x --pcap x",
        "two outputs would write the same file; give each its own",
    ),
    (
        "--target 127.0.0.1:9 --csv - --pcap -",
        "stdout can show one output only; give the others a file",
    ),
    (
        "--target 127.0.0.1:9 --format json --pcap -",
        "stdout can show one output only; give the others a file",
    ),
    (
        "--target 127.0.0.1:9 -n 0",
        "--count: 0 would measure nothing; give 1 or more",
    ),
    (
        "--target 127.0.0.1:9 -n -5",
        "--count: `-5` is negative; give 1 or more",
    ),
    (
        "--target 127.0.0.1:9 --timeout -1s",
        "--timeout: `-1s` is negative; give 1ms or more",
    ),
    (
        "--target 127.0.0.1:9 --idle-delay -1s",
        "--idle-delay: `-1s` is negative; give 0s or more",
    ),
    (
        "--target 127.0.0.1:9 -c -1",
        "--concurrency: `-1` is negative; give 1 or more",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --split-request -1@5ms",
        "--split-request: `-1` is negative; give 1 byte or more",
    ),
    (
        "--target 127.0.0.1:9 --trigger true --trigger-at -5ms",
        "--trigger-at: `-5ms` is negative; give 0s, or 1 connection, or more",
    ),
    (
        "--target 127.0.0.1:9 --signal -9",
        "--signal: `-9` is no signal; give a name or number that `kill -l` lists, as in TERM or 15",
    ),
    (
        "--target 127.0.0.1:9 -9",
        "there is no option `-9`; `probe --help` lists them",
    ),
    (
        "demo --service-time -5ms",
        "--service-time: `-5ms` is negative; give 0s or more",
    ),
    (
        "matrix scenarios --stop-timeout -1s",
        "--stop-timeout: `-1s` is negative; give 0s or more",
    ),
    (
        "--target 127.0.0.1:9 --pidfile /dev/zero --signal TERM",
        "--pidfile /dev/zero is larger than 65536 bytes; give a smaller file",
    ),
    (
        "--target 127.0.0.1:9 -X CONNECT",
        "--method: CONNECT asks a proxy for a tunnel, which is no response; give another",
    ),
    (
        "--target 127.0.0.1:9 --rate 0",
        "--rate: `0` is no rate; give connections per second, from 0.00001 to 1000000",
    ),
    (
        "--target 127.0.0.1:9 --handshake-only",
        "--handshake-only is beyond a socket; add --engine raw, or leave it out",
    ),
    (
        "--target 127.0.0.1:9 --close none",
        "--close is beyond a socket; add --engine raw, or leave it out",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --syn-only --close rst",
        "--syn-only and --close exclude each other; leave one out",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --handshake-only --path /x",
        "--handshake-only and --path exclude each other; leave one out",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --observe socket,diag",
        "--engine raw watches by its packets; add wire to --observe, or leave out --engine raw",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --syn-only --format heroku",
        "--format heroku tells of requests and none is sent; give another --format, or leave out \
         --handshake-only and --syn-only",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --split-request 5@10ms",
        "--split-request sends the rest after the trigger and there is none; add --signal or --trigger",
    ),
    (
        "--engine raw --split-request 5000@10ms --request tests/usage/request.http -- true",
        "--split-request 5000 may leave nothing of the request for later: it has 27 bytes; give fewer",
    ),
    (
        "--target 127.0.0.1:9 --engine raw --split-request 20",
        "--split-request: `20` does not say how much is sent when; give BYTES@DUR, as in 20@10ms for \
         20 bytes at once and the others 10 ms after the trigger",
    ),
    (
        "--target 127.0.0.1:9 --engine raws",
        "--engine: `raws` is not possible; give one of socket, raw",
    ),
    (
        "--target 127.0.0.1:9 --rate 5 -c 3",
        "--rate and --concurrency exclude each other; leave one out",
    ),
    (
        "--target 127.0.0.1:9 --duration 5s",
        "--duration needs --rate too; add it",
    ),
    (
        "--target 127.0.0.1:9 --timeout 0s",
        "--timeout: a duration of 0 leaves no time for anything; give 1ms or more",
    ),
    (
        "--target 127.0.0.1:9 --timeout 5",
        "--timeout: `5` is no duration; give a number with its unit, as in 200ms or 5s",
    ),
    (
        "--target 127.0.0.1:9 --signal FOO",
        "--signal: `FOO` is no signal; give a name or number that `kill -l` lists, as in TERM or 15",
    ),
    (
        "--target 127.0.0.1:9 --signal TERM",
        "--signal has nobody to go to; add --pid, --pidfile or `-- COMMAND`",
    ),
    (
        "--target 127.0.0.1:9 --signal-tree",
        "--signal-tree has no process to begin at; add --pid or --pidfile",
    ),
    (
        "--target 127.0.0.1:9 --trigger true --trigger-at 51",
        "a trigger waits for 51 connections and only 50 are started; give a larger --count, or an \
         earlier @50",
    ),
    (
        "--target 127.0.0.1:9 --pid 0 --signal TERM",
        "--pid: `0` is no process of a server's; give the pid of its main process",
    ),
    (
        "--target 127.0.0.1:9 --pid 999999999 --signal TERM",
        "there is no process 999999999; start the server, or give the pid it has now",
    ),
    (
        "--pid 2 -- true",
        "with `-- COMMAND` the command itself is signalled; leave out --pid or --pidfile",
    ),
    (
        "--target 127.0.0.1:9 --repeat 3",
        "--repeat needs a server that can be started afresh; give its start command behind `--`",
    ),
    (
        "--repeat 0 -- true",
        "--repeat: 0 would measure nothing; give 1 or more",
    ),
    (
        "--target 127.0.0.1:9 --idle 3",
        "--idle connections wait for a trigger and there is none; add --signal or --trigger",
    ),
    (
        "--target 127.0.0.1:9 --idle 60 --trigger true",
        "--idle 60 is more than the 50 connections there are; give a larger --count",
    ),
    (
        "--target 127.0.0.1:9 --header foo",
        "--header: `foo` is no header; give `Name: value`",
    ),
    (
        "--target 127.0.0.1:9 --path foo",
        "--path: `foo` is no path; begin it with / and write spaces and other signs as %20 and the \
         like",
    ),
    (
        "--target 127.0.0.1:9 --request /no/such",
        "cannot read --request /no/such: no such file or directory; give a file that exists and may \
         be read",
    ),
    (
        "--target 127.0.0.1:9 --csv /no/such/x.csv",
        "cannot write /no/such/x.csv: no such file or directory; give a path whose folder exists \
         and may be written to",
    ),
    (
        "--target 127.0.0.1:9 --csv - --json -",
        "stdout can show one output only; give the others a file",
    ),
    (
        "--target 127.0.0.1:9 --csv - --format heroku",
        "stdout can show one output only; give the others a file",
    ),
    (
        "--target 127.0.0.1:9 --payload /dev/null --format heroku",
        "--format heroku tells of HTTP requests and --payload sends none; give another --format, or \
         the request with --request",
    ),
    (
        "--target 127.0.0.1:9 --csv x --events x",
        "two outputs would write the same file; give each its own",
    ),
    (
        "--target 127.0.0.1:9 --out /proc/self",
        "the folder /proc/self is not empty; give a new one, so that runs do not mix",
    ),
    (
        "--target 127.0.0.1:9 --format xml",
        "--format: `xml` is not possible; give one of table, csv, json, heroku",
    ),
    (
        "--target 127.0.0.1:9 --observe packets",
        "--observe: `packets` is no vantage; give socket, wire, diag, trace, several with commas, or \
         auto",
    ),
    (
        "serv --workers 2",
        "there is no command `serv`; did you mean `probe serve`? (a server's command goes behind \
         `--`)",
    ),
    (
        "--count 5 serve",
        "put `serve` before its options: probe serve [OPTIONS]",
    ),
    (
        "serve --count 5",
        "`probe serve` has no --count; it is an option of plain `probe`, `probe demo` and `probe matrix`",
    ),
    (
        "serve 127.0.0.1:90",
        "`127.0.0.1:90` looks like an address; give it as --listen 127.0.0.1:90",
    ),
    (
        "serve puma",
        "`probe serve` takes options only; leave out `puma` (`probe serve --help` lists them)",
    ),
    (
        "serve -- puma",
        "`probe serve` starts no command of yours; leave out `--` and what follows",
    ),
    (
        "serve --polcy drain",
        "there is no option `--polcy`; did you mean `--policy`?",
    ),
    (
        "serve --policy foo",
        "--policy: `foo` is not possible; give one of leave-open, hang, close, drain, filter-drain, \
         quick",
    ),
    (
        "serve --policy close --policy drain",
        "--policy may be given once only; leave one out",
    ),
    (
        "serve --first-request foo",
        "--first-request: `foo` is not possible; give one of none, kill-self, term-master, term-all",
    ),
    (
        "serve --workers 0",
        "--workers: with 0 nothing would be served; give 1 or more",
    ),
    (
        "serve --threads 1001",
        "--threads: `1001` is no number of them; give 1 to 1000",
    ),
    (
        "serve --backlog -1",
        "--backlog: `-1` is no backlog; give 0 to 2147483647",
    ),
    (
        "serve --service-time 5",
        "--service-time: `5` is no duration; give a number with its unit, as in 200ms or 5s",
    ),
    (
        "serve --listen 127.0.0.1",
        "`127.0.0.1` has no port; give --listen 127.0.0.1:PORT",
    ),
    (
        "serve --listen http://127.0.0.1/",
        "--listen takes no scheme or path; give --listen 127.0.0.1:80",
    ),
    (
        "serve --listen ::1:80",
        "`::1:80` is no address; write an IPv6 address in brackets, as in [::1]:9292",
    ),
    (
        "serve --listen 127.0.0.1:99999",
        "`127.0.0.1:99999` is no address; give --listen HOST:PORT with a port up to 65535",
    ),
    (
        "serve --listen nosuch.invalid:80",
        "the name `nosuch.invalid` does not resolve; give --listen an address of this host",
    ),
    (
        "-- /no/such/program",
        "cannot start `/no/such/program`: no such file or directory; give a program that exists \
         and may be run",
    ),
    (
        "dmeo",
        "there is no command `dmeo`; did you mean `probe demo`? (a server's command goes behind \
         `--`)",
    ),
    (
        "-n 5 demo",
        "put `demo` before its options: probe demo [OPTIONS]",
    ),
    (
        "--policy close",
        "`probe` has no --policy; it is an option of `probe demo` and `probe serve`",
    ),
    (
        "demo --target 127.0.0.1:9",
        "`probe demo` has no --target; it is an option of plain `probe`",
    ),
    (
        "demo --all --policy close",
        "--all and --policy exclude each other; leave one out",
    ),
    (
        "demo puma",
        "`probe demo` brings its own server and takes options only; leave out `puma`, or leave out \
         `demo`",
    ),
    (
        "demo -- puma",
        "`probe demo` starts no command of yours; leave out `--` and what follows",
    ),
    (
        "raed x.pcap",
        "there is no command `raed`; did you mean `probe read`? (a server's command goes behind \
         `--`)",
    ),
    (
        "read --port 80",
        "`probe read` needs a <CAPTURE>; `probe read --help` shows how",
    ),
    (
        "read /no/such/capture",
        "cannot read /no/such/capture: no such file or directory; give a capture that exists and may \
         be read, or - for stdin",
    ),
    (
        "read x.pcap y.pcap",
        "`probe read` reads one capture at a time; leave out `y.pcap`",
    ),
    (
        "read x.pcap --server somewhere:80",
        "--server `somewhere:80` is no address; give ADDR:PORT as the capture has it, as in \
         10.0.0.5:80 or [::1]:9292",
    ),
    (
        "read x.pcap --signal-at noon",
        "--signal-at `noon` is no time; give Unix seconds, as in 1763861787.25 (`date +%s.%N` prints \
         the present)",
    ),
    (
        "read x.pcap --port 80 --server 10.0.0.5:80",
        "--port and --server exclude each other; leave one out",
    ),
    (
        "demo -n 0",
        "--count: 0 would measure nothing; give 1 or more",
    ),
    (
        "demo --workers 0",
        "--workers: with 0 nothing would be served; give 1 or more",
    ),
    (
        "--target 192.0.2.1:80 -n 2000",
        "2000 connections may be open at once and 192.0.2.1:80 is not this host; give a smaller \
         --concurrency or --count, or --allow-load if its owner agrees",
    ),
    (
        "--target 192.0.2.1:80 -n 2000 -c 10 --engine raw --close none",
        "2000 connections may be open at once and 192.0.2.1:80 is not this host; give a smaller \
         --concurrency or --count, or --allow-load if its owner agrees",
    ),
    (
        "--target 192.0.2.1:80 --rate 2000 -n 10",
        "over 1000 connections per second and 192.0.2.1:80 is not this host; give a smaller --rate, \
         or --allow-load if its owner agrees",
    ),
];

#[test]
fn every_slip_gets_one_sentence_with_a_remedy() {
    for (typed, said) in SLIPS {
        let output = run_probe(typed);
        assert_eq!(stderr(&output), format!("probe: {said}\n"), "probe {typed}");
        assert_eq!(stdout(&output), "", "probe {typed}");
        assert_eq!(output.status.code(), Some(2), "probe {typed}");
    }
}

#[test]
fn of_a_request_whose_length_is_not_known_yet_only_the_shortest_can_be_split() {
    let output = run_probe("--engine raw --split-request 5000@10ms -- true");
    let said = stderr(&output);
    let sentence = "probe: --split-request 5000 may leave nothing of the request for later: before the \
                    run all that is sure of its length is that it has at least 1";
    assert!(said.starts_with(sentence), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn bare_probe_prints_help_and_exits_2() {
    let output = run_probe("");
    assert!(stderr(&output).contains("Usage: probe --target HOST:PORT"));
    assert_eq!(stdout(&output), "");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn help_goes_to_stdout_and_is_what_was_reviewed() {
    let output = run_probe("--help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help", stdout(&output));
    let output = run_probe("demo --help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help_demo", stdout(&output));
    let output = run_probe("read --help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help_read", stdout(&output));
    let output = run_probe("compare --help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help_compare", stdout(&output));
    let output = run_probe("matrix --help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help_matrix", stdout(&output));
    let output = run_probe("serve --help");
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!("help_serve", stdout(&output));
}

#[test]
fn pid_files_that_hold_no_pid_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("server.pid");
    let path = file.display();
    for (content, said) in [
        (
            "",
            format!("the pid file {path} is empty; wait until the server has written it"),
        ),
        (
            "not a number\n",
            format!(
                "the pid file {path} holds `not a number`, which is no pid; give the file the \
                 server writes"
            ),
        ),
        (
            "999999999\n",
            format!(
                "there is no process 999999999 (from {path}); start the server, or give the pid it \
                 has now"
            ),
        ),
    ] {
        fs::write(&file, content).unwrap();
        let typed = format!("--target 127.0.0.1:9 --signal TERM --pidfile {path}");
        assert_eq!(stderr(&run_probe(&typed)), format!("probe: {said}\n"));
    }
}

#[test]
fn one_file_under_two_names_is_one_output_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display();
    let typed = format!(
        "--target 127.0.0.1:9 --csv {path}/x --json {path}/../{}/x",
        folder.path().file_name().unwrap().to_string_lossy()
    );
    let output = run_probe(&typed);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.starts_with("probe: two outputs would write the same file"),
        "{said}"
    );
}

#[test]
fn a_run_that_never_began_leaves_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let to = out.display();
    for words in [
        format!("--target 192.0.2.1:80 -n 2000 --out {to}"),
        format!("--out {to} -- /no/such/program"),
    ] {
        let output = run_probe(&words);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0, "{words}");
    }
}

#[test]
fn a_full_disk_costs_only_what_was_to_go_there() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("connections.csv");
    let typed = format!(
        "--target 127.0.0.1:9 -n 20 --observe socket --json /dev/full --csv {}",
        csv.display()
    );
    let output = run_probe(&typed);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("cannot write /dev/full: no space left on device"),
        "{said}"
    );
    assert!(stdout(&output).contains("refused"), "{}", stdout(&output));
    assert_eq!(common::read_csv(&csv).len(), 20);
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let output = std::process::Command::new("sh")
        .args([
            "-c",
            "\"$0\" --target 127.0.0.1:9 -n 3000 --observe socket --format csv | head -n 2",
        ])
        .arg(env!("CARGO_BIN_EXE_probe"))
        .output()
        .unwrap();
    assert_eq!(stdout(&output).lines().count(), 2);
    let said = stderr(&output);
    assert!(
        !said.contains("roken pipe") && !said.contains("panicked"),
        "{said}"
    );
}
