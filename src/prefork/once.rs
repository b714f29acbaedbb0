//! What happens once in all the processes of a server, whoever comes first.

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Something that happens once in all the processes of a server.
pub(super) struct Once(EventFd);

impl Once {
    pub(super) fn new() -> nix::Result<Once> {
        EventFd::from_value_and_flags(1, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map(Once)
    }

    /// Whether this is the time: true for the first that asks.
    pub(super) fn take(&self) -> bool {
        self.0.read().is_ok()
    }
}
