//! Who is closing a listener just now. Closing the last copy of one resets its queue in the same call
//! (inet_csk_listen_stop), and the same thread may go on to close connections that it had accepted.

use std::collections::HashMap;

use super::Task;

/// Threads in the middle of closing a listener.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// By thread, the listener's socket.
    threads: HashMap<i32, u64>,
    /// This kernel tells when softirqs are held off, as they are while a queue is reset.
    flagged: bool,
}

/// Whose doing it is that a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closer {
    /// The queue's: its listener is being closed.
    Queue,
    /// A process's that has it.
    Owner,
    /// Somebody's from outside (SOCK_DESTROY: ss -K), or the kernel's own.
    Outside,
    /// One or the other.
    Unclear,
}

impl Closing {
    /// Looks at a thread that does something.
    pub(super) fn look(&mut self, task: Task) {
        self.flagged |= task.bh_off;
    }

    /// A thread has begun to close a listener.
    pub(super) fn begin(&mut self, tid: i32, listener: u64) {
        self.threads.insert(tid, listener);
    }

    /// A thread does something else.
    pub(super) fn end(&mut self, tid: i32) {
        self.threads.remove(&tid);
    }

    /// The kernel lets go of a listener, whose queue has been reset by then.
    pub(super) fn let_go(&mut self, listener: u64) {
        self.threads.retain(|_, of| *of != listener);
    }

    /// Whose doing it is what this thread does to a connection. With `ends` the end of every closing
    /// is seen.
    pub(super) fn closer(&self, task: Task, ends: bool) -> Closer {
        if task.softirq {
            return Closer::Outside;
        }
        match (self.threads.contains_key(&task.tid), self.flagged) {
            // Softirqs are held off while a queue is reset and while a socket is destroyed from
            // outside (tcp_abort); a process that closes sends its RST before it does so.
            (true, true) if task.bh_off => Closer::Queue,
            (false, true) if task.bh_off => Closer::Outside,
            (_, true) | (false, false) => Closer::Owner,
            (true, false) if ends => Closer::Queue,
            (true, false) => Closer::Unclear,
        }
    }
}
