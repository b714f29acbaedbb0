//! A process and its descendants, as /proc tells them.

use nix::unistd::Pid;
use procfs::process::Process as Proc;

use super::process::Process;

/// `root` and its descendants, parents before children. A process that ends meanwhile is left out.
pub(crate) fn tree(root: Pid) -> Vec<Pid> {
    let mut pids = vec![root];
    let mut next = 0;
    while let Some(&pid) = pids.get(next) {
        for child in children(pid) {
            if !pids.contains(&child) {
                pids.push(child);
            }
        }
        next += 1;
    }
    pids
}

/// Takes hold of the descendants of `root`. One that ended before we had hold of it is left out, and
/// so is whoever got its pid since: its parent is another.
pub(crate) fn hold_descendants(root: Pid) -> Vec<Process> {
    let mut parents = vec![root];
    let mut held = Vec::new();
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            if let Ok(process) = Process::open(child)
                && children(parent).contains(&child)
            {
                parents.push(child);
                held.push(process);
            }
        }
    }
    held
}

/// The children of every thread of `pid`.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    let Ok(tasks) = Proc::new(pid.as_raw()).and_then(|p| p.tasks()) else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| task.children().ok())
        .flatten()
        .filter_map(|child| i32::try_from(child).ok())
        .map(Pid::from_raw)
        .collect()
}

/// How much processor time the threads of each process of a tree have used, in nanoseconds.
pub(crate) fn run_times(root: Pid) -> Vec<(Pid, u64)> {
    tree(root)
        .into_iter()
        .filter_map(|pid| {
            let tasks = Proc::new(pid.as_raw()).ok()?.tasks().ok()?;
            let spent = tasks
                .flatten()
                .filter_map(|task| task.schedstat().ok())
                .map(|stat| stat.sum_exec_runtime)
                .sum();
            Some((pid, spent))
        })
        .collect()
}
