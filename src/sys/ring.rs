//! A packet socket with a memory-mapped TPACKET_V3 receive ring (Documentation/networking/
//! packet_mmap.rst): the kernel fills blocks of packets, we hand each block back when it is read.

use std::ffi::c_void;
use std::io;
use std::mem::{offset_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::time::Stamp;

/// How a ring is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Bytes in a block; a multiple of the page size.
    pub(crate) block_bytes: u32,
    /// Blocks in the ring.
    pub(crate) blocks: u32,
    /// A block that is not full is handed over after so many milliseconds.
    pub(crate) retire_ms: u32,
}

/// What a ring is to receive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap<'a> {
    /// The interface's index.
    pub(crate) interface: u32,
    /// A classic BPF program over the packet from its network header on.
    pub(crate) filter: &'a [libc::sock_filter],
    /// Leave out what the interface sends: on loopback everything sent is also received.
    pub(crate) received_only: bool,
}

/// A packet socket with its ring. Dropping it closes both.
pub(crate) struct Ring {
    socket: OwnedFd,
    map: NonNull<u8>,
    layout: Layout,
    next: u32,
    stats: RingStats,
}

/// What the kernel counted, since the ring was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingStats {
    /// Packets that passed the filter, dropped ones included.
    pub(crate) packets: u64,
    /// Packets that found no room in the ring.
    pub(crate) drops: u64,
}

/// A frame in the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// The kernel's stamp.
    pub(crate) at: Stamp,
    /// Bytes on the wire from the network header on.
    pub(crate) len: usize,
    /// Those that were captured.
    pub(crate) bytes: &'a [u8],
}

