//! HTTP/1 framing (RFC 9112): where a request or a response ends. Bodies are counted and never
//! kept. What an end means for the connection is left to [`outcome`](crate::outcome).

use std::mem::MaybeUninit;

/// Header blocks above this are malformed: servers and proxies refuse far smaller ones.
pub const MAX_HEAD: usize = 64 * 1024;
/// More header lines than any server accepts by default (Apache 100, nginx bounds by size).
const MAX_HEADERS: usize = 256;
/// A chunk-size line with its extensions, or a trailer line, above this is malformed.
const MAX_LINE: usize = 16 * 1024;

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// No byte of it was seen.
    Nothing,
    /// Inside the header block.
    Head,
    /// Behind the header block, inside the body.
    Body,
    /// All of it was seen.
    Complete,
    /// The bytes are no HTTP/1.
    Malformed,
    /// Bytes that framing depends on were not captured.
    Blind,
}

/// Follows one response, across the 1xx responses that may precede it.
#[derive(Clone, Debug)]
pub struct ResponseReader {
    state: State,
    head: Vec<u8>,
    started: bool,
    request: Asked,
    status: Option<u16>,
}

/// What is known of a request, by which its response has a body or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Its method was HEAD.
    Head,
    /// It was CONNECT.
    Connect,
    /// It was another.
    #[default]
    Other,
    /// It was not seen; of a response, nor so far any byte behind its header block.
    Unseen,
}

impl Asked {
    /// By a request's method, which is case-sensitive (RFC 9110 9.1).
    pub fn by(method: &[u8]) -> Asked {
        match method {
            b"HEAD" => Asked::Head,
            b"CONNECT" => Asked::Connect,
            _ => Asked::Other,
        }
    }
}

#[derive(Clone, Debug)]
enum State {
    Head,
    Body(Body),
    Complete,
    Malformed,
    Blind,
}

/// What is still to come of a body (RFC 9112 6.3).
#[derive(Clone, Debug)]
enum Body {
    Length(u64),
    Chunked(Chunk),
    UntilClose,
}

/// Where in the chunked coding (RFC 9112 7.1) the next byte stands.
#[derive(Clone, Debug)]
enum Chunk {
    /// In a chunk-size line.
    Size(Vec<u8>),
    /// In chunk data: bytes left, the closing CRLF included.
    Data(u64),
    /// In the trailer section: the length of the line so far, without its CR.
    Trailer(usize),
}

impl ResponseReader {
    /// A reader for the response to such a request.
    pub fn new(request: Asked) -> ResponseReader {
        ResponseReader {
            state: State::Head,
            head: Vec::new(),
            started: false,
            request,
            status: None,
        }
    }

