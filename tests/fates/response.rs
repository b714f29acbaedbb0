//! Connections on which response bytes came, all of them or some.

use std::io::Write;

use tempfile::NamedTempFile;

use crate::common::enter_namespace;
use crate::fate::Fate;
use crate::fate_server::{CONNECTIONS, GATED, Listener, OK, Server};
use crate::kernel::State;

/// One complete response.
pub(crate) const SERVED: Fate = Fate {
    says: "outcome=served lost=false errno= curl_exit=0 heroku_code= http_status=200 requests=1 \
           responses=1 request_acked=true cause= cause_candidates= retry_safe=",
    sequence: ">S <S. >. >P. <. <P. >. ...",
    wire: "rst_kind=",
    socket: "",
};

/// Tells an idle client that it took too long, as Puma and HAProxy do.
const TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";

/// A response cut by FIN.
const TRUNCATED: Fate = Fate {
    says: "outcome=truncated lost=true errno= curl_exit=18 heroku_code=H18 http_status=200 \
           requests=1 responses=0 request_acked=true cause=answered_partly cause_candidates= \
           retry_safe=unknown",
    sequence: ">S <S. >. >P. <. <P. >. <F. ...",
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
    let closed = Fate {
        wire: "conn_state=SF rst_kind=",
        ..SERVED
    };
    closed.is_met("", |host| answer_and_close(host, OK));
}

#[test]
#[ignore = "needs root, netns"]
fn a_response_of_its_content_length_is_served_though_its_server_does_not_close() {
    enter_namespace();
    let held = Fate {
        sequence: ">S <S. >. >P. <. <P. >. >F. ...",
        wire: "conn_state=S2 rst_kind=",
        ..SERVED
    };
    held.is_met("", |host| answer_and_hold(host, OK));
}

