//! A run's packets as a section of pcapng (draft-ietf-opsawg-pcapng): blocks in this machine's byte
//! order, times in nanoseconds. Which packets those are, and what is said of them, is left to the
//! caller; [`observe::capture`](crate::observe::capture) reads it again.

use std::io::{self, Write};

use crate::time::Stamp;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const SHB_OS: u16 = 3;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const ISB_STARTTIME: u16 = 2;
const ISB_ENDTIME: u16 = 3;
const ISB_IFRECV: u16 = 4;
/// What dumpcap puts the kernel's drops into, and Wireshark and capinfos show.
const ISB_IFDROP: u16 = 5;

const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// LINKTYPE_RAW: the packet begins with its IPv4 or IPv6 header, as the ring has it.
const RAW: u16 = 101;
/// Stamps count 10 to the power of minus this many seconds.
const NANOSECONDS: u8 = 9;
/// An option's length has 16 bits; a multiple of four below leaves no padding to think of.
const LONGEST_OPTION: usize = 65_532;

/// What a section says before its packets.
#[derive(Clone, Debug)]
pub(crate) struct Section<'a> {
    /// The kernel that it was recorded on.
    pub(crate) os: &'a str,
    /// Remarks on the whole of it.
    pub(crate) comments: &'a [String],
    /// The interface's name.
    pub(crate) interface: &'a str,
    /// The most that was captured of a packet.
    pub(crate) snaplen: u32,
}

/// A packet, and what is to be remarked on it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Captured<'a> {
    /// When, by the kernel's stamp.
    pub(crate) at: Stamp,
    /// The captured bytes from the IP header on.
    pub(crate) bytes: &'a [u8],
    /// How many there were on the wire.
    pub(crate) len: u32,
}

/// What the interface says in the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Statistics {
    /// From when to when it was listened to.
    pub(crate) span: (Stamp, Stamp),
    /// Packets that passed the filter.
    pub(crate) received: u64,
    /// Those of them that found no room.
    pub(crate) dropped: u64,
}

/// What writes sections by this program is called.
pub(crate) fn application() -> String {
    format!("probe {}", env!("CARGO_PKG_VERSION"))
}

/// Writes a section block by block.
pub(crate) struct PcapngReport<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> PcapngReport<W> {
    /// Begins with the section's header and its interface.
    pub(crate) fn new(out: W, section: &Section<'_>) -> io::Result<PcapngReport<W>> {
        let block = Vec::new();
        let mut report = PcapngReport { out, block };
        report.begin();
        report.put(&BYTE_ORDER.to_ne_bytes());
        // Version 1.0, and a length that is not told: readers look for the next section themselves.
        report.put(&1_u16.to_ne_bytes());
        report.put(&0_u16.to_ne_bytes());
        report.put(&u64::MAX.to_ne_bytes());
        report.option(SHB_OS, section.os.as_bytes());
        report.option(SHB_USERAPPL, application().as_bytes());
        for comment in section.comments {
            report.option(COMMENT, comment.as_bytes());
        }
        report.end_options();
        report.end(SECTION)?;

        report.begin();
        report.put(&RAW.to_ne_bytes());
        report.put(&0_u16.to_ne_bytes());
        report.put(&section.snaplen.to_ne_bytes());
        report.option(IF_NAME, section.interface.as_bytes());
        report.option(IF_TSRESOL, &[NANOSECONDS]);
        report.end_options();
        report.end(INTERFACE)?;
        Ok(report)
    }

