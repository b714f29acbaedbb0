//! Two socket options that no library offers: TCP_INFO at the kernel's own length, and binding to an
//! address without taking a port yet.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::outcome::TcpInfo;

/// Room for `struct tcp_info` of this kernel and of later ones: 280 bytes on Linux 6.18.
const ROOM: usize = 512;

/// Byte offsets in `struct tcp_info` (include/uapi/linux/tcp.h); fields are only ever appended.
const TOTAL_RETRANS: usize = 100;
const BYTES_ACKED: usize = 120;

/// Reads TCP_INFO. Fields that this kernel does not have stay `None` or 0.
pub(crate) fn tcp_info(socket: &impl AsFd) -> io::Result<TcpInfo> {
    let mut bytes = [0_u8; ROOM];
    let mut len: libc::socklen_t = 512;
    // SAFETY: `bytes` is writable for `len` bytes, and the kernel writes no more than `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let known = &bytes[..usize::try_from(len).unwrap_or(0).min(ROOM)];
    let total_retransmits = field::<4>(known, TOTAL_RETRANS).map_or(0, u32::from_ne_bytes);
    // bytes_acked counts the SYN as one byte once it is acknowledged (tcp_ack_update_window).
    let acked = field::<8>(known, BYTES_ACKED).map(|b| u64::from_ne_bytes(b).saturating_sub(1));
    Ok(TcpInfo {
        acked,
        total_retransmits,
    })
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

/// Has a later bind() to port 0 choose only the address; connect() then picks a port that is free
/// towards its destination, so that ports serve once per destination and not once per address.
pub(crate) fn bind_address_only(socket: &impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: `on` is readable for the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            4,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
