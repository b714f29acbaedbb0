use super::*;

/// Times count in these: 10 ms.
const UNIT: i64 = 10_000_000;

const fn at(units: i64) -> Stamp {
    Stamp(units * UNIT)
}

const CLIENT: &str = "127.0.0.1:40000";
const HELD: Owner = Owner::File {
    inode: 9,
    pid: Some(70),
};

fn client() -> SocketAddr {
    CLIENT.parse().unwrap()
}

/// Connections are opened at 5 and end at 45; questions are asked at 0, 10, 20, ... and answered 2
/// later.
const LIFE: Life = Life {
    opened: at(5),
    closed: at(45),
    end: at(45),
};

struct Script {
    table: DiagTable,
    at: i64,
    counters: Counters,
    listeners: Vec<Listening>,
    cookie: u64,
}

impl Script {
    fn new() -> Script {
        Script {
            table: DiagTable::new(true),
            at: -10,
            counters: Counters {
                listen_overflows: Some(3),
                abort_on_close: Some(7),
                abort_on_data: Some(1),
                ..Counters::default()
            },
            listeners: vec![Listening {
                local: "0.0.0.0:80".parse().unwrap(),
                inode: 5,
                bound: false,
                queued: 0,
                limit: 10,
            }],
            cookie: 1,
        }
    }

    /// The next round finds the connection so, or not at all.
    fn poll(&mut self, found: Option<(TcpState, Owner, u32)>) -> &mut Script {
        self.at += 10;
        let polled = found.map(|(state, owner, unread)| Polled {
            client: client(),
            cookie: self.cookie,
            state,
            owner,
            unread,
        });
        self.table.push(&Poll {
            asked: at(self.at),
            answered: at(self.at + 2),
            counters: Some(self.counters),
            listeners: Some(self.listeners.clone()),
            connections: Some(polled.into_iter().collect()),
        });
        self
    }

    fn queued(&mut self) -> &mut Script {
        self.poll(Some((TcpState::Established, Owner::Nobody, 83)))
    }

    fn held(&mut self, unread: u32) -> &mut Script {
        self.poll(Some((TcpState::Established, HELD, unread)))
    }

    fn side(&mut self) -> DiagSide {
        self.table.take(client(), LIFE).0
    }
}

#[test]
fn a_connection_that_leaves_the_queue_by_its_reset_moves_no_counter() {
    let mut script = Script::new();
    // At 0, 10 to 40, and 50.
    script
        .poll(None)
        .queued()
        .queued()
        .queued()
        .queued()
        .poll(None);
    assert_eq!(
        script.side(),
        DiagSide {
            listening: Some(true),
            listening_at_end: Some(true),
            listener_closed: Some(false),
            overflowed: Some(false),
            full: Some(false),
            queued: Some(at(40)),
            aborts: Some(false),
            outlived: Some(false),
            ..DiagSide::default()
        }
    );
}

#[test]
fn an_abort_after_the_last_question_counts_even_where_it_was_another_connections() {
    let mut script = Script::new();
    script.poll(None).queued().queued();
    script.counters.abort_on_data = Some(2);
    // The question at 30 finds it gone, and is no proof: it was asked before the end.
    script.poll(None);
    assert!(!script.table.knows(LIFE.end));
    script.poll(None).poll(None);
    assert_eq!(script.side().aborts, Some(true));
}

#[test]
fn an_abort_before_it_was_last_found_in_the_queue_is_anothers() {
    let mut script = Script::new();
    script.poll(None).queued();
    script.counters.abort_on_close = Some(8);
    script.queued().poll(None).poll(None).poll(None);
    assert_eq!(script.side().aborts, Some(false));
}

#[test]
fn a_connection_that_waits_on_after_its_client_gave_up_outlives_it() {
    let mut script = Script::new();
    script.poll(None).queued().queued().queued().queued();
    script.poll(Some((TcpState::CloseWait, Owner::Nobody, 84)));
    let side = script.side();
    assert_eq!(side.queued, Some(at(50)));
    assert_eq!(side.outlived, Some(true));
}

