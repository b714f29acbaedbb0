//! Values of options: durations, signals and when they go out, headers, vantages.

use std::num::{IntErrorKind, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::target::trigger::When;

/// A span with its unit: `200ms`, `5s`, `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    not_negative(text, "0s")?;
    let remedy =
        || format!("`{text}` is no duration; give a number with its unit, as in 200ms or 5s");
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(remedy());
    }
    let span: jiff::SignedDuration = text.parse().map_err(|_| remedy())?;
    Duration::try_from(span).map_err(|_| format!("`{text}` is negative; give 0s or more"))
}

/// A span above zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    not_negative(text, "1ms")?;
    match duration(text)? {
        Duration::ZERO => {
            Err("a duration of 0 leaves no time for anything; give 1ms or more".to_owned())
        }
        span => Ok(span),
    }
}

/// Refuses what begins with a minus and a digit; `least` is what may be given.
pub(super) fn not_negative(text: &str, least: &str) -> Result<(), String> {
    let number = text.strip_prefix('-').unwrap_or_default();
    match number.starts_with(|c: char| c.is_ascii_digit()) {
        true => Err(format!("`{text}` is negative; give {least} or more")),
        false => Ok(()),
    }
}

/// A count above zero.
pub(super) fn positive(text: &str) -> Result<u64, String> {
    match count(text, 1)? {
        0 => Err("0 would measure nothing; give 1 or more".to_owned()),
        n => Ok(n),
    }
}

/// A count that may be zero.
pub(super) fn whole(text: &str) -> Result<u64, String> {
    count(text, 0)
}

/// A count; `least` is what may be given.
fn count(text: &str, least: u64) -> Result<u64, String> {
    not_negative(text, &least.to_string())?;
    text.parse()
        .map_err(|error: ParseIntError| match error.kind() {
            IntErrorKind::PosOverflow => format!("`{text}` is more than there can be; give less"),
            _ => format!("`{text}` is no whole number; give {least} or more"),
        })
}

/// More workers or threads than any machine serves with.
const MOST_WORKERS: usize = 1_000;

/// How many workers there are, or threads in each.
pub(super) fn workers(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("with 0 nothing would be served; give 1 or more".to_owned()),
        Ok(n) if n <= MOST_WORKERS => Ok(n),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is no number of them; give 1 to {MOST_WORKERS}"
        )),
    }
}

/// What listen() is told.
pub(super) fn backlog(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(n) if n >= 0 => Ok(n),
        Ok(_) | Err(_) => Err(format!("`{text}` is no backlog; give 0 to {}", i32::MAX)),
    }
}

/// A process id.
pub(super) fn pid(text: &str) -> Result<i32, String> {
    match text.parse::<i32>() {
        Ok(pid) if pid > 1 => Ok(pid),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is no process of a server's; give the pid of its main process"
        )),
    }
}

/// Rates below leave a day between connections; rates above are one a microsecond.
const SLOWEST: f64 = 0.00001;
const FASTEST: f64 = 1_000_000.0;

/// A rate, per second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (SLOWEST..=FASTEST).contains(&rate) => Ok(rate),
        Ok(_) | Err(_) => Err(format!(
            "`{text}` is no rate; give connections per second, from {SLOWEST} to {FASTEST}"
        )),
    }
}

/// `none`, or a signal and when it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalArg {
    /// No signal at all, not even the default one.
    None,
    /// That signal; at half the count where nothing else is said.
    Send(Signal, Option<WhenArg>),
}

impl FromStr for SignalArg {
    type Err = String;

    fn from_str(text: &str) -> Result<SignalArg, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(SignalArg::None);
        }
        let (name, when) = match text.split_once('@') {
            Some((name, when)) => (name, Some(when.parse()?)),
            None => (text, None),
        };
        Ok(SignalArg::Send(signal(name)?, when))
    }
}

/// A signal by name, with or without SIG, in any case, or by number.
fn signal(name: &str) -> Result<Signal, String> {
    let unknown = || {
        format!(
            "`{name}` is no signal; give a name or number that `kill -l` lists, as in TERM or 15"
        )
    };
    if let Ok(number) = name.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| unknown());
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    Signal::from_str(&full).map_err(|_| unknown())
}

/// When a trigger is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WhenArg(pub(crate) When);

impl FromStr for WhenArg {
    type Err = String;

