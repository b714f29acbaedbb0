use super::script::{TICK, direction, ends, flow_of, play, segments, segments_from};
use super::*;
use crate::wire::{Direction, Options};

#[test]
fn history_and_state_are_zeeks() {
    for (script, history, state) in [
        (">S <R.", "Sr", "REJ"),
        (">S >S~ >S~", "S", "S0"),
        (">S <S. >. >P.[get] <. <R.", "ShADar", "RSTR"),
        (">S <S. >. >P.[get] <R", "ShADr", "RSTR"),
        (">S <S. >. <R.", "ShAr", "RSTR"),
        (">S <S. >. >P.[get] <. <F. >F. <.", "ShADafF", "SF"),
        (">S <S. >. <F. >. >P.[get] <R", "ShAfDr", "RSTR"),
        (">S <S. >. >P.[get] <.", "ShADa", "S1"),
        (">S <S. >. >P.[get] >P.[get]~ >P.[get]~", "ShADT", "S1"),
        (">S <S. >. >P.[get] <. >F. <.", "ShADaF", "S2"),
        (">S <S. >. >P.[get] <. <F.", "ShADaf", "S3"),
        (">S <S. >. >P.[get] <. >R.", "ShADaR", "RSTO"),
        (">S >R.", "SR", "RSTOS0"),
        ("<S. <R.", "hr", "RSTRH"),
        (">S >F.", "SF", "SH"),
        ("<P.[ok] >. <F.", "dAf", "SHR"),
        (">P.[get] <.", "Da", "OTH"),
        // FIN, RST, then the other side's FIN: a normal end after all.
        (">S <S. >. >P.[get] <P.[ok] <F. <R. >F.", "ShADdfrF", "SF"),
    ] {
        let flow = play(script);
        assert_eq!(flow.zeek().history(), history, "{script}");
        assert_eq!(flow.zeek().conn_state().word(), state, "{script}");
    }
}

#[test]
fn repeated_syns_and_data_are_counted_apart() {
    let flow = play(">S >S~ <S. >. >P.[get] >P.[get]~ <. >F. >F.~ <.");
    assert_eq!(flow.syn_retransmits(), 1);
    assert_eq!(flow.retransmits(), 2);
    assert_eq!(flow.request_bytes(), 27);
}

#[test]
fn keep_alive_probes_are_no_retransmissions() {
    for (script, sent_again) in [
        (">S <S. >. >P.[x] <.", 0),
        (">S <S. >. >P.[get] <. >P.[x] <.", 0),
        (">S <S. >. >P.[get] <. <P.[ok] >. >F. <. >P.[x] <.", 0),
        // Not acknowledged.
        (">S <S. >. >P.[get] >P.[x] <.", 1),
    ] {
        let mut probed = segments(script);
        let mut sent = 1_001;
        for segment in &mut probed {
            if segment.len == 1 {
                segment.seq = sent - 1;
            } else if direction(segment) == Direction::ToServer {
                sent = segment.seq.wrapping_add(segment.space());
            }
        }
        // The reply to a probe acknowledges what was acknowledged before.
        let last = probed.last_mut().unwrap();
        if last.len == 0 {
            last.ack = sent;
        }
        let flow = flow_of(&probed);
        assert_eq!(flow.retransmits(), sent_again, "{script}");
        assert_eq!(flow.flaws(), Flaws::default(), "{script}");
        assert_eq!(
            flow.exchanges().requests(),
            u32::from(flow.request_bytes() > 0),
            "{script}"
        );
    }
}

#[test]
fn the_request_is_acked_when_its_last_byte_is() {
    let flow = play(">S <S. >. >P.[get]");
    assert_eq!(flow.request_acked(), Some(false));
    assert_eq!(flow.times().request_acked, None);
    let flow = play(">S <S. >. >P.[get] <.");
    assert_eq!(flow.request_acked(), Some(true));
    assert_eq!(flow.times().request_acked, Some(Stamp(4 * TICK)));
    // A RST's number acknowledges nothing.
    let flow = play(">S <S. >. >P.[get] <R.");
    assert_eq!(flow.request_acked(), Some(false));
    assert_eq!(play(">S <S. >. <R.").request_acked(), None);
}

