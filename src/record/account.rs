//! What a run writes into its own capture besides packets, as text that tools show and that is read
//! again: of the run as a whole, and of each connection what its socket did. What happened to a
//! connection is in neither; that is found out anew.

mod sides;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::str::FromStr;

use crate::flow::Protocol;
use crate::kernel::Sides;
use crate::outcome::{Attempt, Call, Cohort, Errno, Failure, Maker, Response, SocketEnd, TcpInfo};
use crate::time::Stamp;
use crate::wire::Ends;

/// Raised whenever a key's meaning changes; files of another format are ordinary captures.
const FORMAT: u32 = 1;

/// A run, as its capture tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAccount {
    /// The run's name; without spaces.
    pub run_id: String,
    /// Where connections were made to.
    pub server: SocketAddr,
    /// What they carried.
    pub protocol: Protocol,
    /// Whether they were made to ask nothing.
    pub asked_nothing: bool,
    /// The highest number of any connection.
    pub connections: u64,
    /// The instant before the first trigger.
    pub signal: Option<Stamp>,
    /// When the server's main process was seen to have exited.
    pub target_dead: Option<Stamp>,
}

/// A text is no account of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no account of a run in this program's format")]
pub struct ParseAccountError;

impl RunAccount {
    /// What such a text begins with.
    pub const MARK: &str = "probe.run ";
}

impl fmt::Display for RunAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunAccount { run_id, server, .. } = self;
        write!(
            f,
            "{}format={FORMAT} run_id={run_id} server={server} connections={}",
            Self::MARK,
            self.connections
        )?;
        match self.protocol {
            Protocol::Http => f.write_str(" protocol=http")?,
            Protocol::Opaque { expect } => {
                f.write_str(" protocol=bytes")?;
                pair(f, "expect_bytes", expect)?;
            }
        }
        pair(f, "asks", self.asked_nothing.then_some("nothing"))?;
        pair(f, "signal_unix_ns", self.signal)?;
        pair(f, "target_dead_unix_ns", self.target_dead)
    }
}

impl FromStr for RunAccount {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<RunAccount, ParseAccountError> {
        let read = || {
            let pairs = Pairs::of(text.strip_prefix(Self::MARK)?);
            let protocol = match pairs.word("protocol")? {
                "http" => Protocol::Http,
                "bytes" => Protocol::Opaque {
                    expect: pairs.number("expect_bytes"),
                },
                _ => return None,
            };
            (pairs.number("format") == Some(FORMAT)).then_some(RunAccount {
                run_id: name(pairs.word("run_id")?)?,
                server: pairs.number("server")?,
                protocol,
                asked_nothing: pairs.word("asks") == Some("nothing"),
                connections: pairs.number("connections")?,
                signal: pairs.number("signal_unix_ns").map(Stamp),
                target_dead: pairs.number("target_dead_unix_ns").map(Stamp),
            })
        };
        read().ok_or(ParseAccountError)
    }
}

/// A run's name; nothing that would do something to a terminal.
fn name(word: &str) -> Option<String> {
    let plain = word.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| word.to_owned())
}

/// What an account of a socket begins with.
pub const SOCKET_MARK: &str = "probe.socket ";

/// What a connection's socket did: each thing that an [`Attempt`] holds but its ends, which its
/// packets tell; and what the server's kernel showed of it. Times are nanoseconds from its last packet, `last`, which carries it: so they stay
/// true where a tool shifts times or cuts packets out.
pub fn of_socket(attempt: &Attempt, sides: &Sides, last: Stamp) -> String {
    let mut text = String::with_capacity(256);
    // Writing to a String cannot fail.
    let _ = write_socket(&mut text, attempt, last);
    let _ = sides::write(&mut text, sides, last);
    text
}

fn write_socket(text: &mut String, attempt: &Attempt, last: Stamp) -> fmt::Result {
    let since = |at: Option<Stamp>| at.map(|at| at.since(last));
    let Attempt {
        conn,
        maker,
        cohort,
        request_len,
        written,
        response,
        ..
    } = attempt;
    let (engine, cohort) = (maker.word(), cohort.word());
    write!(
        text,
        "{SOCKET_MARK}conn={conn} engine={engine} cohort={cohort}"
    )?;
    pair(text, "due", since(attempt.due))?;
    pair(text, "opened", since(Some(attempt.opened)))?;
    pair(text, "connected", since(attempt.connected))?;
    pair(text, "request", since(attempt.request))?;
    write!(text, " request_len={request_len} written={written}")?;
    write!(
        text,
        " read={} responses={}",
        response.bytes, response.responses
    )?;
    pair(text, "status", response.status)?;
    pair(text, "first_byte", since(response.first_byte))?;
    pair(text, "head", since(response.head))?;
    pair(text, "complete", since(response.complete))?;
    pair(text, "malformed", since(response.malformed))?;
    pair(text, "ended", since(Some(attempt.ended)))?;
    write!(text, " end={}", end_word(attempt.end))?;
    if let SocketEnd::Failed(Failure { call, errno }) = attempt.end {
        write!(
            text,
            " call={} errno={}",
            call_word(call),
            errno_word(errno)
        )?;
    }
    if let Some(info) = attempt.info {
        pair(text, "acked", info.acked)?;
        write!(text, " retransmits={}", info.total_retransmits)?;
    }
    Ok(())
}

