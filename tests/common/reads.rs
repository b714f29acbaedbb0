//! Who was read from, by a tracefs instance of the test's own: what the probe says of reads is held
//! against it, and it knows nothing of the probe's.
//!
//! Tracepoints tell of all network name spaces and name none: two servers on one port whose clients
//! come from one address and port look the same there. The probe then says nothing of either by them;
//! here nobody else may be watched meanwhile.
#![expect(
    clippy::disallowed_methods,
    reason = "tests write to tracefs and read what the kernel put there"
)]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sched::{CloneFlags, unshare};

use super::run;

/// Where tracefs is mounted by convention.
const TRACEFS: &str = "/sys/kernel/tracing";
/// Fires when a process reads data from a TCP socket, or peeks at it.
const EVENT: &str = "events/tcp/tcp_rcv_space_adjust";

/// Held by whoever watches.
static ALONE: Mutex<()> = Mutex::new(());

/// Reads on one server port, under way.
pub(crate) struct Reads {
    instance: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Reads {
    /// Waits until nobody else of this program watches, and watches from now on.
    pub(crate) fn on(port: u16) -> Reads {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Whoever failed while watching has stopped.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        mount_for_this_thread();
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reference-{}-{n}", std::process::id());
        let instance = Path::new(TRACEFS).join("instances").join(name);
        fs::create_dir(&instance).expect("needs root: a tracefs instance");
        let reads = Reads {
            instance,
            _alone: alone,
        };
        reads.write(&format!("{EVENT}/filter"), &format!("sport == {port}"));
        reads.write(&format!("{EVENT}/enable"), "1");
        reads
    }

    /// The ports of clients whose connections were read from.
    pub(crate) fn clients(self) -> HashSet<u16> {
        self.write("tracing_on", "0");
        let trace = fs::read_to_string(self.instance.join("trace")).expect("the trace");
        // `# entries-in-buffer/entries-written: 12/12   #P:2`
        let entries = trace
            .lines()
            .find_map(|line| line.strip_prefix("# entries-in-buffer/entries-written: "))
            .and_then(|counts| counts.split_whitespace().next()?.split_once('/'));
        assert!(entries.is_some_and(|(kept, written)| kept == written));
        let words = trace.split_whitespace();
        let ports = words.filter_map(|word| word.strip_prefix("dport=")?.parse().ok());
        ports.collect()
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.instance.join(file), text).expect(file);
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        // Removing an instance is one rmdir, whatever it seems to hold.
        fs::remove_dir(&self.instance).expect("the instance is removed");
    }
}

/// Mounts tracefs where it is not, in a mount namespace of this thread's own.
fn mount_for_this_thread() {
    if Path::new(TRACEFS).join("instances").exists() {
        return;
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("needs root: unshare(CLONE_NEWNS)");
    run("mount", &["--make-rprivate", "/"]);
    run("mount", &["-t", "tracefs", "tracefs", TRACEFS]);
}
