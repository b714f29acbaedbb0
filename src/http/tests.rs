use super::*;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> ResponseReader {
    let mut reader = ResponseReader::new(Asked::Other);
    reader.push(bytes);
    reader
}

fn progress(text: &str) -> Progress {
    read(text.as_bytes()).progress()
}

#[test]
fn content_length_frames_the_body() {
    assert_eq!(progress(""), Progress::Nothing);
    assert_eq!(progress("HTTP/1.1 200 OK\r\nContent-Le"), Progress::Head);
    assert_eq!(
        progress("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
        Progress::Body
    );
    assert_eq!(
        progress("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        Progress::Complete
    );
    assert_eq!(
        progress("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Progress::Complete
    );
    assert_eq!(
        progress("HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello"),
        Progress::Complete
    );
}

#[test]
fn contradicting_or_broken_lengths_are_malformed() {
    for length in [
        "5\r\nContent-Length: 6",
        "-1",
        "5,6",
        "",
        "+5",
        "99999999999999999999",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(progress(&text), Progress::Malformed, "{length}");
    }
}

#[test]
fn chunked_ends_behind_its_trailer() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
    assert_eq!(
        progress(&format!("{head}5\r\nhello\r\n0\r\n")),
        Progress::Body
    );
    assert_eq!(
        progress(&format!("{head}5\r\nhello\r\n0\r\n\r\n")),
        Progress::Complete
    );
    assert_eq!(
        progress(&format!("{head}5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n")),
        Progress::Complete
    );
    assert_eq!(progress(&format!("{head}zz\r\n")), Progress::Malformed);
}

#[test]
fn a_body_without_framing_ends_with_the_connection() {
    let mut reader = read(b"HTTP/1.0 200 OK\r\n\r\nhello");
    assert_eq!(reader.progress(), Progress::Body);
    reader.finish();
    assert_eq!(reader.progress(), Progress::Complete);
}

#[test]
fn statuses_without_a_body_are_complete_with_their_head() {
    for status in [
        "204 No Content",
        "304 Not Modified",
        "101 Switching Protocols",
    ] {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(progress(&text), Progress::Complete, "{status}");
    }
    let mut head = ResponseReader::new(Asked::Head);
    head.push(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n");
    assert_eq!(head.progress(), Progress::Complete);
}

#[test]
fn http_ends_with_an_upgrade_and_with_a_tunnel() {
    let switches = |asked, head: &str| {
        let mut reader = ResponseReader::new(asked);
        let bytes = format!("{head}\r\n\r\n\x16\x03");
        let used = reader.push(bytes.as_bytes());
        (reader.switches(), bytes.len() - used)
    };
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 9";
    assert_eq!(switches(Asked::Connect, ok), (true, 2));
    assert_eq!(switches(Asked::Connect, "HTTP/1.1 502 No"), (false, 0));
    assert_eq!(switches(Asked::Other, ok), (false, 0));
    assert_eq!(switches(Asked::Other, "HTTP/1.1 101 Yes"), (true, 2));
    // To CONNECT for all that is known.
    let mut reader = ResponseReader::new(Asked::Unseen);
    reader.push(b"HTTP/1.1 200 OK\r\n\r\n");
    reader.push(b"\x16\x03");
    assert!(reader.is_doubtful());
    reader.finish();
    assert_eq!(reader.progress(), Progress::Complete);
}

#[test]
fn interim_responses_are_skipped() {
    let reader = read(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
          HTTP/1.1 503 Busy\r\nContent-Length: 1\r\n\r\nx",
    );
    assert_eq!(reader.progress(), Progress::Complete);
    assert_eq!(reader.status(), Some(503));
}

#[test]
fn bytes_that_are_no_http_are_malformed() {
    assert_eq!(progress("SSH-2.0-OpenSSH_9.2\r\n"), Progress::Malformed);
    assert_eq!(
        read(b"\x15\x03\x03\x00\x02").progress(),
        Progress::Malformed
    );
    let endless = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD));
    assert_eq!(progress(&endless), Progress::Malformed);
}

#[test]
fn a_header_block_is_as_large_however_it_is_cut() {
    for (size, fits) in [(MAX_HEAD, true), (MAX_HEAD + 1, false)] {
        let head = |first: &str| {
            let rest = "\r\nContent-Length: 0\r\nA: \r\n\r\n";
            let fill = "x".repeat(size - first.len() - rest.len());
            format!("{first}{}", rest.replace("A: ", &format!("A: {fill}")))
        };
        let (request, response) = (head("GET / HTTP/1.1"), head("HTTP/1.1 200 OK"));
        for piece in [size, 16 * 1024, 1_448] {
            let mut requests = RequestReader::default();
            let mut responses = ResponseReader::new(Asked::Other);
            for bytes in request.as_bytes().chunks(piece) {
                requests.push(bytes, &mut |_| {});
            }
            for bytes in response.as_bytes().chunks(piece) {
                responses.push(bytes);
            }
            assert_eq!(requests.is_complete(), fits, "{size} by {piece}");
            let is_malformed = responses.progress() == Progress::Malformed;
            assert_eq!(is_malformed, !fits, "{size} by {piece}");
        }
    }
}

#[test]
fn bytes_behind_a_response_belong_to_the_next() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n";
    assert_eq!(
        ResponseReader::new(Asked::Other).push(bytes),
        bytes.len() - 17
    );
}

