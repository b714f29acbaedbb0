//! A TPACKET_V3 ring: the kernel fills blocks of packets, we hand each block back when it is read.
//! A block that is not full is handed over a little later, which suits a vantage and not a peer.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::sockopt::socket_error;

use super::{Mapped, RingStats, Tap};
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

/// A packet socket with its ring. Dropping it closes both.
pub(crate) struct Ring {
    mapped: Mapped,
    layout: Layout,
    next: u32,
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

impl Ring {
    /// Opens the ring; from then on it receives. Needs CAP_NET_RAW.
    pub(crate) fn open(tap: &Tap<'_>, layout: Layout) -> io::Result<Ring> {
        let socket = Mapped::socket(tap, libc::tpacket_versions::TPACKET_V3)?;
        let request = libc::tpacket_req3 {
            tp_block_size: layout.block_bytes,
            tp_block_nr: layout.blocks,
            tp_frame_size: 2048,
            tp_frame_nr: layout.block_bytes / 2048 * layout.blocks,
            tp_retire_blk_tov: layout.retire_ms,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        let bytes = layout.block_bytes as usize * layout.blocks as usize;
        Ok(Ring {
            mapped: Mapped::open(socket, &request, bytes, tap)?,
            layout,
            next: 0,
        })
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
            self.mapped
                .map
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

    /// What became of the socket since this was last asked, its interface went down, say. Until it is
    /// asked no wait for the ring lasts.
    pub(crate) fn take_error(&mut self) -> io::Result<()> {
        Ok(socket_error(&self.mapped.socket)??)
    }

    /// What the kernel counted so far.
    pub(crate) fn stats(&mut self) -> io::Result<RingStats> {
        self.mapped.stats()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapped.as_fd()
    }
}

// The block header's status is read and written as an AtomicU32 in place.
const _: () =
    assert!(offset_of!(libc::tpacket_hdr_v1, block_status) % align_of::<AtomicU32>() == 0);
