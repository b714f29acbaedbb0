//! What an errno of a connection's says about the network.

use std::io;

use nix::errno::Errno as Os;

use crate::outcome::Errno;

/// By its number (connect(2), tcp(7), icmp_err_convert in net/ipv4/icmp.c).
pub(super) fn classify(error: &io::Error) -> Errno {
    let code = error.raw_os_error().unwrap_or(0);
    match Os::from_raw(code) {
        Os::ECONNREFUSED => Errno::Refused,
        Os::ECONNRESET => Errno::Reset,
        Os::EPIPE => Errno::Pipe,
        Os::ETIMEDOUT => Errno::TimedOut,
        Os::EHOSTUNREACH
        | Os::ENETUNREACH
        | Os::EACCES
        | Os::EHOSTDOWN
        | Os::ENONET
        | Os::ENOPROTOOPT
        | Os::EPROTO
        | Os::EOPNOTSUPP => Errno::Unreachable(code),
        _ => Errno::Other(code),
    }
}