// SAFETY: the mapping is owned by the ring alone and may be read from any one thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens the ring; from then on it receives. Needs CAP_NET_RAW.
    pub(crate) fn open(tap: &Tap<'_>, layout: Layout) -> io::Result<Ring> {
        let socket = packet_socket()?;
        let on: libc::c_int = 1;
        set(
            &socket,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &libc::tpacket_versions::TPACKET_V3,
        )?;
        // Packets are then stamped once for every capture on the host, where the kernel can: those
        // sent, and those received without a time of departure. A TCP segment that comes by loopback
        // or veth still carries its sender's; each capture stamps it when it gets to it (skb_tstamp
        // in tpacket_get_timestamp).
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on)?;
        if tap.received_only {
            set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
        }
        attach(&socket, tap.filter)?;
        let request = libc::tpacket_req3 {
            tp_block_size: layout.block_bytes,
            tp_block_nr: layout.blocks,
            tp_frame_size: 2048,
            tp_frame_nr: layout.block_bytes / 2048 * layout.blocks,
            tp_retire_blk_tov: layout.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        // SAFETY: maps the ring just asked for, in full; a fresh mapping aliases nothing.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                layout.bytes(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        let map = NonNull::new(map)
            .filter(|m| m.as_ptr() != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        let ring = Ring {
            socket,
            map: map.cast(),
            layout,
            next: 0,
            stats: RingStats::default(),
        };
        ring.bind(tap.interface)?;
        Ok(ring)
    }

    /// Whether this user may open one: CAP_NET_RAW, in the user name space of the network's.
    pub(crate) fn may_open() -> io::Result<()> {
        packet_socket().map(drop)
    }

    fn bind(&self, interface: u32) -> io::Result<()> {
        // SAFETY: an all-zero sockaddr_ll is a valid one.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = u16_of(libc::AF_PACKET);
        address.sll_protocol = u16_of(libc::ETH_P_ALL).to_be();
        address.sll_ifindex = i32::try_from(interface).unwrap_or(i32::MAX);
        // SAFETY: `address` is a sockaddr of the length given.
        check(unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                socklen_of(&address),
            )
        })?;
        Ok(())
    }

    /// Hands the frames of the next full block to `each`; false where no block is full.
    pub(crate) fn read_block(&mut self, mut each: impl FnMut(Frame<'_>)) -> bool {
        let block = self.block(self.next);
        // SAFETY: every block begins with a tpacket_block_desc; the status is shared with the
        // kernel and is therefore only touched as an atomic.
        let (status, header) = unsafe {
            let header = &raw const (*block.cast::<libc::tpacket_block_desc>().as_ptr()).hdr.bh1;
            let status = (&raw const (*header).block_status).cast::<AtomicU32>();
            (&*status, header)
        };
        // Acquire: what the kernel wrote before it set the status is visible behind this.
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the block is ours until its status is given back.
        let (count, first) = unsafe { ((*header).num_pkts, (*header).offset_to_first_pkt) };
        let mut offset = first as usize;
        for _ in 0..count {
            let Some((frame, step)) = self.frame(block, offset) else {
                break;
            };
            each(frame);
            offset += step;
        }
        // Release: our reads are done before the kernel may write again.
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.layout.blocks;
        true
    }

    fn block(&self, index: u32) -> NonNull<u8> {
        // SAFETY: `index` is below the number of blocks, so this stays inside the mapping.
        unsafe {
            self.map
                .add(index as usize * self.layout.block_bytes as usize)
        }
    }

    /// The frame at `offset` of a block that is ours, and how far on the next one stands. None
    /// where the kernel's own numbers would lead out of the block.
    fn frame(&self, block: NonNull<u8>, offset: usize) -> Option<(Frame<'_>, usize)> {
        let end = self.layout.block_bytes as usize;
        let header_end = offset.checked_add(size_of::<libc::tpacket3_hdr>())?;
        if header_end > end {
            return None;
        }
        // SAFETY: the header lies inside the block, aligned by the kernel to TPACKET_ALIGNMENT.
        let header = unsafe { &*block.as_ptr().add(offset).cast::<libc::tpacket3_hdr>() };
        let start = offset.checked_add(usize::from(header.tp_net))?;
        let len = header.tp_snaplen as usize;
        if start.checked_add(len)? > end {
            return None;
        }
        // SAFETY: the range was checked to lie inside the block, which the kernel leaves alone
        // until its status is given back; the borrow of `self` keeps the mapping.
        let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr().add(start), len) };
        let at = i64::from(header.tp_sec) * 1_000_000_000 + i64::from(header.tp_nsec);
        let frame = Frame {
            at: Stamp(at),
            len: header.tp_len as usize,
            bytes,
        };
        Some((frame, header.tp_next_offset as usize))
    }

    /// What the kernel counted so far.
    pub(crate) fn stats(&mut self) -> io::Result<RingStats> {
        // SAFETY: all-zero is a valid value; the kernel fills it up to the length given.
        let mut now: libc::tpacket_stats_v3 = unsafe { zeroed() };
        let mut len = socklen_of(&now);
        // SAFETY: `now` is writable for `len` bytes.
        check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut now).cast::<c_void>(),
                &raw mut len,
            )
        })?;
        // Reading sets the kernel's counters back to 0.
        self.stats.packets += u64::from(now.tp_packets);
        self.stats.drops += u64::from(now.tp_drops);
        Ok(self.stats)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: unmaps what open() mapped; no frame outlives its borrow of the ring.
        unsafe {
            libc::munmap(self.map.as_ptr().cast(), self.layout.bytes());
        }
    }
}

impl Layout {
    fn bytes(self) -> usize {
        self.block_bytes as usize * self.blocks as usize
    }
}

/// A packet socket that receives nothing yet: protocol 0 until bind().
fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor was just made and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(socket: &OwnedFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // The kernel only reads it.
        filter: filter.as_ptr().cast_mut(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is readable for its own size; the kernel copies it.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            socklen_of(value),
        )
    })?;
    Ok(())
}

/// The size of a C structure, as socket calls want it.
fn socklen_of<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or(libc::socklen_t::MAX)
}

/// A constant of the C headers in the width of the field it goes into.
fn u16_of(constant: i32) -> u16 {
    u16::try_from(constant).unwrap_or(u16::MAX)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

// The block header's status is read and written as an AtomicU32 in place.
const _: () =
    assert!(offset_of!(libc::tpacket_hdr_v1, block_status) % align_of::<AtomicU32>() == 0);
