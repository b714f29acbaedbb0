//! `probe matrix` over scenarios that go wrong, each in its own way: what cannot be measured is a row
//! that says why, and the others are measured all the same.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests write scenarios, listen, and start the probe"
)]

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use common::kernel::wait_until;
use common::process::descendants;
use common::{
    Row, as_nobody, binary_for_everybody, enter_namespace, probe, read_csv, rows, stderr, stdout,
};

/// A server that stops as it should.
const GOOD: &str = r#""{probe}", "serve", "--listen", "127.0.0.1:{port}", "--service-time", "1ms""#;
/// One that never does.
const HANGS: &str = r#""{probe}", "serve", "--listen", "127.0.0.1:{port}", "--policy", "hang""#;
/// So that a run takes a moment.
const QUICK: [(&str, &str); 5] = [
    ("-n", "20"),
    ("--rate", "500"),
    ("--timeout", "500ms"),
    ("--start-timeout", "5s"),
    ("--stop-timeout", "500ms"),
];

/// Those, but what is given otherwise, and what is given besides.
fn quick(options: &str) -> Vec<String> {
    let given: Vec<&str> = options.split_whitespace().collect();
    let others = QUICK.iter().filter(|(option, _)| !given.contains(option));
    let others = others.flat_map(|&(option, value)| [option, value]);
    others
        .chain(given.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// A folder of scenarios.
struct Scenarios(TempDir);

impl Scenarios {
    /// Scenarios by name, each with one mode that is started so.
    fn new(all: &[(&str, &str)]) -> Scenarios {
        let scenarios = Scenarios(TempDir::new().expect("a folder"));
        for (name, start) in all {
            scenarios.add(name, &format!("start = [{start}]"), "");
        }
        scenarios
    }

    /// Adds one with those lines in its mode, and others at its top.
    fn add(&self, name: &str, mode: &str, top: &str) {
        let folder = self.0.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        let text = format!(
            "server = \"{name}\"\n{top}\n[[mode]]\nname = \"m\"\n{mode}\n\n[[signal]]\nsend = \
             \"TERM\"\nwhat = \"graceful stop\"\n"
        );
        fs::write(folder.join("scenario.toml"), text).expect("a file");
    }

    /// `probe matrix` of them.
    fn command(&self, options: &str) -> Command {
        let mut command = probe();
        command.arg("matrix").arg(self.0.path());
        command.args(quick(options));
        command
    }

    fn run(&self, options: &str) -> Output {
        self.command(options).output().expect("the probe starts")
    }

    /// Its rows, by name, besides what was said and its exit code.
    fn measure(&self, options: &str) -> (Vec<Row>, String, Option<i32>) {
        let output = self.run(&format!("--format csv {options}"));
        let said = stderr(&output);
        (rows(&output.stdout), said, output.status.code())
    }
}

fn row<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    let found = rows.iter().find(|row| row["row"] == name);
    found.expect("every row has a name of its own")
}

/// Asserts that a row was measured, and how many of its connections were served.
fn assert_measured(row: &Row) {
    let served: u64 = row["served"].parse().expect("a number");
    assert_eq!(
        (&*row["runs"], &*row["connections"]),
        ("1", "20"),
        "{row:?}"
    );
    assert!(served > 0 && row["unmade"].is_empty(), "{row:?}");
}

#[test]
#[ignore = "needs root, netns"]
fn an_unknown_key_is_a_row_with_its_line_and_the_others_are_measured() {
    enter_namespace();
    let scenarios = Scenarios::new(&[("good", GOOD)]);
    scenarios.add("odd", &format!("start = [{GOOD}]"), "colour = \"red\"");
    let (rows, said, code) = scenarios.measure("");
    let sentence = "odd/scenario.toml: line 2: unknown field `colour`, expected one of `server`, \
                    `package`, `mode`, `signal`; mend that";
    assert!(said.contains(sentence), "{said}");
    assert_eq!(code, Some(2));
    let odd = row(&rows, "odd");
    assert!(odd["unmade"].contains(sentence), "{odd:?}");
    let unknown = [&odd["runs"], &odd["signal"], &odd["what"]];
    assert_eq!(unknown, ["", "", ""]);
    assert_measured(row(&rows, "good-m-TERM"));
}

#[test]
#[ignore = "needs root, netns"]
fn a_server_that_fails_and_one_that_never_listens_are_rows_that_say_so() {
    enter_namespace();
    let scenarios = Scenarios::new(&[
        (
            "fails",
            r#""sh", "-c", "echo no good >&2; exit 3 # {port}""#,
        ),
        ("good", GOOD),
        ("silent", r#""sh", "-c", "exec sleep 60 # {port}""#),
    ]);
    let output = scenarios.run("--start-timeout 500ms --format markdown");
    assert_eq!(output.status.code(), Some(2));
    let page = stdout(&output);
    for note in [
        "- fails-m-TERM: the command ended (exit status 3) before it listened; see its last lines for \
         the reason; its last lines were:\n    no good\n",
        "- silent-m-TERM: the command did not listen on 127.0.0.1:9302 within 500ms; have it listen \
         there, say where it does (--target, or `port` in a scenario.toml), or give more time with \
         --start-timeout; it printed nothing\n",
    ] {
        assert!(page.contains(note), "{page}");
    }
    assert_eq!(page.matches("| not measured |").count(), 2, "{page}");
    let said = stderr(&output);
    assert!(
        said.contains("probe: run fails-m-TERM: the command ended"),
        "{said}"
    );
}

#[test]
#[ignore = "needs root, netns, python3"]
fn a_server_that_dies_before_its_signal_is_told() {
    enter_namespace();
    let dies = r#""python3", "-c", "import socket; s = socket.create_server(('127.0.0.1', {port})); s.accept()""#;
    let output = Scenarios::new(&[("dies", dies)]).run("--rate 100");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(
        table.contains("dies-m-TERM: the server had ended before it was signalled\n"),
        "{table}"
    );
}

#[test]
#[ignore = "needs root, netns"]
fn one_port_serves_two_scenarios_in_turn_and_somebody_elses_is_left_alone() {
    enter_namespace();
    let scenarios = Scenarios(TempDir::new().unwrap());
    let on = |port: u16| {
        let start = GOOD.replace("{port}", &port.to_string());
        format!("port = {port}\nstart = [{start}]")
    };
    scenarios.add("a", &on(9777), "");
    scenarios.add("b", &on(9777), "");
    scenarios.add("taken", &on(9778), "");
    let _somebody = TcpListener::bind("127.0.0.1:9778").unwrap();
    let (rows, said, code) = scenarios.measure("");
    assert_measured(row(&rows, "a-m-TERM"));
    assert_measured(row(&rows, "b-m-TERM"));
    let sentence =
        "somebody already listens where 127.0.0.1:9778 leads, and would be probed instead";
    assert!(row(&rows, "taken-m-TERM")["unmade"].contains(sentence));
    assert!(said.contains(sentence), "{said}");
    assert_eq!(code, Some(2));
}

#[test]
#[ignore = "needs root, netns"]
fn what_a_server_leaves_behind_and_one_that_never_stops_are_killed_and_told() {
    enter_namespace();
    let leaves = r#""sh", "-c", "sleep 600 & exec {probe} serve --listen 127.0.0.1:{port} --service-time 1ms""#;
    let scenarios = Scenarios::new(&[("leaves", leaves), ("hangs", HANGS)]);
    let output = scenarios.run("");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    for note in [
        "leaves-m-TERM: the main process ended and left others behind, which were killed\n",
        "hangs-m-TERM: the server never stopped, and was killed after its deadline\n",
    ] {
        assert!(table.contains(note), "{table}");
    }
    // The rows tell of both; once is enough.
    assert_eq!(table.matches("was killed").count(), 1, "{table}");
    let rows = scenarios.measure("").0;
    let ends = |name| {
        let row = row(&rows, name);
        (row["killed_runs"].clone(), row["left_behind_runs"].clone())
    };
    assert_eq!(ends("leaves-m-TERM"), ("0".to_owned(), "1".to_owned()));
    assert_eq!(ends("hangs-m-TERM"), ("1".to_owned(), "0".to_owned()));
}

#[test]
fn what_is_not_installed_is_a_row_that_says_so() {
    let scenarios = Scenarios(TempDir::new().unwrap());
    let package =
        "[[package]]\ndebian = [\"no-such-server\"]\nversion = [\"no-such-server\", \"-v\"]";
    scenarios.add(
        "missing",
        "start = [\"no-such-server\", \"{port}\"]",
        package,
    );
    let (rows, said, code) = scenarios.measure("");
    assert_eq!(row(&rows, "missing-m-TERM")["unmade"], "not installed");
    assert_eq!((&*said, code), ("", Some(0)));
    let listed = scenarios.run("--list");
    assert_eq!(
        stdout(&listed),
        "missing-m-TERM: not installed (debian no-such-server)\n"
    );
    assert_eq!(listed.status.code(), Some(0));
}

#[test]
fn rows_are_listed_and_chosen_by_their_names() {
    let scenarios = Scenarios::new(&[("a", GOOD), ("b", GOOD), ("c", GOOD)]);
    let listed = |options: &str| stdout(&scenarios.run(&format!("--list {options}")));
    let lines = ["a", "b", "c"].map(|name| format!("{name}-m-TERM: graceful stop\n"));
    assert_eq!(listed(""), lines.concat());
    assert_eq!(
        listed("--only c-m --only a-m"),
        [&*lines[0], &lines[2]].concat()
    );
    let none = scenarios.run("--only nothing");
    let said = "probe: no row's name contains nothing; see their names with --list\n";
    assert_eq!((&*stderr(&none), none.status.code()), (said, Some(2)));
}

#[test]
#[ignore = "needs root, netns"]
fn the_folder_holds_both_tables_and_a_folder_for_each_run() {
    enter_namespace();
    let scenarios = Scenarios::new(&[("a", GOOD), ("b", GOOD)]);
    let out = TempDir::new().unwrap();
    let output = scenarios.run(&format!("--repeat 2 --out {}", out.path().display()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows = read_csv(&out.path().join("matrix.csv"));
    let names: Vec<&str> = rows.iter().map(|row| &*row["row"]).collect();
    assert_eq!(names, ["a-m-TERM", "b-m-TERM"]);
    let page = fs::read_to_string(out.path().join("matrix.md")).unwrap();
    assert!(
        page.starts_with("2 rows, 2 runs each: 20 connections, 500 a second"),
        "{page}"
    );
    assert!(
        page.contains("| a 0.1.0 m | TERM: graceful stop |"),
        "{page}"
    );
    for run in [
        "a-m-TERM/001",
        "a-m-TERM/002",
        "b-m-TERM/001",
        "b-m-TERM/002",
    ] {
        let folder = out.path().join(run);
        assert_eq!(read_csv(&folder.join("connections.csv")).len(), 20, "{run}");
        assert!(folder.join("run.json").exists() && folder.join("server.log").exists());
    }
}

#[test]
#[ignore = "needs root, netns"]
fn an_interrupt_leaves_the_rows_that_were_complete_and_names_the_one_that_was_not() {
    enter_namespace();
    let scenarios = Scenarios::new(&[("a", GOOD), ("hangs", HANGS), ("later", GOOD)]);
    let out = TempDir::new().unwrap();
    let options = format!("--out {}", out.path().display());
    let mut probe = scenarios.command(&options);
    let mut running = probe
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Rows wait for the signal.
    let csv = out.path().join("hangs-m-TERM/connections.csv");
    wait_until("the server that hangs is signalled", || {
        fs::read_to_string(&csv).is_ok_and(|text| text.lines().count() > 1)
    });
    let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let mut said = String::new();
    let stderr = BufReader::new(running.stderr.take().unwrap());
    stderr
        .lines()
        .map_while(Result::ok)
        .for_each(|line| said.push_str(&line));
    assert_eq!(running.wait().unwrap().code(), Some(130), "{said}");
    assert_eq!(descendants(pid), []);
    let rows = read_csv(&out.path().join("matrix.csv"));
    let told: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (&*row["row"], &*row["unmade"]))
        .collect();
    assert_eq!(told, [("a-m-TERM", ""), ("hangs-m-TERM", "interrupted")]);
    assert_eq!(row(&rows, "hangs-m-TERM")["killed_runs"], "0");
    let page = fs::read_to_string(out.path().join("matrix.md")).unwrap();
    assert!(page.contains("- hangs-m-TERM: interrupted\n"), "{page}");
    assert!(!page.contains("after its deadline"), "{page}");
}

#[test]
#[ignore = "needs root, netns, setpriv"]
fn without_privileges_rows_are_measured_and_losses_are_told_as_unproven() {
    enter_namespace();
    let scenarios = Scenarios::new(&[("good", GOOD), ("hangs", HANGS)]);
    let folder = TempDir::new().unwrap();
    let binary: PathBuf = binary_for_everybody(folder.path());
    let open = |path: &Path| common::run("chmod", &["-R", "a+rX", &path.to_string_lossy()]);
    open(scenarios.0.path());
    let output = as_nobody(&binary)
        .arg("matrix")
        .arg(scenarios.0.path())
        .args(quick(""))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(table.contains("good 0.1.0 m"), "{table}");
    let unproven = "lost connections without a cause proven by tracepoints";
    assert!(table.contains(unproven), "{table}");
    // Each reason once.
    for reason in ["that needs CAP_NET_RAW", "no trace: "] {
        assert_eq!(table.matches(reason).count(), 1, "{table}");
    }
}

#[test]
#[ignore = "needs root, netns"]
fn a_reader_that_goes_away_ends_it_quietly() {
    enter_namespace();
    let scenarios = Scenarios::new(&[("good", GOOD)]);
    for format in ["table", "csv", "markdown"] {
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "\"$0\" matrix \"$1\" {} --format {format} | head -n 1",
                quick("").join(" ")
            ))
            .arg(env!("CARGO_BIN_EXE_probe"))
            .arg(scenarios.0.path())
            .output()
            .unwrap();
        assert_eq!(stdout(&output).lines().count(), 1, "{format}");
        assert_eq!(stderr(&output), "", "{format}");
    }
}