    fn from_str(text: &str) -> Result<WhenArg, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let n = text
                .parse()
                .map_err(|_| format!("`{text}` is too many connections"))?;
            return Ok(WhenArg(When::Started(n)));
        }
        not_negative(text, "0s, or 1 connection,")?;
        match duration(text) {
            Ok(span) => Ok(WhenArg(When::After(span))),
            Err(_) => Err(format!(
                "`{text}` is no time; give a duration after the first SYN (200ms) or how many \
                 connections are started before (25)"
            )),
        }
    }
}

/// A header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let remedy = || format!("`{text}` is no header; give `Name: value`");
        let (name, value) = text.split_once(':').ok_or_else(remedy)?;
        // RFC 9110 5.1 and 5.5: a token, then no line breaks.
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let broken = value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
        if name.is_empty() || !name.bytes().all(token) || broken {
            return Err(remedy());
        }
        Ok(Header {
            name: name.to_owned(),
            value: value.trim().to_owned(),
        })
    }
}

/// A request's path: no spaces or line breaks, which would end the request line.
pub(super) fn path(text: &str) -> Result<String, String> {
    let clean = text.bytes().all(|b| b.is_ascii_graphic());
    if clean && (text.starts_with('/') || text == "*") {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no path; begin it with / and write spaces and other signs as %20 and the like"
        ))
    }
}

/// A request's method (RFC 9110 9.1).
pub(super) fn method(text: &str) -> Result<String, String> {
    if text == "CONNECT" {
        return Err(
            "CONNECT asks a proxy for a tunnel, which is no response; give another".to_owned(),
        );
    }
    let token = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphabetic() || b == b'-');
    if token {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "`{text}` is no method; give one word, as in GET or POST"
        ))
    }
}

/// Which vantages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observe {
    /// All that this user may.
    Auto,
    /// Just these; the socket always is.
    Only {
        /// Packets.
        wire: bool,
        /// The server's sock_diag.
        diag: bool,
        /// Tracepoints of the server's kernel.
        trace: bool,
    },
}

impl FromStr for Observe {
    type Err = String;

    fn from_str(text: &str) -> Result<Observe, String> {
        if text == "auto" {
            return Ok(Observe::Auto);
        }
        let (mut wire, mut diag, mut trace) = (false, false, false);
        for word in text.split(',').map(str::trim) {
            match word {
                "socket" => {}
                "wire" => wire = true,
                "diag" => diag = true,
                "trace" => trace = true,
                _ => {
                    return Err(format!(
                        "`{word}` is no vantage; give socket, wire, diag, trace, several with \
                         commas, or auto"
                    ));
                }
            }
        }
        Ok(Observe::Only { wire, diag, trace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_name_in_any_case_or_by_number() {
        for text in ["TERM", "sigterm", "SigTerm", "15"] {
            assert_eq!(
                text.parse(),
                Ok(SignalArg::Send(Signal::SIGTERM, None)),
                "{text}"
            );
        }
        assert_eq!("none".parse(), Ok(SignalArg::None));
        assert!(
            "TERMINATE"
                .parse::<SignalArg>()
                .unwrap_err()
                .contains("kill -l")
        );
        assert!("0".parse::<SignalArg>().is_err());
    }

    #[test]
    fn when_is_a_duration_or_a_count() {
        let started = |n| SignalArg::Send(Signal::SIGQUIT, Some(WhenArg(When::Started(n))));
        assert_eq!("QUIT@25".parse(), Ok(started(25)));
        let after = When::After(Duration::from_millis(200));
        assert_eq!(
            "QUIT@200ms".parse(),
            Ok(SignalArg::Send(Signal::SIGQUIT, Some(WhenArg(after))))
        );
        for text in ["TERM@", "TERM@soon", "TERM@-5", "TERM@1.5"] {
            assert!(text.parse::<SignalArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("5").unwrap_err().contains("unit"));
        for (text, least) in [("-5s", "0s"), ("-5", "0s")] {
            let said = format!("`{text}` is negative; give {least} or more");
            assert_eq!(duration(text), Err(said));
        }
        assert!(positive_duration("-1s").unwrap_err().contains("give 1ms"));
        assert!(positive_duration("0s").is_err());
    }

    #[test]
    fn headers_cannot_smuggle_lines() {
        assert!("A: b\r\nC: d".parse::<Header>().is_err());
        assert!("no colon".parse::<Header>().is_err());
        assert_eq!(
            "A: b:c ".parse(),
            Ok(Header {
                name: "A".to_owned(),
                value: "b:c".to_owned()
            })
        );
    }
}
