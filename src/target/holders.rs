//! Which processes hold a socket open, and which of them are nobody's child among these: found by
//! inode in /proc/PID/fd, as far as this user may look.

use std::collections::HashSet;
use std::fs;
use std::io;

use nix::unistd::Pid;
use procfs::process::Process as Proc;

/// By name as the kernel has it: what Docker, Podman and rootless containers publish ports with.
const PROXIES: [&str; 5] = [
    "docker-proxy",
    "rootlessport",
    "slirp4netns",
    "pasta",
    "pasta.avx2",
];

/// The processes that hold a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holders {
    /// Those that were found.
    pub(crate) pids: Vec<Pid>,
    /// Whether some processes could not be looked into: others may hold it too.
    pub(crate) hidden: bool,
}

/// Who holds any of these sockets, among all processes of this host that /proc shows.
pub(crate) fn holders(inodes: &[u64]) -> Holders {
    let mut found = Holders::default();
    for pid in all_processes() {
        match sockets(pid) {
            Ok(held) if held.iter().any(|inode| inodes.contains(inode)) => found.pids.push(pid),
            Ok(_) => {}
            Err(error) => found.hidden |= error.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    found
}

/// Those of these processes that descend from no other of them: a prefork server's master, where it
/// holds the listening socket as its workers do. systemd is left out beside others: it holds the
/// sockets that it starts servers with, and everything descends from it.
pub(crate) fn masters(holders: &[Pid]) -> Vec<Pid> {
    let set: HashSet<Pid> = holders
        .iter()
        .copied()
        .filter(|&p| !is_systemd(p))
        .collect();
    let descends = |&pid: &Pid| ancestors(pid).any(|ancestor| set.contains(&ancestor));
    let mut masters: Vec<Pid> = set.iter().copied().filter(|pid| !descends(pid)).collect();
    masters.sort();
    masters
}

/// The first of these processes that passes connections on to a server in a container, and its name.
pub(crate) fn proxy(pids: &[Pid]) -> Option<(Pid, String)> {
    pids.iter().find_map(|&pid| {
        let name = Proc::new(pid.as_raw()).and_then(|p| p.stat()).ok()?.comm;
        PROXIES.contains(&name.as_str()).then_some((pid, name))
    })
}

/// The inodes of the sockets that a process holds open. Another user's process says EACCES, but to
/// root (proc_pid_fd(5)).
pub(crate) fn sockets(pid: Pid) -> io::Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may have been closed since.
        let Ok(target) = fd.and_then(|fd| fs::read_link(fd.path())) else {
            continue;
        };
        let inode: Option<u64> = target.to_str().and_then(|name| {
            let inode = name.strip_prefix("socket:[")?.strip_suffix(']')?;
            inode.parse().ok()
        });
        inodes.extend(inode);
    }
    Ok(inodes)
}

fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some(Pid::from_raw(pid))
    })
}

/// From the parent upwards.
fn ancestors(pid: Pid) -> impl Iterator<Item = Pid> {
    std::iter::successors(parent(pid), |&pid| parent(pid))
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = Proc::new(pid.as_raw()).ok()?.stat().ok()?;
    (stat.ppid > 0).then(|| Pid::from_raw(stat.ppid))
}

fn is_systemd(pid: Pid) -> bool {
    pid.as_raw() == 1
        && Proc::new(1)
            .and_then(|init| init.stat())
            .is_ok_and(|stat| stat.comm == "systemd")
}

#[cfg(test)]
#[expect(
    clippy::disallowed_types,
    reason = "tests listen, and start processes that hold what they listen on"
)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command};

    use nix::sys::stat::fstat;
    use nix::unistd::getpid;

    use super::*;
    use crate::sys::process::tie_to_us;

    /// A process that holds what it was given until it is dropped.
    struct Holder(Child);

    impl Holder {
        fn of(listener: &TcpListener) -> Holder {
            let copy: OwnedFd = listener.try_clone().unwrap().into();
            let mut sleep = Command::new("sleep");
            tie_to_us(&mut sleep);
            Holder(sleep.arg("infinity").stdin(copy).spawn().unwrap())
        }

        fn pid(&self) -> Pid {
            Pid::from_raw(self.0.id().try_into().unwrap())
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn inode(listener: &TcpListener) -> u64 {
        fstat(listener).unwrap().st_ino
    }

    // Other tests' children hold what is ours from their fork to their exec: others may be found.

    #[test]
    fn a_containers_proxy_is_told_by_its_name() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("docker-proxy");
        std::os::unix::fs::symlink("/bin/sleep", &program).unwrap();
        let mut command = Command::new(&program);
        tie_to_us(&mut command);
        let copy: OwnedFd = listener.try_clone().unwrap().into();
        let proxy_process = Holder(command.arg("infinity").stdin(copy).spawn().unwrap());
        let server = Holder::of(&listener);
        assert_eq!(proxy(&[server.pid()]), None);
        let both = [server.pid(), proxy_process.pid()];
        let found = Some((proxy_process.pid(), "docker-proxy".to_owned()));
        assert_eq!(proxy(&both), found);
    }

    #[test]
    fn all_who_share_a_listener_hold_it_and_the_parent_is_their_master() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let children = [Holder::of(&listener), Holder::of(&listener)];
        let found = holders(&[inode(&listener)]).pids;
        for pid in [getpid(), children[0].pid(), children[1].pid()] {
            assert!(found.contains(&pid), "{pid} of {found:?}");
        }
        assert_eq!(masters(&found), [getpid()]);
    }

    #[test]
    fn workers_whose_parent_has_closed_its_copy_are_masters_each() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = inode(&listener);
        let children = [Holder::of(&listener), Holder::of(&listener)];
        drop(listener);
        let found = holders(&[inode]).pids;
        assert!(!found.contains(&getpid()));
        let masters = masters(&found);
        assert!(children.iter().all(|child| masters.contains(&child.pid())));
    }

    #[test]
    fn whoever_holds_another_socket_does_not_hold_this_one() {
        let listeners = ["127.0.0.1:0"; 2].map(|any| TcpListener::bind(any).unwrap());
        let child = Holder::of(&listeners[0]);
        let found = holders(&[inode(&listeners[1])]).pids;
        assert!(found.contains(&getpid()) && !found.contains(&child.pid()));
    }
}
