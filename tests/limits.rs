//! Too few ports, too few file descriptors, no privilege: the run goes on with what it has and says
//! so.
#![expect(clippy::disallowed_types, reason = "tests listen and start the probe")]

mod common;

use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{
    Row, as_nobody, binary_for_everybody, enter_namespace, read_csv, run, run_json, run_probe,
    stderr, stdout, sysctl,
};

/// Runs the probe with its rows in a file, and reads them back.
fn probe_rows(args: &str, folder: &Path) -> (Output, Vec<Row>) {
    let csv = folder.join("connections.csv");
    let output = run_probe(&format!("{args} --csv {}", csv.display()));
    let rows = read_csv(&csv);
    (output, rows)
}

/// A listener that never accepts: every connection hangs until its deadline.
fn silent_listener(address: &str) -> TcpListener {
    TcpListener::bind(address).expect("the port is free in this namespace")
}

#[test]
#[ignore = "needs root, netns"]
fn more_connections_than_ports_use_more_loopback_addresses() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40019");
    let _listener = silent_listener("127.0.0.1:9292");
    let folder = tempfile::tempdir().unwrap();
    let args = "--target 127.0.0.1:9292 -n 100 --timeout 300ms";
    let (output, rows) = probe_rows(args, folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(rows.iter().all(|row| row["outcome"] == "hung"), "{rows:?}");
    let sources: HashSet<&str> = rows.iter().map(|row| row["src_addr"].as_str()).collect();
    assert!(sources.len() >= 5, "{sources:?}");
    let said = stderr(&output);
    assert!(
        said.contains("they come from 127.0.0.1 to 127.0.0.6"),
        "{said}"
    );
    assert_eq!(rows.len(), 100);
}

#[test]
#[ignore = "needs root, netns"]
fn connections_beyond_the_ports_of_another_address_are_local_errors() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40019");
    let _listener = silent_listener("[::1]:9292");
    let folder = tempfile::tempdir().unwrap();
    let args = "--target [::1]:9292 -n 30 --timeout 300ms";
    let (output, rows) = probe_rows(args, folder.path());
    assert_eq!(output.status.code(), Some(0));
    let said = stderr(&output);
    assert!(
        said.contains("30 connections may be open and there are 20 source ports"),
        "{said}"
    );
    let of = |outcome: &str| rows.iter().filter(|row| row["outcome"] == outcome).count();
    assert_eq!((of("hung"), of("local_error")), (20, 10), "{rows:?}");
    let failed = rows
        .iter()
        .find(|row| row["outcome"] == "local_error")
        .unwrap();
    assert_eq!(
        (failed["errno"].as_str(), failed["lost"].as_str()),
        ("EADDRNOTAVAIL", "")
    );
    let told = "10 connections failed on this host (local_error): cannot assign requested address; no \
                source port was left: widen net.ipv4.ip_local_port_range";
    let table = stdout(&output);
    assert!(table.contains(told), "{table}");
}

#[test]
#[ignore = "needs root, netns"]
fn where_every_connection_fails_on_this_host_nothing_was_measured() {
    enter_namespace();
    sysctl("net/ipv4/ip_local_port_range", "40000 40000");
    let _listener = silent_listener("[::1]:9292");
    let _only_port = TcpStream::connect("[::1]:9292").unwrap();
    for options in ["", "--max-lost 0"] {
        let output = run_probe(&format!("--target [::1]:9292 -n 3 -q {options}"));
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(
            stderr(&output),
            "probe: nothing was measured, as every connection failed on this host: cannot assign \
             requested address; no source port was left: widen net.ipv4.ip_local_port_range, make fewer \
             connections, or wait a minute for those in TIME-WAIT\n"
        );
    }
}

#[test]
#[ignore = "needs root, netns"]
fn the_soft_limit_of_open_files_is_raised() {
    enter_namespace();
    let _listener = silent_listener("127.0.0.1:9292");
    let script = "ulimit -Sn 100; exec \"$0\" --target 127.0.0.1:9292 -n 300 --timeout 300ms";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(env!("CARGO_BIN_EXE_probe"))
        .output()
        .unwrap();
    assert!(stdout(&output).contains("hung"), "{}", stdout(&output));
    assert!(
        !stdout(&output).contains("local_error"),
        "{}",
        stdout(&output)
    );
    assert_eq!(stderr(&output), "");
}

