//! `--engine raw` against real servers and the kernel: what only it can do, that it is told like a
//! socket's run, that this host's own TCP stays out of it, and that it leaves nothing behind. Every fate
//! through both engines is held by tests/fates, real servers are by tests/engines.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests listen, start processes, and end at the first surprise"
)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use common::namespace::Namespace;
use common::nginx::Nginx;
use common::recorded::assert_told_again;
use common::tshark::Capture;
use common::{
    Row, as_nobody, binary_for_everybody, enter_namespace, nft, one_processor, probe, read_csv,
    rows, run, run_json, run_probe, run_probe_with, stderr, stdout, sysctl,
};

/// A listener that accepts nothing; its queue has room for `backlog` and one more.
fn listener(address: &str, backlog: i32) -> Socket {
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(backlog).unwrap();
    socket
}

/// How many TCP sockets of this namespace are in one of the states that ss is asked for.
fn sockets(states: &[&str]) -> usize {
    let states: Vec<&str> = states.iter().flat_map(|state| ["state", state]).collect();
    run("ss", &[&["-Htan"][..], &states].concat())
        .lines()
        .count()
}

fn with_outcome<'a>(rows: &'a [Row], outcome: &str) -> Vec<&'a Row> {
    let is_it = |row: &&Row| row["outcome"] == outcome;
    rows.iter().filter(is_it).collect()
}

/// tcpdump, which tells of every RST on loopback while it runs.
struct Resets(Child);

