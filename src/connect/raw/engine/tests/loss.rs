use super::script::{Setup, play, play_in};
use super::transfer::established;

#[test]
fn a_request_is_sent_again_after_its_timeout_which_doubles() {
    play(&established(
        "
        10ms   write 83
        10ms   >P.(83)
        220ms  >P.(83) seq=1
        640ms  >P.(83) seq=1
        1480ms >P.(83) seq=1
        1500ms <.
        1500ms status sent=83 acked=83 received=0 retransmits=3 in_flight=false
    ",
    ));
}

#[test]
fn a_timer_that_came_up_for_nothing_is_set_again() {
    play(&established(
        "
        10ms   write 5
        10ms   >P.(5)
        20ms   <.
        5s     write 5                  # the SYN's timer and the first write's came up meanwhile
        5s     >P.(5)
        5.21s  >P.(5) seq=6
        5.3s   <.
    ",
    ));
}

#[test]
fn what_is_never_acknowledged_is_given_up() {
    let mut script = established(
        "
        10ms   write 83
        10ms   >P.(83)
    ",
    );
    let (mut at, mut wait) = (10, 210);
    for _ in 0..15 {
        at += wait;
        wait = (wait * 2).min(120_000);
        script += &format!("{at}ms >P.(83) seq=1\n");
    }
    let end = at + wait;
    script += &format!(
        "
        {end}ms ! timed-out
        {end}ms ! gone
        {}ms batch
    ",
        end + 500_000
    );
    play(&script);
}

#[test]
fn a_fin_that_nobody_acknowledges_is_given_up_sooner() {
    let mut script = established(
        "
        10ms   close fin
        10ms   >F.
    ",
    );
    let (mut at, mut wait) = (10, 210);
    for _ in 0..8 {
        at += wait;
        wait *= 2;
        script += &format!("{at}ms >F. seq=1\n");
    }
    let end = at + wait;
    script += &format!(
        "
        {end}ms ! timed-out
        {end}ms ! gone
    "
    );
    play(&script);
}

#[test]
fn data_out_of_order_are_kept_and_told() {
    play(&established(
        "
        20ms  <.(100) seq=101
        20ms  >. ack=1 sack=101..201
        21ms  <.(100) seq=301
        21ms  >. ack=1 sack=301..401,101..201
        22ms  <.(50) seq=251
        22ms  >. ack=1 sack=251..401,101..201
        23ms  <.(100) seq=1
        23ms  ! data 0..100
        23ms  ! data 100..200
        23ms  >. ack=201 sack=251..401
        24ms  <.(100) seq=201           # half of it is kept already
        24ms  ! data 200..300
        24ms  ! data 300..400
        24ms  >. ack=401
    ",
    ));
}

#[test]
fn each_segment_out_of_order_is_acknowledged() {
    play(&established(
        "
        20ms  <.(100) seq=101
        20ms  <.(100) seq=201
        20ms  <.(100) seq=301
        20ms  >. ack=1 sack=101..401
        20ms  >. ack=1 sack=101..401
        20ms  >. ack=1 sack=101..401
    ",
    ));
}

#[test]
fn a_fin_out_of_order_waits_for_the_data_before_it() {
    play(&established(
        "
        20ms  <F.(10) seq=11
        20ms  >. ack=1 sack=11..21
        21ms  <.(10) seq=1
        21ms  ! data 0..10
        21ms  ! data 10..20
        21ms  ! peer-closed
        21ms  >. ack=22
        21ms  state CloseWait
    ",
    ));
    // The FIN alone.
    play(&established(
        "
        20ms  <F. seq=11
        20ms  >. ack=1
        21ms  <.(10) seq=1
        21ms  ! data 0..10
        21ms  ! peer-closed
        21ms  >. ack=12
    ",
    ));
}

#[test]
fn what_comes_twice_is_acknowledged_again() {
    play(&established(
        "
        20ms  <P.(100)
        20ms  ! data 0..100
        20ms  >.
        30ms  <P.(100) seq=1 ts=20
        30ms  >. ecr=20
        40ms  <.(200) seq=51 ts=40      # half of it is new
        40ms  ! data 100..250
        40ms  >. ack=251 ecr=40
    ",
    ));
}

#[test]
fn three_acknowledgments_alike_tell_of_a_loss() {
    play(&established(
        "
        10ms  write 7240
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >P.(1448)
        19ms  <. ack=1                  # it tells a window of 65,536 instead of 65,535
        20ms  <. ack=1
        20ms  <. ack=1
        20ms  batch
        20ms  <. ack=1
        20ms  >.(1448) seq=1
        21ms  <. ack=1
        30ms  <. ack=7241
        30ms  status sent=7240 acked=7240 received=0 retransmits=1 in_flight=false
    ",
    ));
}

#[test]
fn a_second_loss_in_a_window_is_made_up_for_at_once() {
    play(&established(
        "
        10ms  write 7240
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >P.(1448)
        19ms  <. ack=1
        20ms  <. ack=1
        20ms  <. ack=1
        20ms  <. ack=1
        20ms  >.(1448) seq=1
        30ms  <. ack=2897
        30ms  >.(1448) seq=2897
        40ms  <. ack=7241
        40ms  status sent=7240 acked=7240 received=0 retransmits=2 in_flight=false
    ",
    ));
}

#[test]
fn after_a_timeout_all_goes_again_slowly() {
    play(&established(
        "
        10ms  write 4344
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >P.(1448)
        220ms >.(1448) seq=1
        230ms <. ack=1449
        230ms >.(1448) seq=1449
        230ms >P.(1448) seq=2897
        240ms <. ack=4345
        240ms status sent=4344 acked=4344 received=0 retransmits=3 in_flight=false
    ",
    ));
}

#[test]
fn acknowledged_meanwhile_is_not_sent_again() {
    play(&established(
        "
        10ms  write 4344
        10ms  >.(1448)
        10ms  >.(1448)
        10ms  >P.(1448)
        220ms >.(1448) seq=1
        230ms <. ack=4345
        9s    batch
    ",
    ));
}

#[test]
fn what_goes_again_is_no_more_than_was_sent_where_the_window_is_full() {
    play(
        "
        0     open
        0     >S
        10ms  <S. win=100
        10ms  ! connected
        10ms  >.
        10ms  write 1000
        10ms  >.(100)
        220ms >.(100) seq=1
        230ms <. win=512
        230ms >P.(900)
    ",
    );
}

#[test]
fn what_was_too_long_for_the_path_goes_again_in_shorter_segments() {
    for (six, len) in [(false, 1_348), (true, 1_328)] {
        let (rest, next) = (2_000 - len, 1 + len);
        let script = established(&format!(
            "
            10ms  write 2000
            10ms  >.(1448)
            10ms  >P.(552)
            11ms  icmp 3 4 seq=2001 mtu=1300    # of nothing in flight
            11ms  icmp 3 4 seq=1 mtu=9000       # not shorter
            12ms  icmp 3 4 seq=1 mtu=1400
            12ms  >.({len}) seq=1
            12ms  >P.({rest}) seq={next}
            13ms  icmp 3 4 seq=1449 mtu=1400    # known already
            20ms  <. ack=2001
            9s    status sent=2000 acked=2000 received=0 retransmits=2 in_flight=false
        "
        ));
        play_in(Setup { six, first: 1_000 }, &script);
    }
}
