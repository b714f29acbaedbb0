//! Payload that came before its turn: kept until what is missing has come.

use super::Chunk;
use super::number::low;
use super::packet::SackBlocks;

/// Pieces of one connection; what would need more is dropped, and comes again. A window of 64 KiB is
/// 45 segments of an Ethernet: only senders of tiny segments get there.
const MAX_PIECES: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Reassembly {
    /// In order, none beginning before the one before it ends.
    pieces: Vec<Piece>,
    /// Where the server's FIN stands, if it came before its turn.
    fin: Option<u64>,
    /// Where the piece that came last begins.
    latest: u64,
}

#[derive(Debug)]
struct Piece {
    start: u64,
    bytes: Box<[u8]>,
    /// How many followed uncaptured.
    unseen: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64 + u64::from(self.unseen)
    }
}

impl Reassembly {
    /// Keeps what of `chunk` is not kept yet.
    pub(super) fn keep(&mut self, chunk: Chunk<'_>) {
        let end = chunk.end();
        let mut at = chunk.offset;
        let mut i = self.pieces.partition_point(|piece| piece.end() <= at);
        self.latest = at;
        while at < end && self.pieces.len() < MAX_PIECES {
            let free_to = self.pieces.get(i).map_or(end, |piece| piece.start.min(end));
            if at < free_to {
                let part = chunk.within(at, free_to);
                let piece = Piece {
                    start: at,
                    bytes: part.bytes.into(),
                    unseen: part.unseen,
                };
                self.pieces.insert(i, piece);
            }
            at = self.pieces[i].end();
            i += 1;
        }
    }

    pub(super) fn keep_fin(&mut self, offset: u64) {
        self.fin.get_or_insert(offset);
    }

    /// Whether the FIN's turn has come.
    pub(super) fn is_fin_at(&self, offset: u64) -> bool {
        self.fin == Some(offset)
    }

    /// Hands on what is in order from `received` on; returns up to where.
    pub(super) fn take(&mut self, mut received: u64, mut deliver: impl FnMut(Chunk<'_>)) -> u64 {
        let mut taken = 0;
        for piece in &self.pieces {
            if piece.start > received {
                break;
            }
            taken += 1;
            let whole = Chunk {
                offset: piece.start,
                bytes: &piece.bytes,
                unseen: piece.unseen,
            };
            if piece.end() > received {
                deliver(whole.within(received, piece.end()));
                received = piece.end();
            }
        }
        self.pieces.drain(..taken);
        received
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.fin.is_none()
    }

    /// What is kept, for a server that knows `received` by the number `expected`: what came last
    /// stands first (RFC 2018 4).
    pub(super) fn blocks(&self, received: u64, expected: u32) -> SackBlocks {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for piece in &self.pieces {
            match runs.last_mut() {
                Some((_, end)) if *end == piece.start => *end = piece.end(),
                _ => runs.push((piece.start, piece.end())),
            }
        }
        let mut blocks = SackBlocks::default();
        let latest = runs
            .iter()
            .position(|&(start, end)| (start..end).contains(&self.latest));
        let first = latest.map(|i| runs.remove(i));
        let seq = |offset: u64| expected.wrapping_add(low(offset - received));
        for (start, end) in first.into_iter().chain(runs.into_iter().rev()) {
            blocks.push(seq(start), seq(end));
        }
        blocks
    }
}

impl<'a> Chunk<'a> {
    /// The offset behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64 + u64::from(self.unseen)
    }

    /// Its part from `from` to `to`, both within it.
    pub(super) fn within(&self, from: u64, to: u64) -> Chunk<'a> {
        let captured = self.bytes.len() as u64;
        let index = |offset: u64| (offset - self.offset).min(captured);
        let part = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let bytes = &self.bytes[part(index(from))..part(index(to))];
        let unseen = (to - from) - bytes.len() as u64;
        Chunk {
            offset: from,
            bytes,
            unseen: low(unseen),
        }
    }
}
