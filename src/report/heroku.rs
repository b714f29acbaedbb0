//! Router lines: each connection as Heroku's router would have logged it, in logfmt, `key=value` or
//! `key="quoted value"`. What the router calls each error is left to [`vocabulary`].

use std::fmt::Write as _;
use std::io::{self, Write};

use super::{Context, vocabulary};
use crate::connect::request::Head;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::time::Stamp;

/// Writes a record as one line.
pub(crate) fn write(out: &mut impl Write, record: &Record, run: &Context) -> io::Result<()> {
    let request = run.request.as_ref();
    let head = request.map(|request| request.head(record.conn));
    out.write_all(line(record, run, &head.unwrap_or_default()).as_bytes())
}

/// What the router would have said.
struct Verdict {
    sock: Option<&'static str>,
    at: &'static str,
    /// Code and description.
    error: Option<(&'static str, &'static str)>,
    status: Option<u16>,
    /// Whether there was a connection to speak of; none where the router has no word.
    connected: Option<bool>,
}

impl Verdict {
    fn of(record: &Record, run: &Context) -> Verdict {
        if record.outcome == Outcome::Served {
            return Verdict {
                sock: None,
                at: "info",
                error: None,
                status: record.http_status,
                connected: Some(true),
            };
        }
        match run.heroku_code(record).and_then(vocabulary::heroku) {
            Some(error) => Verdict {
                sock: error.sock,
                at: error.at,
                error: Some((error.code, error.desc)),
                status: Some(error.status),
                connected: Some(error.connected),
            },
            // A row all the same, with our own word: no code of the router's is made up for it.
            None => Verdict {
                sock: None,
                at: "error",
                error: Some(("", record.outcome.word())),
                status: None,
                connected: None,
            },
        }
    }
}

fn line(record: &Record, run: &Context, head: &Head) -> String {
    let verdict = Verdict::of(record, run);
    let times = &record.times;
    let (until_connected, service, bytes) = match verdict.connected {
        Some(true) => (
            times.syn_ack,
            times.syn_ack.zip(times.end),
            record.response_bytes,
        ),
        // The time that it was tried for.
        Some(false) => (times.end, None, None),
        None => (None, None, None),
    };
    let connect = until_connected.map(|at| (times.opened, at));

    let mut line = Line::new(ended(record));
    if let Some(sock) = verdict.sock {
        line.bare("sock", sock);
    }
    line.bare("at", verdict.at);
    if let Some((code, desc)) = verdict.error {
        line.bare("code", code);
        line.quoted("desc", desc);
    }
    line.bare("method", &head.method);
    line.quoted("path", &head.path);
    line.bare("host", &head.host);
    line.bare("request_id", &head.request_id);
    line.quoted("fwd", &shown(record.src.map(|src| src.ip())));
    line.bare("dyno", "web.1");
    line.bare("connect", &millis(connect));
    line.bare("service", &millis(service));
    line.bare("status", &shown(verdict.status));
    line.bare("bytes", &shown(bytes));
    line.bare("protocol", "http");
    line.end()
}

/// When it ended; where nothing decided it, the last that was seen of it.
fn ended(record: &Record) -> Stamp {
    let times = &record.times;
    let seen = [
        times.syn_ack,
        times.request,
        times.request_acked,
        times.first_byte,
    ];
    let last = seen.into_iter().flatten().fold(times.opened, Stamp::max);
    times.end.unwrap_or(last)
}

/// A span in whole milliseconds; nothing where either end was not seen.
fn millis(span: Option<(Stamp, Stamp)>) -> String {
    span.map_or_else(String::new, |(from, to)| {
        format!("{}ms", to.since(from).max(0) / 1_000_000)
    })
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// A line as it grows. No value can end it, or its own quotes.
struct Line(String);

impl Line {
    /// Begins with the time and the sender, as `heroku logs` prints them.
    fn new(at: Stamp) -> Line {
        let at = jiff::Timestamp::from_nanosecond(at.0.into()).unwrap_or_default();
        let at = at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00");
        Line(format!("{at} heroku[router]:"))
    }

    /// Adds a value that the router leaves bare, in quotes only where it could be misread.
    fn bare(&mut self, key: &str, value: &str) {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\');
        if value.bytes().all(plain) {
            // Writing to a String cannot fail.
            let _ = write!(self.0, " {key}={value}");
        } else {
            self.quoted(key, value);
        }
    }

    /// Adds a value that the router puts in quotes.
    fn quoted(&mut self, key: &str, value: &str) {
        let _ = write!(self.0, " {key}=\"");
        for c in value.chars() {
            let _ = match c {
                '"' | '\\' => write!(self.0, "\\{c}"),
                '\n' => self.0.write_str("\\n"),
                '\r' => self.0.write_str("\\r"),
                '\t' => self.0.write_str("\\t"),
                // Unicode's own line ends are no control characters, and end a line for some.
                '\u{2028}' | '\u{2029}' => write!(self.0, "\\u{:04x}", u32::from(c)),
                c if c.is_control() => write!(self.0, "\\u{:04x}", u32::from(c)),
                c => self.0.write_char(c),
            };
        }
        self.0.push('"');
    }

    fn end(mut self) -> String {
        self.0.push('\n');
        self.0
    }
}

#[cfg(test)]
mod tests;
