//! What comes back on a connection: its bytes are counted and read as the response that is expected,
//! and each step of it is noted when it is taken.

use crate::http::{Asked, Progress, ResponseReader};
use crate::outcome::Response;
use crate::time::Stamp;

/// What is expected back on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// One HTTP response, to such a request.
    Http(Asked),
    /// Bytes: so many, or until the server ends.
    Bytes {
        /// `--expect-bytes`.
        expect: Option<u64>,
    },
}

/// An answer, as far as it has come.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
    content: Content,
    /// None where every byte is like the other.
    reader: Option<ResponseReader>,
}

impl Answer {
    /// One of which nothing has come.
    pub(super) fn new(content: Content) -> Answer {
        let reader = match content {
            Content::Http(asked) => Some(ResponseReader::new(asked)),
            Content::Bytes { .. } => None,
        };
        Answer {
            response: Response::default(),
            content,
            reader,
        }
    }

    /// What is known of it.
    pub(super) fn response(&self) -> Response {
        self.response
    }

    /// Whether it is complete, or no longer of interest.
    pub(super) fn is_complete(&self) -> bool {
        self.response.complete.is_some() || self.response.malformed.is_some()
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8], now: Stamp) {
        if let Some(reader) = &mut self.reader {
            reader.push(bytes);
        }
        self.count(bytes.len() as u64, now);
    }

    /// So many bytes came that nobody saw.
    pub(super) fn skip(&mut self, bytes: u64, now: Stamp) {
        if bytes > 0 {
            if let Some(reader) = &mut self.reader {
                reader.skip(bytes);
            }
            self.count(bytes, now);
        }
    }

    /// The server ended its side.
    pub(super) fn finish(&mut self, now: Stamp) {
        if let Some(reader) = &mut self.reader {
            reader.finish();
        } else if self.response.bytes > 0 && self.content == (Content::Bytes { expect: None }) {
            self.response.complete.get_or_insert(now);
            self.response.responses = 1;
        }
        self.note_progress(now);
    }

    fn count(&mut self, bytes: u64, now: Stamp) {
        let response = &mut self.response;
        response.bytes += bytes;
        response.first_byte.get_or_insert(now);
        if let Content::Bytes {
            expect: Some(expect),
        } = self.content
            && response.bytes >= expect
        {
            response.complete.get_or_insert(now);
            response.responses = 1;
        }
        if self.reader.is_none() {
            // Without a header block nothing precedes the body.
            response.head.get_or_insert(now);
        }
        self.note_progress(now);
    }

    fn note_progress(&mut self, now: Stamp) {
        let Some(reader) = &self.reader else {
            return;
        };
        let response = &mut self.response;
        response.status = reader.status();
        match reader.progress() {
            Progress::Nothing | Progress::Head | Progress::Blind => {}
            Progress::Body => {
                response.head.get_or_insert(now);
            }
            Progress::Complete => {
                response.head.get_or_insert(now);
                response.complete.get_or_insert(now);
                response.responses = 1;
            }
            Progress::Malformed => {
                response.malformed.get_or_insert(now);
            }
        }
    }
}
