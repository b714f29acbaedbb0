//! What kept connections from being made on this host, in words and with a remedy where there is one.

use nix::errno::Errno as Os;

use super::os_errno;
use super::words::plural;
use crate::outcome::Errno;
use crate::summary::Summary;

/// A line for each kind of `local_error`.
pub(crate) fn lines(summary: &Summary) -> Vec<String> {
    let each = summary.local_errors.iter();
    each.map(|(&errno, &n)| {
        let made = plural(n, "connection");
        format!(
            "{n} {made} failed on this host (local_error): {}",
            why(errno)
        )
    })
    .collect()
}

/// Why nothing was measured, where every connection failed on this host.
pub(crate) fn nothing_measured(summary: &Summary) -> Option<String> {
    let commonest = summary.local_errors.iter().max_by_key(|&(_, &n)| n);
    let (&errno, _) = commonest.filter(|_| summary.is_all_local_error())?;
    Some(format!(
        "nothing was measured, as every connection failed on this host: {}",
        why(errno)
    ))
}

fn why(errno: Option<Errno>) -> String {
    let Some(errno) = errno else {
        return "ended by a reset of this host's own, not the server's".to_owned();
    };
    let os = match os_errno(errno) {
        Ok(os) => os,
        Err(code) => return format!("errno {code}"),
    };
    let words = os.desc().to_lowercase();
    match remedy(os) {
        Some(remedy) => format!("{words}; {remedy}"),
        None => words,
    }
}

fn remedy(os: Os) -> Option<&'static str> {
    match os {
        Os::EADDRNOTAVAIL | Os::EADDRINUSE => Some(
            "no source port was left: widen net.ipv4.ip_local_port_range, make fewer connections, or wait a \
             minute for those in TIME-WAIT",
        ),
        Os::EMFILE => {
            Some("raise the limit of open files with `ulimit -Hn`, or give a smaller --concurrency")
        }
        Os::ENFILE => Some("raise fs.file-max, or give a smaller --concurrency"),
        Os::ENOBUFS | Os::ENOMEM => Some("free some memory, or give a smaller --concurrency"),
        Os::EPERM => Some("a firewall of this host drops what is sent: let it through"),
        Os::EAFNOSUPPORT => Some("this host has no such addresses: give one of another family"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Call, Failure, Outcome};
    use crate::record::Record;

    fn summary(failed: &[Option<Errno>], served: u64) -> Summary {
        let mut summary = Summary::default();
        for &errno in failed {
            let mut record = Record::new(1, "127.0.0.1:80".parse().unwrap(), Outcome::LocalError);
            record.failure = errno.map(|errno| Failure {
                call: Call::Connect,
                errno,
            });
            summary.add(&record);
        }
        for _ in 0..served {
            let served = Record::new(1, "127.0.0.1:80".parse().unwrap(), Outcome::Served);
            summary.add(&served);
        }
        summary
    }

    #[test]
    fn each_kind_of_local_error_is_counted_and_told_with_its_remedy() {
        let ports = Some(Errno::Other(libc::EADDRNOTAVAIL));
        let files = Some(Errno::Other(libc::EMFILE));
        let lines = lines(&summary(&[ports, files, ports, None], 1));
        assert_eq!(
            lines,
            [
                "1 connection failed on this host (local_error): ended by a reset of this host's own, not the server's",
                "1 connection failed on this host (local_error): too many open files; raise the limit of \
                 open files with `ulimit -Hn`, or give a smaller --concurrency",
                "2 connections failed on this host (local_error): cannot assign requested address; no \
                 source port was left: widen net.ipv4.ip_local_port_range, make fewer connections, or \
                 wait a minute for those in TIME-WAIT",
            ]
        );
    }

    #[test]
    fn nothing_was_measured_only_where_every_connection_failed_here() {
        let unknown = Some(Errno::Other(libc::EINVAL));
        assert_eq!(
            nothing_measured(&summary(&[unknown, unknown], 0)).as_deref(),
            Some("nothing was measured, as every connection failed on this host: invalid argument")
        );
        assert_eq!(nothing_measured(&summary(&[unknown], 1)), None);
        assert_eq!(nothing_measured(&summary(&[], 0)), None);
    }
}
