//! The requests and responses inside a flow, and when the last of them began, was answered and was
//! complete.

use std::collections::VecDeque;
use std::mem;

use crate::http::{Asked, Progress, RequestEvent, RequestReader, ResponseReader};
use crate::time::Stamp;
use crate::wire::Direction;

/// What the bytes of a flow are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1, unless the client's first bytes say otherwise.
    Http,
    /// Anything else: answered when a byte came back and the server ended, or when that many did.
    Opaque {
        /// `--expect-bytes`.
        expect: Option<u64>,
    },
}

/// The exchanges of one flow; the times are those of the last one.
#[derive(Clone, Debug)]
pub struct Exchanges {
    protocol: Protocol,
    requests: RequestReader,
    /// The requests still unanswered.
    unanswered: VecDeque<Request>,
    response: ResponseReader,
    responses: u32,
    /// How many requests there were when a response ended HTTP: what followed was of another protocol.
    switched: Option<u32>,
    status: Option<u16>,
    received: u64,
    blind: bool,
    /// Whether the flow was seen from its beginning.
    whole: bool,
    /// Whether it was, and the client has sent nothing yet.
    fresh: bool,
    times: ExchangeTimes,
}

/// A request that was not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Its first byte.
    at: Stamp,
    /// What is known of it.
    asked: Asked,
}

/// When the last exchange of a flow came how far; of several requests under way the one that the
/// server has to answer next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExchangeTimes {
    /// The first byte of the request.
    pub request: Option<Stamp>,
    /// The first byte of the response.
    pub first_byte: Option<Stamp>,
    /// The latest byte that the server sent since then.
    pub last_byte: Option<Stamp>,
    /// The last byte of the response's header block.
    pub head: Option<Stamp>,
    /// The last byte of the response.
    pub complete: Option<Stamp>,
    /// The byte that was no HTTP.
    pub malformed: Option<Stamp>,
}

impl Exchanges {
    /// `whole` where the flow was seen from its beginning. Requests go to `unanswered`, which is empty.
    pub(super) fn new(protocol: Protocol, whole: bool, unanswered: VecDeque<Request>) -> Exchanges {
        Exchanges {
            protocol,
            requests: RequestReader::default(),
            unanswered,
            response: ResponseReader::new(Asked::default()),
            responses: 0,
            switched: None,
            status: None,
            received: 0,
            blind: false,
            whole,
            fresh: whole,
            times: ExchangeTimes::default(),
        }
    }

    pub(super) fn take_unanswered(&mut self) -> VecDeque<Request> {
        mem::take(&mut self.unanswered)
    }

    /// Whether the client's bytes are taken for HTTP/1.
    pub fn is_http(&self) -> bool {
        self.protocol == Protocol::Http
    }

    /// Requests begun.
    pub fn requests(&self) -> u32 {
        match self.protocol {
            Protocol::Http => self.switched.unwrap_or_else(|| self.requests.requests()),
            Protocol::Opaque { .. } => u32::from(self.times.request.is_some()),
        }
    }

    /// Complete responses.
    pub fn responses(&self) -> u32 {
        self.responses
    }

    /// The last final status code.
    pub fn status(&self) -> Option<u16> {
        let earlier = self.status.filter(|_| !self.blind);
        self.response.status().or(earlier)
    }

    /// When the last exchange came how far.
    pub fn times(&self) -> &ExchangeTimes {
        &self.times
    }

    /// Whether framing depended on bytes that were not captured: of the response, or of the request
    /// that it answers.
    pub fn is_blind(&self) -> bool {
        self.blind || self.response.is_doubtful()
    }

    /// Bytes of one direction, in order: captured ones, then `unseen` more.
    pub(super) fn bytes(&mut self, direction: Direction, at: Stamp, bytes: &[u8], unseen: u64) {
        match direction {
            Direction::ToServer => self.client_bytes(at, bytes, unseen),
            Direction::ToClient => self.server_bytes(at, bytes, unseen),
        }
    }

