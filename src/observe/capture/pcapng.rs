//! pcapng (draft-ietf-opsawg-pcapng): blocks of several kinds in sections, each section with its
//! own byte order and interfaces. Blocks that hold no packets and count none are skipped.

mod interface;

use std::io::Read;

use self::interface::{Interface, options};
use super::endian::Endian;
use super::link::Link;
use super::window::Window;
use super::{CaptureError, MAX_RECORD, OfRun, Packet, Step};
use crate::record::account::{RunAccount, SOCKET_MARK};

/// Type and length in front, the length again behind.
const FRAME: usize = 12;
/// Type and length.
const HEAD: usize = 8;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
/// Obsolete, and still in old files.
const PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

/// What a section's first field reads as in its own byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

const COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
/// What this program calls itself in what it writes; its version follows.
const OURS: &[u8] = b"probe ";

/// A section declares its interfaces; each is remembered, so there is an end to it.
const MAX_INTERFACES: usize = 65_536;

/// What the blocks so far say of those that follow.
pub(super) struct Pcapng {
    endian: Endian,
    /// The section's.
    interfaces: Vec<Interface>,
    /// How many the sections before had.
    earlier: u32,
    earlier_drops: Option<u64>,
    /// How many sections there were before.
    sections: u32,
    /// What the section says of the run that wrote it.
    run: Option<String>,
}

/// A whole block, at the beginning of the window.
struct Block<'a> {
    kind: u32,
    offset: u64,
    /// Between head and trailing length.
    body: &'a [u8],
}

impl Block<'_> {
    fn damaged(&self, what: impl Into<String>) -> CaptureError {
        CaptureError::Damaged {
            offset: self.offset,
            what: what.into(),
        }
    }

    fn short(&self) -> CaptureError {
        let (kind, len) = (self.kind, self.body.len() + FRAME);
        self.damaged(format!("a block of type {kind} in only {len} bytes"))
    }
}

impl Pcapng {
    /// Recognizes the first section's header, and leaves it to [`next`](Self::next); `None` if it
    /// is no pcapng file.
    pub(super) fn open<R: Read>(window: &mut Window<R>) -> Result<Option<Pcapng>, CaptureError> {
        window.fill(FRAME)?;
        if Endian::Big.u32(window.bytes(), 0) != Some(SECTION) {
            return Ok(None);
        }
        let Some(endian) = section_order(window.bytes()) else {
            let found = match window.bytes().len() {
                len @ ..FRAME => format!("{len} bytes of a pcapng file's header"),
                _ => "a pcapng file's first bytes without a byte order".to_owned(),
            };
            return Err(CaptureError::NotACapture(found));
        };
        Ok(Some(Pcapng {
            endian,
            interfaces: Vec::new(),
            earlier: 0,
            earlier_drops: None,
            sections: 0,
            run: None,
        }))
    }

    /// Finds the next packet.
    pub(super) fn next<R: Read>(&mut self, window: &mut Window<R>) -> Result<Step, CaptureError> {
        loop {
            let offset = window.offset();
            if !window.fill(FRAME)? {
                return Ok(Step::end_of(window));
            }
            let (kind, len) = self.head(window)?;
            if !is_read(kind) {
                if !window.skip(len)? {
                    return Ok(Step::CutOff(offset));
                }
                continue;
            }
            if !window.fill(len)? {
                return Ok(Step::end_of(window));
            }
            if let Some(packet) = self.block(&self.whole(window, kind, len)?)? {
                return Ok(Step::Packet(packet));
            }
            window.consume(len);
        }
    }

