//! Router lines beside the CSV of the same run: one and the same story, line for row.
#![expect(
    clippy::unwrap_used,
    reason = "tests read what the probe wrote, and end at the first surprise"
)]

mod common;

use std::collections::{BTreeSet, HashMap};

use common::process::ruby;
use common::puma::puma;
use common::{Row, enter_namespace, logfmt, read_csv, run_probe_with, stderr, stdout};

/// A router line, by key.
type Line = HashMap<String, String>;

/// Runs `probe OPTIONS --format heroku -- COMMAND` and reads its lines, and the rows of its CSV.
fn measure(options: &str, command: &[String]) -> (Vec<Line>, Vec<Row>) {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("connections.csv");
    let options = format!("{options} --format heroku --csv {}", csv.display());
    let output = run_probe_with(&options, command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    // The table makes room for them.
    assert!(said.contains("that the server's kernel took"), "{said}");
    let lines = stdout(&output).lines().map(read).collect();
    (lines, read_csv(&csv))
}

fn read(line: &str) -> Line {
    let (time, said) = line.split_once(" heroku[router]: ").expect("a router line");
    let mut pairs = logfmt::pairs(said);
    pairs.push(("time".to_owned(), time.to_owned()));
    pairs.into_iter().collect()
}

/// What a line must say beside a row; each cell from its column.
fn assert_agree(lines: &[Line], rows: &[Row]) {
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(rows) {
        let both = format!("{line:?} {row:?}");
        let code = line.get("code").map_or("", String::as_str);
        assert_eq!(code, row["heroku_code"], "{both}");
        let id = format!("{}-{}", row["run_id"], row["conn"]);
        assert_eq!(line["request_id"], id, "{both}");
        assert_eq!(line["host"], "127.0.0.1:9292", "{both}");
        assert_eq!(line["fwd"], row["src_addr"], "{both}");
        let (status, connected) = match code {
            "" => (row["http_status"].as_str(), true),
            _ => ("503", !["H10", "H19", "H21"].contains(&code)),
        };
        assert_eq!(line["status"], status, "{both}");
        let bytes = if connected {
            &row["response_bytes"]
        } else {
            ""
        };
        assert_eq!(line["bytes"], bytes, "{both}");
        assert_eq!(line["service"].is_empty(), !connected, "{both}");
        assert_eq!(line["time"], time(row), "{both}");
    }
}

/// When a row's connection ended, as a line shows it.
fn time(row: &Row) -> String {
    let end: String = row["end_us"].chars().filter(|&c| c != '.').collect();
    let opened: i128 = row["opened_unix_ns"].parse().unwrap();
    let at = jiff::Timestamp::from_nanosecond(opened + end.parse::<i128>().unwrap()).unwrap();
    at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string()
}

fn codes(lines: &[Line]) -> BTreeSet<&str> {
    let code = |line| Line::get(line, "code").map_or("", String::as_str);
    lines.iter().map(code).collect()
}

#[test]
#[ignore = "needs root, netns, puma"]
fn a_cluster_told_to_stop_under_load_is_logged_as_heroku_would() {
    enter_namespace();
    let (lines, rows) = measure("--count 50 --signal TERM@25", &puma("sleepy"));
    assert_agree(&lines, &rows);
    assert_eq!(lines.len(), 50);
    let codes = codes(&lines);
    assert!(codes.contains("") && codes.contains("H13"), "{codes:?}");
    // Those refused once the master was gone too are H10.
    assert!(codes.contains("H21") || codes.contains("H10"), "{codes:?}");
}

/// What a server can do to a connection, by the number that the path holds.
const FATES: &str = "
    server = TCPServer.new('127.0.0.1', 9292)
    loop do
      client = server.accept
      case client.readpartial(4096)[/\\d+/].to_i
      when 1 then client.write(\"HTTP/1.1 404 Not Found\\r\\nContent-Length: 2\\r\\n\\r\\nno\")
      when 2 then nil
      when 3 then client.write(\"220 ready\\r\\n\")
      when 4 then client.write(\"HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\ncut\")
      when 5 then client.read
      end
      client.close
    end";

#[test]
#[ignore = "needs root, netns, ruby"]
fn every_fate_of_a_hostile_path_is_one_line() {
    enter_namespace();
    // One at a time: the server is killed once it has done the five.
    let options =
        "--path /{conn}\"\\n=\\ --count 30 --concurrency 1 --timeout 300ms --signal KILL@6";
    let (lines, rows) = measure(options, &ruby(FATES));
    assert_agree(&lines, &rows);
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!(line["path"], format!("/{}\"\\n=\\", row["conn"]));
        assert_eq!(line["method"], "GET");
    }
    let codes = codes(&lines);
    for code in ["", "H12", "H13", "H17", "H18"] {
        assert!(codes.contains(code), "{code}: {codes:?}");
    }
    assert!(codes.contains("H21") || codes.contains("H10"), "{codes:?}");
}
