//! The network name space that the server lives in: whether it is ours, whether connections to the
//! target end there, and doing something inside it.
#![expect(
    clippy::disallowed_types,
    reason = "a name space is held by a file of /proc"
)]

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::DiagMissing;
use crate::observe::route::route_to;
use crate::sys::reason;

/// Of both name spaces a file that only they have.
const OURS: &str = "/proc/thread-self/net/netstat";

/// Where the server is.
pub(super) enum Place {
    /// In the name space of this thread.
    Ours,
    /// In another, held by its file.
    Other(File),
}

impl Place {
    /// The place where connections to `target` end: the name space of `master`, or ours where no
    /// process is named. An error where they end elsewhere, or where we may not go there.
    pub(super) fn find(target: SocketAddr, master: Option<Pid>) -> Result<Place, DiagMissing> {
        let ends_in_ours = ends_here(target);
        let Some(pid) = master else {
            return match ends_in_ours {
                true => Ok(Place::Ours),
                false => Err(DiagMissing::OtherHost(target)),
            };
        };
        let gone = |_| DiagMissing::Gone(pid);
        if is_ours(pid).map_err(gone)? {
            return match ends_in_ours {
                true => Ok(Place::Ours),
                false => Err(DiagMissing::NotItsAddress { target, pid }),
            };
        }
        if ends_in_ours {
            return Err(DiagMissing::EndsBefore { target, pid });
        }
        let closed = |error: io::Error| DiagMissing::Closed {
            pid,
            reason: reason(&error),
        };
        let place = Place::Other(File::open(format!("/proc/{pid}/ns/net")).map_err(closed)?);
        match place.within(|| ends_here(target)).map_err(closed)? {
            true => Ok(place),
            false => Err(DiagMissing::NotItsAddress { target, pid }),
        }
    }

    /// Does something in it, on a thread of its own where it is not ours: no other thread moves.
    /// Needs CAP_SYS_ADMIN there (setns(2)).
    pub(super) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Place::Other(file) = self else {
            return Ok(work());
        };
        thread::scope(|scope| {
            let inside = thread::Builder::new()
                .name("probe-setns".to_owned())
                .spawn_scoped(scope, || {
                    setns(file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
                })?;
            let done = inside.join();
            done.unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
        })
    }
}

/// Whether a process is in the name space of this thread. Its `ns/net` would say so to whoever may
/// trace it; that each name space has files of its own in /proc/PID/net, anybody may see.
fn is_ours(pid: Pid) -> io::Result<bool> {
    let theirs = fs::metadata(format!("/proc/{pid}/net/netstat"))?;
    let ours = fs::metadata(OURS)?;
    Ok((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

/// Whether the target is an address of this thread's name space.
fn ends_here(target: SocketAddr) -> bool {
    route_to(target).is_ok_and(|route| route.local)
}
