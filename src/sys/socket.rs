//! Socket options that no library offers: TCP_INFO at the kernel's own length, binding to an address
//! without taking a port yet, and TCP_DEFER_ACCEPT.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::outcome::TcpInfo;

/// Room for `struct tcp_info` of this kernel and of later ones: 280 bytes on Linux 6.18.
const ROOM: usize = 512;

/// Byte offsets in `struct tcp_info` (include/uapi/linux/tcp.h); fields are only ever appended.
const UNACKED: usize = 24;
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;

/// Reads TCP_INFO. Fields that this kernel does not have stay `None` or 0.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut room = [0; ROOM];
    let known = read_tcp_info(socket, &mut room)?;
    let total_retransmits = field::<4>(known, TOTAL_RETRANS).map_or(0, u32::from_ne_bytes);
    // bytes_acked counts the SYN as one byte once it is acknowledged (tcp_ack_update_window).
    let acked = field::<8>(known, BYTES_ACKED).map(|b| u64::from_ne_bytes(b).saturating_sub(1));
    Ok(TcpInfo {
        acked,
        total_retransmits,
    })
}

/// How many connections wait in a listener's accept queue: of a LISTEN socket TCP_INFO says that as
/// tcpi_unacked (tcp_get_info).
pub(crate) fn accept_queue(listener: &impl AsFd) -> io::Result<u32> {
    let mut room = [0; ROOM];
    let known = read_tcp_info(listener, &mut room)?;
    field::<4>(known, UNACKED)
        .map(u32::from_ne_bytes)
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// What the kernel has to say, at its own length.
fn read_tcp_info<'a>(socket: &impl AsFd, room: &'a mut [u8; ROOM]) -> io::Result<&'a [u8]> {
    let mut len: libc::socklen_t = 512;
    // SAFETY: `room` is writable for `len` bytes, and the kernel writes no more than `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            room.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(&room[..usize::try_from(len).unwrap_or(0).min(ROOM)])
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// Has a later bind() to port 0 choose only the address; connect() then picks a port that is free
/// towards its destination, so that ports serve once per destination and not once per address.
pub(crate) fn bind_address_only(socket: &impl AsFd) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Has connections to a listener stay in SYN-RECV until their first byte arrives, for about so many
/// seconds (tcp(7), TCP_DEFER_ACCEPT).
pub(crate) fn defer_accept(listener: &impl AsFd, seconds: i32) -> io::Result<()> {
    set_int(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Has a TCP socket drop every segment whose TTL or hop limit is below 255, before it is looked at
/// and without an answer (tcp_v4_rcv, tcp_v6_rcv: TCPMINTTLDROP). Of a dual-stack socket both are to
/// be set. Needs no privilege.
pub(crate) fn drop_below_ttl_255(socket: &impl AsFd, ipv6: bool) -> io::Result<()> {
    set_int(socket, libc::IPPROTO_IP, libc::IP_MINTTL, 255)?;
    if ipv6 {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, 255)?;
    }
    Ok(())
}

fn set_int(socket: &impl AsFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` is an int, and readable for the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            4,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
