//! Which process a thread belongs to and what it is called, and which listener a descriptor is: asked
//! of /proc as soon as a record names them, since the short-lived are gone soon after.
#![expect(clippy::disallowed_methods, reason = "threads are looked up in /proc")]

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::unistd::Pid;
use procfs::process::{Process as Proc, Syscall};

use super::events::Context;
use crate::kernel::{Comm, Task};
use crate::time::Stamp;

/// A thread's answer is good for so long: it may take another name, or end and leave its id to
/// another, which takes the kernel a walk through all of its ids.
const THREAD_FRESH: Duration = Duration::from_secs(1);
/// A descriptor's answer is: a process that closes its listener may well open something else in its
/// place. Such a number is also asked for again once accept() gives it out, or a listener is closed.
const LISTENER_FRESH: Duration = Duration::from_millis(100);
/// Ask again.
const STALE: Stamp = Stamp(i64::MIN);

/// Files are closed after a thread's end was told, and what that does is done in its name.
const AFTERLIFE: Duration = Duration::from_secs(10);
/// How many threads are known at least before any is forgotten.
const ROOM: usize = 1024;

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// The threads met so far.
#[derive(Debug)]
pub(super) struct Threads {
    /// Whether the kernel's ids are those of our /proc.
    ours: bool,
    known: Map<i32, Known>,
    /// How many to know before the forgotten are looked for.
    room: usize,
    /// By descriptor, then by thread.
    listeners: Map<i32, Map<i32, Listener>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    pid: Option<i32>,
    comm: Option<Comm>,
    read: Option<Stamp>,
    /// Whether it is of the server's: then it is told when it ends.
    server: bool,
    ended: Option<Stamp>,
}

#[derive(Clone, Copy, Debug)]
struct Listener {
    inode: Option<u64>,
    read: Stamp,
}

impl Threads {
    pub(super) fn new(ours: bool) -> Threads {
        Threads {
            ours,
            known: Map::default(),
            room: ROOM,
            listeners: Map::default(),
        }
    }