#[test]
fn who_holds_it_is_the_first_that_was_seen_to_and_unread_is_the_last_that_was_known() {
    let mut script = Script::new();
    script.poll(None).queued().held(83).held(0);
    script.poll(Some((TcpState::FinWait2, Owner::Nobody, 0)));
    let side = script.side();
    let owned = Act {
        at: at(22),
        pid: Some(70),
    };
    assert_eq!(side.owned, Some(owned));
    let unread = Unread {
        asked: at(30),
        answered: at(32),
        bytes: 0,
    };
    assert_eq!(side.unread, Some(unread));
    // Closed by its process it is nobody's again, and in no queue.
    assert_eq!(side.queued, Some(at(10)));
}

#[test]
fn a_handshake_under_way_is_half_open() {
    let mut script = Script::new();
    script.poll(None);
    for _ in 1..6 {
        script.poll(Some((TcpState::NewSynRecv, Owner::Nobody, 0)));
    }
    let side = script.side();
    assert_eq!(side.half_open, Some(at(50)));
    assert_eq!((side.queued, side.owned), (None, None));
}

#[test]
fn of_a_connection_that_was_never_found_it_is_known_whether_somebody_listened() {
    let mut script = Script::new();
    script
        .poll(None)
        .poll(None)
        .poll(None)
        .poll(None)
        .poll(None);
    script.counters.listen_overflows = Some(4);
    script.poll(None);
    let side = script.side();
    assert_eq!(side.listening, Some(true));
    assert_eq!(side.overflowed, Some(true));
    assert_eq!(side.outlived, None);
    let mut script = Script::new();
    script.listeners.clear();
    script.poll(None).poll(None);
    assert_eq!(script.side().listening, Some(false));
    // Closed between two questions: either may hold.
    let mut script = Script::new();
    script.poll(None);
    script.listeners.clear();
    script.poll(None);
    assert_eq!(script.side().listening, None);
}

#[test]
fn who_listens_on_one_interface_may_not_have_listened_for_our_clients() {
    let listening = |bound: &[bool]| {
        let mut script = Script::new();
        let one = script.listeners[0];
        let listeners = bound.iter().map(|&bound| Listening { bound, ..one });
        script.listeners = listeners.collect();
        script.poll(None).poll(None);
        script.side().listening
    };
    assert_eq!(listening(&[true]), None);
    assert_eq!(listening(&[true, false]), Some(true));
    assert_eq!(listening(&[]), Some(false));
}

/// What becomes of a connection that was queued at 10 to 30 while `before` listened, of which there
/// were `after` from the question at 40 or 50 on; each by address and inode.
fn listener_closed(before: &[(&str, u64)], after: &[(&str, u64)], from: i64) -> Option<bool> {
    let mut script = Script::new();
    let one = script.listeners[0];
    let listening = |listeners: &[(&str, u64)]| -> Vec<Listening> {
        let made = listeners.iter().map(|&(local, inode)| Listening {
            local: local.parse().unwrap(),
            inode,
            ..one
        });
        made.collect()
    };
    script.listeners = listening(before);
    script.poll(None).queued().queued().queued();
    for at in [40, 50, 60] {
        if at >= from {
            script.listeners = listening(after);
        }
        script.poll(None);
    }
    script.side().listener_closed
}

#[test]
fn a_listener_is_closed_that_the_first_question_after_the_end_no_longer_finds() {
    let (one, two) = (("0.0.0.0:80", 5), ("0.0.0.0:80", 3));
    assert_eq!(listener_closed(&[one], &[one], 40), Some(false));
    assert_eq!(listener_closed(&[one], &[], 40), Some(true));
    // The connection ends at 45: what is missing at 50 may have been closed since 30.
    assert_eq!(listener_closed(&[one], &[], 50), Some(true));
    assert_eq!(listener_closed(&[one], &[], 60), Some(false));
    // In whose queue it was is not known.
    assert_eq!(listener_closed(&[one, two], &[one], 50), Some(true));
    assert_eq!(listener_closed(&[two], &[one, two], 50), Some(false));
    assert_eq!(listener_closed(&[two], &[one], 50), Some(true));
    assert_eq!(listener_closed(&[], &[one], 50), None);
}

#[test]
fn a_listener_that_another_hides_need_not_be_closed() {
    let (all, own) = (("0.0.0.0:80", 5), ("127.0.0.1:80", 3));
    assert_eq!(listener_closed(&[all], &[own], 50), None);
    assert_eq!(listener_closed(&[all], &[], 50), Some(true));
    assert_eq!(listener_closed(&[own], &[all], 50), Some(true));
}

