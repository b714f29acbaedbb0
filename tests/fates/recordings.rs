//! The captures that the repository keeps of single fates, made again: each test records real
//! connections with tcpdump and holds what `probe read` says of them. `captures/make` has them write
//! where the kept ones are.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests here are clients too, and write files"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::common::namespace::Namespace;
use crate::common::process::{OwnServer, ruby};
use crate::common::tshark::Capture;
use crate::common::{self, Row, enter_namespace, rows, run, stderr};
use crate::fate::{Vantage, probe_rows};
use crate::fate_server::{self, Bell, Connection, GATED, Listener, OK};
use crate::kernel::{Port, State};

/// Where everything that is recorded listens.
const PORT: u16 = 9292;
const ROOMY: i32 = 64;

/// A capture under way.
struct Recording {
    name: &'static str,
    extension: &'static str,
    capture: Capture,
    /// Where its folder is made.
    captures: PathBuf,
    _temporary: Option<TempDir>,
}

impl Recording {
    /// In a fresh network namespace, on its loopback.
    fn start(name: &'static str) -> Recording {
        enter_namespace();
        Recording::on("lo", name)
    }

    /// On an interface of this thread's namespace.
    fn on(interface: &str, name: &'static str) -> Recording {
        let (captures, temporary) = match std::env::var_os("PROBE_KEEP_CAPTURES") {
            Some(_) => (root().join("captures"), None),
            None => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                (folder.path().to_owned(), Some(folder))
            }
        };
        Recording {
            name,
            extension: "pcap",
            capture: Capture::start(interface),
            captures,
            _temporary: temporary,
        }
    }

    fn folder(&self) -> PathBuf {
        self.captures.join(self.name)
    }

    /// Ends it, and asserts which outcomes the connections in it have, as often.
    fn holds(self, host: &str, expected: &[(&str, usize)]) -> Vec<Row> {
        self.holds_edited(host, |_| {}, expected)
    }

    /// The same of what `edit` makes of the file.
    fn holds_edited(
        self,
        host: &str,
        edit: impl FnOnce(&Path),
        expected: &[(&str, usize)],
    ) -> Vec<Row> {
        let folder = self.folder();
        let pcap = folder.join(format!("{}.{}", self.name, self.extension));
        fs::create_dir_all(&folder).expect("a folder");
        let bytes = self.capture.end(host.parse().expect("an address"));
        fs::write(&pcap, bytes).expect("the capture is kept");
        // All but the datagram by which tcpdump is told to end.
        filter(&pcap, "not udp");
        edit(&pcap);
        let csv = if folder.join("run.json").exists() {
            "read.csv"
        } else {
            "connections.csv"
        };
        let output = common::probe()
            .arg("read")
            .arg(&pcap)
            .args(["--port", &PORT.to_string(), "--quiet", "--csv", "-"])
            .output()
            .expect("the probe starts");
        assert!(output.status.success(), "{}", stderr(&output));
        fs::write(folder.join(csv), &output.stdout).expect("its rows are kept");
        let rows = rows(&output.stdout);
        let mut outcomes = BTreeMap::new();
        for row in &rows {
            *outcomes.entry(row["outcome"].as_str()).or_insert(0) += 1;
        }
        assert_eq!(outcomes, expected.iter().copied().collect(), "{rows:#?}");
        rows
    }
}

/// Keeps those packets of a capture that match.
fn filter(pcap: &Path, expression: &str) {
    let nanos = "--time-stamp-precision=nano";
    rewrite(pcap, |from, to| {
        let arguments = ["-Z", "root", "-r", from, "-w", to, nanos, expression];
        run("tcpdump", &arguments);
    });
}

/// Cuts the packets of a capture to so many bytes.
fn snap(pcap: &Path, len: &str) {
    rewrite(pcap, |from, to| {
        drop(run("editcap", &["-F", "nsecpcap", "-s", len, from, to]))
    });
}

