//! What the probe must say of a fate: once with packets, once from its sockets alone, over IPv4 and
//! IPv6. Every row has to say it.
#![expect(clippy::disallowed_types, reason = "tests start the probe")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use probe::sequence::Sequence;
use probe::wire::Direction;

use super::fate_server::{CONNECTIONS, LOOPBACKS, Server};
use super::recorded::assert_told_again;
use super::{Row, rows, stderr};

/// Cells that every row has unless a fate says otherwise: the vantages agree and missed nothing.
const ALWAYS: &str = "socket_outcome= caveats=";

/// Cells that a socket alone cannot fill.
const SOCKET_ALONE: &str = "engine=socket evidence=socket sequence= conn_state= history= rst_kind= syn_retransmits= retransmits=";

/// What the rows of one fate say, as `column=value` words; an empty value is an empty cell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fate {
    /// Whatever the vantage.
    pub(crate) says: &'static str,
    /// The shape of the sequence: lengths and repeats left out. Where it ends with ` ...` more may
    /// follow, which the client's own timing decides.
    pub(crate) sequence: &'static str,
    /// With packets.
    pub(crate) wire: &'static str,
    /// Without.
    pub(crate) socket: &'static str,
}

/// A request that the server's kernel took and then reset. A queue whose listener closes, a close
/// with the request unread and SO_LINGER 0 are these same packets: nothing more can be said.
pub(crate) const RESET_UNANSWERED: Fate = Fate {
    says: "outcome=reset_empty lost=true errno=ECONNRESET curl_exit=56 heroku_code=H13 \
           request_acked=true response_bytes=0 cause=unknown retry_safe=unknown",
    sequence: ">S <S. >. >P. <. <R.",
    wire: "conn_state=RSTR history=ShADar rst_kind=active \
           cause_candidates=never_accepted+accepted_unread+read_unanswered",
    socket: "cause_candidates=queue_full+never_accepted+accepted_unread+read_unanswered",
};

/// The server's kernel took the request, and nothing more came before the deadline.
pub(crate) const HUNG: Fate = Fate {
    says: "outcome=hung lost=true errno= curl_exit=28 heroku_code=H12 request_acked=true \
           response_bytes=0 cause=unknown \
           cause_candidates=never_accepted+accepted_unread+read_unanswered retry_safe=unknown",
    sequence: ">S <S. >. >P. <. >F. ...",
    wire: "conn_state=S2 rst_kind=",
    socket: "",
};

/// A RST answers the SYN.
pub(crate) const REFUSED: Fate = Fate {
    says: "outcome=refused lost=false errno=ECONNREFUSED curl_exit=7 heroku_code=H21 \
           request_acked= response_bytes=0 cause=unknown cause_candidates=not_listening \
           retry_safe=yes",
    sequence: ">S <R.",
    wire: "conn_state=REJ history=Sr rst_kind=passive",
    socket: "",
};

/// Whose TCP makes the connections, and whether the probe looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vantage {
    /// Sockets and their packets.
    Wire,
    /// Sockets alone.
    Socket,
    /// The probe's own TCP, which is its own vantage.
    Raw,
}

impl Vantage {
    /// Those of the socket engine.
    pub(crate) const SOCKETS: [Vantage; 2] = [Vantage::Wire, Vantage::Socket];
    /// Each in turn.
    pub(crate) const ALL: [Vantage; 3] = [Vantage::Wire, Vantage::Socket, Vantage::Raw];

    /// The options that choose it.
    pub(crate) fn options(self) -> [&'static str; 4] {
        let (engine, observe) = match self {
            Vantage::Wire => ("socket", "socket,wire"),
            Vantage::Socket => ("socket", "socket"),
            Vantage::Raw => ("raw", "wire"),
        };
        ["--engine", engine, "--observe", observe]
    }

    /// Whether it sees packets.
    pub(crate) fn sees_packets(self) -> bool {
        self != Vantage::Socket
    }
}

impl Fate {
    /// Starts the server and probes it, on both loopbacks and from both vantages; the connections
    /// that are looked at are the idle ones where there are any.
    pub(crate) fn is_met(&self, options: &str, start: impl Fn(&str) -> Server) {
        for host in LOOPBACKS {
            self.is_met_on(host, options, || start(host));
        }
    }

    /// The same on one address.
    pub(crate) fn is_met_on(&self, host: &str, options: &str, start: impl Fn() -> Server) {
        let [wire, _, raw] = Vantage::ALL.map(|vantage| {
            let server = start();
            let rows = probe_rows(server.address(), vantage, options);
            server.finish();
            let rows = cohort(rows, options);
            assert_eq!(rows.len(), CONNECTIONS, "{host}, {vantage:?}");
            self.is_told_by(&rows, vantage);
            rows
        });
        assert_eq!(essences(&raw), essences(&wire), "{host}");
    }

    /// Holds every row against it.
    pub(crate) fn is_told_by(&self, rows: &[Row], vantage: Vantage) {
        for row in rows {
            let mut wrong: Vec<String> = self
                .cells(vantage)
                .into_iter()
                .filter(|(column, expected)| row[*column] != *expected)
                .map(|(column, expected)| format!("{column} is not `{expected}`"))
                .collect();
            if vantage.sees_packets() && !self.fits(&row["sequence"]) {
                wrong.push(format!("the sequence is not `{}`", self.sequence));
            }
            let filled: BTreeMap<_, _> = row.iter().filter(|(_, cell)| !cell.is_empty()).collect();
            assert!(wrong.is_empty(), "{}: {filled:#?}", wrong.join(", "));
        }
    }

