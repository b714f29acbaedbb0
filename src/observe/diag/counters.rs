//! The counters of a network name space (TcpExt in /proc/PID/net/netstat; proc(5)).
#![expect(
    clippy::disallowed_types,
    reason = "the file is held open: it stays that of its name space"
)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::kernel::Counters;

/// The file of the name space of whichever thread opens it.
const NETSTAT: &str = "/proc/thread-self/net/netstat";
/// Both TcpExt lines are about 3 KiB on a kernel of 2025; IpExt follows.
const ROOM: usize = 16 * 1024;
/// In the order of [`Counters`]'s fields.
const NAMES: [&str; 5] = [
    "ListenOverflows",
    "ListenDrops",
    "TCPAbortOnClose",
    "TCPAbortOnData",
    "TCPReqQFullDrop",
];

/// Reads the counters again and again.
pub(super) struct CounterFile {
    file: File,
    room: Vec<u8>,
    /// Where each of [`NAMES`] stands among the words of its line, where it does.
    columns: [Option<usize>; NAMES.len()],
}

impl CounterFile {
    /// Opens the one of this thread's name space.
    pub(super) fn open() -> io::Result<CounterFile> {
        let mut counters = CounterFile {
            file: File::open(NETSTAT)?,
            room: vec![0; ROOM],
            columns: [None; NAMES.len()],
        };
        let text = counters.text()?;
        // The names never change while the kernel runs.
        let columns = NAMES.map(|name| names(text)?.position(|word| word == name));
        counters.columns = columns;
        Ok(counters)
    }

    /// The counters that this kernel does not have.
    pub(super) fn lacks(&self) -> impl Iterator<Item = &'static str> {
        let each = NAMES.into_iter().zip(self.columns);
        each.filter_map(|(name, column)| column.is_none().then_some(name))
    }

    /// What they are now.
    pub(super) fn read(&mut self) -> io::Result<Counters> {
        let columns = self.columns;
        let text = self.text()?;
        let words: Vec<&str> = values(text).map(Iterator::collect).unwrap_or_default();
        let [overflows, drops, on_close, on_data, syn_queue] =
            columns.map(|column| words.get(column?)?.parse().ok());
        Ok(Counters {
            listen_overflows: overflows,
            listen_drops: drops,
            abort_on_close: on_close,
            abort_on_data: on_data,
            syn_queue_drops: syn_queue,
        })
    }

    fn text(&mut self) -> io::Result<&str> {
        let len = self.file.read_at(&mut self.room, 0)?;
        str::from_utf8(&self.room[..len]).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

fn names(text: &str) -> Option<impl Iterator<Item = &str>> {
    tcp_ext(text).next().map(str::split_ascii_whitespace)
}

fn values(text: &str) -> Option<impl Iterator<Item = &str>> {
    tcp_ext(text).nth(1).map(str::split_ascii_whitespace)
}

/// The line of names and the line of values.
fn tcp_ext(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("TcpExt:"))
}
