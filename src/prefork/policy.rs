//! What the server does when it is asked to stop, each policy a model of real servers, and what its
//! first request does to it. Who carries it out is told by [`master`](super::master) and
//! [`worker`](super::worker).

use clap::ValueEnum;

/// What the server does on TERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policy {
    /// Workers finish and end; the master holds its copy of the listener until then (what Puma 3.12
    /// set out to do)
    LeaveOpen,
    /// The same, and the master never ends (Puma 3.12.1, as measured)
    Hang,
    /// The master closes its copy at once, each worker its own once it has finished (Puma 4 and
    /// later, Unicorn QUIT, Gunicorn)
    Close,
    /// As close, but workers first serve what is queued, until the queue is empty (Puma's
    /// drain_on_shutdown)
    Drain,
    /// As drain, behind a filter that drops new SYNs: loses nothing
    FilterDrain,
    /// Everything ends at once (Unicorn TERM, SIGKILL)
    Quick,
}

impl Policy {
    /// All of them, the worst first.
    pub(crate) const ALL: [Policy; 6] = [
        Policy::Hang,
        Policy::LeaveOpen,
        Policy::Close,
        Policy::Quick,
        Policy::Drain,
        Policy::FilterDrain,
    ];

    /// Its word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Policy::LeaveOpen => "leave-open",
            Policy::Hang => "hang",
            Policy::Close => "close",
            Policy::Drain => "drain",
            Policy::FilterDrain => "filter-drain",
            Policy::Quick => "quick",
        }
    }

    /// Whether the master keeps its copy of the listener for as long as it lives.
    pub(super) fn master_keeps_listener(self) -> bool {
        match self {
            Policy::LeaveOpen | Policy::Hang => true,
            Policy::Close | Policy::Drain | Policy::FilterDrain | Policy::Quick => false,
        }
    }

    /// Whether workers serve what is queued before they end, and clients that they have accepted and
    /// that have sent nothing yet.
    pub(super) fn drains(self) -> bool {
        match self {
            Policy::Drain | Policy::FilterDrain => true,
            Policy::LeaveOpen | Policy::Hang | Policy::Close | Policy::Quick => false,
        }
    }
}

/// What the first request does to the server, before it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FirstRequest {
    /// Nothing
    None,
    /// Its worker ends by SIGKILL
    KillSelf,
    /// The master gets TERM
    TermMaster,
    /// The master and every worker get TERM, as on Heroku
    TermAll,
}

impl FirstRequest {
    /// Its word on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            FirstRequest::None => "none",
            FirstRequest::KillSelf => "kill-self",
            FirstRequest::TermMaster => "term-master",
            FirstRequest::TermAll => "term-all",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_the_command_line() {
        for policy in Policy::ALL {
            assert_eq!(Policy::from_str(policy.word(), false), Ok(policy));
        }
        assert_eq!(Policy::value_variants().len(), Policy::ALL.len());
        for what in FirstRequest::value_variants() {
            assert_eq!(FirstRequest::from_str(what.word(), false), Ok(*what));
        }
    }
}