fn rewrite(pcap: &Path, tool: impl FnOnce(&str, &str)) {
    let before = pcap.with_extension("before");
    fs::rename(pcap, &before).expect("another name");
    tool(&before.to_string_lossy(), &pcap.to_string_lossy());
    fs::remove_file(&before).expect("it is there");
}

/// Puts an 802.1Q tag into each frame of a capture: this kernel need not have VLAN interfaces.
fn tag(pcap: &Path) {
    const TAG: [u8; 4] = [0x81, 0x00, 0x00, 0x07];
    let bytes = fs::read(pcap).expect("the capture");
    let (header, mut rest) = bytes.split_at(24);
    let mut tagged = header.to_vec();
    while let Some((packet, behind)) = rest.split_at_checked(16) {
        let field = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| packet[at + i]));
        let (frame, behind) = behind.split_at(field(8) as usize);
        tagged.extend_from_slice(&packet[..8]);
        tagged.extend((field(8) + 4).to_le_bytes());
        tagged.extend((field(12) + 4).to_le_bytes());
        tagged.extend_from_slice(&frame[..12]);
        tagged.extend(TAG);
        tagged.extend_from_slice(&frame[12..]);
        rest = behind;
    }
    fs::write(pcap, tagged).expect("the capture is kept");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn v4() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, PORT).into()
}

fn listen() -> Listener {
    Listener::at(v4(), ROOMY)
}

/// The probe as a client: five connections, unless the options say otherwise. It looks at no
/// packets.
fn connect(options: &str) {
    probe_rows(v4(), Vantage::Socket, options);
}