    /// Takes the next bytes and returns how many belong to this response.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        self.started |= !bytes.is_empty();
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.is_doubtful() {
                // Another response, then: the request was HEAD. Or a body that begins so.
                if rest.starts_with(b"HTTP/1.") {
                    self.state = State::Blind;
                }
                if !self.may_switch() {
                    self.request = Asked::Other;
                }
            }
            match &mut self.state {
                State::Head => used += self.push_head(rest),
                State::Body(body) => match body.push(rest) {
                    Ok((n, done)) => {
                        used += n;
                        if done {
                            self.state = State::Complete;
                        }
                    }
                    Err(BadChunk) => self.state = State::Malformed,
                },
                State::Complete => break,
                State::Malformed | State::Blind => used = bytes.len(),
            }
        }
        used
    }

    /// Passes over `n` bytes that were on the wire and not captured; returns how many belong to
    /// this response.
    pub fn skip(&mut self, n: u64) -> u64 {
        self.started |= n > 0;
        match &mut self.state {
            State::Body(_) if n > 0 && self.request == Asked::Unseen => {
                self.state = State::Blind;
                n
            }
            State::Body(body) => match body.skip(n) {
                Some((used, done)) => {
                    if done {
                        self.state = State::Complete;
                    }
                    used
                }
                None => {
                    self.state = State::Blind;
                    n
                }
            },
            State::Complete => 0,
            State::Head if n > 0 => {
                self.status = final_status(&self.head);
                self.state = State::Blind;
                n
            }
            State::Head | State::Malformed | State::Blind => n,
        }
    }

    /// The server ended its side: a close-delimited body is complete now.
    pub fn finish(&mut self) {
        if matches!(self.state, State::Body(Body::UntilClose)) {
            self.state = State::Complete;
        }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        match self.state {
            State::Head if !self.started => Progress::Nothing,
            State::Head => Progress::Head,
            State::Body(_) => Progress::Body,
            State::Complete => Progress::Complete,
            State::Malformed => Progress::Malformed,
            State::Blind => Progress::Blind,
        }
    }

    /// Whether it may be complete or not, because its request was not seen: a response to HEAD ends
    /// with its header block, whatever that announces, and one to CONNECT does where it can be one.
    pub fn is_doubtful(&self) -> bool {
        self.request == Asked::Unseen && matches!(self.state, State::Body(_))
    }

    /// Whether it is complete and HTTP ends with it: another protocol follows (RFC 9110 15.2.2), or
    /// the bytes of a tunnel (9.3.6).
    pub fn switches(&self) -> bool {
        let status = self.status.unwrap_or_default();
        let complete = matches!(self.state, State::Complete);
        complete && (status == 101 || self.request == Asked::Connect && opens_tunnel(status))
    }

    /// Whether it may open a tunnel, its request not seen: it then announces no body.
    fn may_switch(&self) -> bool {
        let endless = matches!(self.state, State::Body(Body::UntilClose));
        endless && self.status.is_some_and(opens_tunnel)
    }

    /// The final status code, once its line was read.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    fn push_head(&mut self, bytes: &[u8]) -> usize {
        // Most heads arrive whole in one segment: parse in place, copy only what is partial.
        let before = self.head.len();
        let parsed = if before == 0 {
            parse_head(bytes)
        } else {
            self.head.extend_from_slice(bytes);
            parse_head(&self.head)
        };
        match parsed {
            Head::Partial if before + bytes.len() > MAX_HEAD => self.state = State::Malformed,
            Head::Partial => {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
            }
            Head::Malformed => self.state = State::Malformed,
            // However its bytes were cut into segments.
            Head::Complete { len, .. } if len > MAX_HEAD => self.state = State::Malformed,
            Head::Complete {
                len,
                status,
                framing,
            } => {
                self.head = Vec::new();
                self.take_head(status, framing);
                return len - before;
            }
        }
        bytes.len()
    }

    fn take_head(&mut self, status: u16, framing: Result<Option<Body>, BadFraming>) {
        // RFC 9110 15.2: interim responses precede the final one; 101 is final, what follows it
        // is another protocol.
        if (100..200).contains(&status) && status != 101 {
            return;
        }
        self.status = Some(status);
        let bodiless = matches!(status, 101 | 204 | 304)
            || self.request == Asked::Head
            || self.request == Asked::Connect && opens_tunnel(status);
        self.state = match framing {
            _ if bodiless => State::Complete,
            Err(BadFraming) => State::Malformed,
            Ok(Some(Body::Length(0))) => State::Complete,
            Ok(body) => State::Body(body.unwrap_or(Body::UntilClose)),
        };
    }
}

/// Whether a response with that status to CONNECT opens a tunnel, whatever its header block says of a
/// body (RFC 9110 9.3.6).
fn opens_tunnel(status: u16) -> bool {
    (200..300).contains(&status)
}

enum Head {
    Partial,
    Malformed,
    Complete {
        len: usize,
        status: u16,
        framing: Result<Option<Body>, BadFraming>,
    },
}

fn parse_head(bytes: &[u8]) -> Head {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    // As lenient as curl, so that a response that clients take is not called malformed.
    let mut config = httparse::ParserConfig::default();
    config
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true);
    match config.parse_response_with_uninit_headers(&mut response, bytes, &mut headers) {
        Err(_) => Head::Malformed,
        Ok(httparse::Status::Partial) => Head::Partial,
        Ok(httparse::Status::Complete(len)) => Head::Complete {
            len,
            status: response.code.unwrap_or(0),
            framing: framing(response.headers),
        },
    }
}

