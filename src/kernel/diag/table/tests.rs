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
                queued: 0,
                limit: 10,
            }],
        }
    }

    /// The next round finds the connection so, or not at all.
    fn poll(&mut self, found: Option<(TcpState, Owner, u32)>) -> &mut Script {
        self.at += 10;
        let polled = found.map(|(state, owner, unread)| Polled {
            client: client(),
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
            overflowed: Some(false),
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
fn a_4_tuple_that_was_gone_is_another_connection() {
    let mut script = Script::new();
    script
        .held(0)
        .held(0)
        .poll(None)
        .queued()
        .queued()
        .poll(None);
    let life = Life {
        opened: at(25),
        closed: at(45),
        end: at(45),
    };
    let (side, events) = script.table.take(client(), life);
    assert_eq!((side.owned, side.queued), (None, Some(at(40))));
    let seen: Vec<_> = events.iter().map(|s| (s.at.0 / UNIT, s.event)).collect();
    assert_eq!(seen, [(32, "queued")]);
}
