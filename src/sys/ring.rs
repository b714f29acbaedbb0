//! Packet sockets with a memory-mapped receive ring (packet(7), Documentation/networking/
//! packet_mmap.rst): what all of them share. How the kernel fills a ring and how it is read is left
//! to the ring's version: [`v2`] hands over frame by frame, [`v3`] blocks of frames.

pub(crate) mod v2;
pub(crate) mod v3;

use std::ffi::c_void;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

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

/// What the kernel counted, since the ring was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RingStats {
    /// Packets that passed the filter, dropped ones included.
    pub(crate) packets: u64,
    /// Packets that found no room in the ring.
    pub(crate) drops: u64,
}

/// Whether this user may open one: CAP_NET_RAW, in the user name space of the network's.
pub(crate) fn may_open() -> io::Result<()> {
    packet_socket().map(drop)
}

/// A packet socket and the memory that it shares with the kernel. Dropping it closes both.
struct Mapped {
    socket: OwnedFd,
    map: NonNull<u8>,
    bytes: usize,
    stats: RingStats,
}

// SAFETY: the mapping is owned by the ring alone and may be read from any one thread.
unsafe impl Send for Mapped {}

impl Mapped {
    /// A socket of the ring's version that lets through what `tap` asks for; it receives nothing yet.
    fn socket(tap: &Tap<'_>, version: libc::tpacket_versions) -> io::Result<OwnedFd> {
        let socket = packet_socket()?;
        let on: libc::c_int = 1;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        // Packets are then stamped once for every capture on the host, where the kernel can: those
        // sent, and those received without a time of departure. A TCP segment that comes by loopback
        // or veth still carries its sender's; each capture stamps it when it gets to it (skb_tstamp
        // in tpacket_get_timestamp).
        set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &on)?;
        if tap.received_only {
            set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on)?;
        }
        attach(&socket, tap.filter)?;
        Ok(socket)
    }

    /// Asks for the ring (`request` is of the version's own type), maps its `bytes` and begins to
    /// receive.
    fn open<R>(socket: OwnedFd, request: &R, bytes: usize, tap: &Tap<'_>) -> io::Result<Mapped> {
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, request)?;
        // SAFETY: maps the ring just asked for, in full; a fresh mapping aliases nothing.
        let map = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        let map = NonNull::new(map)
            .filter(|m| m.as_ptr() != libc::MAP_FAILED)
            .ok_or_else(io::Error::last_os_error)?;
        let mapped = Mapped {
            socket,
            map: map.cast(),
            bytes,
            stats: RingStats::default(),
        };
        mapped.bind(tap.interface)?;
        Ok(mapped)
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

    /// What the kernel counted so far.
    fn stats(&mut self) -> io::Result<RingStats> {
        // The longest of the versions: the kernel fills in what its own has (packet_getsockopt).
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

impl AsFd for Mapped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: unmaps what open() mapped; no frame outlives its borrow of the ring.
        unsafe {
            libc::munmap(self.map.as_ptr().cast(), self.bytes);
        }
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
