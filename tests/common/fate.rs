//! What the probe must say of a fate: once with packets, once from its sockets alone, over IPv4 and
//! IPv6. Every row has to say it.
#![expect(clippy::disallowed_types, reason = "tests start the probe")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use probe::sequence::Sequence;

use crate::common::recorded::assert_told_again;
use crate::common::{self, Row};
use crate::fate_server::{CONNECTIONS, LOOPBACKS, Server};

/// Cells that every row has unless a fate says otherwise: the vantages agree and missed nothing.
const ALWAYS: &str = "socket_outcome= caveats= engine=socket";

/// Cells that a socket alone cannot fill.
const SOCKET_ALONE: &str =
    "evidence=socket sequence= conn_state= history= rst_kind= syn_retransmits= retransmits=";

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

/// Whether the probe looks at packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vantage {
    Wire,
    Socket,
}

impl Vantage {
    /// Each in turn.
    pub(crate) const BOTH: [Vantage; 2] = [Vantage::Wire, Vantage::Socket];

    /// What `--observe` calls it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Vantage::Wire => "socket,wire",
            Vantage::Socket => "socket",
        }
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
        for vantage in Vantage::BOTH {
            let server = start();
            let rows = probe_rows(server.address(), vantage, options);
            server.finish();
            let rows = cohort(rows, options);
            assert_eq!(rows.len(), CONNECTIONS, "{host}, {vantage:?}");
            self.is_told_by(&rows, vantage);
        }
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
            if vantage == Vantage::Wire && !self.fits(&row["sequence"]) {
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
            Vantage::Wire => [ALWAYS, self.says, "evidence=socket+wire", self.wire],
            Vantage::Socket => [ALWAYS, self.says, SOCKET_ALONE, self.socket],
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
    if vantage == Vantage::Wire {
        command.arg("--pcap").arg(&capture);
    }
    let output = command.output().expect("the probe starts");
    let stderr = common::stderr(&output);
    assert!(output.status.success(), "{options}: {stderr}");
    let rows = common::rows(&output.stdout);
    if vantage == Vantage::Wire {
        assert_told_again(&rows, &capture);
    }
    rows
}

/// The probe's command, not yet started; its rows go to stdout. Unless the options say otherwise it
/// makes [`CONNECTIONS`] connections.
pub(crate) fn probe(server: SocketAddr, vantage: Vantage, options: &str) -> Command {
    let mut command = common::probe();
    command
        .args(["--target", &server.to_string()])
        .args(["--observe", vantage.option()])
        .args(["--format", "csv"])
        .args(options.split_whitespace());
    if !options.contains("--count") {
        command.args(["--count", &CONNECTIONS.to_string()]);
    }
    command
}

/// The rows that a test is about.
fn cohort(rows: Vec<Row>, options: &str) -> Vec<Row> {
    let only_idle = options.contains("--idle");
    rows.into_iter()
        .filter(|row| !only_idle || row["cohort"] == "idle")
        .collect()
}
