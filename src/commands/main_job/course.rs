//! Puts together what the server did around its signal: what the probe did, what the kernel showed,
//! what the connections met.

use super::measure::Ended;
use crate::kernel::{Course, Length, Queue};
use crate::report::course::{CourseReport, Moment};
use crate::target::trigger::Action;
use crate::time::Stamp;

/// The time line of a run that has ended.
pub(super) fn course(ended: &Ended) -> CourseReport {
    // Of connections that are passed on to somewhere else nothing was seen, which is not none.
    let here = !ended.recorded.answered_elsewhere;
    let queue = ended.recorded.queue.as_ref().filter(|_| here);
    let traced = ended.recorded.course.as_ref().filter(|_| here);
    let signal = ended.log.signal();
    let mut moments = of_the_probe(ended);
    moments.extend(traced.into_iter().flat_map(of_the_kernel));
    moments.extend(of_the_listener(ended, traced, queue));
    moments.extend(exits(ended, traced));
    // What was before belongs to a server at work; its last accept() may well have been then.
    moments.retain(|moment| {
        moment.event == "last_accept" || signal.is_none_or(|signal| moment.at >= signal)
    });
    moments.sort_by_key(|moment| moment.at);
    // What the queue was when last looked at says nothing of a listener that is gone.
    let gone = ["listener_closed", "queue_reset", "refused"];
    let closed = moments
        .iter()
        .position(|moment| gone.contains(&moment.event));
    let with_queue = closed.map_or(moments.len(), |closed| closed + 1);
    for moment in &mut moments[..with_queue] {
        moment.queued = match queue.and_then(|queue| queue.at(moment.at)) {
            Some(Length::Queued(queued)) => Some(queued),
            Some(Length::NoListener) | None => None,
        };
    }
    // Who has begun to listen meanwhile has a queue of his own, and may accept unseen.
    let accepts = traced.filter(|traced| {
        ended.seen.saw_accepts && !traced.accepted.is_empty() && traced.listening.is_none()
    });
    CourseReport {
        signal,
        moments,
        taken: traced.map(|traced| traced.taken),
        taken_after_last_accept: accepts.map(|traced| traced.taken_since_accept),
        longest_queue: queue.map(|queue| queue.longest),
        queue_capacity: queue.and_then(|queue| Some(u64::from(queue.limit?) + 1)),
    }
}

fn moment(at: Stamp, event: &'static str, pid: Option<i32>, detail: Option<String>) -> Moment {
    Moment {
        at,
        event,
        pid,
        detail,
        queued: None,
    }
}

fn of_the_probe(ended: &Ended) -> Vec<Moment> {
    let mut moments = Vec::new();
    for fired in &ended.log.fired {
        if let Action::Signal(signal, _) = &fired.action {
            let sent = fired.sent.iter().filter(|(_, sent)| sent.is_ok());
            moments.extend(sent.map(|(pid, _)| {
                let signal = Some(signal.to_string());
                moment(fired.at, "signal_sent", Some(pid.as_raw()), signal)
            }));
        }
    }
    moments
}

fn of_the_kernel(traced: &Course) -> Vec<Moment> {
    let signals = traced.signals.iter().map(|(act, signal)| {
        let signal = Some(signal.to_string());
        moment(act.at, "signal_delivered", act.pid, signal)
    });
    let accepts = traced.accepted.iter().map(|(&pid, accepted)| {
        let count = Some(accepted.count.to_string());
        moment(accepted.last, "last_accept", Some(pid), count)
    });
    signals.chain(accepts).collect()
}

/// When the last copy of the listener was closed, and what connections met first after that.
fn of_the_listener(ended: &Ended, traced: Option<&Course>, queue: Option<&Queue>) -> Vec<Moment> {
    let begun = traced.and_then(|traced| traced.listening);
    // Another name space's listener has the same address, as far as tracepoints tell.
    let still_there = begun.is_none() && queue.is_some_and(|queue| queue.ended().is_none());
    let traced = traced.filter(|_| !still_there);
    let closed = traced.and_then(|traced| traced.listener_closed);
    let found_closed = || {
        let at = queue?.ended()?;
        Some(moment(at, "listener_closed", None, None))
    };
    let closed = closed
        .map(|act| moment(act.at, "listener_closed", act.pid, None))
        .or_else(found_closed);
    let reset = traced.and_then(|traced| traced.queue_reset);
    let refused = ended.recorded.summary.first_refusal();
    let first = [(reset, "queue_reset"), (refused, "refused")];
    let first = first
        .into_iter()
        .filter_map(|(at, event)| Some(moment(at?, event, None, None)));
    let begun = begun.map(|act| moment(act.at, "listening", act.pid, None));
    closed.into_iter().chain(begun).chain(first).collect()
}

/// Processes that ended: by the kernel's stamp where it told of them, else when they were seen to.
fn exits(ended: &Ended, traced: Option<&Course>) -> Vec<Moment> {
    let told = traced.map_or(&[][..], |traced| &traced.exits);
    let known = |pid: i32| told.iter().any(|act| act.pid == Some(pid));
    let seen = ended.log.exits.iter();
    let seen = seen.filter(|(pid, _)| !known(pid.as_raw()));
    told.iter()
        .map(|act| moment(act.at, "exiting", act.pid, None))
        .chain(seen.map(|(pid, at)| moment(*at, "exit", Some(pid.as_raw()), None)))
        .collect()
}