#[test]
fn whether_a_listener_closed_is_unknown_where_it_was_not_queued_or_nobody_asked() {
    let mut script = Script::new();
    script.poll(None).held(0).held(0).held(0).held(0).poll(None);
    assert_eq!(script.side().listener_closed, None);
    let mut script = Script::new();
    script.poll(None).queued().queued().queued().queued();
    assert_eq!(script.side().listener_closed, None);
    // Listeners were asked for, but not in the answer that found it.
    let mut script = Script::new();
    script.poll(None).poll(None);
    let queued = Polled {
        client: client(),
        cookie: 1,
        state: TcpState::Established,
        owner: Owner::Nobody,
        unread: 0,
    };
    script.table.push(&Poll {
        asked: at(20),
        answered: at(22),
        connections: Some(vec![queued]),
        ..Poll::default()
    });
    script.at = 20;
    script.poll(None).poll(None).poll(None);
    let side = script.side();
    assert_eq!((side.queued, side.listener_closed), (Some(at(20)), None));
}

#[test]
fn a_queue_is_full_that_was_found_so_between_the_questions_around_a_life() {
    let full = |asked: i64| {
        let mut script = Script::new();
        let other = script.listeners[0];
        script.listeners.push(Listening { inode: 6, ..other });
        for at in (0..=60).step_by(10) {
            // It holds one more than its limit.
            script.listeners[1].queued = if at == asked { 11 } else { 10 };
            script.poll(None);
        }
        script.side().full
    };
    for at in [0, 10, 40, 50] {
        assert_eq!(full(at), Some(true), "{at}");
    }
    assert_eq!((full(60), full(-10)), (Some(false), Some(false)));
    let mut script = Script::new();
    script.poll(None).poll(None);
    assert_eq!(script.side().full, None);
}

/// Times of a connection's life.
fn life(opened: i64, closed: i64) -> Life {
    Life {
        opened: at(opened),
        closed: at(closed),
        end: at(closed),
    }
}

#[test]
fn a_4_tuple_used_again_between_two_questions_is_another_connection() {
    let mut script = Script::new();
    script.poll(None).held(0).held(0);
    script.cookie = 2;
    script.queued().queued().poll(None).poll(None);
    let (first, _) = script.table.take(client(), life(5, 25));
    assert_eq!(
        (first.owned.map(|act| act.at), first.queued),
        (Some(at(12)), None)
    );
    assert_eq!(first.outlived, Some(false));
    let (second, events) = script.table.take(client(), life(26, 45));
    assert_eq!((second.owned, second.queued), (None, Some(at(40))));
    let seen: Vec<_> = events.iter().map(|s| (s.at.0 / UNIT, s.event)).collect();
    assert_eq!(seen, [(32, "queued")]);
}

#[test]
fn a_question_that_was_under_way_when_a_4_tuple_changed_hands_tells_of_neither() {
    let found = |opened, closed| {
        let mut script = Script::new();
        // The question at 20, answered at 22, finds it.
        script.poll(None).poll(None).held(0).poll(None).poll(None);
        script.table.take(client(), life(opened, closed)).0.found()
    };
    // Another had the 4-tuple until 21, or has it since.
    assert!(!found(21, 29));
    assert!(!found(5, 21));
    assert!(found(5, 22));
}

#[test]
fn a_successor_that_was_never_polled_is_not_told_of_by_its_predecessor() {
    let mut script = Script::new();
    script
        .poll(None)
        .held(0)
        .held(0)
        .poll(None)
        .poll(None)
        .poll(None);
    // The predecessor was never asked for, and its last answer came after the successor opened.
    let (side, _) = script.table.take(client(), life(21, 28));
    assert_eq!((side.found(), side.outlived), (false, None));
}

#[test]
fn a_socket_that_one_answer_missed_is_the_same_connection() {
    let mut script = Script::new();
    script
        .poll(None)
        .queued()
        .poll(None)
        .held(0)
        .poll(None)
        .poll(None)
        .poll(None);
    let side = script.side();
    assert_eq!(
        (side.queued, side.owned.map(|act| act.at)),
        (Some(at(10)), Some(at(32)))
    );
}
