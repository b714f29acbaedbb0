//! A run's packets on their way into a file: held on disk until the run is over, because only then is
//! it known which of them were the run's own and what became of each connection. How they are
//! written out is left to [`section`].
#![expect(
    clippy::disallowed_types,
    reason = "what is held is held in unnamed files"
)]

pub(super) mod section;

use std::env;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{tempfile, tempfile_in};

use crate::observe::packet::Raw;
use crate::record::{Record, account};
use crate::time::Stamp;

/// Some thousand packets a write.
const BUFFER: usize = 256 << 10;
/// Packets and accounts of connections as they come in.
pub(super) struct Spool {
    packets: BufWriter<File>,
    accounts: BufWriter<File>,
    index: Index,
}

/// What must be known at the end besides what the files hold: 24 bytes for each flow.
#[derive(Default)]
pub(super) struct Index {
    /// By the flow's number.
    flows: Vec<FlowEntry>,
    /// Packets held, those of other people's connections included.
    packets: u64,
    /// Bytes of accounts.
    accounts: u64,
    /// The highest number of any connection.
    connections: u64,
    /// The latest packet of any connection.
    last: Option<Stamp>,
}

#[derive(Clone, Copy)]
enum FlowEntry {
    /// Nobody's so far.
    Open {
        /// The number of its latest packet.
        last: u64,
        /// When that was seen.
        at: Stamp,
    },
    /// One of the run's connections, and complete.
    Own {
        /// The number of its last packet.
        last: u64,
        /// Where its account begins.
        account: u64,
    },
}

/// What stands in front of a packet's bytes.
struct Head {
    flow: u64,
    at: Stamp,
    len: u32,
    captured: u32,
}

impl Spool {
    /// An empty one. What it holds lies in `folder`, unnamed, and goes when it does; where that
    /// cannot be, it lies where temporary files do.
    pub(super) fn open(folder: Option<&Path>) -> io::Result<Spool> {
        let open = || match folder {
            Some(folder) => tempfile_in(folder).or_else(|_| tempfile()),
            None => tempfile(),
        };
        let named = |error: io::Error| {
            let folder = env::temp_dir();
            let what = format!("a temporary file in {}: {error}", folder.display());
            io::Error::new(error.kind(), what)
        };
        Ok(Spool {
            packets: BufWriter::with_capacity(BUFFER, open().map_err(named)?),
            accounts: BufWriter::with_capacity(BUFFER, open().map_err(named)?),
            index: Index::default(),
        })
    }

    /// Takes the next packet, which belongs to `flow`.
    pub(super) fn packet(&mut self, flow: u64, packet: &Raw) -> io::Result<()> {
        let head = Head {
            flow,
            at: packet.at,
            len: packet.len,
            captured: u32::try_from(packet.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        };
        self.packets.write_all(&head.to_bytes())?;
        self.packets.write_all(&packet.bytes)?;
        let (last, at) = (self.index.packets, packet.at);
        self.index.packets += 1;
        let flow = usize::try_from(flow).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entry = FlowEntry::Open { last, at };
        if flow >= self.index.flows.len() {
            self.index.flows.resize(flow + 1, entry);
        }
        self.index.flows[flow] = entry;
        Ok(())
    }

    /// Takes a connection that is complete: its flow, if packets were seen of it, is the run's own.
    pub(super) fn connection(&mut self, record: &Record) -> io::Result<()> {
        let index = &mut self.index;
        index.connections = index.connections.max(record.conn);
        let Some(steps) = record.steps.as_deref() else {
            return Ok(());
        };
        let flow = steps.flow.and_then(|flow| usize::try_from(flow).ok());
        let entry = flow.and_then(|flow| index.flows.get_mut(flow));
        let (Some(entry), Some(attempt)) = (entry, &steps.attempt) else {
            return Ok(());
        };
        let FlowEntry::Open { last, at } = *entry else {
            return Ok(());
        };
        *entry = FlowEntry::Own {
            last,
            account: index.accounts,
        };
        index.last = index.last.max(Some(at));
        let text = format!(
            "{}\n{}",
            verdict(record),
            account::of_socket(attempt, &steps.sides, at)
        );
        let len = u32::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.accounts.write_all(&len.to_ne_bytes())?;
        self.accounts.write_all(text.as_bytes())?;
        index.accounts += u64::from(len) + size_of::<u32>() as u64;
        Ok(())
    }
}

/// What happened to a connection, for people to read.
fn verdict(record: &Record) -> String {
    let mut text = format!("connection {}: {}", record.conn, record.outcome.word());
    if let Some(cause) = record.cause {
        text.push_str("; cause ");
        text.push_str(cause.word());
    }
    for (n, candidate) in record.candidates.iter().enumerate() {
        text.push_str(if n == 0 { ": " } else { " or " });
        text.push_str(candidate.word());
    }
    text
}

impl Head {
    const LEN: usize = 24;

    fn to_bytes(&self) -> [u8; Head::LEN] {
        let mut bytes = [0; Head::LEN];
        bytes[..8].copy_from_slice(&self.flow.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.at.0.to_ne_bytes());
        bytes[16..20].copy_from_slice(&self.len.to_ne_bytes());
        bytes[20..].copy_from_slice(&self.captured.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; Head::LEN]) -> Head {
        let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
        let [i, j, k, l, m, n, o, p, rest @ ..] = rest;
        let [q, r, s, t, u, v, w, x] = rest;
        Head {
            flow: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            at: Stamp(i64::from_ne_bytes([i, j, k, l, m, n, o, p])),
            len: u32::from_ne_bytes([q, r, s, t]),
            captured: u32::from_ne_bytes([u, v, w, x]),
        }
    }
}