#[test]
fn a_4_tuple_used_again_is_a_new_flow() {
    let mut table = FlowTable::new(ends().server, Protocol::Http, false);
    let first = segments(">S <S. >. >P.[get] <. <P.[ok] <F. >F. <.");
    let mut second = segments_from(">S <R.", 900_000, 5);
    for segment in &mut second {
        segment.at = Stamp(segment.at.0 + 1_000_000);
    }
    for segment in first.iter().chain(&second) {
        table.push(segment);
    }
    assert_eq!(table.len(), 2);
    let client = ends().client;
    let take = |table: &mut FlowTable, at| {
        let at = Stamp(at);
        table
            .take(client, Stamp(at.0 - 500), Stamp(at.0 + 500))
            .unwrap()
            .sequence()
            .to_string()
    };
    assert_eq!(take(&mut table, 1_000_000), ">S <R.");
    assert!(take(&mut table, 0).starts_with(">S <S."));
    assert!(table.is_empty());
}

#[test]
fn a_retransmitted_syn_is_the_same_flow() {
    let mut table = FlowTable::new(ends().server, Protocol::Http, false);
    for segment in &segments(">S >S~ <S. >S~ <S.~ >.") {
        table.push(segment);
    }
    assert_eq!(table.len(), 1);
}

#[test]
fn segments_of_others_are_nobodys() {
    let mut table = FlowTable::new("10.0.0.9:80".parse().unwrap(), Protocol::Http, false);
    assert!(table.push(&segments(">S")[0]).is_none());
}

#[test]
fn a_reset_is_active_when_it_looks_like_its_connection() {
    let stamped = Options {
        bytes: 12,
        timestamps: Some((1, 2)),
        window_scale: None,
        ..Options::default()
    };
    let kind = |script: &str, change: &dyn Fn(&mut Segment)| {
        let mut segments = segments(script);
        segments[1].options = stamped;
        change(segments.last_mut().unwrap());
        flow_of(&segments).rst_kind()
    };
    let active = |rst: &mut Segment| {
        rst.options = stamped;
        rst.window = 512;
        rst.ip_id = Some(7);
    };
    let bare = |_: &mut Segment| {};
    let reset = ">S <S. >. >P.[get] <. <R.";
    assert_eq!(kind(reset, &active), Some(RstKind::Active));
    assert_eq!(kind(">S <S. >. >P.[get] <R", &bare), Some(RstKind::Passive));
    // `R.` without the timestamps that were agreed on: somebody rewrote it.
    assert_eq!(kind(reset, &bare), None);
    // A middlebox that forges one with the connection's looks.
    assert_eq!(kind(">S <S. >. >P.[get] <R", &active), None);
}

#[test]
fn a_reset_is_known_by_its_flags_where_there_are_no_timestamps() {
    assert_eq!(
        play(">S <S. >. >P.[get] <. <R.").rst_kind(),
        Some(RstKind::Active)
    );
    assert_eq!(
        play(">S <S. >. >P.[get] <R").rst_kind(),
        Some(RstKind::Passive)
    );
    assert_eq!(play(">S <R.").rst_kind(), Some(RstKind::Passive));
}

#[test]
fn a_flow_is_over_when_reset_or_closed_by_both() {
    for (script, over) in [
        (">S", false),
        (">S <R.", true),
        (">S <S. >. >P.[get] <. <R.", true),
        (">S <S. >. >P.[get] <. <F.", false),
        (">S <S. >. >P.[get] <. <F. >F.", false),
        (">S <S. >. >P.[get] <. <F. >F. <.", true),
    ] {
        assert_eq!(play(script).is_over(), over, "{script}");
    }
}

#[test]
fn events_have_numbers_relative_to_each_sides_first() {
    let mut flow = flow_of(&segments_from(">S <S. >. >P.[get] <.", u32::MAX, 77));
    let numbers: Vec<_> = flow
        .take_kept()
        .iter()
        .map(|seen| match seen.what {
            SeenWhat::Segment {
                rel_seq, rel_ack, ..
            } => (rel_seq, rel_ack),
            SeenWhat::Icmp { .. } => unreachable!("no ICMP in this script"),
        })
        .collect();
    assert_eq!(
        numbers,
        [
            (0, None),
            (0, Some(1)),
            (1, Some(1)),
            (1, Some(1)),
            (1, Some(28))
        ]
    );
}

#[test]
fn a_syn_that_is_a_reset_too_or_the_servers_opens_nothing() {
    for script in [">SR", "<S", "<SF"] {
        let mut flow = play(script);
        assert!(flow.flaws().began_inside, "{script}");
        // What opens a connection behind it is a flow of its own.
        assert!(!flow.push(&segments(">S")[0]), "{script}");
    }
    assert!(!play(">S").flaws().began_inside);
}

#[test]
fn a_syn_ack_of_the_clients_opens_nothing() {
    for script in ["<S. >S.", "<. >S."] {
        assert_eq!(play(script).times().syn, None, "{script}");
    }
    assert_eq!(play(">S >S.").times().syn, Some(Stamp(0)));
}
