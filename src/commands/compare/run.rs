//! A run as one side of a comparison: its folder, its rows alone, or a capture in its place.
#![expect(clippy::disallowed_methods, reason = "a run's files are opened here")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;

use super::capture::{self, Expected, Taken};
use super::open;
use crate::flow::Protocol;
use crate::outcome::{Outcome, Watch};
use crate::reconcile::{Account, Source, Strictness, Told, Trace};
use crate::record::ServerSide;
use crate::recorded::{self, Row};
use crate::report::words::plural;
use crate::time::Stamp;

/// What every connections.csv begins with.
const ROWS: &[u8] = b"run_id,conn,";

/// Reads it, whatever it is.
pub(super) fn read(path: &Path, side: Option<ServerSide>, strictness: Strictness) -> Result<Taken> {
    if path.is_dir() {
        return read_folder(path, strictness);
    }
    let name = path.display().to_string();
    let mut file = open(path)?;
    let mut head = Vec::new();
    file.by_ref()
        .take(ROWS.len() as u64)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {name}"))?;
    let is_rows = head == ROWS;
    let input = Cursor::new(head).chain(file);
    if is_rows {
        let rows = recorded::rows(input).map_err(|error| anyhow!("{name}: {error}"))?;
        return Ok(of_rows(rows, None));
    }
    let expected = Expected {
        side: side.unwrap_or(ServerSide::FromSyns),
        servers: BTreeSet::new(),
        watch: Watch::Capture,
        protocol: Protocol::Http,
        strictness,
    };
    let read = capture::read(input, &name, &expected);
    read.context("a run is its folder, its connections.csv or a capture")
}

/// What is read of run.json.
#[derive(Deserialize)]
struct RunJson {
    summary: SummaryJson,
}

#[derive(Deserialize)]
struct SummaryJson {
    connections: u64,
}

fn read_folder(folder: &Path, strictness: Strictness) -> Result<Taken> {
    let rows_path = folder.join("connections.csv");
    let json = folder.join("run.json");
    let capture = folder.join("run.pcapng");
    if let Some(one) = first_of_series(folder) {
        bail!(
            "{} holds a series of runs; give one of them, as {}",
            folder.display(),
            one.display()
        );
    }
    let file = open(&rows_path)?;
    let rows = recorded::rows(file).map_err(|error| anyhow!("{}: {error}", rows_path.display()))?;
    // A folder that somebody put together by hand may lack it.
    let count = match fs::read(&json) {
        Ok(bytes) => {
            let read: RunJson = serde_json::from_slice(&bytes).map_err(|_| {
                anyhow!(
                    "{} is not whole: the run was ended before it could write it; give {}",
                    json.display(),
                    rows_path.display()
                )
            })?;
            Some(read.summary.connections)
        }
        Err(_) => None,
    };
    let mut taken = of_rows(rows, count);
    if capture.exists() {
        let expected = Expected {
            side: ServerSide::FromSyns,
            servers: servers(&taken.told),
            watch: Watch::Capture,
            protocol: Protocol::Http,
            strictness,
        };
        let name = capture.display().to_string();
        let packets = capture::read(open(&capture)?, &name, &expected)?;
        taken.add_packets(packets, &name);
    }
    Ok(taken)
}

/// The first run of a folder that holds several, by `--repeat` or of each policy.
fn first_of_series(folder: &Path) -> Option<PathBuf> {
    let is_run = |folder: &Path| folder.join("run.json").exists();
    if is_run(folder) {
        return None;
    }
    let mut inner: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .flat_map(|path| [path.clone(), path.join("001")])
        .collect();
    inner.sort();
    inner.into_iter().find(|path| is_run(path))
}

fn servers(told: &Told) -> BTreeSet<std::net::SocketAddr> {
    told.accounts.iter().map(|account| account.server).collect()
}

/// A run of which rows are known, `count` of them if it says so itself; or a capture, whose rows
/// `probe read` wrote.
fn of_rows(rows: Vec<Row>, count: Option<u64>) -> Taken {
    let own = rows.iter().any(|row| row.own);
    let complete = is_complete(&rows) && count.is_none_or(|count| count == rows.len() as u64);
    // An HTTP response that was served has a status.
    let opaque = |row: &Row| row.own && row.outcome == Outcome::Served && row.http_status.is_none();
    let unjudged = rows.iter().any(opaque);
    let accounts: Vec<Account> = rows.into_iter().map(account).collect();
    let first = accounts.iter().map(|account| account.opened).min();
    let last = accounts.iter().map(|account| account.last).max();
    Taken {
        told: Told {
            accounts,
            span: first.zip(last),
            source: if own {
                Source::Run { complete }
            } else {
                Source::Capture
            },
            unjudged,
        },
        protocol: None,
        notes: Vec::new(),
        error: None,
    }
}

/// Whether each run's connections are numbered without a gap: there is one attempt for each number.
fn is_complete(rows: &[Row]) -> bool {
    let mut runs: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for row in rows {
        runs.entry(&row.run_id).or_default().insert(row.conn);
    }
    let ends = runs
        .values()
        .map(|conns| (conns.last(), conns.len() as u64));
    ends.into_iter().all(|(last, n)| last == Some(&n))
}

fn account(row: Row) -> Account {
    let known = [row.syn_ack, row.request, row.first_byte, row.end];
    let last = known.into_iter().flatten().max();
    // Of several exchanges the row tells the last one's times.
    let of_one = |at: Option<Stamp>| at.filter(|_| row.requests == Some(1));
    let marks = [
        Some(row.opened),
        row.syn_ack,
        of_one(row.request),
        of_one(row.first_byte),
    ];
    Account {
        run_id: Some(row.run_id.into()),
        conn: row.conn,
        client: row.src,
        server: row.dst,
        opened: row.opened,
        last: last.map_or(row.opened, |last| last.max(row.opened)),
        outcome: row.outcome,
        decided: row.end,
        facts: None,
        caveats: row.caveats,
        trace: match row.sequence {
            Some(sequence) => Trace::Sequence { sequence, marks },
            None => Trace::Nothing,
        },
    }
}

impl Taken {
    /// Adds the packets that the run itself captured, each connection's to its row.
    fn add_packets(&mut self, packets: Taken, name: &str) {
        if let Some((first, last)) = packets.told.span {
            let (begun, ended) = self.told.span.unwrap_or((first, last));
            self.told.span = Some((begun.min(first), ended.max(last)));
        }
        self.protocol = packets.protocol;
        // What they carried stands in the capture.
        self.told.unjudged &= packets.protocol.is_none();
        self.notes.extend(packets.notes.iter().cloned());
        self.error = self.error.take().or_else(|| packets.error.clone());
        let mut by_syn: HashMap<_, Account> = packets
            .told
            .accounts
            .into_iter()
            .map(|account| ((account.client, account.opened), account))
            .collect();
        let mut other = 0;
        for row in &mut self.told.accounts {
            let Some(found) = by_syn.remove(&(row.client, row.opened)) else {
                continue;
            };
            if row.trace.sequence() == found.trace.sequence() {
                row.last = row.last.max(found.last);
                row.trace = found.trace;
            } else {
                other += 1;
            }
        }
        if other > 0 {
            self.notes.push(format!(
                "{name} tells other sequences than the rows for {other} {}: the rows' were compared",
                plural(other, "connection")
            ));
        }
    }
}
