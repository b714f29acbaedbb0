//! A RST's fingerprint: did a socket send it on its own account, or did it answer a segment?

use crate::wire::Segment;

/// How a RST of a Linux server came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RstKind {
    /// A socket sent it on its own account (`tcp_send_active_reset`).
    Active,
    /// It answers a segment that no socket wanted (`tcp_v4_send_reset`).
    Passive,
}

impl RstKind {
    /// The word for it in columns.
    pub fn word(self) -> &'static str {
        match self {
            RstKind::Active => "active",
            RstKind::Passive => "passive",
        }
    }
}

/// Reads the fingerprint of the server's RST. `timestamps` says whether the SYN-ACK agreed on that
/// option, `connecting` whether no SYN-ACK was seen. None where its marks contradict each other, as
/// behind a middlebox that rewrites them.
///
/// An active RST is `R.` with the connection's window, IP id and timestamps; a passive one is a bare
/// header: id 0, window 0, no options, `R` in reply to a segment with ACK and `R.` to a bare SYN.
pub(super) fn kind(segment: &Segment, timestamps: bool, connecting: bool) -> Option<RstKind> {
    if connecting || !segment.flags.ack() {
        // Nothing but a reply answers a SYN, and an active RST always has ACK.
        let bare = segment.options.bytes == 0 && segment.window == 0;
        return bare.then_some(RstKind::Passive);
    }
    let Some(id) = segment.ip_id.filter(|_| timestamps) else {
        return Some(RstKind::Active);
    };
    match (
        segment.options.timestamps.is_some(),
        segment.window != 0 || id != 0,
    ) {
        (true, _) => Some(RstKind::Active),
        // Timestamps were agreed on and it has none: the socket did not write this one, yet no
        // kernel answers an established connection's segment with `R.`.
        (false, _) => None,
    }
}
