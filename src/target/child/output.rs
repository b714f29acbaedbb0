//! What the server prints: to its log line by line, the last lines kept for an error message.
#![expect(clippy::disallowed_types, reason = "the log is written here")]

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Lines kept.
const TAIL: usize = 20;
/// Characters of a line that are shown.
const SHOWN: usize = 200;
/// A line longer than this is cut into several, so that a server that prints none ends is no trouble.
const MAX_LINE: u64 = 16 * 1024;

/// The output of a server, being read.
pub(super) struct Output {
    tail: Arc<Mutex<VecDeque<String>>>,
    reader: Option<JoinHandle<io::Result<()>>>,
}

impl Output {
    /// Reads `from` to its end, in a thread of its own.
    pub(super) fn read(from: PipeReader, mut log: Option<File>) -> io::Result<Output> {
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let lines = Arc::clone(&tail);
        let reader = thread::Builder::new()
            .name("probe-output".to_owned())
            .spawn(move || {
                let mut from = BufReader::new(from);
                let mut line = Vec::new();
                let mut logged = Ok(());
                while (&mut from).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
                    // Whatever becomes of the log, the pipe is emptied: a full one stops the server.
                    if let (Some(log), Ok(())) = (&mut log, &logged) {
                        logged = log.write_all(&line);
                    }
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    if lines.len() == TAIL {
                        lines.pop_front();
                    }
                    lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                    line.clear();
                }
                logged
            })?;
        Ok(Output {
            tail,
            reader: Some(reader),
        })
    }

    /// Waits for the end of the output, and says how the log fared.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self.reader.take().map(JoinHandle::join) {
            Some(Ok(logged)) => logged,
            Some(Err(_)) => Err(io::Error::other("its reader ended early")),
            None => Ok(()),
        }
    }

    /// The last lines, as the end of a sentence.
    pub(super) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.is_empty() {
            return "; it printed nothing".to_owned();
        }
        let shown = |line: &String| line.chars().take(SHOWN).collect::<String>();
        let lines: Vec<String> = tail
            .iter()
            .map(|line| format!("    {}", shown(line)))
            .collect();
        format!("; its last lines were:\n{}", lines.join("\n"))
    }
}
