use super::script::play;
use super::transfer::established;

#[test]
fn a_reset_of_the_connection_is_told_from_its_state() {
    play(&established(
        "
        10ms  write 83
        10ms  >P.(83)
        20ms  <.
        30ms  <R.
        30ms  ! reset Established
        30ms  ! gone
        9s    batch
    ",
    ));
}

#[test]
fn a_listener_closed_before_the_request_is_seen_as_its_reset() {
    play(&established(
        "
        20ms  <R.
        20ms  ! reset Established
        20ms  ! gone
    ",
    ));
    // No socket takes the request any more (TCP_DEFER_ACCEPT): passive, without ACK.
    play(&established(
        "
        20ms  write 83
        20ms  >P.(83)
        21ms  <R
        21ms  ! reset Established
        21ms  ! gone
    ",
    ));
}

#[test]
fn a_server_that_closes_over_unread_data_resets() {
    play(&established(
        "
        20ms  write 5000
        20ms  >.(1448)
        20ms  >.(1448)
        20ms  >.(1448)
        20ms  >P.(656)
        21ms  <. ack=2897
        22ms  <P.(100) ack=2897
        22ms  <R. ack=2897
        22ms  ! data 0..100
        22ms  ! reset Established
        22ms  ! gone
    ",
    ));
}

#[test]
fn data_after_close_draw_a_reset() {
    play(&established(
        "
        20ms  close fin
        20ms  >F.
        30ms  <P.(10)
        30ms  ! gone
        30ms  >R
    ",
    ));
    // In FIN-WAIT-2 too, and of data that came before them only what is new counts.
    play(&established(
        "
        15ms  <P.(10)
        15ms  ! data 0..10
        15ms  >.
        20ms  close fin
        20ms  >F.
        30ms  <.
        30ms  state FinWait2
        40ms  <P.(10) seq=1 ts=15
        40ms  >. ecr=30
        50ms  <P.(10)
        50ms  ! gone
        50ms  >R
    ",
    ));
}

#[test]
fn both_close_at_once() {
    play(&established(
        "
        20ms  close fin
        20ms  >F.
        30ms  <F. ack=1
        30ms  ! peer-closed
        30ms  >.
        30ms  state Closing
        40ms  <.
        40ms  state TimeWait
        2.04s ! gone
    ",
    ));
}

#[test]
fn a_fin_is_sent_again_until_it_is_acknowledged() {
    play(&established(
        "
        20ms  close fin
        20ms  >F.
        230ms >F. seq=1
        650ms >F. seq=1
        660ms <.
        660ms state FinWait2
        1s    <F.
        1s    ! peer-closed
        1s    >.
        3s    ! gone
    ",
    ));
}

#[test]
fn a_fin_goes_behind_what_was_written() {
    play(&established(
        "
        20ms  write 2000
        20ms  close fin
        20ms  >.(1448)
        20ms  >FP.(552)
        20ms  state FinWait1
        30ms  <. ack=1449
        240ms >FP.(552) seq=1449
        250ms <.
        250ms state FinWait2
    ",
    ));
}

#[test]
fn a_server_that_never_closes_is_waited_for_a_minute() {
    play(&established(
        "
        20ms   close fin
        20ms   >F.
        30ms   <.
        60.03s ! gone
        61s    <P.(5)
        61s    >R
    ",
    ));
}

#[test]
fn an_abort_sends_an_active_reset() {
    play(&established(
        "
        20ms  write 10
        20ms  >P.(10)
        30ms  <P.(7)
        30ms  ! data 0..7
        30ms  >.
        40ms  close rst
        40ms  ! gone
        40ms  >R.
        41ms  <P.(5)                     # the RST was lost
        41ms  >R
        42ms  <R
        9s    batch
    ",
    ));
}

#[test]
fn a_forgotten_connection_says_nothing_ever() {
    play(&established(
        "
        20ms  close forget
        20ms  ! gone
        30ms  <P.(5)
        40ms  <F.
        9s    batch
    ",
    ));
}

#[test]
fn a_place_is_free_again_once_its_connection_is_gone() {
    play(&established(
        "
        20ms  in-use
        20ms  close rst
        20ms  ! gone
        20ms  >R.
    ",
    ));
}

#[test]
fn a_reset_in_time_wait_ends_it_quietly() {
    play(&established(
        "
        20ms  close fin
        20ms  >F.
        30ms  <F.
        30ms  ! peer-closed
        30ms  >.
        31ms  <R
        31ms  ! gone
    ",
    ));
}
