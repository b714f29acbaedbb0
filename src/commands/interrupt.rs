//! SIGINT and SIGTERM to the probe: the first ends the run with what was seen, the second at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

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
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let interrupt = Interrupt {
            signal: Arc::new(AtomicI32::new(0)),
            child: Arc::new(AtomicI32::new(0)),
        };
        let Interrupt { signal, child } = interrupt.clone();
        thread::Builder::new()
            .name("probe-signals".to_owned())
            .spawn(move || {
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

    /// Whether a signal came.
    pub(super) fn came(&self) -> bool {
        self.signal.load(Ordering::SeqCst) != 0
    }

    /// The exit code it asks for: 130 or 143.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let signal = self.signal.load(Ordering::SeqCst);
        (signal != 0).then(|| u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }
}
