//! Signals that ask the probe to end: the first ends the run with what was seen, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use nix::unistd::Pid;
use procfs::process::Process as Proc;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::sys::capability::{self, CapabilitySet};
use crate::sys::process::exit_now;
use crate::target::child::kill_group;

/// Whether and how the probe was interrupted.
#[derive(Clone, Debug)]
pub(super) struct Interrupt {
    signal: Arc<AtomicI32>,
    child: Arc<AtomicI32>,
}

impl Interrupt {
    /// Catches the signals from now on.
    pub(super) fn catch() -> io::Result<Interrupt> {
        let mut caught = vec![SIGINT, SIGTERM, SIGQUIT];
        // Under nohup a terminal that goes away is no reason to end.
        if !is_ignored(SIGHUP) {
            caught.push(SIGHUP);
        }
        let mut signals = Signals::new(caught)?;
        let interrupt = Interrupt {
            signal: Arc::new(AtomicI32::new(0)),
            child: Arc::new(AtomicI32::new(0)),
        };
        let Interrupt { signal, child } = interrupt.clone();
        thread::Builder::new()
            .name("probe-signals".to_owned())
            .spawn(move || {
                // Whatever else the thread may do, it opens nothing.
                let _ = capability::give_up(CapabilitySet::NET_RAW);
                for caught in signals.forever() {
                    if signal.swap(caught, Ordering::SeqCst) != 0 {
                        let child = child.load(Ordering::SeqCst);
                        if child > 0 {
                            kill_group(Pid::from_raw(child));
                        }
                        exit_now(128 + caught);
                    }
                }
            })?;
        Ok(interrupt)
    }

    /// A second interrupt kills this process group too.
    pub(super) fn take_along(&self, child: Pid) {
        self.child.store(child.as_raw(), Ordering::SeqCst);
    }

    /// The process group is gone: its number may be another's by and by.
    pub(super) fn leave(&self) {
        self.child.store(0, Ordering::SeqCst);
    }

    /// Whether a signal came.
    pub(super) fn came(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// The exit code it asks for: 130 on SIGINT, 143 on SIGTERM.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::SeqCst);
        (signal != 0).then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}

/// Whether we were started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let ignored = Proc::myself()
        .and_then(|me| me.status())
        .map_or(0, |status| status.sigign);
    ignored & (1 << (signal - 1)) != 0
}
