//! Connections on which response bytes came, all of them or some.

use std::io::Write;

use crate::common::enter_namespace;
use crate::fate::Fate;
use crate::fate_server::{Connection, Listener, Server};

/// A complete response that needs no FIN to be one.
pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One complete response.
const SERVED: Fate = Fate {
    says: "outcome=served lost=false errno= curl_exit=0 heroku_code= http_status=200 requests=1 \
           responses=1 request_acked=true cause= cause_candidates= retry_safe=",
    sequence: ">S <S. >. >P. <. <P. >. ...",
    wire: "conn_state=SF rst_kind=",
    socket: "",
};

/// Answers each request and closes.
fn answer_and_close(host: &str, response: &'static [u8]) -> Server {
    Listener::on(host).serve_each(move |connection| drop(connection.answer(response)))
}

/// Answers each request and keeps the connection open: nothing but its framing ends the response.
fn answer_and_hold(host: &str, response: &'static [u8]) -> Server {
    Listener::on(host).serve_each(move |connection| connection.answer(response))
}

#[test]
#[ignore = "needs root, netns"]
fn a_response_of_its_content_length_is_served() {
    enter_namespace();
    SERVED.is_met("", |host| answer_and_close(host, OK));
}
