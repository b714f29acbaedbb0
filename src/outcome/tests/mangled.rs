//! What must hold for any stream of segments.

use proptest::prelude::*;

use super::*;
use crate::flow::Protocol;
use crate::flow::script::{direction, segments};
use crate::wire::{Direction, Flags, Segment};

/// Scripts that cover each decider, to be mangled.
const SCRIPTS: &[&str] = &[
    ">S <R.",
    ">S <S. >. <R.",
    ">S <S. >. >P.[get] <. <R.",
    ">S <S. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. <F. >F. <.",
    ">S <S. >. <F. >. >P.[get] <R",
    ">S <S. >. >P.[get] <. <P.[ok] <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <P.[llo] <F. >F. <.",
    ">S <S. >. >P.[get] <. <P.[ok-head] <P.[he] <R.",
    ">S <S. >. >P.[get] <. <P.[chunks] >. <F. >F. <.",
    ">S <S. >. >P.[post] <P.[busy] >. <R.",
    ">S <S. >. >P.[get] <P.[ok] >. >P.[get] <. <R.",
];

proptest! {
    #[test]
    fn a_duplicated_segment_does_not_change_the_outcome(
        script in proptest::sample::select(SCRIPTS),
        which in any::<proptest::sample::Index>(),
        later in any::<proptest::sample::Index>(),
    ) {
        let original = segments(script);
        let which = which.index(original.len());
        let to = which + 1 + later.index(original.len() - which);
        let mut doubled = original.clone();
        doubled.insert(to, original[which].clone());
        prop_assert_eq!(live(&flow_of(&doubled)), live(&flow_of(&original)));
    }

    #[test]
    fn no_stream_of_segments_panics(
        stream in proptest::collection::vec(
            (any::<bool>(), any::<u8>(), 0_u32..4, -3_i64..3, 0_usize..20, any::<bool>()),
            1..60,
        ),
    ) {
        let mut flow = None;
        for (i, (to_server, flags, seq, ack, len, near)) in stream.into_iter().enumerate() {
            let mut segment = segments(">S <S.")[usize::from(!to_server)].clone();
            segment.at = Stamp(i as i64);
            segment.flags = Flags(flags);
            // Numbers around the initial one, its wrap, and the far side of the space.
            let base = if near { 1_000_u32 } else { 0x8000_0000 };
            segment.seq = base.wrapping_add(seq * 7);
            segment.ack = base.wrapping_add_signed(i32::try_from(ack * 5).unwrap());
            segment.len = u32::try_from(len).unwrap();
            segment.payload = vec![b'H'; len / 2].into();
            match &mut flow {
                None => {
                    let protocol = Protocol::Http;
                    let ends = crate::flow::script::ends();
                    flow = Some(crate::flow::Flow::new(ends, protocol, true, &segment));
                }
                Some(flow) => {
                    flow.push(&segment);
                }
            }
        }
        let mut flow = flow.unwrap();
        flow.settle();
        live(&flow);
        decision(&flow, Watch::Capture);
        let text = flow.sequence().to_string();
        let parsed = text.parse::<crate::sequence::Sequence>().unwrap();
        prop_assert_eq!(&parsed, flow.sequence());
    }

    #[test]
    fn losing_the_clients_pure_acks_changes_nothing(script in proptest::sample::select(SCRIPTS)) {
        let original = segments(script);
        let pure = |s: &Segment| {
            direction(s) == Direction::ToServer && s.flags == Flags::ACK && s.len == 0
        };
        let thinned: Vec<Segment> = original.iter().filter(|s| !pure(s)).cloned().collect();
        prop_assert_eq!(live(&flow_of(&thinned)), live(&flow_of(&original)));
    }
}