/// The status in the first line of a header block that was cut behind it, unless it is an interim
/// one: its final response is not in sight.
fn final_status(head: &[u8]) -> Option<u16> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, head, &mut headers);
    parsed.ok()?;
    let line_is_whole = head.contains(&b'\n');
    let interim = |code: &u16| (100..200).contains(code) && *code != 101;
    response.code.filter(|code| line_is_whole && !interim(code))
}

/// Framing headers that contradict each other or are no numbers.
struct BadFraming;

/// The body's framing by RFC 9112 6.3; none where no header gives any.
fn framing(headers: &[httparse::Header<'_>]) -> Result<Option<Body>, BadFraming> {
    let mut length: Option<u64> = None;
    let mut chunked: Option<bool> = None;
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            // A list of equal values is one value (RFC 9110 8.6).
            for value in header.value.split(|&b| b == b',') {
                let value = parse_length(value.trim_ascii()).ok_or(BadFraming)?;
                if length.is_some_and(|l| l != value) {
                    return Err(BadFraming);
                }
                length = Some(value);
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let last = header
                .value
                .rsplit(|&b| b == b',')
                .next()
                .unwrap_or_default();
            chunked = Some(last.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        }
    }
    Ok(match (chunked, length) {
        (Some(true), _) => Some(Body::Chunked(Chunk::Size(Vec::new()))),
        (Some(false), _) => Some(Body::UntilClose),
        (None, length) => length.map(Body::Length),
    })
}

/// Digits only: `str::parse` would take a sign too.
fn parse_length(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

struct BadChunk;

impl Body {
    /// Takes bytes; returns how many belong to the body and whether it ends with them.
    fn push(&mut self, bytes: &[u8]) -> Result<(usize, bool), BadChunk> {
        match self {
            Body::Length(left) => {
                let n = bytes
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= n as u64;
                Ok((n, *left == 0))
            }
            Body::UntilClose => Ok((bytes.len(), false)),
            Body::Chunked(chunk) => chunk.push(bytes),
        }
    }

    /// Passes over unseen bytes; `None` where framing stood in them.
    fn skip(&mut self, n: u64) -> Option<(u64, bool)> {
        match self {
            Body::Length(left) => {
                let n = n.min(*left);
                *left -= n;
                Some((n, *left == 0))
            }
            Body::UntilClose => Some((n, false)),
            Body::Chunked(Chunk::Data(left)) if n < *left => {
                *left -= n;
                Some((n, false))
            }
            Body::Chunked(_) if n == 0 => Some((0, false)),
            Body::Chunked(_) => None,
        }
    }
}

impl Chunk {
    fn push(&mut self, bytes: &[u8]) -> Result<(usize, bool), BadChunk> {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match self {
                Chunk::Data(left) => {
                    let rest = bytes.len() - used;
                    let n = rest.min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    used += n;
                    if *left == 0 {
                        *self = Chunk::Size(Vec::new());
                    }
                }
                Chunk::Size(line) => {
                    used += 1;
                    line.push(byte);
                    if let Some(next) = read_size_line(line)? {
                        *self = next;
                    }
                }
                Chunk::Trailer(line) => {
                    used += 1;
                    match byte {
                        b'\n' if *line == 0 => return Ok((used, true)),
                        b'\n' => *line = 0,
                        b'\r' => {}
                        _ if *line > MAX_LINE => return Err(BadChunk),
                        _ => *line += 1,
                    }
                }
            }
        }
        Ok((used, false))
    }
}

fn read_size_line(line: &[u8]) -> Result<Option<Chunk>, BadChunk> {
    match httparse::parse_chunk_size(line) {
        Ok(httparse::Status::Complete((_, 0))) => Ok(Some(Chunk::Trailer(0))),
        // The data is followed by CRLF.
        Ok(httparse::Status::Complete((_, size))) => size
            .checked_add(2)
            .map(|n| Some(Chunk::Data(n)))
            .ok_or(BadChunk),
        Ok(httparse::Status::Partial) if line.len() <= MAX_LINE => Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => Err(BadChunk),
    }
}

/// What a [`RequestReader`] met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// The first byte of a request.
    Began,
    /// The end of its header block, or of what was captured of it.
    Head(Asked),
}

