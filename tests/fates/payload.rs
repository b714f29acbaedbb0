//! Connections that speak something else than HTTP: an answer is bytes and an end, or enough bytes.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::common::enter_namespace;
use crate::fate::Fate;
use crate::fate_server::{Connection, Listener};

const PING: &[u8] = b"PING\n";
const PONG: &[u8] = b"PONG\n";

const SERVED: Fate = Fate {
    says: "outcome=served lost=false errno= curl_exit=0 http_status= requests=1 responses=1 \
           request_bytes=5 response_bytes=5 request_acked=true cause= retry_safe=",
    sequence: ">S <S. >. >P. <. <P. >. ...",
    wire: "rst_kind=",
    socket: "",
};

fn payload() -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(PING).expect("the payload is written");
    file
}

fn answer(mut connection: Connection) -> Connection {
    connection.read_bytes(PING.len());
    connection.send(PONG);
    connection
}

#[test]
#[ignore = "needs root, netns"]
fn a_payload_is_served_when_bytes_came_back_and_the_server_closed() {
    enter_namespace();
    let payload = payload();
    let options = format!("--payload {}", payload.path().display());
    SERVED.is_met(&options, |host| {
        Listener::on(host).serve_each(|connection| drop(answer(connection)))
    });
}

#[test]
#[ignore = "needs root, netns"]
fn a_payload_is_served_once_the_bytes_expected_came_back() {
    enter_namespace();
    let payload = payload();
    let options = format!("--payload {} --expect-bytes 5", payload.path().display());
    SERVED.is_met(&options, |host| Listener::on(host).serve_each(answer));
}

#[test]
#[ignore = "needs root, netns"]
fn a_payload_is_stalled_while_fewer_bytes_came_back_than_expected() {
    enter_namespace();
    let stalled = Fate {
        says: "outcome=stalled lost=true errno= curl_exit=28 responses=0 response_bytes=5 \
               cause=answered_partly retry_safe=unknown",
        ..SERVED
    };
    let payload = payload();
    let file = payload.path().display();
    let options = format!("--payload {file} --expect-bytes 6 --timeout 1s");
    stalled.is_met(&options, |host| Listener::on(host).serve_each(answer));
}

#[test]
#[ignore = "needs root, netns"]
fn a_payload_is_truncated_when_the_server_closes_before_the_bytes_expected_came_back() {
    enter_namespace();
    let truncated = Fate {
        says: "outcome=truncated lost=true errno= curl_exit=18 responses=0 response_bytes=5 \
               cause=answered_partly retry_safe=unknown",
        ..SERVED
    };
    let payload = payload();
    let options = format!("--payload {} --expect-bytes 6", payload.path().display());
    truncated.is_met(&options, |host| {
        Listener::on(host).serve_each(|connection| drop(answer(connection)))
    });
}
