//! Many packets to one address in one system call (sendmmsg(2)).

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use socket2::SockAddr;

/// How many go out at once: the system call's own cost is then under a hundredth of theirs.
pub(crate) const AT_ONCE: usize = 128;

/// Sends `packets`, the first [`AT_ONCE`] of them, to `to` and says how many of them the kernel took.
/// Never waits. The error is that of the first packet: where a later one fails, those before it are
/// what was taken, and the next call begins with it.
pub(crate) fn send<'a>(
    socket: &impl AsFd,
    to: &SockAddr,
    packets: impl Iterator<Item = &'a [u8]>,
) -> io::Result<usize> {
    // SAFETY: an all-zero iovec and mmsghdr are valid ones, of no bytes and no address.
    let (mut parts, mut messages): ([libc::iovec; AT_ONCE], [libc::mmsghdr; AT_ONCE]) =
        unsafe { (zeroed(), zeroed()) };
    let mut count = 0;
    for ((packet, part), message) in packets.zip(&mut parts).zip(&mut messages) {
        // The kernel only reads what these point to.
        part.iov_base = packet.as_ptr().cast_mut().cast();
        part.iov_len = packet.len();
        message.msg_hdr.msg_iov = ptr::from_mut(part);
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = to.len();
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: `count` messages were filled in; what they point to outlives the call.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            messages.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