/// Follows the requests that a client sends on one connection.
#[derive(Clone, Debug, Default)]
pub struct RequestReader {
    head: Vec<u8>,
    body: Option<Body>,
    began: bool,
    /// What came is no HTTP/1.
    lost: bool,
    /// Bytes were missed in which one request may have ended and others begun.
    adrift: bool,
    requests: u32,
}

impl RequestReader {
    /// Takes the next bytes and hands each event to `event`. Returns false where they are no
    /// HTTP/1 requests, from then on always.
    pub fn push(&mut self, mut bytes: &[u8], event: &mut impl FnMut(RequestEvent)) -> bool {
        while !bytes.is_empty() && !self.lost && !self.adrift {
            if let Some(body) = &mut self.body {
                match body.push(bytes) {
                    Ok((n, done)) => {
                        bytes = &bytes[n..];
                        if done {
                            self.body = None;
                        }
                    }
                    Err(BadChunk) => self.lost = true,
                }
                continue;
            }
            if !self.began {
                self.began = true;
                self.requests += 1;
                event(RequestEvent::Began);
            }
            bytes = self.push_head(bytes, event);
        }
        !self.lost
    }

    /// Passes over `n` bytes that were not captured.
    pub fn skip(&mut self, n: u64, event: &mut impl FnMut(RequestEvent)) {
        if self.lost || self.adrift {
            return;
        }
        match &mut self.body {
            Some(body) => match body.skip(n) {
                Some((_, done)) => {
                    if done {
                        self.body = None;
                    }
                }
                None => self.adrift = true,
            },
            None if n > 0 => {
                if !self.began {
                    self.requests += 1;
                    event(RequestEvent::Began);
                }
                // Its method stands first.
                let method = self.head.iter().position(|&b| b == b' ');
                let method = method.and_then(|end| self.head.get(..end));
                event(RequestEvent::Head(method.map_or(Asked::Unseen, Asked::by)));
                self.adrift = true;
                // Of a head with a gap nothing more can be read.
                self.head = Vec::new();
            }
            None => {}
        }
    }

    /// All requests so far were answered: whatever was missed of them, what comes next begins one.
    pub fn resume(&mut self) {
        if self.adrift {
            *self = RequestReader {
                requests: self.requests,
                ..RequestReader::default()
            };
        }
    }

    /// Whether what was pushed ends with the end of a request.
    pub fn is_complete(&self) -> bool {
        self.requests > 0 && !self.began && self.body.is_none() && !self.lost && !self.adrift
    }

    /// Requests begun so far.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    fn push_head<'a>(&mut self, bytes: &'a [u8], event: &mut impl FnMut(RequestEvent)) -> &'a [u8] {
        // As a response's: in place where it can be done.
        let before = self.head.len();
        if before > 0 {
            self.head.extend_from_slice(bytes);
        }
        let head = if before > 0 { &self.head } else { bytes };
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut headers) {
            Ok(httparse::Status::Complete(len)) if len <= MAX_HEAD => {
                let asked = Asked::by(request.method.unwrap_or_default().as_bytes());
                match framing(request.headers) {
                    Err(BadFraming) => self.lost = true,
                    // RFC 9112 6.3: a request without framing has no body.
                    Ok(Some(Body::UntilClose | Body::Length(0)) | None) => {}
                    Ok(body) => self.body = body,
                }
                self.head = Vec::new();
                self.began = false;
                event(RequestEvent::Head(asked));
                &bytes[len - before..]
            }
            Ok(httparse::Status::Partial) if head.len() <= MAX_HEAD => {
                if before == 0 {
                    self.head.extend_from_slice(bytes);
                }
                &[]
            }
            Ok(_) | Err(_) => {
                self.lost = true;
                &[]
            }
        }
    }
}

#[cfg(test)]
mod tests;
