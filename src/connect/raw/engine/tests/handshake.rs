use super::script::play;

#[test]
fn a_handshake_is_three_segments() {
    play(
        "
        0     open
        0     >S
        10ms  <S.
        10ms  ! connected
        10ms  >.
        10ms  state Established
        10ms  in-use
        10ms  status sent=0 acked=0 received=0 retransmits=0 in_flight=false
    ",
    );
}

#[test]
fn the_handshakes_last_segment_goes_alone() {
    play(
        "
        0     open
        0     >S
        0     write 83                  # before there is a connection
        10ms  <S.
        10ms  ! connected
        10ms  >.
        10ms  >P.(83)
    ",
    );
}

#[test]
fn a_syn_is_sent_again_as_linux_does() {
    play(
        "
        0     open
        0     >S
        1s    >S seq=0
        2s    >S seq=0
        3s    >S seq=0
        4s    >S seq=0
        5s    >S seq=0
        7s    >S seq=0
        11s   >S seq=0
        19s   >S seq=0
        35s   >S seq=0
        67s   >S seq=0
        67s   status sent=0 acked=0 received=0 retransmits=10 in_flight=true
        131s  ! timed-out
        131s  ! gone
        200s  batch
    ",
    );
}

#[test]
fn an_answer_to_a_later_syn_is_as_good() {
    play(
        "
        0     open
        0     >S
        1s    >S seq=0
        1.1s  <S.
        1.1s  ! connected
        1.1s  >.
        1.1s  write 10
        1.1s  >P.(10)
        1.4s  >P.(10) seq=1             # by the timestamp's round trip of 100 ms
    ",
    );
}

#[test]
fn a_reset_of_the_syn_is_a_refusal() {
    play(
        "
        0     open
        0     >S
        1ms   <R.
        1ms   ! reset SynSent
        1ms   ! gone
        5s    batch
    ",
    );
}

#[test]
fn a_reset_of_another_syn_is_none() {
    play(
        "
        0     open
        0     >S
        1ms   <R. ack=2
        1ms   <R. ack=0
        1ms   <R seq=1
        1s    >S seq=0
    ",
    );
}

#[test]
fn a_syn_ack_with_another_number_draws_a_reset() {
    play(
        "
        0     open
        0     >S
        1ms   <S. seq=900 ack=7
        1ms   >R seq=7
        1ms   <. seq=900 ack=-5
        1ms   >R seq=-5
        2ms   <S.
        2ms   ! connected
        2ms   >. seq=1
    ",
    );
}

#[test]
fn a_syn_that_meets_an_earlier_connection_goes_again_at_once_but_once() {
    play(
        "
        0     open
        0     >S
        1ms   <. seq=900 ack=7          # of TIME-WAIT, say
        1ms   >R seq=7
        2ms   <. seq=900 ack=7          # another: it is not put off
        2ms   >R seq=7
        9ms   <R. seq=900 ack=7
        9ms   >S seq=0
        10ms  <. seq=900 ack=7
        10ms  >R seq=7
        1009ms >S seq=0
        1010ms <S. ack=1
        1010ms ! connected
        1010ms >. seq=1
    ",
    );
}

#[test]
fn a_syn_ack_again_is_acknowledged_again() {
    play(
        "
        0     open
        0     >S
        1ms   <S.
        1ms   ! connected
        1ms   >.
        1s    <S. seq=0 ts=1
        1s    >. ecr=1
        3s    <S. seq=0 ts=2
        3s    >. ecr=1
    ",
    );
}

#[test]
fn a_half_open_connection_answers_nothing_until_its_reset() {
    play(
        "
        0     open half
        0     >S
        1ms   <S.
        1ms   ! connected
        1ms   state HalfOpen
        1ms   write 10
        1s    <S. seq=0
        2s    close rst
        2s    ! gone
        2s    >R seq=1
        3s    <S. seq=0
        3s    >R seq=1
    ",
    );
}

#[test]
fn a_half_open_connection_can_be_reset() {
    play(
        "
        0     open half
        0     >S
        1ms   <S.
        1ms   ! connected
        2ms   <R. seq=2 ack=1
        3ms   <R. ack=1
        3ms   ! reset HalfOpen
        3ms   ! gone
    ",
    );
}

#[test]
fn a_half_open_connection_answers_no_syn() {
    play(
        "
        0     open half
        0     >S
        1ms   <S seq=0 ack=0
        2ms   <. seq=1 ack=1
        1s    >S seq=0
    ",
    );
}

#[test]
fn closing_before_the_handshake_sends_nothing() {
    for how in ["fin", "rst", "forget"] {
        play(&format!(
            "
            0     open
            0     >S
            1ms   close {how}
            1ms   ! gone
            5s    batch
        "
        ));
    }
}

#[test]
fn a_syn_ack_for_one_that_gave_up_draws_a_reset_unless_it_was_forgotten() {
    play(
        "
        0     open
        0     >S
        1ms   close rst
        1ms   ! gone
        2ms   <S.
        2ms   >R seq=1
    ",
    );
    play(
        "
        0     open
        0     >S
        1ms   close forget
        1ms   ! gone
        2ms   <S.
        5s    batch
    ",
    );
}

#[test]
fn an_icmp_error_ends_the_attempt() {
    play(
        "
        0     open
        0     >S
        1ms   icmp 3 3
        1ms   ! unreachable 3
        1ms   ! gone
    ",
    );
}

#[test]
fn an_icmp_error_about_another_segment_or_size_ends_nothing() {
    play(
        "
        0     open
        0     >S
        1ms   icmp 3 1 seq=1
        1ms   icmp 3 4
        1s    >S seq=0
        1.1s  <S.
        1.1s  ! connected
        1.1s  >.
        1.2s  icmp 3 1
        1.2s  state Established
    ",
    );
}

#[test]
fn a_server_that_opens_at_the_same_time_is_answered() {
    play(
        "
        0     open
        0     >S
        1ms   <S seq=0 ack=0
        1ms   >S. seq=0 ack=1
        2ms   <S. seq=0 ack=1
        2ms   ! connected
        2ms   >. seq=1 ack=1
        2ms   state Established
    ",
    );
    play(
        "
        0     open
        0     >S
        1ms   <S
        1ms   >S. seq=0
        1.001s >S. seq=0                # a second later
        1.002s <. ack=1
        1.002s ! connected
        1.002s state Established
    ",
    );
}

#[test]
fn a_server_without_options_gets_none() {
    play(
        "
        0     open
        0     >S
        1ms   <S. opts=mss:1000
        1ms   ! connected
        1ms   >. win=65535
        1ms   write 1001
        1ms   >.(1000) win=65535
        1ms   >P.(1) win=65535
        2ms   <.(5) seq=11              # out of order, and SACK was not agreed upon
        2ms   >. win=65535
    ",
    );
}

#[test]
fn a_server_that_says_no_size_gets_the_smallest() {
    super::script::play_in(
        super::script::Setup {
            six: false,
            first: 9,
        },
        "
        0     open
        0     >S
        1ms   <S. opts=none
        1ms   ! connected
        1ms   >. win=65535
        1ms   write 600
        1ms   >.(536) win=65535
        1ms   >P.(64) win=65535
    ",
    );
}
