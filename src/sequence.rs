//! The notation for what passed between client and server: tcpdump's flags with a direction and
//! the payload length, repeats folded. `>S <S. >. >P.(83) <. <R.`. One type prints and parses it.

use std::fmt;
use std::str::FromStr;

use crate::wire::{Direction, Flags};

/// Like segments in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Who sent them.
    pub direction: Direction,
    /// Their flags.
    pub flags: Flags,
    /// Payload bytes in each.
    pub len: u32,
    /// How many in a row; at least 1.
    pub times: u32,
}

/// The ordered segments of a flow.
///
/// ```
/// use probe::sequence::Sequence;
///
/// let text = ">S <S. >. >P.(83) <. <P.(1448)x12 <F.";
/// let sequence: Sequence = text.parse().unwrap();
/// assert_eq!(sequence.to_string(), text);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Sequence {
    steps: Vec<Step>,
}

/// Why a text is no sequence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{step}` is no step of a sequence: {reason}, as in `>S <S. >P.(83) <P.(1448)x12`")]
pub struct ParseSequenceError {
    step: String,
    reason: &'static str,
}

impl Sequence {
    /// Adds one segment, folding it into the last step where it is like it.
    pub fn push(&mut self, direction: Direction, flags: Flags, len: u32) {
        match self.steps.last_mut() {
            Some(last)
                if (last.direction, last.flags, last.len) == (direction, flags, len)
                    && last.times < u32::MAX =>
            {
                last.times += 1;
            }
            _ => self.steps.push(Step {
                direction,
                flags,
                len,
                times: 1,
            }),
        }
    }

    /// The folded steps, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The segments one by one, each a step of its own.
    pub fn unfolded(&self) -> impl Iterator<Item = Step> {
        self.steps().iter().flat_map(|&step| {
            let times = usize::try_from(step.times).unwrap_or(usize::MAX);
            std::iter::repeat_n(Step { times: 1, ..step }, times)
        })
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The same without lengths and repeats: what connections of one kind have in common.
    pub fn shape(&self) -> Sequence {
        let mut shape = Sequence::default();
        for step in &self.steps {
            let like = shape
                .steps
                .last()
                .is_some_and(|last| (last.direction, last.flags) == (step.direction, step.flags));
            if !like {
                shape.push(step.direction, step.flags, 0);
            }
        }
        shape
    }

    /// Writes it as it prints itself, without a formatter's detours: rows are written by the million.
    pub fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        for (i, step) in self.steps.iter().enumerate() {
            if i > 0 {
                out.write_char(' ')?;
            }
            step.write_to(out)?;
        }
        Ok(())
    }

    /// Forgets everything but the memory it took, or of that so many steps' worth.
    pub(crate) fn clear(&mut self, keep: usize) {
        self.steps.clear();
        self.steps.shrink_to(keep);
    }
}

impl Step {
    fn write_to(&self, out: &mut impl fmt::Write) -> fmt::Result {
        out.write_char(self.direction.arrow())?;
        self.flags.write_to(out)?;
        if self.len > 0 {
            out.write_char('(')?;
            out.write_str(itoa::Buffer::new().format(self.len))?;
            out.write_char(')')?;
        }
        if self.times > 1 {
            out.write_char('x')?;
            out.write_str(itoa::Buffer::new().format(self.times))?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_to(f)
    }
}

impl FromStr for Sequence {
    type Err = ParseSequenceError;