#[test]
#[ignore = "needs root, netns"]
fn a_response_whose_last_chunk_came_is_served() {
    enter_namespace();
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    SERVED.is_met("", |host| answer_and_hold(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn a_response_without_a_length_is_served_when_its_server_closes() {
    enter_namespace();
    let response = b"HTTP/1.1 200 OK\r\n\r\nok";
    SERVED.is_met("", |host| answer_and_close(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn a_response_to_head_is_served_without_the_body_it_announces() {
    enter_namespace();
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    SERVED.is_met("--method HEAD", |host| answer_and_hold(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn a_status_that_has_no_body_is_served_with_its_header_block() {
    enter_namespace();
    let no_content = Fate {
        says: "outcome=served lost=false curl_exit=0 http_status=204 responses=1",
        ..SERVED
    };
    let response = b"HTTP/1.1 204 No Content\r\n\r\n";
    no_content.is_met("", |host| answer_and_hold(host, response));
    let not_modified = Fate {
        says: "outcome=served lost=false curl_exit=0 http_status=304 responses=1",
        ..SERVED
    };
    let response = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n";
    not_modified.is_met("", |host| answer_and_hold(host, response));
}

/// An interim response is none: what counts is the one that follows it.
#[test]
#[ignore = "needs root, netns"]
fn a_response_after_100_continue_is_served() {
    enter_namespace();
    SERVED.is_met("", |host| {
        Listener::on(host).serve_each(|connection| {
            let mut connection = connection.answer(b"HTTP/1.1 100 Continue\r\n\r\n");
            connection.send(OK);
            connection
        })
    });
}

#[test]
#[ignore = "needs root, netns"]
fn an_error_status_is_served_too() {
    enter_namespace();
    let error = Fate {
        says: "outcome=served lost=false curl_exit=0 http_status=500 responses=1",
        ..SERVED
    };
    let response = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    error.is_met("", |host| answer_and_close(host, response));
}

/// The client cannot tell that it came before its request: to curl it is the answer.
#[test]
#[ignore = "needs root, netns"]
fn a_response_that_came_while_the_connection_was_idle_is_served() {
    enter_namespace();
    let unasked = Fate {
        says: "outcome=served lost=false curl_exit=0 http_status=408 requests=1 responses=1 \
               cause= retry_safe=",
        sequence: ">S <S. >. <P. >. >P. ...",
        ..SERVED
    };
    unasked.is_met(GATED, |host| {
        Listener::on(host).serve(|listener| {
            let mut idle: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept()).collect();
            for connection in &mut idle {
                connection.send(TIMEOUT);
            }
            (idle, listener.accept().answer(OK))
        })
    });
}

/// The same, and the server closes: the request is answered by a RST, which changes nothing.
#[test]
#[ignore = "needs root, netns"]
fn a_response_that_came_while_the_connection_was_idle_is_served_though_the_request_is_reset() {
    enter_namespace();
    let unasked = Fate {
        says: "outcome=served lost=false curl_exit=0 http_status=408 requests=1 responses=1 \
               cause= retry_safe=",
        sequence: ">S <S. >. <P. >. <F. >. >P. <R",
        wire: "conn_state=RSTR rst_kind=passive",
        socket: "",
    };
    unasked.is_met(GATED, |host| {
        Listener::on(host).serve(|listener| {
            let idle: Vec<_> = (0..CONNECTIONS).map(|_| listener.accept()).collect();
            for mut connection in idle {
                connection.send(TIMEOUT);
            }
            listener.port().wait_for(State::FinWait2, CONNECTIONS);
            listener.accept().answer(OK)
        })
    });
}

/// A RST after the complete response changes nothing.
#[test]
#[ignore = "needs root, netns"]
fn a_complete_response_is_served_though_its_connection_is_reset_afterwards() {
    enter_namespace();
    let reset_afterwards = Fate {
        says: "outcome=served lost=false curl_exit=0 heroku_code= http_status=200 responses=1 \
               request_acked=true cause= cause_candidates= retry_safe=",
        // The client closes as well; whose segment comes first is for the scheduler to say.
        sequence: ">S <S. >. >P. <. <P. >. ...",
        wire: "conn_state=RSTR rst_kind=active",
        socket: "",
    };
    reset_afterwards.is_met("", |host| {
        Listener::on(host).serve_each(|mut connection| {
            connection.wait_for_request();
            connection.send(OK);
        })
    });
}

/// The server answers before it has read the body, and closes on what is left of it: the client
/// still has much to send when the RST comes.
#[test]
#[ignore = "needs root, netns"]
fn an_early_503_is_served_though_the_body_it_did_not_read_is_answered_with_a_reset() {
    enter_namespace();
    let request = large_post();
    let early = Fate {
        says: "outcome=served lost=false curl_exit=0 heroku_code= http_status=503 responses=1 \
               request_acked=false cause= cause_candidates= retry_safe=",
        sequence: ">S <S. >. ...",
        wire: "conn_state=RSTR rst_kind=active",
        socket: "",
    };
    let options = format!("--request {}", request.path().display());
    early.is_met(&options, |host| {
        Listener::on(host).serve_each(|mut connection| {
            connection.wait_for_request();
            connection.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
        })
    });
}

/// The server's kernel took what it had room for, which it does only for a connection of its own: its
/// handshake is not in limbo, though the request was never acknowledged to its end.
#[test]
#[ignore = "needs root, netns"]
fn a_large_request_that_nobody_reads_hangs_and_is_not_in_limbo() {
    enter_namespace();
    let hung = Fate {
        says: "outcome=hung lost=true errno= curl_exit=28 request_acked=false request_acked_us= \
               cause=unknown cause_candidates=never_accepted+accepted_unread+read_unanswered \
               retry_safe=unknown",
        sequence: ">S <S. >. ...",
        wire: "rst_kind=",
        socket: "",
    };
    let request = large_post();
    let options = format!("--timeout 300ms --request {}", request.path().display());
    hung.is_met(&options, |host| {
        Listener::on(host).serve_each(|connection| connection)
    });
}

/// A request larger than what the kernel takes for a socket that nobody reads from.
fn large_post() -> NamedTempFile {
    const BODY: usize = 16 << 20;
    let mut file = NamedTempFile::new().expect("a temporary file");
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n");
    file.write_all(head.as_bytes())
        .expect("the head is written");
    file.write_all(&vec![b'x'; BODY])
        .expect("the body is written");
    file
}

#[test]
#[ignore = "needs root, netns"]
fn half_a_body_of_its_content_length_is_truncated_by_a_fin() {
    enter_namespace();
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok";
    TRUNCATED.is_met("", |host| answer_and_close(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn a_chunked_body_without_its_last_chunk_is_truncated_by_a_fin() {
    enter_namespace();
    let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n";
    TRUNCATED.is_met("", |host| answer_and_close(host, response));
}

/// curl takes half a header block and a FIN for a whole response; we do not.
#[test]
#[ignore = "needs root, netns"]
fn half_a_header_block_is_truncated_by_a_fin_and_curl_calls_it_success() {
    enter_namespace();
    let in_the_head = Fate {
        says: "outcome=truncated lost=true errno= curl_exit=0 heroku_code=H18 http_status= \
               responses=0 request_acked=true cause=answered_partly retry_safe=unknown",
        ..TRUNCATED
    };
    let response = b"HTTP/1.1 200 OK\r\nContent-Le";
    in_the_head.is_met("", |host| answer_and_close(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn half_a_body_is_reset_midway_by_a_rst() {
    enter_namespace();
    let midway = Fate {
        says: "outcome=reset_midway lost=true errno=ECONNRESET curl_exit=56 heroku_code=H18 \
               http_status=200 responses=0 request_acked=true cause=answered_partly \
               cause_candidates= retry_safe=unknown",
        sequence: ">S <S. >. >P. <. <P. >. <R.",
        wire: "conn_state=RSTR history=ShADadr rst_kind=active",
        socket: "",
    };
    midway.is_met("", |host| {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok";
        Listener::on(host).serve_each(|connection| connection.answer(response).reset())
    });
}

#[test]
#[ignore = "needs root, netns"]
fn half_a_body_and_then_silence_is_stalled() {
    enter_namespace();
    let stalled = Fate {
        says: "outcome=stalled lost=true errno= curl_exit=28 heroku_code=H12 http_status=200 \
               responses=0 request_acked=true cause=answered_partly cause_candidates= \
               retry_safe=unknown",
        sequence: ">S <S. >. >P. <. <P. >. >F. ...",
        wire: "conn_state=S2 rst_kind=",
        socket: "",
    };
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok";
    // Long enough for the server to have sent it on a busy machine.
    stalled.is_met("--timeout 2s", |host| answer_and_hold(host, response));
}

#[test]
#[ignore = "needs root, netns"]
fn an_answer_that_is_no_http_is_malformed() {
    enter_namespace();
    let malformed = Fate {
        says: "outcome=malformed lost=true errno= curl_exit=1 heroku_code=H17 http_status= \
               responses=0 request_acked=true cause=answered_partly cause_candidates= \
               retry_safe=unknown",
        sequence: ">S <S. >. >P. <. <P. >. ...",
        wire: "rst_kind=",
        socket: "",
    };
    let greeting = b"SSH-2.0-OpenSSH_9.2\r\n";
    malformed.is_met("", |host| answer_and_close(host, greeting));
    malformed.is_met("", |host| answer_and_hold(host, greeting));
}
