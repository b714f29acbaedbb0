//! Network namespaces beside the test's own, for servers that are other hosts.

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, setns};

use super::{enter_namespace, run, sysctl};

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
        there.link(0);
        there
    }

    /// A gateway, and a host behind it: this thread's namespace is linked to the one, and that to the
    /// other, where 10.2.0.2 and fd00:2::2 are. The gateway soon says of others that they are
    /// unreachable, and says it of every packet.
    pub(crate) fn behind_gateway() -> [Namespace; 2] {
        let [gateway, there] = [(); 2].map(|()| Namespace::new());
        gateway.link(1);
        gateway.within(|| {
            there.link(2);
            for (name, value) in [
                ("ipv4/ip_forward", "1"),
                ("ipv6/conf/all/forwarding", "1"),
                ("ipv4/neigh/near/retrans_time_ms", "20"),
                ("ipv6/neigh/near/retrans_time_ms", "20"),
                ("ipv4/icmp_ratelimit", "0"),
                ("ipv6/icmp/ratelimit", "0"),
            ] {
                sysctl(&format!("net/{name}"), value);
            }
        });
        ip("route add 10.2.0.0/24 via 10.1.0.2");
        ip("route add fd00:2::/64 via fd00:1::2");
        there.within(|| {
            ip("route add 10.1.0.0/24 via 10.2.0.1");
            ip("route add fd00:1::/64 via fd00:2::1");
        });
        [gateway, there]
    }

    /// Links it to this thread's namespace: a network of two hosts, the first here.
    fn link(&self, network: u8) {
        let path = self.path();
        ip(&format!(
            "link add near type veth peer name far netns {path}"
        ));
        let join = |end, host| {
            ip(&format!("addr add 10.{network}.0.{host}/24 dev {end}"));
            ip(&format!(
                "addr add fd00:{network}::{host}/64 dev {end} nodad"
            ));
            ip(&format!("link set {end} up"));
        };
        join("near", 1);
        self.within(|| join("far", 2));
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

fn ip(command: &str) {
    run("ip", &command.split(' ').collect::<Vec<_>>());
}