    fn client_bytes(&mut self, at: Stamp, bytes: &[u8], unseen: u64) {
        let fresh = std::mem::take(&mut self.fresh);
        let Exchanges {
            requests,
            unanswered,
            times,
            ..
        } = self;
        if let Protocol::Opaque { .. } = self.protocol {
            times.request.get_or_insert(at);
            return;
        }
        if self.switched.is_some() {
            return;
        }
        if unanswered.is_empty() {
            requests.resume();
        }
        let begun = Request {
            at,
            asked: Asked::default(),
        };
        let mut event = |event| match event {
            // A server that loses patience with an idle client answers before it was asked (408):
            // the client takes that for the answer to its first request.
            RequestEvent::Began
                if fresh && times.request.is_none() && times.first_byte.is_some() =>
            {
                times.request = Some(at);
                if times.complete.is_none() {
                    unanswered.push_back(begun);
                }
            }
            RequestEvent::Began => {
                if unanswered.is_empty() {
                    *times = ExchangeTimes {
                        request: Some(at),
                        ..ExchangeTimes::default()
                    };
                }
                unanswered.push_back(begun);
            }
            RequestEvent::Head(asked) => {
                if let Some(last) = unanswered.back_mut() {
                    last.asked = asked;
                }
            }
        };
        let first = requests.requests() == 0;
        let is_http = requests.push(bytes, &mut event);
        requests.skip(unseen, &mut event);
        if first && !is_http {
            self.protocol = Protocol::Opaque { expect: None };
            times.request = Some(at);
            // A server that spoke first, in whatever language, is judged by none but that.
            times.malformed = None;
            times.head = times.first_byte;
        }
    }

    fn server_bytes(&mut self, at: Stamp, bytes: &[u8], unseen: u64) {
        let n = bytes.len() as u64 + unseen;
        if n == 0 {
            return;
        }
        self.received += n;
        self.times.last_byte = Some(at);
        if let Protocol::Opaque { expect } = self.protocol {
            self.times.first_byte.get_or_insert(at);
            self.times.head.get_or_insert(at);
            if expect.is_some_and(|expect| self.received >= expect) {
                self.complete(at);
            }
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() && self.expects_bytes() {
            self.begin_response(at);
            let used = self.response.push(rest);
            rest = &rest[used..];
            self.advance(at);
        }
        if unseen > 0 && self.expects_bytes() {
            self.begin_response(at);
            self.response.skip(unseen);
            self.advance(at);
        }
    }

    /// The server's FIN, all bytes before it seen.
    pub(super) fn server_finished(&mut self, at: Stamp) {
        match self.protocol {
            Protocol::Opaque { expect } => {
                if self.received > 0 && expect.is_none() && self.times.complete.is_none() {
                    self.complete(at);
                }
            }
            Protocol::Http => {
                if self.times.complete.is_none() {
                    self.response.finish();
                    self.advance(at);
                }
            }
        }
    }

    /// A response is under way or asked for, or the server speaks first.
    fn expects_bytes(&self) -> bool {
        self.times.complete.is_none()
    }

    fn begin_response(&mut self, at: Stamp) {
        if self.response.progress() == Progress::Nothing {
            // Without a request the server speaks first, or what it answers was before our time.
            let unasked = if self.whole {
                Asked::default()
            } else {
                Asked::Unseen
            };
            let asked = self.unanswered.front();
            self.response = ResponseReader::new(asked.map_or(unasked, |request| request.asked));
        }
        self.times.first_byte.get_or_insert(at);
    }

    fn advance(&mut self, at: Stamp) {
        match self.response.progress() {
            Progress::Nothing | Progress::Head => {}
            Progress::Body => {
                self.times.head.get_or_insert(at);
            }
            Progress::Complete => {
                self.times.head.get_or_insert(at);
                // Of the next one, which may never come, nothing was seen yet.
                let answer =
                    mem::replace(&mut self.response, ResponseReader::new(Asked::default()));
                self.status = answer.status();
                self.unanswered.pop_front();
                if answer.switches() {
                    // What the client sent behind such a request was none.
                    let none = u32::try_from(self.unanswered.len()).unwrap_or(u32::MAX);
                    self.switched = Some(self.requests.requests().saturating_sub(none));
                    self.unanswered.clear();
                }
                match self.unanswered.front() {
                    None => self.complete(at),
                    Some(next) => {
                        self.responses += 1;
                        self.times = ExchangeTimes {
                            request: Some(next.at),
                            last_byte: self.times.last_byte,
                            ..ExchangeTimes::default()
                        };
                    }
                }
            }
            // Whoever asked in another language is answered in it.
            Progress::Malformed if self.is_unseen_answered() => self.blind = true,
            Progress::Malformed => {
                self.times.malformed.get_or_insert(at);
            }
            Progress::Blind => self.blind = true,
        }
    }

    /// Whether of the request that is being answered not even the method was seen.
    fn is_unseen_answered(&self) -> bool {
        let request = self.unanswered.front();
        request.is_some_and(|request| request.asked == Asked::Unseen)
    }

    fn complete(&mut self, at: Stamp) {
        if self.times.complete.is_none() {
            self.times.complete = Some(at);
            self.responses += 1;
        }
    }
}