/// Records five connections to a server that does `fate` to each.
fn each<T: Send + 'static>(
    name: &'static str,
    outcome: &str,
    options: &str,
    fate: impl Fn(Connection) -> T + Send + 'static,
) {
    let recording = Recording::start(name);
    let server = listen().serve_each(fate);
    connect(options);
    server.finish();
    recording.holds("127.0.0.1", &[(outcome, 5)]);
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_complete_response_is_recorded_as_served() {
    each("served", "served", "", |connection| {
        drop(connection.answer(OK))
    });
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_port_without_a_listener_is_recorded_as_refused() {
    let recording = Recording::start("refused");
    connect("");
    recording.holds("127.0.0.1", &[("refused", 5)]);
}

/// Answers SYNs as `verdict` says, and records five.
fn firewall(name: &'static str, outcome: &str, verdict: &str, options: &str) {
    let recording = Recording::start(name);
    fate_server::firewall(verdict);
    let server = listen().serve(|listener| listener);
    connect(options);
    server.finish();
    recording.holds("127.0.0.1", &[(outcome, 5)]);
}

#[test]
#[ignore = "needs root, netns, tcpdump, nft"]
fn an_icmp_port_unreachable_is_recorded_as_refused() {
    let verdict = "reject with icmp port-unreachable";
    firewall("refused-icmp", "refused", verdict, "");
}

#[test]
#[ignore = "needs root, netns, tcpdump, nft"]
fn an_icmp_host_unreachable_is_recorded_as_unreachable() {
    let verdict = "reject with icmp host-unreachable";
    firewall("unreachable", "unreachable", verdict, "");
}

/// Nobody can tell from outside when the client would have given up.
#[test]
#[ignore = "needs root, netns, tcpdump, nft"]
fn a_syn_without_an_answer_is_recorded_as_unfinished() {
    firewall("unanswered", "unfinished", "drop", "--timeout 300ms");
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_listener_that_closes_before_the_request_is_recorded_as_reset_on_connect() {
    let recording = Recording::start("reset_on_connect");
    let bell = Bell::new();
    let command = bell.command();
    let server = listen().serve(move |listener| {
        bell.wait();
        listener.close();
    });
    connect(&format!(
        "--idle 5 --idle-delay 1h --trigger-at 0 --trigger {command}"
    ));
    server.finish();
    recording.holds("127.0.0.1", &[("reset_on_connect", 5)]);
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn an_answer_that_is_no_http_is_recorded_as_malformed() {
    each("malformed", "malformed", "", |connection| {
        drop(connection.answer(b"SSH-2.0-OpenSSH_9.2\r\n"));
    });
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_close_without_an_answer_is_recorded_as_closed_empty() {
    each("closed_empty", "closed_empty", "", |mut connection| {
        connection.read_request();
    });
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_listener_that_closes_over_its_queue_is_recorded_as_reset_empty() {
    let recording = Recording::start("reset_empty");
    let server = listen().serve(|listener| {
        listener.port().wait_for_requests(5);
        listener.close();
    });
    connect("");
    server.finish();
    recording.holds("127.0.0.1", &[("reset_empty", 5)]);
}

/// Half of a response.
const HALF: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok";

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn half_a_body_and_a_fin_is_recorded_as_truncated() {
    each("truncated", "truncated", "", |connection| {
        drop(connection.answer(HALF))
    });
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn half_a_body_and_a_rst_is_recorded_as_reset_midway() {
    each("reset_midway", "reset_midway", "", |connection| {
        connection.answer(HALF).reset();
    });
}

/// What a live run calls `hung`: whether the client had a deadline or changed its mind, packets do
/// not say.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_client_that_gave_up_waiting_is_recorded_as_client_closed() {
    each(
        "hung",
        "client_closed",
        "--timeout 300ms",
        |mut connection| {
            connection.read_request();
            connection
        },
    );
}

/// What a live run calls `stalled`.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_client_that_gave_up_inside_a_response_is_recorded_as_client_closed() {
    each("stalled", "client_closed", "--timeout 2s", |connection| {
        connection.answer(HALF)
    });
}

/// A client that does as it is told.
struct Client(TcpStream);

impl Client {
    fn connect() -> Client {
        Client(TcpStream::connect(v4()).expect("connect()"))
    }

    fn ask(&mut self) {
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        self.0.write_all(request).expect("send()");
    }

    fn read(&mut self, n: usize) {
        self.0.read_exact(&mut vec![0; n]).expect("a response");
    }
}

/// One connection was open before the capture began, one is when it ends.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn connections_across_the_edges_of_a_capture_are_recorded_as_unfinished() {
    enter_namespace();
    let listener = listen();
    let mut early = Client::connect();
    let mut early_served = listener.accept();
    early.ask();
    early_served.read_request();
    let recording = Recording::on("lo", "unfinished");
    early_served.send(HALF);
    early.read(HALF.len());
    drop(early_served);
    listener.port().wait_for(State::FinWait2, 1);
    drop(early);
    let mut whole = Client::connect();
    whole.ask();
    let whole_served = listener.accept().answer(OK);
    whole.read(OK.len());
    drop(whole_served);
    drop(whole);
    let mut late = Client::connect();
    late.ask();
    let late_served = listener.accept().answer(HALF);
    let expected = [("unfinished", 2), ("served", 1)];
    let rows = recording.holds("127.0.0.1", &expected);
    let caveats: Vec<&str> = rows.iter().map(|row| row["caveats"].as_str()).collect();
    assert_eq!(caveats, ["capture_start", "", "capture_end"]);
    drop((late, late_served));
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_connection_with_three_requests_is_recorded_as_served() {
    let recording = Recording::start("keep-alive");
    let server = listen().serve(|listener| {
        let answered = listener.accept().answer(OK).answer(OK).answer(OK);
        drop(answered);
    });
    let mut client = Client::connect();
    for _ in 0..3 {
        client.ask();
        client.read(OK.len());
    }
    server.finish();
    drop(client);
    let rows = recording.holds("127.0.0.1", &[("served", 1)]);
    assert_eq!((&*rows[0]["requests"], &*rows[0]["responses"]), ("3", "3"));
}

/// A process read the last request and closed, as one does that was told to end.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_last_request_that_is_read_and_not_answered_is_recorded_as_closed_empty() {
    let recording = Recording::start("keep-alive-closed");
    let server = listen().serve(|listener| {
        let mut answered = listener.accept().answer(OK).answer(OK);
        answered.read_request();
        drop(answered);
    });
    let mut client = Client::connect();
    for _ in 0..2 {
        client.ask();
        client.read(OK.len());
    }
    client.ask();
    Port(PORT).wait_for(State::FinWait2, 1);
    server.finish();
    drop(client);
    let rows = recording.holds("127.0.0.1", &[("closed_empty", 1)]);
    assert_eq!((&*rows[0]["requests"], &*rows[0]["responses"]), ("3", "2"));
}

/// The server closed the idle connection, and the next request was on its way.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn a_request_into_a_connection_closed_while_idle_is_recorded_as_closed_empty() {
    let recording = Recording::start("idle-close");
    let server = listen().serve(|listener| drop(listener.accept().answer(OK)));
    let mut client = Client::connect();
    client.ask();
    client.read(OK.len());
    Port(PORT).wait_for(State::FinWait2, 1);
    client.ask();
    server.finish();
    drop(client);
    let rows = recording.holds("127.0.0.1", &[("closed_empty", 1)]);
    assert_eq!((&*rows[0]["requests"], &*rows[0]["responses"]), ("2", "1"));
}

/// Idle connections that the server closes before their first request.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn connections_closed_before_their_request_are_recorded_as_closed_empty() {
    let recording = Recording::start("closed-before-request");
    let server = listen().serve(|listener| {
        let idle: Vec<Connection> = (0..5).map(|_| listener.accept()).collect();
        drop(idle);
        listener.port().wait_for(State::FinWait2, 5);
        [listener.accept().answer(OK), listener.accept().answer(OK)]
    });
    connect(GATED);
    server.finish();
    recording.holds("127.0.0.1", &[("closed_empty", 5), ("served", 2)]);
}

/// Says who it is when it listens, and answers three clients.
const TLS_SERVER: &str = r#"
key = OpenSSL::PKey::RSA.new(2048)
cert = OpenSSL::X509::Certificate.new
cert.subject = cert.issuer = OpenSSL::X509::Name.parse("/CN=localhost")
cert.not_before = Time.now
cert.not_after = Time.now + 3600
cert.public_key = key.public_key
cert.sign(key, OpenSSL::Digest.new("SHA256"))
context = OpenSSL::SSL::SSLContext.new
context.key, context.cert = key, cert
server = OpenSSL::SSL::SSLServer.new(TCPServer.new("127.0.0.1", 9292), context)
puts "listening"
$stdout.flush
3.times do
  client = server.accept
  client.gets("\r\n\r\n")
  client.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
  client.close
end
"#;

const TLS_CLIENT: &str = r#"
3.times do
  client = OpenSSL::SSL::SSLSocket.new(TCPSocket.new("127.0.0.1", 9292))
  client.sync_close = true
  client.connect
  client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
  client.read
  client.close
end
"#;

#[test]
#[ignore = "needs root, netns, tcpdump, ruby"]
fn tls_connections_are_recorded_as_served() {
    let recording = Recording::start("tls");
    let with_openssl = |script: &str| [vec!["-ropenssl".to_owned()], ruby(script)[1..].to_vec()];
    let server = [vec!["ruby".to_owned()], with_openssl(TLS_SERVER).concat()].concat();
    let server = OwnServer::start(&server, "listening", 1);
    let client = with_openssl(TLS_CLIENT).concat();
    let client: Vec<&str> = client.iter().map(String::as_str).collect();
    run("ruby", &client);
    server.wait();
    recording.holds("127.0.0.1", &[("served", 3)]);
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn ipv6_is_recorded() {
    let recording = Recording::start("ipv6");
    let address: SocketAddr = "[::1]:9292".parse().expect("an address");
    let server = Listener::at(address, ROOMY).serve_each(|c| drop(c.answer(OK)));
    probe_rows(address, Vantage::Socket, "");
    server.finish();
    recording.holds("::1", &[("served", 5)]);
}

/// As `tcpdump -i any` writes it: Linux cooked, version 2.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn all_interfaces_at_once_are_recorded() {
    enter_namespace();
    let recording = Recording::on("any", "cooked");
    let server = listen().serve_each(|c| drop(c.answer(OK)));
    connect("");
    server.finish();
    recording.holds("127.0.0.1", &[("served", 5)]);
}

/// Joins this thread's namespace with another by a pair of interfaces.
fn join(near: &str, there: &Namespace, far: &str) {
    let link = [
        "link", "add", near, "type", "veth", "peer", "name", far, "netns",
    ];
    run("ip", &[&link[..], &[&there.path()]].concat());
    run("ip", &["link", "set", near, "up"]);
    there.run("ip", &["link", "set", far, "up"]);
}

/// Answers five requests with `body` bytes each, and says when it listens.
fn ruby_server(body: usize) -> String {
    format!(
        r#"server = TCPServer.new("0.0.0.0", 9292)
        puts "listening"
        $stdout.flush
        5.times do
          client = server.accept
          client.gets("\r\n\r\n")
          client.write("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n" + "." * {body})
          client.close
        end"#
    )
}

/// Records five complete responses, and edits what was recorded.
fn edited(name: &'static str, edit: impl FnOnce(&Path), expected: &[(&str, usize)]) -> Vec<Row> {
    let recording = Recording::start(name);
    let server = listen().serve_each(|connection| drop(connection.answer(OK)));
    connect("");
    server.finish();
    recording.holds_edited("127.0.0.1", edit, expected)
}

#[test]
#[ignore = "needs root, netns, tcpdump"]
fn vlan_tags_are_recorded() {
    edited("vlan", tag, &[("served", 5)]);
}

/// The response's header block is cut: how far the response came is then unknown.
#[test]
#[ignore = "needs root, netns, tcpdump, editcap"]
fn payload_cut_by_the_snap_length_is_recorded_as_unfinished() {
    let rows = edited("snapped", |pcap| snap(pcap, "90"), &[("unfinished", 5)]);
    assert!(rows.iter().all(|row| row["caveats"] == "snapped"));
}

/// Nothing is left of the connections.
#[test]
#[ignore = "needs root, netns, tcpdump, editcap"]
fn headers_cut_by_the_snap_length_are_recorded() {
    edited("snapped-headers", |pcap| snap(pcap, "40"), &[]);
}

/// The segments with the responses were dropped on their way into the capture.
#[test]
#[ignore = "needs root, netns, tcpdump"]
fn holes_are_recorded() {
    let responses = "not (src port 9292 and tcp[tcpflags] & tcp-push != 0)";
    let rows = edited("hole", |pcap| filter(pcap, responses), &[("unfinished", 5)]);
    assert!(rows.iter().all(|row| row["caveats"] == "hole"));
}

/// Connections on two interfaces, in one pcapng file.
#[test]
#[ignore = "needs root, netns, tcpdump, mergecap, ruby"]
fn two_interfaces_are_recorded_in_a_pcapng_file() {
    enter_namespace();
    let there = Namespace::new();
    join("near", &there, "far");
    run("ip", &["addr", "add", "10.0.0.1/24", "dev", "near"]);
    there.run("ip", &["addr", "add", "10.0.0.2/24", "dev", "far"]);
    let remote = OwnServer::start(&there.command(&ruby(&ruby_server(2))), "listening", 1);
    let second = Capture::start("near");
    let mut recording = Recording::on("lo", "two-interfaces");
    recording.extension = "pcapng";
    let server = listen().serve_each(|connection| drop(connection.answer(OK)));
    connect("");
    server.finish();
    let address = "10.0.0.2:9292".parse().expect("an address");
    probe_rows(address, Vantage::Socket, "");
    remote.wait();
    let merge = |pcap: &Path| {
        let other = pcap.with_extension("near");
        fs::write(&other, second.end(address.ip())).expect("the capture is kept");
        filter(&other, "not udp");
        rewrite(pcap, |from, to| {
            let other = other.to_string_lossy();
            run(
                "mergecap",
                &["-F", "pcapng", "-I", "none", "-w", to, from, &other],
            );
        });
        fs::remove_file(&other).expect("it is there");
    };
    recording.holds_edited("127.0.0.1", merge, &[("served", 10)]);
}

/// A router with a small MTU on the way, and a server that does without path MTU discovery.
#[test]
#[ignore = "needs root, netns, tcpdump, ruby"]
fn fragments_are_recorded_and_not_put_together() {
    enter_namespace();
    let (router, there) = (Namespace::new(), Namespace::new());
    join("near", &router, "left");
    let link = [
        "link", "add", "right", "type", "veth", "peer", "name", "far", "netns",
    ];
    router.run("ip", &[&link[..], &[&there.path()]].concat());
    run("ip", &["addr", "add", "10.0.0.1/24", "dev", "near"]);
    run("ip", &["route", "add", "10.0.1.0/24", "via", "10.0.0.2"]);
    router.run("ip", &["addr", "add", "10.0.0.2/24", "dev", "left"]);
    router.run("ip", &["addr", "add", "10.0.1.2/24", "dev", "right"]);
    router.run("ip", &["link", "set", "right", "up"]);
    router.run("ip", &["link", "set", "left", "mtu", "600"]);
    router.run("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    there.run("ip", &["addr", "add", "10.0.1.1/24", "dev", "far"]);
    there.run("ip", &["link", "set", "far", "up"]);
    there.run("ip", &["route", "add", "10.0.0.0/24", "via", "10.0.1.2"]);
    there.run("sh", &["-c", "echo 1 >/proc/sys/net/ipv4/ip_no_pmtu_disc"]);
    let server = OwnServer::start(&there.command(&ruby(&ruby_server(1_000))), "listening", 1);
    let recording = Recording::on("near", "fragments");
    let address = "10.0.1.1:9292".parse().expect("an address");
    probe_rows(address, Vantage::Socket, "");
    server.wait();
    recording.holds("10.0.1.1", &[("unfinished", 5)]);
}

/// Runs one of the Puma scenarios as `scenarios/puma/run` does: what the run says and what the
/// capture says stand side by side.
fn puma(name: &'static str, scenario: &str, options: &str) -> (Vec<Row>, Vec<Row>) {
    let recording = Recording::start(name);
    let folder = recording.folder();
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("the folder before goes");
    }
    // As somebody who stands in the repository types it.
    let out = folder.strip_prefix(root()).unwrap_or(&folder);
    let output = Command::new(env!("CARGO_BIN_EXE_probe"))
        .arg0("probe")
        .current_dir(root())
        .args(options.split_whitespace())
        .arg("--out")
        .arg(out)
        .args(["--", "puma", "-C"])
        .arg(format!("scenarios/puma/{scenario}/puma.rb"))
        .output()
        .expect("the probe starts");
    assert!(output.status.success(), "{}", stderr(&output));
    let run = common::read_csv(&folder.join("connections.csv"));
    let mut outcomes = BTreeMap::new();
    for row in &run {
        *outcomes.entry(in_a_capture(&row["outcome"])).or_insert(0) += 1;
    }
    let outcomes: Vec<(&str, usize)> = outcomes.into_iter().collect();
    let read = recording.holds("127.0.0.1", &outcomes);
    (run, read)
}

/// What a run's outcome is to who knows no deadline.
fn in_a_capture(outcome: &str) -> &str {
    match outcome {
        "hung" | "stalled" => "client_closed",
        "unanswered" => "unfinished",
        other => other,
    }
}

#[test]
#[ignore = "needs root, netns, tcpdump, puma"]
fn the_puma_scenarios_are_recorded_beside_their_runs() {
    for (name, scenario, options) in [
        ("puma-5.6.5-simple", "simple", "--signal none --count 2"),
        ("puma-5.6.5-repro", "repro", "--signal none --count 20"),
        ("puma-5.6.5-sleepy", "sleepy", "--count 50"),
    ] {
        let (run, read) = puma(name, scenario, options);
        let told = |rows: &[Row]| -> BTreeMap<String, String> {
            let outcome = |row: &Row| in_a_capture(&row["outcome"]).to_owned();
            let each = rows
                .iter()
                .map(|row| (row["src_port"].clone(), outcome(row)));
            each.collect()
        };
        assert_eq!(told(&read), told(&run), "{name}");
    }
}
