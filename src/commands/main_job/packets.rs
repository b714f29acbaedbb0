//! The packets of a run that has ended go to where they are wanted: --pcap's file, run.pcapng, or both.

use std::ffi::OsString;
use std::net::SocketAddr;

use super::one::Finished;
use crate::commands::command_line;
use crate::commands::outputs::{PacketFile, WriteFailed};
use crate::commands::spool::section::About;
use crate::record::account::RunAccount;
use crate::sys::host;

impl Finished {
    /// Writes them to each of `files`, and says where that failed; what failed is taken out.
    pub(super) fn write_packets(
        &mut self,
        words: &[OsString],
        of_run: &mut Option<PacketFile>,
        of_series: &mut Option<PacketFile>,
    ) -> Vec<WriteFailed> {
        let ended = &mut self.ended;
        let written = &mut ended.recorded.written;
        let (Some(spool), Some(stats)) = (written.spool.take(), ended.seen.wire) else {
            return Vec::new();
        };
        let fail = |error| WriteFailed {
            name: "the packets to a temporary file".to_owned(),
            error,
        };
        let mut held = match spool.finish() {
            Ok(held) => held,
            Err(error) => return vec![fail(error)],
        };
        let command = quoted(&command_line(words));
        let about = About {
            command: &command,
            kernel: &format!("Linux {}", host::kernel()),
            interface: ended.seen.interface.as_deref().unwrap_or_default(),
            run: RunAccount {
                run_id: self.run_id.clone(),
                // Without a link-local address's scope, which packets do not carry.
                server: SocketAddr::new(self.target.address.ip(), self.target.address.port()),
                protocol: self.protocol,
                asked_nothing: !self.engine.asks(),
                connections: 0,
                signal: written.context.signal,
                target_dead: written.context.target_dead,
            },
            events: &written.events,
            span: (self.clock.started(), self.clock.now()),
            stats,
        };
        let mut failed = Vec::new();
        for file in [of_run, of_series] {
            let Some(open) = file.take() else {
                continue;
            };
            match open.write(|out| held.write(out, &about)) {
                Ok(open) => *file = Some(open),
                Err(error) => failed.push(error),
            }
        }
        failed
    }
}

/// Words as they can be given to a shell again.
fn quoted(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_{}[]".contains(c);
    let quote = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words: Vec<String> = words.iter().map(quote).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        let words = ["probe", "-H", "A: b", "--", "it's", ""].map(str::to_owned);
        assert_eq!(quoted(&words), r"probe -H 'A: b' -- 'it'\''s' ''");
    }
}
