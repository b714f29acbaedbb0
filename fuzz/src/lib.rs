//! Mutations of capture files that leave their records' lengths right: at random nearly every one
//! would end the file at the record it hit, and nothing behind it would be read.

use std::ops::Range;

use libfuzzer_sys::fuzzer_mutate;

/// How a file is put together.
#[derive(Clone, Copy)]
pub enum Format {
    /// A header of 24 bytes, then packets behind headers of 16.
    Pcap,
    /// Blocks, each with its length at both ends.
    Pcapng,
}

/// One in so many mutations is anywhere and mends nothing.
const BLIND: u32 = 4;

/// Mutates the file in `data[..size]` in place and returns its new size, at most `max_size`.
pub fn mutate(format: Format, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let max_size = max_size.min(data.len());
    let (header, records) = format.split(&data[..size]);
    if seed % BLIND == 0 || records.is_empty() {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut random = seed as usize / BLIND as usize;
    let mut below = |n: usize| {
        let drawn = random % n;
        random = (random / n).wrapping_mul(0x9e37_79b1) ^ random.rotate_left(13);
        drawn
    };
    let big = format.is_big_endian(data);
    let mut parts: Vec<Vec<u8>> = records.iter().map(|r| data[r.clone()].to_vec()).collect();
    let rest = data[records.last().map_or(header, |last| last.end)..size].to_vec();
    let (i, j) = (below(parts.len()), below(parts.len()));
    match below(8) {
        0 => parts.insert(j, parts[i].clone()),
        1 => drop(parts.remove(i)),
        2 => parts.swap(i, j),
        _ => {
            let room = max_size - size;
            let part = &mut parts[i];
            let len = part.len();
            part.resize(len + room, 0);
            let len = fuzzer_mutate(part, len, len + room);
            part.truncate(len);
            format.mend(part, big);
        }
    }
    let mut end = header;
    for part in parts.iter().chain([&rest]) {
        let fits = part.len().min(max_size - end);
        data[end..end + fits].copy_from_slice(&part[..fits]);
        end += fits;
    }
    end
}

impl Format {
    fn is_big_endian(self, data: &[u8]) -> bool {
        match self {
            Format::Pcap => data.first() == Some(&0xa1),
            Format::Pcapng => data.get(8) == Some(&0x1a),
        }
    }

    /// The header's length, and where each whole record stands.
    fn split(self, data: &[u8]) -> (usize, Vec<Range<usize>>) {
        let big = self.is_big_endian(data);
        let (header, least, at) = match self {
            Format::Pcap => (24.min(data.len()), 16, 8),
            Format::Pcapng => (0, 12, 4),
        };
        let mut records = Vec::new();
        let mut start = header;
        while let Some(field) = data.get(start + at..start + at + 4) {
            let field = [field[0], field[1], field[2], field[3]];
            let field = if big {
                u32::from_be_bytes(field)
            } else {
                u32::from_le_bytes(field)
            };
            let len = match self {
                Format::Pcap => field as usize + least,
                Format::Pcapng => field as usize,
            };
            if len < least || len > data.len() - start {
                break;
            }
            records.push(start..start + len);
            start += len;
        }
        (header, records)
    }

    /// Makes the lengths in a record those that it has.
    fn mend(self, record: &mut Vec<u8>, big: bool) {
        let number = |n: usize| {
            let n = n as u32;
            if big {
                n.to_be_bytes()
            } else {
                n.to_le_bytes()
            }
        };
        match self {
            Format::Pcap => {
                record.resize(record.len().max(16), 0);
                let captured = number(record.len() - 16);
                record[8..12].copy_from_slice(&captured);
            }
            Format::Pcapng => {
                record.resize(record.len().max(12).next_multiple_of(4), 0);
                let len = record.len();
                record[4..8].copy_from_slice(&number(len));
                record[len - 4..].copy_from_slice(&number(len));
                // An Enhanced Packet Block's captured length.
                if len >= 32 && record[..4] == number(6) {
                    record[20..24].copy_from_slice(&number(len - 32));
                }
            }
        }
    }
}
