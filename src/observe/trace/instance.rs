//! An instance of tracefs: buffers and events of our own beside whatever else is traced on the host.
//! Which events are enabled is left to the vantage.
//!
//! Whoever makes an instance holds a lock on its folder until it is removed. The kernel drops that
//! when a process dies in whatever way, so that an instance that nobody holds is a leftover.
//! `free_buffer` is held open as well: when it is closed, by death too, the kernel stops the
//! instance and frees its buffers, and a leftover costs next to nothing until the next run
//! removes it.

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use super::TraceMissing;
use super::tracefs::Tracefs;

/// What the names of all our instances begin with: `probe-PID-N-WORD`.
const PREFIX: &str = "probe-";

/// So many names are tried at most.
const MOST_NAMES: u32 = 1_000;

/// An instance that is busy is let go of so often, and so long after each other: a second in all.
const PATIENCE: u32 = 200;
const BREAK: Duration = Duration::from_millis(5);

/// Where instances are made, held by us alone until this is dropped: nobody takes one that was just
/// made for a leftover.
#[derive(Debug)]
pub(super) struct Instances {
    folder: OwnedFd,
    name: String,
}

/// An instance. It goes when this is dropped.
#[derive(Debug)]
pub(super) struct Instance {
    instances: OwnedFd,
    folder: OwnedFd,
    /// Its name, for messages the whole path.
    name: String,
    path: String,
    pipes: Vec<Pipe>,
    free_buffer: Option<OwnedFd>,
}

/// What one processor records, read in binary without waiting.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The processor's number.
    pub(super) cpu: u32,
    file: OwnedFd,
}

impl Instances {
    /// Opens the folder of instances and removes what killed processes left there.
    pub(super) fn open(tracefs: &Tracefs) -> Result<Instances, TraceMissing> {
        let name = format!("{}/instances", tracefs.name);
        let failed = |call, error| TraceMissing::new(call, name.clone(), error);
        let folder = open_folder(&tracefs.root, "instances").map_err(|e| failed("open", e))?;
        flock(&folder, FlockOperation::LockExclusive).map_err(|e| failed("lock", e))?;
        let instances = Instances { folder, name };
        instances.remove_leftovers();
        Ok(instances)
    }

    fn remove_leftovers(&self) {
        for name in names(&self.folder).unwrap_or_default() {
            if !is_ours(&name) {
                continue;
            }
            let Ok(folder) = open_folder(&self.folder, &name) else {
                continue;
            };
            if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // Whoever still reads it keeps it; the next run tries again.
                let _ = unlinkat(&self.folder, &name, AtFlags::REMOVEDIR);
            }
        }
    }

    /// Makes one that records nothing yet.
    pub(super) fn make(&self, word: &str) -> Result<Instance, TraceMissing> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let (name, made) = loop {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}-{word}", Pid::this());
            match mkdirat(&self.folder, &name, Mode::RWXU) {
                // A probe in another pid name space has our id.
                Err(Errno::EXIST) if number < MOST_NAMES => {}
                made => break (name, made),
            }
        };
        let path = format!("{}/{name}", self.name);
        let failed = |call, error| TraceMissing::new(call, path.clone(), error);
        made.map_err(|e| failed("mkdir", e))?;
        // Opened anew: a duplicate would share our lock and keep it.
        let instances = open_folder(&self.folder, ".").map_err(|e| failed("open", e))?;
        let folder = open_folder(&self.folder, &name).map_err(|error| {
            let _ = unlinkat(&self.folder, &name, AtFlags::REMOVEDIR);
            failed("open", error)
        })?;
        let mut instance = Instance {
            instances,
            folder,
            name,
            path,
            pipes: Vec::new(),
            free_buffer: None,
        };
        let lock = FlockOperation::NonBlockingLockExclusive;
        flock(&instance.folder, lock).map_err(|e| instance.failed("lock", "", e))?;
        // Kernels without these two leave more behind when we are killed, and nothing else.
        if instance.write("options/disable_on_free", "1").is_ok() {
            instance.free_buffer = instance.open("free_buffer", OFlags::WRONLY).ok();
        }
        Ok(instance)
    }
}