    fn fits(&self, sequence: &str) -> bool {
        let sequence: Sequence = sequence.parse().expect("a sequence");
        let shape = sequence.shape().to_string();
        match self.sequence.strip_suffix(" ...") {
            Some(beginning) => shape.starts_with(beginning),
            None => shape == self.sequence,
        }
    }

    /// Later words override earlier ones.
    fn cells(&self, vantage: Vantage) -> BTreeMap<&'static str, &'static str> {
        let by_vantage = match vantage {
            Vantage::Wire => [
                ALWAYS,
                self.says,
                "engine=socket evidence=socket+wire",
                self.wire,
            ],
            Vantage::Socket => [ALWAYS, self.says, SOCKET_ALONE, self.socket],
            Vantage::Raw => [ALWAYS, self.says, "engine=raw evidence=wire", self.wire],
        };
        let words = by_vantage.iter().flat_map(|cells| cells.split_whitespace());
        words
            .map(|word| word.split_once('=').expect("column=value"))
            .collect()
    }
}

/// Runs the probe, options separated by spaces, and reads its rows. With packets it keeps them, and
/// they must tell the same again.
pub(crate) fn probe_rows(server: SocketAddr, vantage: Vantage, options: &str) -> Vec<Row> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let capture = folder.path().join("run.pcapng");
    let mut command = probe(server, vantage, options);
    if vantage.sees_packets() {
        command.arg("--pcap").arg(&capture);
    }
    let output = command.output().expect("the probe starts");
    let rows = rows(&output.stdout);
    // Where no connection could be made nothing was measured.
    let measured = rows.iter().any(|row| row["outcome"] != "local_error");
    let code = if measured { 0 } else { 2 };
    assert_eq!(
        output.status.code(),
        Some(code),
        "{options}: {}",
        stderr(&output)
    );
    if vantage.sees_packets() {
        assert_told_again(&rows, &capture);
    }
    rows
}

/// The probe's command, not yet started; its rows go to stdout. Unless the options say otherwise it
/// makes [`CONNECTIONS`] connections.
pub(crate) fn probe(server: SocketAddr, vantage: Vantage, options: &str) -> Command {
    let mut command = super::probe();
    command
        .args(["--target", &server.to_string()])
        .args(vantage.options())
        .args(["--format", "csv"])
        .args(options.split_whitespace());
    if !options.contains("--count") {
        command.args(["--count", &CONNECTIONS.to_string()]);
    }
    command
}

/// What any TCP must have made of these connections, whoever made them: see [`essence`].
fn essences(rows: &[Row]) -> Vec<String> {
    let mut essences: Vec<String> = rows.iter().map(essence).collect();
    essences.sort();
    essences
}

/// The order of SYNs, data and ends. What else the engines may differ in is set aside, and nothing but
/// that:
///
/// - segments that acknowledge and do nothing else: when they are sent, alone or with something, is
///   each TCP's own choice, and often the scheduler's;
/// - segments sent again: the kernel probes for the loss of the last one (RFC 8985) long before our
///   timer is up;
/// - of a request that was not acknowledged to its end how much was sent, and the FIN behind it;
/// - where the server reset a connection the client's FIN: the two cross;
/// - behind the FINs of both a FIN sent again, which finds the connection gone, and the RST that it
///   draws from the client.
pub(crate) fn essence(row: &Row) -> String {
    let sequence: Sequence = row["sequence"].parse().expect("a sequence");
    let was_reset = sequence.steps().iter().any(|step| {
        let by_server = step.direction == Direction::ToClient;
        by_server && step.flags.rst()
    });
    let request_failed = row["request_acked"] == "false";
    let mut words: Vec<(Direction, &str, u64)> = Vec::new();
    let (mut client_ended, mut server_ended) = (false, false);
    for step in sequence.unfolded() {
        let ours = step.direction == Direction::ToServer;
        let (syn, fin, rst) = (step.flags.syn(), step.flags.fin(), step.flags.rst());
        let data = (step.len > 0).then_some("data");
        let both_ended = client_ended && server_ended;
        client_ended |= ours && fin;
        server_ended |= !ours && fin;
        for word in [
            syn.then_some("SYN"),
            data,
            fin.then_some("FIN"),
            rst.then_some("RST"),
        ] {
            let Some(word) = word else { continue };
            let set_aside = match word {
                "data" => ours && request_failed,
                "FIN" => both_ended || ours && (request_failed || was_reset),
                "RST" => both_ended && ours,
                _ => false,
            };
            let len = if word == "data" { step.len.into() } else { 0 };
            match words.last_mut() {
                _ if set_aside => {}
                Some((direction, last, sum)) if (*direction, *last) == (step.direction, word) => {
                    *sum += len;
                }
                _ => words.push((step.direction, word, len)),
            }
        }
    }
    let words = words.into_iter().map(|(direction, word, sum)| {
        // A request's length has the probe's pid in it.
        let whole = sum.to_string() == row["request_bytes"];
        let sum = match direction {
            Direction::ToServer if whole => "whole".to_owned(),
            _ => sum.to_string(),
        };
        format!("{}{word} {sum}", direction.arrow())
    });
    words.collect::<Vec<_>>().join(", ")
}

/// The rows that a test is about.
fn cohort(rows: Vec<Row>, options: &str) -> Vec<Row> {
    let only_idle = options.contains("--idle");
    rows.into_iter()
        .filter(|row| !only_idle || row["cohort"] == "idle")
        .collect()
}
