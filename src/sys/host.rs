//! This process's limits and this host's settings: file descriptors, ephemeral ports, kernel, sysctls.
#![expect(
    clippy::disallowed_methods,
    reason = "settings are read from /proc here"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::utsname::uname;

/// Sysctls that could change what is measured.
const SYSCTLS: &[&str] = &[
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/tcp_ecn",
    "net/ipv4/tcp_fastopen",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_migrate_req",
    "net/ipv4/tcp_sack",
    "net/ipv4/tcp_syn_linear_timeouts",
    "net/ipv4/tcp_syn_retries",
    "net/ipv4/tcp_synack_retries",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_timestamps",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_window_scaling",
];

/// Raises the soft limit of open files to at least `wanted`, as far as the hard limit allows, and
/// returns what it is then.
pub(crate) fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(soft);
    }
    let raised = wanted.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard)?;
    Ok(raised)
}

/// How many ephemeral ports one local address has (ip_local_port_range).
pub(crate) fn ephemeral_ports() -> Option<u64> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut words = text.split_whitespace().map(|w| w.parse::<u64>().ok());
    let (low, high) = (words.next()??, words.next()??);
    high.checked_sub(low).map(|n| n + 1)
}

/// The window scale that the host's own TCP offers: what it takes for 16 bits to tell of the largest
/// receive buffer there may be (`tcp_select_initial_window`).
pub(crate) fn window_scale() -> u8 {
    let last = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        text.split_whitespace().next_back()?.parse().ok()
    };
    let largest = last("ipv4/tcp_rmem").max(last("core/rmem_max"));
    let bits = largest.and_then(u64::checked_ilog2).unwrap_or(0);
    u8::try_from(bits.saturating_sub(15).min(14)).unwrap_or(14)
}

/// Names the time since this host was started, at random.
pub(crate) fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// The longest accept queue a program may ask for (somaxconn).
pub(crate) fn longest_backlog() -> Option<i32> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

/// The kernel's release and machine, as `uname -rm` says.
pub(crate) fn kernel() -> String {
    uname().map_or_else(
        |_| String::new(),
        |name| {
            let release = name.release().to_string_lossy().into_owned();
            format!("{release} {}", name.machine().to_string_lossy())
        },
    )
}

/// The sysctls as they are in our name space; what this kernel lacks is left out.
pub(crate) fn sysctls() -> BTreeMap<String, String> {
    SYSCTLS
        .iter()
        .filter_map(|name| {
            let value = fs::read_to_string(format!("/proc/sys/{name}")).ok()?;
            Some((name.replace('/', "."), value.trim().replace('\t', " ")))
        })
        .collect()
}