impl Resets {
    fn watch() -> Resets {
        let filter = "tcp[tcpflags] & tcp-rst != 0 or (ip6 proto 6 and ip6[53] & 4 != 0)";
        let mut tcpdump = Command::new("tcpdump")
            .args(["-i", "lo", "-n", "-l", "--immediate-mode", filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(tcpdump.stderr.take().unwrap());
        let listens = |line: &String| line.contains("listening on");
        said.lines().map_while(Result::ok).find(listens).unwrap();
        Resets(tcpdump)
    }

    /// What it saw until now: a RST of our own making is the last of it.
    fn until_now(mut self) -> Vec<String> {
        // Nobody listens there.
        TcpStream::connect("127.0.0.1:9").unwrap_err();
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let lines = lines.map_while(Result::ok);
        let seen = lines
            .take_while(|line| !line.contains("127.0.0.1.9 >"))
            .collect();
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        seen
    }
}

/// FIN both ways, a hundred thousand times: whatever RST the engine did not send was this host's own
/// TCP's, to which none of these connections belongs.
fn draws_no_reset_of_the_hosts(server: &str) {
    enter_namespace();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let options = format!(
        "--engine raw -n 100000 -c 64 --signal none --observe wire --target {server} --quiet --out {}",
        out.display()
    );
    let nginx = Nginx::on(server.parse().unwrap(), 0);
    let resets = Resets::watch();
    let output = run_probe_with(&options, &nginx.command());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let seen = resets.until_now();
    let capture = &run_json(&out)["capture"];
    // A FIN that a hurried server sends again may find its connection gone. tcpdump may miss one.
    assert!(
        capture["resets"].as_u64().unwrap() >= seen.len() as u64,
        "{seen:?}"
    );
    assert!(seen.len() < 1_000, "{seen:?}");
    for count in ["foreign_resets", "kernel_drops", "late", "bad_checksums"] {
        assert_eq!(capture[count], 0, "{count}: {capture}");
    }
    let rows = read_csv(&out.join("connections.csv"));
    assert_eq!(with_outcome(&rows, "served").len(), 100_000);
}

#[test]
#[ignore = "needs root, netns, nginx, tcpdump"]
fn a_hundred_thousand_connections_draw_no_reset_of_the_hosts() {
    draws_no_reset_of_the_hosts("127.0.0.1:8088");
}

#[test]
#[ignore = "needs root, netns, nginx, tcpdump"]
fn a_hundred_thousand_connections_over_ipv6_draw_no_reset_of_the_hosts() {
    draws_no_reset_of_the_hosts("[::1]:8088");
}

/// What a run against a listener that accepts nothing is told as, by itself and when its packets are
/// read again.
fn told(options: &str) -> Vec<Row> {
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let output = run_probe(&format!(
        "--engine raw --target 127.0.0.1:8088 --observe wire {options} --out {}",
        out.display()
    ));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = read_csv(&out.join("connections.csv"));
    assert_told_again(&rows, &out.join("run.pcapng"));
    rows
}

#[test]
#[ignore = "needs root, netns, ss"]
fn a_handshake_alone_waits_in_the_queue_and_is_closed_as_asked() {
    enter_namespace();
    let _listener = listener("127.0.0.1:8088", 64);
    for (close, sequence) in [
        ("fin", ">S <S. >. >F. <."),
        ("rst", ">S <S. >. >R."),
        ("none", ">S <S. >."),
    ] {
        let options = format!("-n 10 --handshake-only --timeout 100ms --close {close}");
        for row in told(&options) {
            assert_eq!(
                (&*row["outcome"], &*row["sequence"]),
                ("client_closed", sequence)
            );
            let said = [
                &row["lost"],
                &row["retry_safe"],
                &row["requests"],
                &row["errno"],
            ];
            assert_eq!(said, ["", "", "0", ""], "{row:?}");
            assert_eq!((&*row["curl_exit"], &*row["heroku_code"]), ("", ""));
            assert_eq!((&*row["engine"], &*row["evidence"]), ("raw", "wire"));
        }
        assert_eq!(sockets(&["established", "syn-recv"]), 0, "{close}");
    }
}

#[test]
#[ignore = "needs root, netns, ss"]
fn a_half_open_connection_is_reset_and_never_queued() {
    enter_namespace();
    let _listener = listener("127.0.0.1:8088", 64);
    for row in told("-n 10 --syn-only") {
        assert_eq!(
            (&*row["outcome"], &*row["sequence"]),
            ("client_closed", ">S <S. >R")
        );
        assert_eq!((&*row["cause"], &*row["cause_candidates"]), ("", ""));
        assert_eq!((&*row["curl_exit"], &*row["heroku_code"]), ("", ""));
    }
    assert_eq!(sockets(&["established", "syn-recv", "close-wait"]), 0);
    let refused = run_probe("--engine raw -n 3 --syn-only --target 127.0.0.1:8089 --format csv");
    for row in rows(&refused.stdout) {
        assert_eq!((&*row["outcome"], &*row["sequence"]), ("refused", ">S <R."));
        assert_eq!((&*row["curl_exit"], &*row["heroku_code"]), ("7", "H21"));
    }
}

#[test]
#[ignore = "needs root, netns, nginx, nft"]
fn a_connection_that_never_came_about_is_over_even_where_none_is_closed() {
    enter_namespace();
    // The first SYN is lost; what is sent again a second later would not be.
    nft("table inet filter {
            chain input {
                type filter hook input priority 0;
                tcp dport 8088 tcp flags & (syn | ack) == syn limit rate 1/hour burst 1 packets drop
            }
        }");
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 -n 3 --rate 1 --timeout 500ms --close none \
                   --signal none --format csv";
    let output = run_probe_with(options, &nginx.command());
    let rows = rows(&output.stdout);
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (&*row["conn"], &*row["outcome"]))
        .collect();
    assert_eq!(
        told,
        [("1", "unanswered"), ("2", "served"), ("3", "served")],
        "{}",
        stderr(&output)
    );
}

#[test]
#[ignore = "needs root, netns"]
fn the_table_says_of_runs_that_ask_nothing_what_could_be_lost() {
    enter_namespace();
    let _listener = listener("127.0.0.1:8088", 64);
    let said = |options: &str| {
        let target = "--engine raw --target 127.0.0.1:8088 -n 10 --max-lost 0";
        let output = run_probe(&format!("{target} {options}"));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let syn = said("--syn-only");
    assert!(
        syn.contains(
            "the server's kernel answered 10; what is ended half-open never reaches its queue, and \
             cannot be lost\n"
        ),
        "{syn}"
    );
    let handshake = said("--handshake-only --timeout 100ms");
    assert!(
        handshake
            .contains("nothing was asked: the server ended none of the 10 that its kernel took\n"),
        "{handshake}"
    );
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn the_rest_of_a_split_request_follows_the_trigger_in_a_segment_of_its_own() {
    enter_namespace();
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 -n 20 --rate 500 --split-request 20@30ms \
                   --signal none --trigger true --trigger-at 10 --format csv";
    let output = run_probe_with(options, &nginx.command());
    let rows = rows(&output.stdout);
    assert_eq!(rows.len(), 20, "{}", stderr(&output));
    for row in rows {
        assert_eq!(row["outcome"], "served", "{row:?}");
        let rest: u64 = row["request_bytes"].parse::<u64>().unwrap() - 20;
        let begun = ">S <S. >. >P.(20) <. ";
        assert!(row["sequence"].starts_with(begun), "{}", row["sequence"]);
        let followed = format!(" >P.({rest}) ");
        assert!(row["sequence"].contains(&followed), "{}", row["sequence"]);
        // What was opened before the trigger waited for it.
        let number = |column: &str| row[column].parse::<f64>().unwrap();
        let before = number("since_signal_us") < 0.0;
        let asked = number("since_signal_us") + number("first_byte_us");
        assert!(!before || asked >= 30_000.0, "{row:?}");
    }
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn a_connection_that_waits_for_the_trigger_longer_than_its_timeout_keeps_its_beginning() {
    enter_namespace();
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 --rate 10 --duration 3s --timeout 300ms \
                   --split-request 20@50ms --signal none --trigger true --trigger-at 2500ms \
                   --format csv";
    let output = run_probe_with(options, &nginx.command());
    let rows = rows(&output.stdout);
    assert_eq!(rows.len(), 30, "{}", stderr(&output));
    for row in rows {
        assert_eq!((&*row["outcome"], &*row["caveats"]), ("served", ""));
        let begun = ">S <S. >. >P.(20) <. ";
        assert!(row["sequence"].starts_with(begun), "{}", row["sequence"]);
        assert_eq!(row["request_acked"], "true", "{row:?}");
        assert!(row["evidence"].ends_with("trace"), "{}", row["evidence"]);
    }
}

/// A run that is stopped for two seconds once the server has `accepted` so many of its connections,
/// and answered them meanwhile.
fn stopped(engine: &str, accepted: usize) -> Vec<Row> {
    let waiting = TcpListener::from(listener("127.0.0.1:8088", 1000));
    let probing = probe()
        .args(["--engine", engine])
        .args("--target 127.0.0.1:8088 -n 20 --rate 100 --format csv --observe wire".split(' '))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(probing.id().try_into().unwrap());
    let mut asked: Vec<TcpStream> = (0..accepted).map(|_| asked_by(&waiting)).collect();
    kill(pid, Signal::SIGSTOP).unwrap();
    waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    for stream in &mut asked {
        answer(stream);
    }
    drop(asked);
    // Another one, whose server says nothing, tells when its two seconds are over.
    let _silent = listener("127.0.0.1:8089", 1);
    let other = run_probe("--target 127.0.0.1:8089 -n 1 --timeout 2s --observe socket -q");
    assert_eq!(other.status.code(), Some(0));
    kill(pid, Signal::SIGCONT).unwrap();
    for _ in accepted..20 {
        answer(&mut asked_by(&waiting));
    }
    rows(&probing.wait_with_output().unwrap().stdout)
}

/// The next connection, its request read.
fn asked_by(waiting: &TcpListener) -> TcpStream {
    let stream = waiting.accept().unwrap().0;
    let lines = BufReader::new(&stream).lines();
    lines.map_while(Result::ok).find(String::is_empty).unwrap();
    stream
}

fn answer(stream: &mut TcpStream) {
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    stream.write_all(response).unwrap();
}

#[test]
#[ignore = "needs root, netns"]
fn a_probe_that_was_stopped_still_tells_what_it_sent_and_received() {
    enter_namespace();
    for engine in ["raw", "socket"] {
        let rows = stopped(engine, 5);
        assert_eq!(rows.len(), 20, "{engine}");
        for row in rows {
            assert_eq!(
                (&*row["outcome"], &*row["caveats"]),
                ("served", ""),
                "{row:?}"
            );
            let begun = ">S <S. >. >P.(";
            assert!(row["sequence"].starts_with(begun), "{engine}: {row:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns, nginx, tcpdump"]
fn a_run_agrees_with_tcpdumps_capture_of_it() {
    enter_namespace();
    one_processor();
    let folder = TempDir::new().unwrap();
    for (name, options) in [
        ("ask", "-n 300 -c 16"),
        ("handshake", "-n 100 --handshake-only --timeout 200ms"),
        ("syn", "-n 100 --syn-only"),
        ("rst", "-n 100 --close rst"),
        ("split", "-n 100 --split-request 9@10ms --trigger true"),
    ] {
        let out = folder.path().join(name);
        let pcap = folder.path().join(format!("{name}.pcap"));
        let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
        let capture = Capture::start("lo");
        let options = format!(
            "--engine raw --target 127.0.0.1:8088 --signal none --observe wire {options} --out {}",
            out.display()
        );
        let output = run_probe_with(&options, &nginx.command());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        fs::write(&pcap, capture.end([127, 0, 0, 1].into())).unwrap();
        let compared = probe().arg("compare").args([&out, &pcap]).output().unwrap();
        let report = stdout(&compared);
        assert_eq!(compared.status.code(), Some(0), "{name}: {report}");
        assert!(report.contains("\nNothing differs.\n"), "{name}: {report}");
    }
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn another_host_is_reached_by_the_kernels_routes_and_a_large_response_comes_whole() {
    enter_namespace();
    let there = Namespace::linked();
    let nginx = Nginx::on("10.0.0.2:8088".parse().unwrap(), 5 << 20);
    let command = there.command(&nginx.command());
    for engine in ["raw", "socket"] {
        let options = format!(
            "--engine {engine} --target 10.0.0.2:8088 -n 20 -c 4 --path /large --signal none --format csv"
        );
        let output = run_probe_with(&options, &command);
        let rows = rows(&output.stdout);
        assert_eq!(rows.len(), 20, "{}", stderr(&output));
        for row in rows {
            assert_eq!(row["outcome"], "served", "{row:?}");
            let bytes: u64 = row["response_bytes"].parse().unwrap();
            assert!(bytes > 5 << 20 && row["caveats"].is_empty(), "{row:?}");
        }
    }
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn a_link_that_goes_down_for_a_while_does_not_end_the_run() {
    enter_namespace();
    let there = Namespace::linked();
    let folder = TempDir::new().unwrap();
    let nginx = Nginx::on("10.0.0.2:8088".parse().unwrap(), 0);
    let command = there.command(&nginx.command());
    for engine in ["raw", "socket"] {
        let out = folder.path().join(engine);
        let mut probing = probe()
            .args(["--engine", engine])
            .args("--target 10.0.0.2:8088 -n 40 --rate 20 --signal none --format csv".split(' '))
            .args(["--observe", "wire", "--out"])
            .arg(&out)
            .arg("--")
            .args(&command)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(probing.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        lines.find(|line| line.contains(",served,")).unwrap();
        run("ip", &["link", "set", "near", "down"]);
        lines.find(|line| line.contains(",unreachable,")).unwrap();
        run("ip", &["link", "set", "near", "up"]);
        lines.for_each(drop);
        assert!(probing.wait().unwrap().success(), "{engine}");
        let rows = read_csv(&out.join("connections.csv"));
        assert_eq!(rows.len(), 40, "{engine}");
        let last = rows.iter().find(|row| row["conn"] == "40").unwrap();
        let said = (&*last["outcome"], &*last["caveats"]);
        assert_eq!(said, ("served", ""), "{engine}: {last:?}");
        assert!(last["sequence"].starts_with(">S <S. >."), "{engine}");
        assert!(run_json(&out)["broken_off"].is_null(), "{engine}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_syn_that_cannot_be_sent_again_does_not_end_the_attempt() {
    enter_namespace();
    let there = Namespace::linked();
    // A queue that is full: no other SYN is answered.
    let full = there.within(|| listener("10.0.0.2:8088", 0));
    let taken = TcpStream::connect("10.0.0.2:8088").unwrap();
    for engine in ["raw", "socket"] {
        // Its SYN goes out again after a second, when the link is down.
        let options = "--target 10.0.0.2:8088 -n 1 --timeout 1500ms --observe wire --format csv";
        let output = probe()
            .args(["--engine", engine])
            .args(options.split(' '))
            .args(["--trigger", "ip link set near down"])
            .args(["--trigger-at", "500ms"])
            .output()
            .unwrap();
        let rows = rows(&output.stdout);
        let [row] = &rows[..] else {
            panic!("{engine}: {}", stderr(&output));
        };
        let said = (&*row["outcome"], &*row["errno"], &*row["sequence"]);
        assert_eq!(said, ("unanswered", "", ">S"), "{engine}");
        run("ip", &["link", "set", "near", "up"]);
    }
    drop((full, taken));
}

#[test]
#[ignore = "needs root, netns"]
fn a_neighbour_that_does_not_answer_is_unreachable() {
    enter_namespace();
    let _there = Namespace::linked();
    // It is asked three times: a tenth of a second apart, not a second.
    for family in ["ipv4", "ipv6"] {
        sysctl(&format!("net/{family}/neigh/near/retrans_time_ms"), "100");
    }
    for nobody in ["10.0.0.77:80", "[fd00::77]:80"] {
        for engine in ["raw", "socket"] {
            let output = run_probe(&format!(
                "--engine {engine} --target {nobody} -n 5 --timeout 10s --format csv"
            ));
            let rows = rows(&output.stdout);
            assert_eq!(rows.len(), 5, "{}", stderr(&output));
            for row in rows {
                let told = [&row["outcome"], &row["errno"]].map(String::as_str);
                assert_eq!(told, ["unreachable", "EHOSTUNREACH"], "{engine}: {row:?}");
            }
        }
    }
}

#[test]
#[ignore = "needs root, netns, setpriv"]
fn cap_net_raw_is_all_that_it_needs_and_what_is_missing_is_told() {
    enter_namespace();
    let folder = TempDir::new().unwrap();
    let binary = binary_for_everybody(folder.path());
    let _listener = listener("127.0.0.1:8088", 64);
    let options = "--engine raw -n 5 --handshake-only --timeout 50ms --target 127.0.0.1:8088";
    let refused = as_nobody(&binary)
        .args(options.split(' '))
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    let remedy = format!(
        "CAP_NET_RAW (sudo setcap cap_net_raw+ep {})",
        binary.display()
    );
    assert!(
        said.contains(&remedy) && said.lines().count() == 1,
        "{said}"
    );
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=+net_raw", "--ambient-caps=+net_raw"])
        .arg(&binary)
        .args(options.split(' '))
        .args(["--format", "csv"])
        .output()
        .unwrap();
    let rows = rows(&output.stdout);
    assert_eq!(
        with_outcome(&rows, "client_closed").len(),
        5,
        "{}",
        stderr(&output)
    );
}

#[test]
#[ignore = "needs root, netns, nginx, setpriv"]
fn a_connection_that_this_hosts_own_reset_ended_is_no_loss_of_the_servers() {
    enter_namespace();
    let folder = TempDir::new().unwrap();
    let binary = binary_for_everybody(folder.path());
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let there = Namespace::linked();
    there.within(|| sysctl("net/ipv4/ip_default_ttl", "255"));
    let _server = there.within(|| listener("10.0.0.2:8088", 64));
    let out = folder.path().join("run");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .args(["--inh-caps=+net_raw", "--ambient-caps=+net_raw"])
        .arg(&binary)
        .args("--engine raw --target 10.0.0.2:8088 -n 4 --timeout 5s --observe wire".split(' '))
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let rows = read_csv(&out.join("connections.csv"));
    assert_eq!(rows.len(), 4, "{}", stderr(&output));
    for row in &rows {
        let said = [&row["outcome"], &row["lost"], &row["cause"], &row["errno"]];
        assert_eq!(said, ["local_error", "", "", ""], "{row:?}");
        assert!(row["sequence"].starts_with(">S <S. >R"), "{row:?}");
    }
    let table = stdout(&output);
    for said in [
        "nothing was measured",
        "4 connections failed on this host (local_error): ended by a reset of this host's own",
        "this host's own TCP sent 4 resets into connections",
        "needs CAP_NET_ADMIN (sudo setcap cap_net_raw,cap_net_admin+ep",
    ] {
        assert!(table.contains(said), "{said}: {table}");
    }
    assert_eq!(run_json(&out)["capture"]["foreign_resets"], 4);
    assert_told_again(&rows, &out.join("run.pcapng"));
}

/// The capabilities that a process's threads may use, as /proc tells them.
fn capabilities(pid: u32) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of = |task: &Path| {
        let status = fs::read_to_string(task.join("status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    tasks.filter_map(|task| of(&task.unwrap().path())).collect()
}

#[test]
#[ignore = "needs root, netns, ss"]
fn an_interrupt_leaves_no_connection_behind_at_the_server_and_no_right_to_make_more() {
    const CAP_NET_RAW: u64 = 1 << 13;
    enter_namespace();
    for close in ["fin", "rst", "none"] {
        let listener = listener("127.0.0.1:8088", 1000);
        let waiting = TcpListener::from(listener);
        let probing = probe()
            .args(
                "--engine raw --target 127.0.0.1:8088 -n 200 --timeout 60s --format csv".split(' '),
            )
            .args(["--close", close])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // All of them are there once the last is: one of them is accepted, and owned by a process.
        let accepted: Vec<TcpStream> = (0..200).map(|_| waiting.accept().unwrap().0).collect();
        assert!(
            capabilities(probing.id())
                .iter()
                .all(|caps| caps & CAP_NET_RAW == 0)
        );
        kill(
            Pid::from_raw(probing.id().try_into().unwrap()),
            Signal::SIGINT,
        )
        .unwrap();
        let output = probing.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        assert_eq!(with_outcome(&rows(&output.stdout), "unfinished").len(), 200);
        assert_eq!(sockets(&["established", "syn-recv"]), 0, "{close}");
        drop(accepted);
    }
}

#[test]
#[ignore = "needs root, netns, nginx, ss"]
fn a_server_in_time_wait_since_the_last_run_takes_a_syn_from_the_same_port() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40019");
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 -n 10 --signal none --format csv";
    for _ in 0..3 {
        let output = run_probe_with(options, &nginx.command());
        let rows = rows(&output.stdout);
        assert_eq!(rows.len(), 10, "{}", stderr(&output));
        for row in rows {
            let said = [&*row["outcome"], &*row["syn_retransmits"]];
            assert_eq!(said, ["served", "0"], "{row:?}");
        }
    }
    // Fewer than there were connections: ports were used again.
    assert!((1..=20).contains(&sockets(&["time-wait"])));
}

#[test]
#[ignore = "needs root, netns, ss"]
fn what_is_killed_leaves_nothing_that_holds_its_ports() {
    enter_namespace();
    let waiting = TcpListener::from(listener("127.0.0.1:8088", 1000));
    let mut probing = probe()
        .args("--engine raw --target 127.0.0.1:8088 -n 50 --timeout 60s -q".split(' '))
        .spawn()
        .unwrap();
    let clients: Vec<SocketAddr> = (0..50).map(|_| waiting.accept().unwrap().1).collect();
    assert!(sockets(&["listening"]) >= 50);
    probing.kill().unwrap();
    probing.wait().unwrap();
    for client in clients {
        drop(TcpListener::bind(client).unwrap());
    }
    assert_eq!(sockets(&["listening"]), 1);
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn more_connections_than_one_address_has_ports_come_from_several() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40099");
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 -n 3000 -c 250 --signal none --format csv";
    let output = run_probe_with(options, &nginx.command());
    let rows = rows(&output.stdout);
    assert_eq!(
        with_outcome(&rows, "served").len(),
        3_000,
        "{}",
        stderr(&output)
    );
    let mut sources: Vec<&String> = rows.iter().map(|row| &row["src_addr"]).collect();
    sources.sort();
    sources.dedup();
    assert!(sources.len() > 2, "{sources:?}");
    let said = stderr(&output);
    assert!(said.contains("from 127.0.0.1 to 127.0.0.3"), "{said}");
}

#[test]
#[ignore = "needs root, netns, nginx"]
fn connections_come_from_one_address_where_its_ports_do() {
    enter_namespace();
    let nginx = Nginx::on("127.0.0.1:8088".parse().unwrap(), 0);
    let options = "--engine raw --target 127.0.0.1:8088 -n 4000 -c 300 --signal none --format csv";
    let output = run_probe_with(options, &nginx.command());
    let said = stderr(&output);
    assert!(!said.contains("127.0.0.2"), "{said}");
    let rows = rows(&output.stdout);
    let one = |row: &&Row| row["outcome"] == "served" && row["src_addr"] == "127.0.0.1";
    assert_eq!(rows.iter().filter(one).count(), 4_000);
}

#[test]
#[ignore = "needs root, netns"]
fn ports_that_may_not_be_held_are_used_again_or_by_several_addresses() {
    enter_namespace();
    let _listener = listener("127.0.0.1:8088", 4_000);
    let limited = |options: &str| {
        let script = format!(
            "ulimit -n 256; exec \"$0\" --engine raw --target 127.0.0.1:8088 --format csv --observe wire \
             --handshake-only --close rst {options}"
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_probe"))
            .output()
            .unwrap();
        let rows = rows(&output.stdout);
        assert_eq!(rows.len(), 2_000, "{}", stderr(&output));
        assert_eq!(with_outcome(&rows, "client_closed").len(), 2_000);
        stderr(&output)
    };
    let said = limited("-n 2000 -c 100 --timeout 10ms");
    assert!(!said.contains("127.0.0.2"), "{said}");
    let said = limited("-n 2000 --timeout 1s");
    assert!(said.contains("from 127.0.0.1 to 127.0.0.11"), "{said}");
    assert!(!said.contains("local_error"), "{said}");
}

#[test]
#[ignore = "needs root, netns"]
fn a_server_that_never_closes_takes_a_port_for_each_connection() {
    enter_namespace();
    sysctl("net/core/somaxconn", "3000");
    let _listener = listener("[::1]:8088", 3_000);
    let output = run_probe(
        "--engine raw --target [::1]:8088 -n 2500 -c 50 --timeout 50ms --signal none --format csv",
    );
    let rows = rows(&output.stdout);
    assert_eq!(
        with_outcome(&rows, "hung").len(),
        2_500,
        "{}",
        stderr(&output)
    );
}

#[test]
#[ignore = "needs root, netns, ss"]
fn two_hundred_thousand_connections_are_held_at_once() {
    const HELD: usize = 200_000;
    enter_namespace();
    sysctl("net/core/somaxconn", "300000");
    sysctl("net/ipv4/tcp_max_syn_backlog", "300000");
    let _listener = listener("127.0.0.1:8088", 300_000);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let mut probing = probe()
        .args(
            "--engine raw --target 127.0.0.1:8088 -n 200000 --handshake-only --observe wire"
                .split(' '),
        )
        .args(["--timeout", "15s", "--quiet", "--out"])
        .arg(&out)
        .spawn()
        .unwrap();
    // A listener's Recv-Q is how many wait in its queue.
    let queued = || {
        let told = run("ss", &["-Hltn", "sport = :8088"]);
        told.split_whitespace()
            .nth(1)
            .map_or(0, |n| n.parse().unwrap())
    };
    let mut most = 0;
    while probing.try_wait().unwrap().is_none() && most < HELD {
        most = most.max(queued());
    }
    assert_eq!(most, HELD);
    assert!(probing.wait().unwrap().success());
    let run = run_json(&out);
    let count = &run["summary"]["outcomes"]["client_closed"];
    assert_eq!(count, HELD, "{}", run["summary"]);
    assert_eq!(run["capture"]["kernel_drops"], 0);
    assert_eq!(sockets(&["established", "syn-recv"]), 0);
}