impl Instance {
    /// Writes a setting.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), TraceMissing> {
        let failed = |error: io::Error| self.failed("write", file, error);
        let open = self.open(file, OFlags::WRONLY);
        let open = open.map_err(|error| failed(error.into()))?;
        let mut rest = value.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&open, rest).map_err(|error| failed(error.into()))?;
            if written == 0 {
                return Err(failed(io::ErrorKind::WriteZero.into()));
            }
            rest = &rest[written..];
        }
        Ok(())
    }

    /// Reads a file in full.
    pub(super) fn read(&self, file: &str) -> io::Result<String> {
        let open = self.open(file, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        let mut room = [0; 4096];
        loop {
            match rustix::io::read(&open, &mut room)? {
                0 => break,
                count => bytes.extend_from_slice(&room[..count]),
            }
        }
        String::from_utf8(bytes).map_err(io::Error::other)
    }

    /// The processors that it has buffers for.
    pub(super) fn cpus(&self) -> io::Result<Vec<u32>> {
        let folder = open_folder(&self.folder, "per_cpu")?;
        let names = names(&folder)?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix("cpu"));
        let mut cpus: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
        cpus.sort_unstable();
        Ok(cpus)
    }

    /// Opens the pipes of all processors.
    pub(super) fn open_pipes(&mut self) -> Result<(), TraceMissing> {
        let cpus = self.cpus().map_err(|e| self.failed("read", "per_cpu", e))?;
        for cpu in cpus {
            let file = format!("per_cpu/cpu{cpu}/trace_pipe_raw");
            let open = self.open(&file, OFlags::RDONLY | OFlags::NONBLOCK);
            let file = open.map_err(|error| self.failed("open", &file, error))?;
            self.pipes.push(Pipe { cpu, file });
        }
        Ok(())
    }

    /// The pipes that were opened.
    pub(super) fn pipes(&self) -> &[Pipe] {
        &self.pipes
    }

    /// How many records a processor's buffer had no room for, so far.
    pub(super) fn lost(&self, cpu: u32) -> io::Result<u64> {
        let stats = self.read(&format!("per_cpu/cpu{cpu}/stats"))?;
        Ok(lost(&stats))
    }

    /// Its folder.
    #[cfg(test)]
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn open(&self, file: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(&self.folder, file, flags | OFlags::CLOEXEC, Mode::empty())
    }

    fn failed(&self, call: &'static str, file: &str, error: impl Into<io::Error>) -> TraceMissing {
        let object = match file {
            "" => self.path.clone(),
            file => format!("{}/{file}", self.path),
        };
        TraceMissing::new(call, object, error)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // The kernel keeps an instance while a file of it is open.
        drop(mem::take(&mut self.pipes));
        drop(self.free_buffer.take());
        // Between fork and exec a child that another thread starts has our files as well: nothing
        // tells when it has closed them.
        for _ in 0..PATIENCE {
            // About any other failure nothing can be done but by the next run.
            if unlinkat(&self.instances, &self.name, AtFlags::REMOVEDIR) != Err(Errno::BUSY) {
                break;
            }
            thread::park_timeout(BREAK);
        }
    }
}

impl Pipe {
    /// Reads the next page; false where nothing was recorded.
    pub(super) fn read(&self, page: &mut [u8]) -> io::Result<bool> {
        loop {
            match rustix::io::read(&self.file, &mut *page) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn open_folder(at: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        names.extend(entry?.file_name().to_str().ok().map(str::to_owned));
    }
    Ok(names)
}

/// `probe-PID-N-WORD`: nobody else's instance is ever touched.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('-').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    matches!(parts[..], [pid, number, "host" | "server"] if is_number(pid) && is_number(number))
}

/// What per_cpu/cpuN/stats counts as lost: written over before it was read, or never written.
fn lost(stats: &str) -> u64 {
    let count = |name: &str| {
        let mut lines = stats.lines();
        let value = lines.find_map(|line| line.strip_prefix(name))?;
        value.trim().parse::<u64>().ok()
    };
    ["overrun:", "commit overrun:", "dropped events:"]
        .iter()
        .filter_map(|name| count(name))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_instances_are_ours() {
        for name in ["probe-1-0-host", "probe-4194304-17-server"] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "probe",
            "probe-1-0-",
            "probe-x-0-host",
            "probe-1-0-host-2",
            "rasdaemon",
        ] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn every_way_of_losing_a_record_counts() {
        let stats = "entries: 5\noverrun: 3\ncommit overrun: 1\nbytes: 9\n\
            oldest event ts: 32691.724492\nnow ts: 32691.836968\ndropped events: 2\nread events: 8\n";
        assert_eq!(lost(stats), 6);
        assert_eq!(lost(""), 0);
    }
}
