//! What was held of a run becomes a section of pcapng: the packets of its own connections, and the
//! remarks on them, in one pass.
#![expect(
    clippy::disallowed_types,
    reason = "what is held is held in unnamed files"
)]

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use super::{BUFFER, FlowEntry, Head, Index, Spool};
use crate::event::{Event, Vantage};
use crate::observe::packet::{SNAP, WireStats};
use crate::record::account::RunAccount;
use crate::report::pcapng::{Captured, PcapngReport, Section, Statistics};
use crate::time::Stamp;

/// An account is rarely longer.
const USUAL_ACCOUNT: usize = 1 << 10;

/// What is said of a run besides its connections.
pub(in crate::commands) struct About<'a> {
    /// The command line.
    pub(in crate::commands) command: &'a str,
    /// The kernel.
    pub(in crate::commands) kernel: &'a str,
    /// The name of the interface.
    pub(in crate::commands) interface: &'a str,
    /// The run, but for the number of its connections.
    pub(in crate::commands) run: RunAccount,
    /// What was done to the server and seen of it.
    pub(in crate::commands) events: &'a [Event],
    /// From when to when packets were listened to.
    pub(in crate::commands) span: (Stamp, Stamp),
    /// What the ring saw and missed.
    pub(in crate::commands) stats: WireStats,
}

/// Packets of a run that is over.
pub(in crate::commands) struct Held {
    packets: File,
    accounts: File,
    index: Index,
}

impl Spool {
    /// Nothing more will come.
    pub(in crate::commands) fn finish(self) -> io::Result<Held> {
        let whole = |file: io::BufWriter<File>| file.into_inner().map_err(io::Error::from);
        Ok(Held {
            packets: whole(self.packets)?,
            accounts: whole(self.accounts)?,
            index: self.index,
        })
    }
}

impl Held {
    /// Writes the section. It may be written more than once.
    pub(in crate::commands) fn write(
        &mut self,
        out: &mut dyn Write,
        about: &About<'_>,
    ) -> io::Result<()> {
        // What the kernel showed besides is in events.csv: too much to read beside packets.
        let is_control = |event: &&Event| event.vantage == Vantage::Control;
        let controls: Vec<&Event> = about.events.iter().filter(is_control).collect();
        // What comes behind the last packet has no packet to stand on.
        let on_packets = controls.partition_point(|event| Some(event.at) <= self.index.last);
        let (on_packets, behind) = controls.split_at(on_packets);
        let run = RunAccount {
            connections: self.index.connections,
            ..about.run.clone()
        };
        let mut comments = vec![about.command.to_owned(), run.to_string()];
        let behind = behind.iter().map(|event| remark(event));
        comments.extend(behind.map(|remark| format!("after the last packet: {remark}")));
        let section = Section {
            os: about.kernel,
            comments: &comments,
            interface: about.interface,
            snaplen: SNAP,
        };
        let mut report = PcapngReport::new(out, &section)?;
        self.packets(&mut report, on_packets)?;
        report.finish(&Statistics {
            span: about.span,
            received: about.stats.packets,
            dropped: about.stats.kernel_drops,
        })
    }

    fn packets<W: Write>(
        &mut self,
        report: &mut PcapngReport<W>,
        controls: &[&Event],
    ) -> io::Result<()> {
        self.packets.seek(SeekFrom::Start(0))?;
        let mut packets = BufReader::with_capacity(BUFFER, &self.packets);
        let mut controls = controls.iter().peekable();
        let mut bytes = Vec::new();
        let mut account = Vec::new();
        for number in 0..self.index.packets {
            let mut head = [0; Head::LEN];
            packets.read_exact(&mut head)?;
            let head = Head::from_bytes(head);
            let flow = usize::try_from(head.flow).map_err(|_| io::ErrorKind::InvalidData)?;
            let entry = self.index.flows.get(flow);
            let Some(&FlowEntry::Own { last, account: at }) = entry else {
                packets.seek_relative(head.captured.into())?;
                continue;
            };
            bytes.resize(head.captured as usize, 0);
            packets.read_exact(&mut bytes)?;
            let mut remarks = Vec::new();
            while let Some(event) = controls.next_if(|event| event.at <= head.at) {
                remarks.push(remark(event));
            }
            account.clear();
            if last == number {
                read_account(&self.accounts, at, &mut account)?;
            }
            let packet = Captured {
                at: head.at,
                bytes: &bytes,
                len: head.len,
            };
            let account = str::from_utf8(&account).unwrap_or_default();
            let remarks = remarks.iter().map(String::as_str);
            report.packet(&packet, remarks.chain(account.lines()))?;
        }
        Ok(())
    }
}

/// Reads the account that begins at `at`.
fn read_account(file: &File, at: u64, account: &mut Vec<u8>) -> io::Result<()> {
    const LEN: usize = size_of::<u32>();
    let mut usual = [0; USUAL_ACCOUNT];
    let mut read = 0;
    // Less may come than asked for, and at the end of the file there is less.
    while read < LEN {
        match file.read_at(&mut usual[read..], at + read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => read += n,
        }
    }
    let (len, here) = usual[..read].split_at(LEN);
    let len = u32::from_ne_bytes(len.try_into().unwrap_or_default()) as usize;
    let here = &here[..here.len().min(len)];
    account.extend_from_slice(here);
    account.resize(len, 0);
    file.read_exact_at(&mut account[here.len()..], at + read as u64)
}

/// What was done to the server or seen of it, for people to read.
fn remark(event: &Event) -> String {
    let mut text = event.event.to_owned();
    if let Some(pid) = event.pid {
        text.push_str(&format!(" of process {pid}"));
    }
    if let Some(detail) = &event.detail {
        text.push_str(": ");
        text.push_str(detail);
    }
    text
}