#[test]
fn a_gap_in_the_body_is_counted_and_one_in_the_head_blinds() {
    let mut reader = read(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    assert_eq!(reader.skip(130), 100);
    assert_eq!(reader.progress(), Progress::Complete);
    let mut reader = read(b"HTTP/1.1 200 OK\r\n");
    reader.skip(10);
    assert_eq!(reader.progress(), Progress::Blind);
    let mut reader = read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n");
    assert_eq!(reader.skip(0xff), 0xff);
    reader.push(b"\r\n0\r\n\r\n");
    assert_eq!(reader.progress(), Progress::Complete);
}

#[test]
fn pipelined_requests_are_counted() {
    let mut events = Vec::new();
    let mut reader = RequestReader::default();
    let bytes = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcHEAD / HTTP/1.1\r\n\r\nGET / HT";
    assert!(reader.push(bytes, &mut |e| events.push(e)));
    assert_eq!(reader.requests(), 3);
    assert_eq!(
        events,
        [
            RequestEvent::Began,
            RequestEvent::Head(Asked::Other),
            RequestEvent::Began,
            RequestEvent::Head(Asked::Head),
            RequestEvent::Began,
        ]
    );
}

#[test]
fn a_tls_hello_is_no_request() {
    assert!(!RequestReader::default().push(b"\x16\x03\x01\x02\x00", &mut |_| {}));
}

proptest! {
    #[test]
    fn splitting_a_response_changes_nothing(cuts in proptest::collection::vec(0_usize..120, 0..6)) {
        let whole: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\
            Transfer-Encoding: chunked\r\n\r\n5;e=1\r\nhello\r\na\r\n0123456789\r\n0\r\nT: v\r\n\r\n";
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(whole.len())).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut reader = ResponseReader::new(Asked::Other);
        for pair in cuts.windows(2) {
            reader.push(&whole[pair[0]..pair[1]]);
        }
        prop_assert_eq!(reader.progress(), Progress::Complete);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), gap in 0_u64..50) {
        let mut reader = ResponseReader::new(Asked::Other);
        reader.push(&bytes);
        reader.skip(gap);
        reader.push(&bytes);
        reader.finish();
        let mut requests = RequestReader::default();
        requests.push(&bytes, &mut |_| {});
        requests.skip(gap, &mut |_| {});
        requests.push(&bytes, &mut |_| {});
    }
}