    /// Whether the kernel's ids are those of our /proc: in the initial pid name space alone.
    pub(super) fn are_ours() -> bool {
        // PROC_PID_INIT_INO in include/linux/proc_ns.h.
        const INITIAL: &str = "pid:[4026531836]";
        fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.to_str() == Some(INITIAL))
    }

    /// Takes in the threads that a process has, and says which were not known.
    pub(super) fn adopt(&mut self, process: Pid) -> Vec<i32> {
        let pid = process.as_raw();
        self.note_sockets(pid);
        let tasks = Proc::new(pid).and_then(|process| process.tasks());
        let tids = tasks.into_iter().flatten().flatten().map(|task| task.tid);
        let fresh = tids.filter(|&tid| {
            let known = Known {
                pid: Some(pid),
                server: true,
                ..Known::default()
            };
            self.known.insert(tid, known).is_none()
        });
        fresh.collect()
    }

    /// Notes what sockets a process has: a worker may accept, close its listener and end before the
    /// first of that is read.
    fn note_sockets(&mut self, pid: i32) {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in fds.into_iter().flatten().flatten() {
            let fd = entry.file_name().to_str().and_then(|fd| fd.parse().ok());
            let inode = fs::read_link(entry.path())
                .ok()
                .and_then(|link| inode(link.to_str()?));
            if let (Some(fd), Some(_)) = (fd, inode) {
                let by_thread: &mut Map<_, _> = self.listeners.entry(fd).or_default();
                by_thread.insert(pid, Listener { inode, read: STALE });
            }
        }
    }

    /// A thread was made by one of the server's, at that time. What it did and that it ended may
    /// have been told before, by another processor.
    pub(super) fn born(&mut self, tid: i32, by: i32, thread: bool, at: Stamp) {
        self.forget(at);
        let comm = self.known.get(&by).and_then(|known| known.comm);
        let known = self.known.entry(tid).or_default();
        if known.read.max(known.ended) < Some(at) {
            *known = Known {
                comm,
                ..Known::default()
            };
        }
        known.server = true;
        self.belongs(tid, by, thread);
    }

    /// A thread is one of its maker's process, or the first of its own.
    pub(super) fn belongs(&mut self, tid: i32, by: i32, thread: bool) {
        let pid = if thread { self.pid(by) } else { Some(tid) };
        if let Some(known) = self.known.get_mut(&tid) {
            known.pid = pid.or(known.pid);
        }
    }

    /// A thread of the server's ended under this name, at that time.
    pub(super) fn ended(&mut self, tid: i32, comm: Option<Comm>, at: Stamp) {
        let known = self.known.entry(tid).or_default();
        known.comm = comm.or(known.comm);
        known.server = true;
        known.ended = Some(at);
    }

    /// A server that forks for each connection goes through very many.
    fn forget(&mut self, now: Stamp) {
        if self.known.len() < self.room {
            return;
        }
        let recent = |at: Option<Stamp>| at.is_some_and(|at| now < at + AFTERLIFE);
        self.known.retain(|_, known| {
            let alive = known.server && known.ended.is_none();
            alive || recent(known.ended) || recent(known.read)
        });
        self.room = ROOM.max(self.known.len() * 2);
    }

    /// Looks a thread up, if that was not done of late.
    pub(super) fn meet(&mut self, tid: i32, now: Stamp) {
        if !self.ours || tid == 0 {
            return;
        }
        self.forget(now);
        let known = self.known.entry(tid).or_default();
        if known.read.is_some_and(|read| now < read + THREAD_FRESH) {
            return;
        }
        known.read = Some(now);
        // What is gone is still what it was.
        if let Ok(status) = fs::read(format!("/proc/{tid}/status")) {
            let (pid, comm) = identity(&status);
            known.pid = pid.or(known.pid);
            known.comm = comm.or(known.comm);
        }
    }

    /// The process of a thread that was met.
    pub(super) fn pid(&self, tid: i32) -> Option<i32> {
        self.known.get(&tid).and_then(|known| known.pid)
    }

    /// A thread that was met, as it is to be told. Whom an interrupt kept waiting is left out.
    pub(super) fn task(&self, tid: i32, context: Context) -> Task {
        let softirq = context == Context::Interrupt;
        let known = self.known.get(&tid).filter(|_| !softirq);
        Task {
            tid,
            pid: known.and_then(|known| known.pid),
            comm: known.and_then(|known| known.comm),
            softirq,
            bh_off: context == Context::Thread { bh_off: true },
        }
    }

    /// The inode of the socket that a thread has under this descriptor, or had when that was last
    /// known: it did accept there. A process that closed its listener and put another socket in its
    /// place before this is asked gets the other's: hold it against inodes that are known to listen.
    pub(super) fn listener(&mut self, tid: i32, fd: i32, now: Stamp) -> Option<u64> {
        if !self.ours {
            return None;
        }
        let pid = self.pid(tid);
        let by_thread = self.listeners.entry(fd).or_default();
        let known = by_thread.get(&tid);
        if let Some(known) = known.filter(|known| now < known.read + LISTENER_FRESH) {
            return known.inode;
        }
        let known = known.or_else(|| by_thread.get(&pid?));
        let known = known.and_then(|known| known.inode);
        let link = fs::read_link(format!("/proc/{tid}/fd/{fd}")).ok();
        let inode = link.and_then(|link| inode(link.to_str()?)).or(known);
        by_thread.insert(tid, Listener { inode, read: now });
        inode
    }

    /// A descriptor was given out, so that whoever listened there does so no more.
    pub(super) fn given_out(&mut self, fd: i32) {
        self.listeners.remove(&fd);
    }

    /// A listener was closed.
    pub(super) fn listener_closed(&mut self) {
        for known in self.listeners.values_mut().flat_map(Map::values_mut) {
            known.read = STALE;
        }
    }
}

/// The descriptor that a thread sleeps in accept() or accept4() with. Whoever is not asleep may have
/// taken a connection by now, and is none.
pub(super) fn waits_in_accept(tid: i32) -> Option<i32> {
    accepting(Proc::new(tid).and_then(|thread| thread.syscall()).ok()?)
}

fn accepting(call: Syscall) -> Option<i32> {
    match call {
        Syscall::Blocked {
            syscall_number: libc::SYS_accept | libc::SYS_accept4,
            argument_registers: [fd, ..],
            ..
        } => i32::try_from(fd).ok(),
        _ => None,
    }
}

/// Tgid and Name of /proc/TID/status.
fn identity(status: &[u8]) -> (Option<i32>, Option<Comm>) {
    let line = |name: &[u8]| {
        let mut lines = status.split(|&byte| byte == b'\n');
        lines.find_map(|line| line.strip_prefix(name))
    };
    let pid = line(b"Tgid:\t").and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    (pid, line(b"Name:\t").map(Comm::new))
}

