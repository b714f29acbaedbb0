//! A second network namespace beside the test's own, for a server that is another host.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns};

use super::{enter_namespace, run};

/// A network namespace. It goes when this is dropped and the last process in it has ended.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes one; the test's thread stays where it is.
    pub(crate) fn new() -> Namespace {
        let here = Namespace::current();
        enter_namespace();
        let fresh = Namespace::current();
        setns(&here.0, CloneFlags::CLONE_NEWNET).expect("the way back");
        fresh
    }

    /// Another host: one that a veth pair links to this thread's namespace, `near` with 10.0.0.1 here
    /// and `far` with 10.0.0.2 there.
    pub(crate) fn linked() -> Namespace {
        let there = Namespace::new();
        let veth = "link add near type veth peer name far netns";
        let veth: Vec<&str> = veth.split(' ').collect();
        run("ip", &[&veth[..], &[&there.path()]].concat());
        run("ip", &["addr", "add", "10.0.0.1/24", "dev", "near"]);
        run("ip", &["link", "set", "near", "up"]);
        there.run("ip", &["addr", "add", "10.0.0.2/24", "dev", "far"]);
        there.run("ip", &["link", "set", "far", "up"]);
        there
    }

    fn current() -> Namespace {
        Namespace(File::open("/proc/thread-self/ns/net").expect("this thread's namespace"))
    }

    /// Where other processes find it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// A command that runs `command` in it.
    pub(crate) fn command(&self, command: &[String]) -> Vec<String> {
        let enter = ["nsenter".to_owned(), format!("--net={}", self.path())];
        enter.into_iter().chain(command.iter().cloned()).collect()
    }

    /// Does something in it: what is started there stays there.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let here = Namespace::current();
        setns(&self.0, CloneFlags::CLONE_NEWNET).expect("the way there");
        let done = work();
        setns(&here.0, CloneFlags::CLONE_NEWNET).expect("the way back");
        done
    }

    /// Runs a tool in it that must succeed.
    pub(crate) fn run(&self, tool: &str, args: &[&str]) -> String {
        let enter = format!("--net={}", self.path());
        run("nsenter", &[&[enter.as_str(), tool], args].concat())
    }
}
