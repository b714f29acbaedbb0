//! One connection of the raw engine, as far as it is more than TCP: what it asks, what came back, and
//! what is told of it in the end.

use std::net::SocketAddr;

use super::engine::{Id, Status};
use crate::connect::Opening;
use crate::connect::answer::{Answer, Content};
use crate::outcome::{Attempt, Cohort, Maker, Response, SocketEnd, TcpInfo};
use crate::time::Stamp;

/// A connection whose TCP is not gone.
#[derive(Debug)]
pub(super) struct Conn {
    id: Id,
    opening: Opening,
    client: SocketAddr,
    opened: Stamp,
    connected: Option<Stamp>,
    /// When the first segment with bytes of its request was made.
    request: Option<Stamp>,
    /// Bytes of its request, once any is written, and how many are.
    request_len: u32,
    written: u32,
    stage: Stage,
    /// Of most connections nothing comes for a long time.
    answer: Option<Box<Answer>>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its SYN is not answered.
    Connecting,
    /// It is connected, and has something to send after the trigger; whether the server has ended its
    /// side meanwhile.
    Holding {
        /// It has.
        ended: bool,
    },
    /// It has written all that it had to write.
    Asked,
    /// What happened to it is told; TCP may still have to end it.
    Over,
}

impl Conn {
    pub(super) fn new(id: Id, opening: Opening, client: SocketAddr, opened: Stamp) -> Conn {
        Conn {
            id,
            opening,
            client,
            opened,
            connected: None,
            request: None,
            request_len: 0,
            written: 0,
            stage: Stage::Connecting,
            answer: None,
        }
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    pub(super) fn number(&self) -> u64 {
        self.opening.number
    }

    pub(super) fn cohort(&self) -> Cohort {
        self.opening.cohort
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    /// Whether it behaves as a program that does not look at its connection before it uses it.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Holding { .. }) && self.opening.cohort == Cohort::Idle
    }

    /// The server's SYN-ACK came.
    pub(super) fn connect(&mut self, at: Stamp) {
        self.connected = Some(at);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.is_some()
    }

    /// Up to `bytes` more of its request are written, which is `len` bytes long. Returns how many they
    /// are.
    pub(super) fn write(&mut self, bytes: u64, len: u64) -> u64 {
        let more = bytes.min(len - len.min(self.written.into()));
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        self.request_len = narrow(len);
        self.written = self.written.saturating_add(narrow(more));
        more
    }

    /// A segment with bytes of its request is on its way.
    pub(super) fn send(&mut self, at: Stamp) {
        self.request.get_or_insert(at);
    }

    /// What comes back.
    pub(super) fn answer(&mut self, content: Content) -> &mut Answer {
        self.answer
            .get_or_insert_with(|| Box::new(Answer::new(content)))
    }

    /// Whether its response is complete, or no longer of interest.
    pub(super) fn is_complete(&self) -> bool {
        self.answer.as_ref().is_some_and(|a| a.is_complete())
    }

    /// What is told of it: it ended by `end` at `at`, its TCP standing as `status`.
    pub(super) fn attempt(
        &self,
        peer: SocketAddr,
        status: Option<Status>,
        end: SocketEnd,
        at: Stamp,
    ) -> Attempt {
        let answer = self.answer.as_ref();
        Attempt {
            local: Some(self.client),
            connected: self.connected,
            request: self.request,
            request_len: self.request_len.into(),
            written: status.map_or(0, |status| status.sent),
            response: answer.map_or_else(Response::default, |answer| answer.response()),
            end,
            ended: at,
            info: status.map(|status| TcpInfo {
                acked: Some(status.acked),
                total_retransmits: status.retransmits,
            }),
            ..self.opening.attempt(Maker::Raw, peer, self.opened)
        }
    }
}