    /// Reads the notation; unfolded repeats are folded, so that what is printed again is canonical.
    fn from_str(text: &str) -> Result<Sequence, ParseSequenceError> {
        let mut sequence = Sequence::default();
        for word in text.split_whitespace() {
            let step = parse_step(word).map_err(|reason| ParseSequenceError {
                step: word.to_owned(),
                reason,
            })?;
            match sequence.steps.last_mut() {
                Some(last)
                    if (last.direction, last.flags, last.len)
                        == (step.direction, step.flags, step.len) =>
                {
                    last.times = last.times.saturating_add(step.times);
                }
                _ => sequence.steps.push(step),
            }
        }
        Ok(sequence)
    }
}

fn parse_step(word: &str) -> Result<Step, &'static str> {
    let (direction, rest) = if let Some(rest) = word.strip_prefix('>') {
        (Direction::ToServer, rest)
    } else if let Some(rest) = word.strip_prefix('<') {
        (Direction::ToClient, rest)
    } else {
        return Err("it begins with > (to the server) or < (to the client)");
    };
    let (rest, times) = match rest.split_once('x') {
        Some((rest, times)) => (rest, parse_number(times).filter(|&t| t > 0)),
        None => (rest, Some(1)),
    };
    let times = times.ok_or("after x stands how often, at least 1")?;
    let (letters, len) = match rest.split_once('(') {
        Some((letters, len)) => (letters, len.strip_suffix(')').and_then(parse_number)),
        None => (rest, Some(0)),
    };
    let len = len.ok_or("in parentheses stands the payload length")?;
    Ok(Step {
        direction,
        flags: parse_flags(letters)?,
        len,
        times,
    })
}

fn parse_flags(letters: &str) -> Result<Flags, &'static str> {
    if letters == "none" {
        return Ok(Flags::default());
    }
    if letters.is_empty() {
        return Err("it names at least one flag, or none");
    }
    letters.chars().try_fold(Flags::default(), |flags, letter| {
        let flag = Flags::from_letter(letter).ok_or("flags are F S R P . U E W")?;
        if flags.has(flag) {
            return Err("a flag stands twice");
        }
        Ok(flags.with(flag))
    })
}

/// Digits only: `str::parse` would take a sign too.
fn parse_number(digits: &str) -> Option<u32> {
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn repeats_are_folded_when_pushed_and_when_parsed() {
        let mut sequence = Sequence::default();
        for _ in 0..12 {
            sequence.push(Direction::ToClient, Flags(0x18), 1448);
        }
        assert_eq!(sequence.to_string(), "<P.(1448)x12");
        assert_eq!("<P.(1448) <P.(1448)x11".parse(), Ok(sequence));
    }

    #[test]
    fn flags_print_in_tcpdumps_order() {
        assert_eq!(Flags(0xff).to_string(), "FSRP.UEW");
        assert_eq!(Flags(0).to_string(), "none");
        assert_eq!(">SEW".parse::<Sequence>().unwrap().to_string(), ">SEW");
    }

    #[test]
    fn a_broken_step_is_named_with_its_remedy() {
        for text in [
            "S",
            ">",
            ">X",
            ">S(",
            ">S(x)",
            ">Sx0",
            ">SS",
            ">S(-1)",
            "<P.(1)x+2",
        ] {
            let error = text.parse::<Sequence>().unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("`{text}` is no step")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_shape_forgets_lengths_and_repeats() {
        let sequence: Sequence = ">S >S <S. >. >P.(83) <P.(5)x3 <P.(7) <F.".parse().unwrap();
        assert_eq!(sequence.shape().to_string(), ">S <S. >. >P. <P. <F.");
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_itself(
            segments in proptest::collection::vec((any::<bool>(), any::<u8>(), 0_u32..3), 0..40),
        ) {
            let mut sequence = Sequence::default();
            for (to_server, flags, len) in segments {
                let direction = if to_server { Direction::ToServer } else { Direction::ToClient };
                sequence.push(direction, Flags(flags), len * 700);
            }
            prop_assert_eq!(sequence.to_string().parse(), Ok(sequence));
        }

        #[test]
        fn no_text_panics(text in "[<>]?[FSRP.UEWx()0-9n ]{0,30}") {
            if let Ok(sequence) = text.parse::<Sequence>() {
                prop_assert_eq!(sequence.to_string().parse(), Ok(sequence));
            }
        }
    }
}