/// `socket:[4711]`
fn inode(link: &str) -> Option<u64> {
    let digits = link.strip_prefix("socket:[")?.strip_suffix(']')?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use procfs::FromRead;

    use super::*;

    const ITSELF: Context = Context::Thread { bh_off: false };

    #[test]
    fn a_status_names_the_process_and_the_thread() {
        let status = b"Name:\tpuma srv\nUmask:\t0022\nTgid:\t42\nPid:\t43\n";
        assert_eq!(identity(status), (Some(42), Some(Comm::new(b"puma srv"))));
        assert_eq!(identity(b"Tgid:\tmany\n"), (None, None));
    }

    #[test]
    fn only_accept_is_waited_in() {
        let call = |line: String| accepting(Syscall::from_read(line.as_bytes()).unwrap());
        let asleep = |number| call(format!("{number} 0x1f 0x0 0x0 0x0 0x0 0x0 0x7ffd 0x7fcf\n"));
        assert_eq!(asleep(libc::SYS_accept), Some(31));
        assert_eq!(asleep(libc::SYS_accept4), Some(31));
        assert_eq!(asleep(libc::SYS_read), None);
        assert_eq!(call("running\n".to_owned()), None);
    }

    #[test]
    fn a_link_names_an_inode() {
        assert_eq!(inode("socket:[4711]"), Some(4711));
        assert_eq!(inode("pipe:[4711]"), None);
        assert_eq!(inode("/dev/null"), None);
    }

    #[test]
    fn a_new_thread_is_its_makers_and_a_new_process_its_own() {
        let mut threads = Threads::new(true);
        threads.adopt(Pid::this());
        let us = Pid::this().as_raw();
        // Above what the kernel gives out (PID_MAX_LIMIT): nobody has these.
        let (thread, process, orphan) = (5_000_000, 5_000_001, 5_000_002);
        threads.born(thread, us, true, Stamp(0));
        threads.born(process, us, false, Stamp(0));
        threads.born(orphan, 5_000_009, true, Stamp(0));
        let pids = [thread, process, orphan].map(|tid| threads.pid(tid));
        assert_eq!(pids, [Some(us), Some(process), None]);
        threads.meet(thread, Stamp(0));
        assert_eq!(threads.pid(thread), Some(us));
    }

    #[test]
    fn an_end_that_is_told_before_the_birth_is_still_its_end() {
        let mut threads = Threads::new(true);
        let us = Pid::this().as_raw();
        threads.meet(us, Stamp(0));
        let tid = 5_000_000;
        let name = Some(Comm::new(b"true"));
        threads.ended(tid, name, Stamp(9));
        threads.born(tid, us, false, Stamp(5));
        assert_eq!(threads.task(tid, ITSELF).comm, name);
        assert_eq!(threads.pid(tid), Some(tid));
        // Another gets the same id.
        threads.born(tid, us, true, Stamp(10));
        assert_eq!(
            threads.task(tid, ITSELF).comm,
            threads.task(us, ITSELF).comm
        );
        assert_eq!(threads.pid(tid), Some(us));
    }

    #[test]
    fn who_was_interrupted_is_not_named() {
        let mut threads = Threads::new(true);
        let us = Pid::this().as_raw();
        threads.meet(us, Stamp(0));
        assert_eq!(threads.task(us, ITSELF).pid, Some(us));
        assert!(threads.task(us, ITSELF).comm.is_some());
        let interrupted = threads.task(us, Context::Interrupt);
        assert_eq!((interrupted.tid, interrupted.pid), (us, None));
        assert!(interrupted.softirq && interrupted.comm.is_none());
        assert!(!interrupted.bh_off);
    }

    #[test]
    fn only_the_long_dead_are_forgotten() {
        let mut threads = Threads::new(true);
        let first = 5_000_000;
        for at in 0..10_000_i32 {
            let now = Stamp(i64::from(at) * 1_000_000_000);
            threads.born(first + at, 1, false, now);
            if at > 0 {
                threads.ended(first + at, None, now);
            }
        }
        assert!(threads.known.len() <= ROOM);
        for tid in [first, first + 9_999, first + 9_995] {
            assert_eq!(threads.pid(tid), Some(tid));
        }
    }

    #[test]
    fn who_accepted_before_he_closed_his_listener_is_still_known_to_have_had_it() {
        let mut threads = Threads::new(true);
        // A number so high that no other test is given it.
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let listener = rustix::io::fcntl_dupfd_cloexec(&socket, 800).unwrap();
        let fd = listener.as_raw_fd();
        let us = Pid::this();
        threads.adopt(us);
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        drop(listener);
        threads.listener_closed();
        let had = threads.listener(us.as_raw(), fd, Stamp(0)).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("socket:[{had}]"));
        // Another number is given out: nothing is known of it any more.
        threads.given_out(fd);
        assert_eq!(threads.listener(us.as_raw(), fd, Stamp(0)), None);
    }

    #[test]
    fn ids_of_another_name_space_are_nobodys() {
        let mut threads = Threads::new(false);
        let us = Pid::this().as_raw();
        threads.meet(us, Stamp(0));
        assert_eq!(threads.pid(us), None);
        assert_eq!(threads.listener(us, 0, Stamp(0)), None);
    }
}