#[test]
#[ignore = "needs root, netns, setpriv, prlimit"]
fn what_breaks_a_run_off_is_told_beside_what_was_seen_until_then() {
    enter_namespace();
    let listener = silent_listener("127.0.0.1:9292");
    let folder = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(folder.path());
    run("chmod", &["a+rwx", &folder.path().to_string_lossy()]);
    let options = "--target 127.0.0.1:9292 -n 3 -c 1 --trigger true --trigger-at 2 \
                   --observe socket --out run";
    let probing = as_nobody(&binary)
        .current_dir(folder.path())
        .args(options.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let first = listener.accept().unwrap();
    // From here on it can start nothing, and the trigger needs a thread.
    let mut limit = as_nobody(Path::new("prlimit"));
    limit.args(["--nproc=1:1", "--pid", &probing.id().to_string()]);
    assert!(limit.status().unwrap().success());
    drop(first);
    let output = probing.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let told = run_json(&folder.path().join("run"));
    let why = told["broken_off"].as_str().unwrap();
    assert!(why.starts_with("cannot start a thread: "), "{why}");
    assert_eq!(told["interrupted"], false);
    let table = stdout(&output);
    assert!(table.contains(&format!("broken off ({why})")), "{table}");
    let rows = read_csv(&folder.path().join("run/connections.csv"));
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str()).collect();
    // The first was closed before its request was read, or before that came.
    assert_eq!((outcomes.len(), outcomes[1]), (2, "unfinished"));
}

#[test]
#[ignore = "needs root, netns"]
fn too_few_files_are_told_as_what_they_mean_to_each_engine() {
    enter_namespace();
    let _listeners = ["127.0.0.1:9292", "[::1]:9292"].map(silent_listener);
    for (engine, target, sentence) in [
        (
            "socket",
            "127.0.0.1:9292",
            "probe: 100 connections may be open at a time and only 100 files may be; those beyond are \
             local_error rows",
        ),
        (
            // Where there are other addresses to connect from, ports are used with those as well.
            "raw -c 50",
            "[::1]:9292",
            "probe: only 100 files may be open, and each source port takes one until its connection is \
             gone for good: should they run out, those beyond are local_error rows",
        ),
    ] {
        let script = format!(
            "ulimit -n 100; exec \"$0\" --target {target} -n 100 --timeout 50ms --engine {engine}"
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(env!("CARGO_BIN_EXE_probe"))
            .output()
            .unwrap();
        let said = stderr(&output);
        assert!(said.starts_with(sentence), "{said}");
        // How many source ports it takes is the kernel's part as well.
        let table = stdout(&output);
        let told = "failed on this host (local_error): too many open files; raise the limit";
        assert!(table.contains(told) || engine != "socket", "{table}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn without_net_raw_the_sockets_go_on_alone() {
    enter_namespace();
    let listener = silent_listener("127.0.0.1:9292");
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let binary = binary_for_everybody(folder.path());
    let as_nobody = |args: &[&str]| {
        as_nobody(&binary)
            .args(["--target", "127.0.0.1:9292", "-n", "3"])
            .args(args)
            .output()
            .unwrap()
    };
    let output = as_nobody(&["--format", "csv"]);
    let rows = common::rows(&output.stdout);
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row["outcome"], "refused");
        assert_eq!(row["evidence"], "socket+diag");
        assert_eq!(row["cause"], "not_listening");
        assert_eq!(row["sequence"], "");
    }
    let said = stderr(&output);
    let setcap = format!("sudo setcap cap_net_raw+ep {}", binary.display());
    assert!(
        said.contains("CAP_NET_RAW") && said.contains(&setcap),
        "{said}"
    );

    let required = as_nobody(&["--observe", "wire"]);
    assert_eq!(required.status.code(), Some(2));
    assert_eq!(
        stderr(&required).lines().count(),
        1,
        "{}",
        stderr(&required)
    );

    let our_pid = std::process::id().to_string();
    let not_ours = as_nobody(&["--pid", &our_pid, "--signal", "TERM"]);
    assert_eq!(not_ours.status.code(), Some(2));
    assert_eq!(
        stderr(&not_ours),
        format!(
            "probe: process {our_pid} is not ours to signal; run probe as its user or as root\n"
        )
    );
}
