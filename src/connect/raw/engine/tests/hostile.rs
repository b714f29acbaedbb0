use super::script::play;
use super::transfer::established;

#[test]
fn a_reset_at_any_other_number_is_questioned() {
    play(&established(
        "
        20ms  <R. seq=2
        20ms  >.
        30ms  <R. seq=3                 # asked already
        600ms <R. seq=65537
        600ms >.
        2s    <R. seq=65538             # outside the window: nothing
        2s    <R. seq=0
        2s    <R. seq=-70000
        2s    state Established
        3s    <R. seq=1
        3s    ! reset Established
        3s    ! gone
    ",
    ));
}

#[test]
fn a_syn_on_an_open_connection_is_questioned() {
    play(&established(
        "
        20ms  <S seq=1 opts=none
        20ms  >.
        30ms  <S seq=900 opts=none
        1s    <S seq=-100000 opts=none
        1s    >.
        1s    state Established
    ",
    ));
}

#[test]
fn data_outside_the_window_are_never_handed_on() {
    play(&established(
        "
        20ms  <.(10) seq=65538
        20ms  >. ack=1
        30ms  <.(10) seq=-9
        30ms  >. ack=1 ecr=10
        40ms  <.(10) seq=2000000000
        40ms  >. ack=1 ecr=10
        50ms  <.(10) seq=-2000000000
        50ms  >. ack=1 ecr=10
    ",
    ));
}

#[test]
fn what_reaches_beyond_the_window_is_cut_off() {
    play(&established(
        "
        20ms  <F.(1000) seq=65001       # 464 bytes beyond it, and so the FIN
        20ms  >. ack=1 sack=65001..65537
        21ms  <.(60000) seq=1
        21ms  ! data 0..60000
        21ms  >. ack=60001 sack=65001..65537
        22ms  <.(5000) seq=60001
        22ms  ! data 60000..65000
        22ms  ! data 65000..65536
        22ms  >. ack=65537
        22ms  state Established
    ",
    ));
}

#[test]
fn an_acknowledgment_of_what_was_never_sent_is_questioned() {
    play(&established(
        "
        20ms  write 10
        20ms  >P.(10)
        21ms  <.(5) seq=1 ack=12
        21ms  >. seq=11 ack=1 ecr=10
        22ms  <.(5) seq=1 ack=-100000
        22ms  >. seq=11 ack=1 ecr=10
        23ms  <.(5) seq=1 ack=11
        23ms  ! data 0..5
        23ms  >. seq=11 ack=6
    ",
    ));
}

#[test]
fn a_segment_without_acknowledgment_is_dropped() {
    play(&established(
        "
        20ms  <P(5) seq=1
        20ms  <P seq=1
        20ms  <F seq=1
        20ms  state Established
    ",
    ));
}

#[test]
fn an_old_duplicate_is_known_by_its_timestamp() {
    play(&established(
        "
        20ms  <P.(5)
        20ms  ! data 0..5
        20ms  >.
        30ms  <P.(5) seq=6 ts=5         # of an earlier turn of the numbers
        30ms  >. ecr=20
        40ms  <P.(5) seq=6 ts=20
        40ms  ! data 5..10
        40ms  >. ack=11 ecr=20
        50ms  <R. seq=11 ts=1           # a RST needs none
        50ms  ! reset Established
        50ms  ! gone
    ",
    ));
}

#[test]
fn a_segment_without_timestamps_is_taken_as_linux_does() {
    play(&established(
        "
        20ms  <P.(5) nots
        20ms  ! data 0..5
        20ms  >.
    ",
    ));
}

#[test]
fn segments_of_others_are_nobodys() {
    play(
        "
        0     open
        0     >S
        1ms   <.(5) seq=77 ack=1        # no SYN-ACK
        1ms   <P(5) seq=77
        1s    >S seq=0
    ",
    );
}