/// Reads what [`of_socket`] wrote of the connection between `ends` whose last packet came at `last`.
pub fn to_socket(text: &str, ends: Ends, last: Stamp) -> Option<(Attempt, Sides)> {
    let pairs = Pairs::of(text.strip_prefix(SOCKET_MARK)?);
    let at = |key| {
        let since: Option<i64> = pairs.number(key);
        since.map(|ns| Stamp(last.0.saturating_add(ns)))
    };
    let end = match pairs.word("end")? {
        "eof" => SocketEnd::Eof,
        "deadline" => SocketEnd::Deadline,
        "enough" => SocketEnd::Enough,
        "left" => SocketEnd::Left,
        "disturbed" => SocketEnd::Disturbed,
        "interrupted" => SocketEnd::Interrupted,
        "failed" => SocketEnd::Failed(Failure {
            call: to_call(pairs.word("call")?)?,
            errno: to_errno(pairs.word("errno")?)?,
        }),
        _ => return None,
    };
    let retransmits: Option<u32> = pairs.number("retransmits");
    let attempt = Attempt {
        conn: pairs.number("conn")?,
        maker: match pairs.word("engine") {
            // Before there was a second one.
            None | Some("socket") => Maker::Socket,
            Some("raw") => Maker::Raw,
            Some(_) => return None,
        },
        cohort: match pairs.word("cohort")? {
            "steady" => Cohort::Steady,
            "idle" => Cohort::Idle,
            _ => return None,
        },
        local: Some(ends.client),
        peer: ends.server,
        due: at("due"),
        opened: at("opened")?,
        connected: at("connected"),
        request: at("request"),
        request_len: pairs.number("request_len")?,
        written: pairs.number("written")?,
        response: Response {
            bytes: pairs.number("read")?,
            status: pairs.number("status"),
            responses: pairs.number("responses")?,
            first_byte: at("first_byte"),
            head: at("head"),
            complete: at("complete"),
            malformed: at("malformed"),
        },
        end,
        ended: at("ended")?,
        info: retransmits.map(|total_retransmits| TcpInfo {
            acked: pairs.number("acked"),
            total_retransmits,
        }),
    };
    Some((attempt, sides::read(&pairs, last)))
}

fn end_word(end: SocketEnd) -> &'static str {
    match end {
        SocketEnd::Eof => "eof",
        SocketEnd::Failed(_) => "failed",
        SocketEnd::Deadline => "deadline",
        SocketEnd::Enough => "enough",
        SocketEnd::Left => "left",
        SocketEnd::Disturbed => "disturbed",
        SocketEnd::Interrupted => "interrupted",
    }
}

fn call_word(call: Call) -> &'static str {
    match call {
        Call::Socket => "socket",
        Call::Connect => "connect",
        Call::Write => "write",
        Call::Read => "read",
    }
}

fn to_call(word: &str) -> Option<Call> {
    [Call::Socket, Call::Connect, Call::Write, Call::Read]
        .into_iter()
        .find(|&call| call_word(call) == word)
}

fn errno_word(errno: Errno) -> String {
    match errno {
        Errno::Refused => "refused".to_owned(),
        Errno::Reset => "reset".to_owned(),
        Errno::Pipe => "pipe".to_owned(),
        Errno::TimedOut => "timed_out".to_owned(),
        Errno::Unreachable(code) => format!("unreachable:{code}"),
        Errno::Other(code) => format!("other:{code}"),
    }
}

fn to_errno(word: &str) -> Option<Errno> {
    Some(match word.split_once(':') {
        None => match word {
            "refused" => Errno::Refused,
            "reset" => Errno::Reset,
            "pipe" => Errno::Pipe,
            "timed_out" => Errno::TimedOut,
            _ => return None,
        },
        Some(("unreachable", code)) => Errno::Unreachable(code.parse().ok()?),
        Some(("other", code)) => Errno::Other(code.parse().ok()?),
        Some(_) => return None,
    })
}

/// Adds what was seen; what was not leaves no key.
fn pair(out: &mut impl fmt::Write, key: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(out, " {key}={value}"))
}

/// Words of the form `key=value`.
struct Pairs<'a>(HashMap<&'a str, &'a str>);

