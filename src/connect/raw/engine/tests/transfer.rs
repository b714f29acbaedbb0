use super::script::play;

/// A connection that is established at 10 ms; the retransmission timeout is 210 ms from then on.
pub(super) fn established(rest: &str) -> String {
    format!(
        "
        0     open
        0     >S
        10ms  <S.
        10ms  ! connected
        10ms  >.
        {rest}
    "
    )
}

#[test]
fn a_request_is_answered_and_both_close_the_server_first() {
    play(&established(
        "
        10ms  write 83
        10ms  >P.(83)
        20ms  <.
        20ms  <P.(200)
        20ms  ! data 0..200
        20ms  >.
        30ms  <F.
        30ms  ! peer-closed
        30ms  close fin
        30ms  >F.
        30ms  state LastAck
        40ms  <.
        40ms  ! gone
        5s    batch
    ",
    ));
}

#[test]
fn a_request_is_answered_and_both_close_the_client_first() {
    play(&established(
        "
        10ms  write 83
        10ms  >P.(83)
        20ms  <P.(200)
        20ms  ! data 0..200
        20ms  close fin
        20ms  >F.
        20ms  state FinWait1
        30ms  <.
        30ms  state FinWait2
        40ms  <F.
        40ms  ! peer-closed
        40ms  >.
        40ms  state TimeWait
        240ms <F. seq=201               # our acknowledgment was lost
        240ms >. ecr=40
        440ms <F. seq=201
        440ms >. ecr=40
        2.04s ! gone
        2.1s  <F. seq=201
        2.1s  >R
    ",
    ));
}

#[test]
fn what_comes_in_one_batch_is_acknowledged_at_once() {
    play(&established(
        "
        20ms  <.(1448)
        20ms  <.(1448)
        20ms  <P.(1448)
        20ms  ! data 0..1448
        20ms  ! data 1448..2896
        20ms  ! data 2896..4344
        20ms  >.
        30ms  <P.(10)
        30ms  write 5
        30ms  ! data 4344..4354
        30ms  >P.(5)
    ",
    ));
}

#[test]
fn two_writes_are_pushed_each() {
    play(&established(
        "
        10ms  write 40
        10ms  >P.(40)
        20ms  <.
        2s    write 43
        2s    >P.(43)
        2.1s  <.
        2.1s  status sent=83 acked=83 received=0 retransmits=0 in_flight=false
    ",
    ));
}

#[test]
fn a_large_write_goes_out_as_the_congestion_window_lets_it() {
    play(&established(
        "
        10ms  write 30000
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        20ms  <. ack=2897               # two segments: two and one more
        20ms  >.(1448)
        20ms  >.(1448)
        20ms  >.(1448)
        20ms  state Established
    ",
    ));
}

#[test]
fn a_segment_larger_than_ours_is_taken() {
    play(&established(
        "
        20ms  <P.(60000)
        20ms  ! data 0..60000
        20ms  >.
    ",
    ));
}

#[test]
fn bytes_that_were_not_captured_are_counted() {
    play(&established(
        "
        20ms  <P.(500) cut=400
        20ms  ! data 0..100+400
        20ms  >.
        21ms  <.(10)
        21ms  ! data 500..510
        21ms  >.
        22ms  <.(20) seq=521 cut=5
        22ms  >. sack=521..541
        23ms  <.(30) seq=511 cut=25     # it reaches over what is kept; what came first stands
        23ms  ! data 510..515+25
        23ms  >. ack=541
    ",
    ));
}

#[test]
fn a_half_closed_connection_goes_on_receiving() {
    play(&established(
        "
        10ms  write 10
        10ms  >P.(10)
        11ms  shutdown
        11ms  >F.
        20ms  <.
        20ms  state FinWait2
        90s   <P.(100)
        90s   ! data 0..100
        90s   >.
        91s   <F.
        91s   ! peer-closed
        91s   >.
        93s   ! gone
    ",
    ));
}

#[test]
fn a_server_that_closed_still_gets_what_is_written() {
    play(&established(
        "
        20ms  <F.
        20ms  ! peer-closed
        20ms  >.
        20ms  state CloseWait
        30ms  write 5
        30ms  >P.(5)
        31ms  <.
        31ms  shutdown
        31ms  >F.
        32ms  <.
        32ms  ! gone
    ",
    ));
}

#[test]
fn a_closed_window_is_asked_after() {
    play(&established(
        "
        10ms  write 2000
        10ms  >.(1448)
        10ms  >P.(552)
        20ms  <. win=0
        20ms  write 100
        230ms >. seq=2000
        240ms <. win=0
        650ms >. seq=2000
        660ms <. win=0
        700ms <. win=512
        700ms >P.(100)
        710ms <.
        710ms status sent=2100 acked=2100 received=0 retransmits=0 in_flight=false
        9s    batch
    ",
    ));
}

#[test]
fn a_window_that_opens_a_little_is_used_when_waiting_brings_no_more() {
    play(&established(
        "
        10ms  write 2000
        10ms  >.(1448)
        10ms  >P.(552)
        20ms  <. win=0
        20ms  write 3000
        30ms  <. win=1                  # 128 bytes: a silly window
        240ms >.(128)
        250ms <. win=512
        250ms >.(1448)
        250ms >P.(1424)
    ",
    ));
}

#[test]
fn a_window_closed_for_long_is_no_failure_while_the_server_answers() {
    let mut script = established(
        "
        10ms  write 10
        10ms  >P.(10)
        20ms  <. win=0
        20ms  write 5
    ",
    );
    let (mut at, mut wait) = (20, 210);
    for _ in 0..30 {
        at += wait;
        wait = (wait * 2).min(120_000);
        script += &format!(
            "
            {at}ms >. seq=10
            {at}ms <. win=0
        "
        );
    }
    script += &format!("{at}ms state Established\n");
    play(&script);
}

#[test]
fn keep_alives_are_answered() {
    play(&established(
        "
        20ms  <P.(5)
        20ms  ! data 0..5
        20ms  >.
        60s   <. seq=5
        60s   >. ecr=20
        120s  <.(1) seq=5
        120s  >. ecr=20
    ",
    ));
}

#[test]
fn a_million_bytes_arrive_through_a_window_of_64_kib() {
    let mut script = established("");
    for i in 0..100_u32 {
        let at = 20 + i;
        script += &format!(
            "
            {at}ms <.(60000)
            {at}ms ! data {}..{}
            {at}ms >.
        ",
            i * 60_000,
            (i + 1) * 60_000
        );
    }
    play(&script);
}