    /// The kind and the length of the block at the beginning of the window. A section's header
    /// sets the byte order, its own length's included.
    fn head<R: Read>(&mut self, window: &Window<R>) -> Result<(u32, usize), CaptureError> {
        let bytes = window.bytes();
        let damaged = |what: String| CaptureError::Damaged {
            offset: window.offset(),
            what,
        };
        let kind = self.endian.u32(bytes, 0).unwrap_or_default();
        if kind == SECTION {
            self.endian = section_order(bytes)
                .ok_or_else(|| damaged("a section without a byte order".to_owned()))?;
        }
        let len = self.endian.u32(bytes, 4).unwrap_or_default() as usize;
        if len < FRAME || !len.is_multiple_of(4) || len > MAX_RECORD {
            return Err(damaged(format!("a block of {len} bytes")));
        }
        Ok((kind, len))
    }

    fn whole<'a, R: Read>(
        &self,
        window: &'a Window<R>,
        kind: u32,
        len: usize,
    ) -> Result<Block<'a>, CaptureError> {
        let bytes = window.bytes();
        let tail = len - 4;
        let block = Block {
            kind,
            offset: window.offset(),
            body: bytes.get(HEAD..tail).unwrap_or_default(),
        };
        match self.endian.u32(bytes, tail) {
            Some(again) if again as usize == len => Ok(block),
            again => {
                let again = again.unwrap_or_default();
                Err(block.damaged(format!("a block of {len} bytes that ends with {again}")))
            }
        }
    }

    fn block(&mut self, block: &Block<'_>) -> Result<Option<Packet>, CaptureError> {
        match block.kind {
            SECTION => self.section(block).map(|()| None),
            INTERFACE => self.interface(block).map(|()| None),
            STATISTICS => self.statistics(block).map(|()| None),
            SIMPLE_PACKET => self.simple(block).map(Some),
            _ => self.stamped(block).map(Some),
        }
    }

    fn section(&mut self, block: &Block<'_>) -> Result<(), CaptureError> {
        // Byte order, major and minor version, the section's length, which nobody has to know.
        const LEN: usize = 16;
        let major = self.endian.u16(block.body, 4);
        let major = major
            .filter(|_| block.body.len() >= LEN)
            .ok_or_else(|| block.short())?;
        if major != 1 {
            return Err(block.damaged(format!("version {major} of pcapng (1 is supported)")));
        }
        self.earlier_drops = self.drops();
        let count = u32::try_from(self.interfaces.len()).unwrap_or(u32::MAX);
        self.earlier = self.earlier.saturating_add(count);
        self.interfaces.clear();
        self.sections = self.sections.saturating_add(1);
        self.run = own_account(self.endian, block.body.get(LEN..).unwrap_or_default());
        Ok(())
    }

    /// What a run's own section says of it and, in the options of a packet, of a socket; nothing in
    /// anybody else's.
    pub(super) fn of_run<'a>(&'a self, packet_options: &'a [u8]) -> Option<OfRun<'a>> {
        let run = self.run.as_deref()?;
        let mark = SOCKET_MARK.as_bytes();
        let socket = options(self.endian, packet_options)
            .find(|&(code, value)| code == COMMENT && value.starts_with(mark));
        Some(OfRun {
            section: self.sections,
            run,
            socket: socket.and_then(|(_, value)| str::from_utf8(value).ok()),
        })
    }

    fn interface(&mut self, block: &Block<'_>) -> Result<(), CaptureError> {
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(block.damaged(format!("more than {MAX_INTERFACES} interfaces")));
        }
        let interface =
            Interface::described(self.endian, block.body).ok_or_else(|| block.short())?;
        self.interfaces.push(interface);
        Ok(())
    }

    fn statistics(&mut self, block: &Block<'_>) -> Result<(), CaptureError> {
        let id = self.endian.u32(block.body, 0);
        let id = id.ok_or_else(|| block.short())? as usize;
        // Of an interface that nobody declared they are worth nothing.
        if let Some(interface) = self.interfaces.get_mut(id) {
            interface.count(self.endian, block.body);
        }
        Ok(())
    }

    /// An Enhanced Packet Block, or the Packet Block that was before it and whose interface had
    /// only two bytes (the other two count drops since the packet before).
    fn stamped(&mut self, block: &Block<'_>) -> Result<Packet, CaptureError> {
        const DATA: usize = 20;
        let field = |at| self.endian.u32(block.body, at).ok_or_else(|| block.short());
        let id = if block.kind == PACKET {
            self.endian.u16(block.body, 0).map(u32::from)
        } else {
            self.endian.u32(block.body, 0)
        };
        let id = id.ok_or_else(|| block.short())?;
        let ticks = u64::from(field(4)?) << 32 | u64::from(field(8)?);
        let (captured, len) = (field(12)? as usize, field(16)? as usize);
        let interface = self.declared(block, id)?;
        if captured > block.body.len().saturating_sub(DATA) {
            let whole = block.body.len() + FRAME;
            let what = format!("a packet of {captured} bytes in a block of {whole}");
            return Err(block.damaged(what));
        }
        let packet = Packet {
            at: Some(interface.stamp(ticks)),
            interface: self.earlier.saturating_add(id),
            link: Link::from_number(interface.link)?,
            data: HEAD + DATA..HEAD + DATA + captured,
            options: HEAD + DATA + captured.next_multiple_of(4)..HEAD + block.body.len(),
            len: len.max(captured),
            record: block.body.len() + FRAME,
        };
        let options = block.body.get(DATA + captured.next_multiple_of(4)..);
        if let Some(options @ [_, ..]) = options.filter(|_| block.kind == ENHANCED_PACKET)
            && let Some(interface) = self.interfaces.get_mut(id as usize)
        {
            interface.count_between(self.endian, options);
        }
        Ok(packet)
    }

    /// A packet of the first interface, without a time, padded to four bytes.
    fn simple(&self, block: &Block<'_>) -> Result<Packet, CaptureError> {
        const DATA: usize = 4;
        let len = self.endian.u32(block.body, 0);
        let len = len.ok_or_else(|| block.short())? as usize;
        let interface = self.declared(block, 0)?;
        let captured = len.min(interface.snaplen).min(block.body.len() - DATA);
        Ok(Packet {
            at: None,
            interface: self.earlier,
            link: Link::from_number(interface.link)?,
            data: HEAD + DATA..HEAD + DATA + captured,
            options: 0..0,
            len,
            record: block.body.len() + FRAME,
        })
    }

    fn declared(&self, block: &Block<'_>, id: u32) -> Result<&Interface, CaptureError> {
        self.interfaces.get(id as usize).ok_or_else(|| {
            let count = self.interfaces.len();
            block.damaged(format!("a packet of interface {id}, of {count} declared"))
        })
    }

    /// Whether more than one interface was declared so far, whatever the section.
    pub(super) fn has_several_interfaces(&self) -> bool {
        self.earlier > 0 || self.interfaces.len() > 1
    }

    /// Packets that the interfaces say were dropped.
    pub(super) fn drops(&self) -> Option<u64> {
        self.interfaces
            .iter()
            .map(Interface::drops)
            .fold(self.earlier_drops, interface::sum)
    }
}

/// What a section of this program's says of its run.
fn own_account(endian: Endian, bytes: &[u8]) -> Option<String> {
    let mark = RunAccount::MARK.as_bytes();
    let mut ours = false;
    let mut account = None;
    for (code, value) in options(endian, bytes) {
        match code {
            SHB_USERAPPL => ours = value.starts_with(OURS),
            COMMENT if value.starts_with(mark) => account = str::from_utf8(value).ok(),
            _ => {}
        }
    }
    account.filter(|_| ours).map(str::to_owned)
}

/// Whether anything is done with blocks of that kind.
fn is_read(kind: u32) -> bool {
    matches!(
        kind,
        SECTION | INTERFACE | PACKET | SIMPLE_PACKET | STATISTICS | ENHANCED_PACKET
    )
}

/// The byte order in a section header's first field.
fn section_order(bytes: &[u8]) -> Option<Endian> {
    [Endian::Little, Endian::Big]
        .into_iter()
        .find(|endian| endian.u32(bytes, HEAD) == Some(BYTE_ORDER))
}