impl<'a> Pairs<'a> {
    fn of(text: &'a str) -> Pairs<'a> {
        let words = text.split_ascii_whitespace();
        Pairs(words.filter_map(|word| word.split_once('=')).collect())
    }

    fn word(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied()
    }

    fn number<T: FromStr>(&self, key: &str) -> Option<T> {
        self.word(key)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::script::ends;

    /// When the last packet came.
    const LAST: Stamp = Stamp(1_763_861_791_000_000_000);

    fn attempt(end: SocketEnd) -> Attempt {
        Attempt {
            conn: 12,
            maker: Maker::Raw,
            cohort: Cohort::Idle,
            local: Some(ends().client),
            peer: ends().server,
            due: Some(Stamp(1_763_861_787_000_000_000)),
            opened: Stamp(1_763_861_787_000_000_123),
            connected: Some(Stamp(1_763_861_787_000_050_000)),
            request: Some(Stamp(1_763_861_787_000_060_000)),
            request_len: 181,
            written: 100,
            response: Response {
                bytes: 7,
                status: Some(503),
                responses: 1,
                first_byte: Some(Stamp(1_763_861_787_000_070_000)),
                head: Some(Stamp(1_763_861_787_000_071_000)),
                complete: Some(Stamp(1_763_861_787_000_072_000)),
                malformed: Some(Stamp(1_763_861_787_000_073_000)),
            },
            end,
            ended: Stamp(1_763_861_792_000_000_000),
            info: Some(TcpInfo {
                acked: Some(100),
                total_retransmits: 2,
            }),
        }
    }

    /// Attempts have no equality of their own; their texts for debugging show every field.
    fn assert_kept(attempt: &Attempt) {
        let text = of_socket(attempt, &Sides::default(), LAST);
        let (again, _) = to_socket(&text, ends(), LAST).expect(&text);
        assert_eq!(format!("{again:?}"), format!("{attempt:?}"), "{text}");
    }

    #[test]
    fn a_socket_is_read_as_it_was_written() {
        let ends = [
            SocketEnd::Eof,
            SocketEnd::Deadline,
            SocketEnd::Enough,
            SocketEnd::Left,
            SocketEnd::Disturbed,
            SocketEnd::Interrupted,
        ];
        ends.into_iter().for_each(|end| assert_kept(&attempt(end)));
        let errnos = [
            Errno::Refused,
            Errno::Reset,
            Errno::Pipe,
            Errno::TimedOut,
            Errno::Unreachable(113),
            Errno::Other(99),
        ];
        for call in [Call::Socket, Call::Connect, Call::Write, Call::Read] {
            for errno in errnos {
                assert_kept(&attempt(SocketEnd::Failed(Failure { call, errno })));
            }
        }
    }

    #[test]
    fn what_a_socket_never_saw_leaves_no_key() {
        let bare = Attempt {
            cohort: Cohort::Steady,
            due: None,
            connected: None,
            request: None,
            response: Response::default(),
            info: None,
            ..attempt(SocketEnd::Deadline)
        };
        assert_kept(&bare);
        assert_eq!(
            of_socket(&bare, &Sides::default(), LAST),
            "probe.socket conn=12 engine=raw cohort=steady opened=-3999999877 request_len=181 written=100 read=0 \
             responses=0 ended=1000000000 end=deadline"
        );
        assert_kept(&Attempt {
            info: Some(TcpInfo::default()),
            ..bare
        });
    }

    #[test]
    fn a_run_is_read_as_it_was_written() {
        let run = RunAccount {
            run_id: "20261123T120000-4242-close-003".to_owned(),
            server: "[::1]:9292".parse().unwrap(),
            protocol: Protocol::Http,
            asked_nothing: false,
            connections: 50,
            signal: Some(Stamp(1_763_861_787_000_000_123)),
            target_dead: Some(Stamp(1_763_861_788_000_000_000)),
        };
        assert_eq!(run.to_string().parse(), Ok(run.clone()));
        for expect in [None, Some(7)] {
            let run = RunAccount {
                protocol: Protocol::Opaque { expect },
                asked_nothing: true,
                signal: None,
                target_dead: None,
                ..run.clone()
            };
            assert_eq!(run.to_string().parse(), Ok(run));
        }
    }

    #[test]
    fn texts_of_anybody_else_are_no_accounts() {
        let run = |text: &str| text.parse::<RunAccount>();
        assert!(
            run("probe.run format=2 run_id=x server=1.2.3.4:5 connections=1 protocol=http")
                .is_err()
        );
        assert!(run("retransmission of the packet before").is_err());
        assert!(run("probe.run ").is_err());
        let escape =
            "probe.run format=1 run_id=\u{1b}[2J server=1.2.3.4:5 connections=1 protocol=http";
        assert!(run(escape).is_err());
        assert!(run(&escape.replace("\u{1b}[2J", "x")).is_ok());
        for text in [
            "probe.socket",
            "probe.socket conn=1",
            "conn=12 cohort=steady",
            "probe.socket conn=12 engine=raw cohort=steady opened=1 request_len=1 written=1 read=0 \
             responses=0 ended=1 end=failed call=connect",
        ] {
            assert!(to_socket(text, ends(), LAST).is_none(), "{text}");
        }
    }
}