    /// Adds a packet.
    pub(crate) fn packet<'c>(
        &mut self,
        packet: &Captured<'_>,
        comments: impl IntoIterator<Item = &'c str>,
    ) -> io::Result<()> {
        let captured =
            u32::try_from(packet.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.begin();
        self.put(&0_u32.to_ne_bytes());
        self.stamp(packet.at);
        self.put(&captured.to_ne_bytes());
        self.put(&packet.len.max(captured).to_ne_bytes());
        self.put(packet.bytes);
        self.pad();
        let before = self.block.len();
        for comment in comments {
            self.option(COMMENT, comment.as_bytes());
        }
        if self.block.len() > before {
            self.end_options();
        }
        self.end(ENHANCED_PACKET)
    }

    /// Ends with the interface's statistics, and hands everything on.
    pub(crate) fn finish(mut self, statistics: &Statistics) -> io::Result<()> {
        let (start, end) = statistics.span;
        self.begin();
        self.put(&0_u32.to_ne_bytes());
        self.stamp(end);
        for (code, at) in [(ISB_STARTTIME, start), (ISB_ENDTIME, end)] {
            let halves = halves(at).map(u32::to_ne_bytes);
            self.option(code, halves.as_flattened());
        }
        self.option(ISB_IFRECV, &statistics.received.to_ne_bytes());
        self.option(ISB_IFDROP, &statistics.dropped.to_ne_bytes());
        self.end_options();
        self.end(STATISTICS)?;
        self.out.flush()
    }

    /// Leaves room for a block's type and length.
    fn begin(&mut self) {
        self.block.clear();
        self.block.extend_from_slice(&[0; 8]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn stamp(&mut self, at: Stamp) {
        for half in halves(at) {
            self.put(&half.to_ne_bytes());
        }
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = whole_characters(value, LONGEST_OPTION);
        let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
        self.put(&code.to_ne_bytes());
        self.put(&len.to_ne_bytes());
        self.put(value);
        self.pad();
    }

    fn end_options(&mut self) {
        self.put(&END_OF_OPTIONS.to_ne_bytes());
        self.put(&0_u16.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Fills in what begin() left room for, and writes the block.
    fn end(&mut self, kind: u32) -> io::Result<()> {
        let len = u32::try_from(self.block.len() + 4).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.block[..4].copy_from_slice(&kind.to_ne_bytes());
        self.block[4..8].copy_from_slice(&len.to_ne_bytes());
        self.put(&len.to_ne_bytes());
        self.out.write_all(&self.block)
    }
}

/// A stamp as pcapng has it: the upper and the lower half of a count since the epoch.
fn halves(at: Stamp) -> [u32; 2] {
    let ns = u64::try_from(at.0).unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    [(ns >> 32) as u32, ns as u32]
}

/// As much of a text as fits into `most` bytes, no character cut.
fn whole_characters(text: &[u8], most: usize) -> &[u8] {
    if text.len() <= most {
        return text;
    }
    // UTF-8's continuation bytes.
    let begins = |&at: &usize| text[at] & 0xc0 != 0x80;
    let end = (0..=most).rev().find(begins).unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Protocol;
    use crate::kernel::{Act, DiagSide, Reset, ResetBy, Sides, TraceSide, Unread};
    use crate::observe::capture::{CaptureReader, Content};
    use crate::outcome::{
        Attempt, Call, Cohort, Errno, Failure, Maker, Response, SocketEnd, TcpInfo,
    };
    use crate::record::account::{RunAccount, of_socket};
    use crate::report::documented;

    const AT: Stamp = Stamp(1_763_861_787_123_456_789);

    fn section(comments: &[String]) -> Vec<u8> {
        let mut out = Vec::new();
        let section = Section {
            os: "6.18.0 x86_64",
            comments,
            interface: "lo",
            snaplen: 4_096,
        };
        let mut report = PcapngReport::new(&mut out, &section).unwrap();
        let packet = Captured {
            at: AT,
            bytes: &[0x45, 0, 0],
            len: 40,
        };
        report.packet(&packet, []).unwrap();
        report.packet(&packet, ["one", "another"]).unwrap();
        let statistics = Statistics {
            span: (AT, Stamp(AT.0 + 5)),
            received: 7,
            dropped: 3,
        };
        report.finish(&statistics).unwrap();
        out
    }

    #[test]
    fn what_is_written_is_read_again() {
        let bytes = section(&["a remark".to_owned()]);
        // A second section is a second run's.
        let twice = [bytes.as_slice(), bytes.as_slice()].concat();
        let mut reader = CaptureReader::open(twice.as_slice()).unwrap();
        for interface in [0, 0, 1, 1] {
            let frame = reader.next_frame().unwrap().unwrap();
            let content = Content::Ip {
                bytes: &[0x45, 0, 0],
                len: 40,
            };
            assert_eq!((frame.at, frame.interface), (Some(AT), interface));
            assert_eq!(frame.content, content);
        }
        assert_eq!(reader.next_frame().unwrap(), None);
        assert_eq!(reader.cut_off(), None);
        assert_eq!(reader.drops(), Some(6));
    }

    #[test]
    fn a_remark_that_is_too_long_is_cut_between_characters() {
        let long = "\u{e9}".repeat(40_000);
        let cut = whole_characters(long.as_bytes(), LONGEST_OPTION - 1);
        assert_eq!(cut.len(), LONGEST_OPTION - 2);
        assert!(std::str::from_utf8(cut).is_ok());
        let bytes = section(&[long]);
        let mut reader = CaptureReader::open(bytes.as_slice()).unwrap();
        assert!(reader.next_frame().unwrap().is_some());
    }

    /// The keys of an account, in order.
    fn keys(account: &str) -> Vec<&str> {
        let words = account.split_whitespace();
        words
            .filter_map(|word| Some(word.split_once('=')?.0))
            .collect()
    }

    /// All that the server's kernel can show of a connection.
    fn sides() -> Sides {
        let act = Some(Act {
            at: AT,
            pid: Some(1),
        });
        let trace = TraceSide {
            whole: true,
            established: Some(AT),
            accepted: act,
            read: act,
            closed: act,
            reset: Some(Reset {
                at: AT,
                by: ResetBy::Kernel,
                pid: Some(1),
                reason: Some("NO_SOCKET".into()),
            }),
        };
        let diag = DiagSide {
            listening: Some(true),
            listening_at_end: Some(true),
            listener_closed: Some(true),
            overflowed: Some(true),
            full: Some(true),
            half_open: Some(AT),
            queued: Some(AT),
            owned: act,
            unread: Some(Unread {
                asked: AT,
                answered: AT,
                bytes: 1,
            }),
            aborts: Some(true),
            outlived: Some(true),
        };
        Sides {
            trace: Some(trace),
            diag: Some(diag),
        }
    }

    #[test]
    fn every_key_of_an_account_has_its_entry_in_the_docs_in_order() {
        let server = "127.0.0.1:80".parse().unwrap();
        let run = RunAccount {
            run_id: "a".to_owned(),
            server,
            protocol: Protocol::Opaque { expect: Some(1) },
            asked_nothing: true,
            connections: 1,
            signal: Some(AT),
            target_dead: Some(AT),
        };
        let at = Some(AT);
        let socket = Attempt {
            conn: 1,
            maker: Maker::Socket,
            cohort: Cohort::Steady,
            local: Some(server),
            peer: server,
            due: at,
            opened: AT,
            connected: at,
            request: at,
            request_len: 1,
            written: 1,
            response: Response {
                bytes: 1,
                status: Some(200),
                responses: 1,
                first_byte: at,
                head: at,
                complete: at,
                malformed: at,
            },
            end: SocketEnd::Failed(Failure {
                call: Call::Read,
                errno: Errno::Reset,
            }),
            ended: AT,
            info: Some(TcpInfo {
                acked: Some(1),
                total_retransmits: 0,
            }),
        };
        let (run, socket) = (run.to_string(), of_socket(&socket, &sides(), AT));
        let written = [keys(&run), keys(&socket)].concat();
        assert_eq!(
            documented("## run.pcapng", "## The table on the terminal"),
            written
        );
    }
}
