//! A TPACKET_V2 ring: the kernel hands over frame by frame, at once, as a peer that has to answer
//! wants it. A packet that is longer than a frame comes whole through the socket's queue besides.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, socket_error,
};
use rustix::net::{RecvFlags, recv};

use super::{Mapped, RingStats, Tap, set};
use crate::time::Stamp;

/// One frame's room, headers of the ring included: a packet of an Ethernet's MTU fits.
const FRAME_BYTES: u32 = 2048;
/// Bytes in a block: frames lie side by side across blocks, as this is a multiple of theirs.
const BLOCK_BYTES: u32 = 1 << 20;

/// A packet socket with its ring. Dropping it closes both.
pub(crate) struct Ring {
    mapped: Mapped,
    frames: u32,
    next: u32,
    /// Where a packet that was longer than its frame is read to.
    whole: Vec<u8>,
    /// What the socket said when something else was asked of it.
    error: Option<Errno>,
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
    /// What the kernel knows of its transport checksum.
    pub(crate) checksum: Checksum,
}

/// What the kernel knows of a packet's transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// Not filled in: that is left to the hardware that sends it, on loopback and veth to nobody
    /// (TP_STATUS_CSUMNOTREADY).
    NotFilledIn,
    /// Found right on reception (TP_STATUS_CSUM_VALID).
    Right,
    /// Not looked at yet.
    Unknown,
}

impl Ring {
    /// Opens a ring of so many MiB; from then on it receives. Packets longer than a frame may take up
    /// `queue_bytes` until they are read, or as much of that as this user may have. Needs CAP_NET_RAW.
    pub(crate) fn open(tap: &Tap<'_>, mebibytes: u32, queue_bytes: usize) -> io::Result<Ring> {
        let socket = Mapped::socket(tap, libc::tpacket_versions::TPACKET_V2)?;
        // Every packet that does not fit its frame is queued besides (tpacket_rcv).
        let on: libc::c_int = 1;
        set(&socket, libc::SOL_PACKET, libc::PACKET_COPY_THRESH, &on)?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
        set_socket_recv_buffer_size_force(&socket, queue_bytes)
            .or_else(|_| set_socket_recv_buffer_size(&socket, queue_bytes))?;
        let frames = BLOCK_BYTES / FRAME_BYTES * mebibytes;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK_BYTES,
            tp_block_nr: mebibytes,
            tp_frame_size: FRAME_BYTES,
            tp_frame_nr: frames,
        };
        let bytes = BLOCK_BYTES as usize * mebibytes as usize;
        Ok(Ring {
            mapped: Mapped::open(socket, &request, bytes, tap)?,
            frames,
            next: 0,
            whole: Vec::new(),
            error: None,
        })
    }

    /// Hands the next frame to `each`; false where there is none yet.
    pub(crate) fn read_frame(&mut self, each: impl FnOnce(Frame<'_>)) -> bool {
        let slot = self.slot(self.next);
        // SAFETY: every slot begins with a tpacket2_hdr; the status is shared with the kernel and is
        // therefore only touched as an atomic.
        let status = unsafe {
            let header = slot.cast::<libc::tpacket2_hdr>().as_ptr();
            &*(&raw const (*header).tp_status).cast::<AtomicU32>()
        };
        // Acquire: what the kernel wrote before it set the status is visible behind this.
        let flags = status.load(Ordering::Acquire);
        if flags & libc::TP_STATUS_USER == 0 {
            return false;
        }
        // SAFETY: the kernel handed this slot over and leaves it alone until its status is given
        // back below; the borrow of the mapping ends before that.
        let header = unsafe { *slot.cast::<libc::tpacket2_hdr>().as_ptr() };
        let len = header.tp_len as usize;
        let whole = (flags & libc::TP_STATUS_COPY != 0 && self.read_whole(len)).then_some(len);
        each(Frame {
            at: Stamp(i64::from(header.tp_sec) * 1_000_000_000 + i64::from(header.tp_nsec)),
            len,
            bytes: match whole {
                Some(len) => &self.whole[..len],
                None => captured(&slot, &header),
            },
            checksum: Checksum::from_status(flags),
        });
        // Release: our reads are done before the kernel may write again.
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.frames;
        true
    }

    fn slot(&self, index: u32) -> NonNull<u8> {
        // SAFETY: `index` is below the number of frames, so this stays inside the mapping.
        unsafe { self.mapped.map.add(index as usize * FRAME_BYTES as usize) }
    }

    /// Reads the packet of `len` bytes at the head of the queue, which has one for each frame that is
    /// marked so, in their order. False where that could not be read whole.
    fn read_whole(&mut self, len: usize) -> bool {
        if self.whole.len() < len {
            self.whole.resize(len, 0);
        }
        loop {
            match recv(
                &self.mapped.socket,
                &mut self.whole[..len],
                RecvFlags::DONTWAIT,
            ) {
                Ok((read, _)) => return read == len,
                Err(Errno::AGAIN) => return false,
                // An error of the socket's (its interface went down) is told once, before the queue.
                Err(error) => self.error = Some(error),
            }
        }
    }

    /// What became of the socket since this was last asked: its interface went down, say.
    pub(crate) fn take_error(&mut self) -> io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error.into());
        }
        Ok(socket_error(&self.mapped.socket)??)
    }

    /// What the kernel counted so far.
    pub(crate) fn stats(&mut self) -> io::Result<RingStats> {
        self.mapped.stats()
    }
}

impl Checksum {
    fn from_status(flags: u32) -> Checksum {
        if flags & libc::TP_STATUS_CSUMNOTREADY != 0 {
            Checksum::NotFilledIn
        } else if flags & libc::TP_STATUS_CSUM_VALID != 0 {
            Checksum::Right
        } else {
            Checksum::Unknown
        }
    }
}

/// The bytes in a slot that is ours; none where the kernel's own numbers would lead out of it.
fn captured<'a>(slot: &'a NonNull<u8>, header: &libc::tpacket2_hdr) -> &'a [u8] {
    let start = usize::from(header.tp_net);
    let len = header.tp_snaplen as usize;
    if start + len > FRAME_BYTES as usize {
        return &[];
    }
    // SAFETY: the range was checked to lie inside the slot, which the kernel leaves alone until its
    // status is given back; the caller does that after its borrow of the slot.
    unsafe { std::slice::from_raw_parts(slot.as_ptr().add(start), len) }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mapped.as_fd()
    }
}

// A slot's status is read and written as an AtomicU32 in place.
const _: () = assert!(offset_of!(libc::tpacket2_hdr, tp_status) % align_of::<AtomicU32>() == 0);
