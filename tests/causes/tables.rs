//! The tables: what a row must say of each fate, by the vantages that looked. `-` is an empty cell,
//! `some` any other, `*` either, and `/` stands between alternatives. `server` is this process,
//! `other` one that the fate brought in.

/// Packets, sock_diag and tracepoints.
pub(crate) const EVERYTHING: &str = "
fate                          | outcome          | cause            | candidates | retry_safe | accepted | read | server       | reason             | reset by
nobody listens                | refused          | not_listening    | -          | yes        | -        | -    | -            | NO_SOCKET          | -
a firewall rejects            | refused          | unknown          | *          | yes        | -        | -    | -            | -                  | -
queue full at SYN             | unanswered       | queue_full       | -          | yes        | -        | -    | -            | -                  | -
queue full in handshake       | hung             | handshake_limbo  | -          | unknown    | -        | -    | -            | -                  | -
overflow aborts               | reset_empty      | queue_full       | -          | yes/unknown | -       | -    | -            | INVALID_SYN/-      | -
deferred, listener closes     | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | NO_SOCKET          | -
queued, listener closes       | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued, listener shut down    | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued, owner killed          | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | other
queued idle, listener closes  | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued idle, beside linger 0  | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
the same, owner killed        | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | other
queued, client gives up       | hung             | never_accepted   | -          | unknown    | -        | -    | -            | TCP_STATE          | server
queued, read too late         | hung             | never_accepted   | -          | no         | some     | some | server       | *                  | *
owned, read too late          | hung             | accepted_unread  | -          | no         | some     | some | server       | *                  | *
closed unread                 | reset_empty      | accepted_unread  | -          | yes        | some     | -    | server       | TCP_ABORT_ON_CLOSE | server
owner killed, unread          | reset_empty      | accepted_unread  | -          | yes        | some     | -    | server/other | TCP_ABORT_ON_CLOSE | other
one byte read, closed         | reset_empty      | read_unanswered  | -          | no         | some     | some | server       | TCP_ABORT_ON_CLOSE | server
peeked at, closed             | reset_empty      | read_unanswered  | -          | no         | some     | some | server       | TCP_ABORT_ON_CLOSE | server
read, linger 0                | reset_empty      | read_unanswered  | -          | no         | some     | some | server       | TCP_STATE          | server
idle, linger 0                | reset_on_connect | accepted_unread  | -          | yes        | some     | -    | server       | TCP_STATE          | server
idle, owner killed, linger 0  | reset_on_connect | accepted_unread  | -          | yes        | some     | -    | server/other | TCP_STATE          | other
read, closed                  | closed_empty     | read_unanswered  | -          | no         | some     | some | server       | -                  | -
FIN over unread               | closed_empty     | accepted_unread  | -          | unknown    | some     | -    | server       | *                  | *
FIN over unread, then read    | closed_empty     | accepted_unread  | -          | no         | some     | some | server       | *                  | *
idle, closed, then asked      | closed_empty     | accepted_unread  | -          | unknown    | some     | -    | server       | *                  | -
read, never answered          | hung             | read_unanswered  | -          | no         | some     | some | server       | *                  | *
half answered                 | truncated        | answered_partly  | -          | no         | some     | some | server       | -                  | -
read, disconnected            | reset_empty      | read_unanswered  | -          | no         | some     | some | server       | TCP_STATE          | server
queued, destroyed             | reset_empty      | unknown          | never_accepted+accepted_unread | unknown | - | - | -            | TCP_STATE          | -
answered                      | served           | -                | -          | -          | some     | some | server       | -                  | -
passed on, read there         | closed_empty     | read_unanswered  | -          | no         | some     | some | other        | -                  | -
read by another thread        | reset_empty      | read_unanswered  | -          | no         | some     | some | server       | TCP_STATE          | server
forked, read, child killed    | closed_empty     | read_unanswered  | -          | no         | some     | some | server       | -                  | -
forked, unread, child killed  | reset_empty      | accepted_unread  | -          | yes        | some     | -    | server/other | TCP_ABORT_ON_CLOSE | other
";

/// Packets and tracepoints: without sock_diag nothing counts what was dropped.
pub(crate) const TRACE: &str = "
fate                          | outcome          | cause            | candidates | retry_safe | accepted | read | server       | reason             | reset by
nobody listens                | refused          | not_listening    | -          | yes        | -        | -    | -            | NO_SOCKET          | -
a firewall rejects            | refused          | unknown          | *          | yes        | -        | -    | -            | -                  | -
queue full at SYN             | unanswered       | unknown          | queue_full | yes        | -        | -    | -            | -                  | -
queue full in handshake       | hung             | handshake_limbo/unknown | */handshake_limbo | unknown | - | -    | -            | -                  | -
overflow aborts               | reset_empty      | queue_full/unknown | -/queue_full+never_accepted | yes/unknown | - | - | -       | INVALID_SYN/-      | -
deferred, listener closes     | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | NO_SOCKET          | -
queued, listener closes       | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued, listener shut down    | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued, owner killed          | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | other
queued idle, listener closes  | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
queued idle, beside linger 0  | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | server
the same, owner killed        | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | TCP_STATE          | other
queued, client gives up       | hung             | never_accepted   | -          | unknown    | -        | -    | -            | TCP_STATE          | server
queued, read too late         | hung             | never_accepted   | -          | no         | *        | some | server       | *                  | *
owned, read too late          | hung             | accepted_unread  | -          | no         | *        | some | server       | *                  | *
closed unread                 | reset_empty      | accepted_unread  | -          | yes        | *        | -    | server       | TCP_ABORT_ON_CLOSE | server
owner killed, unread          | reset_empty      | accepted_unread  | -          | yes        | *        | -    | server/other | TCP_ABORT_ON_CLOSE | other
one byte read, closed         | reset_empty      | read_unanswered  | -          | no         | *        | some | server       | TCP_ABORT_ON_CLOSE | server
peeked at, closed             | reset_empty      | read_unanswered  | -          | no         | *        | some | server       | TCP_ABORT_ON_CLOSE | server
read, linger 0                | reset_empty      | read_unanswered  | -          | no         | *        | some | server       | TCP_STATE          | server
idle, linger 0                | reset_on_connect | accepted_unread  | -          | yes        | *        | -    | server       | TCP_STATE          | server
idle, owner killed, linger 0  | reset_on_connect | accepted_unread  | -          | yes        | *        | -    | server/other | TCP_STATE          | other
read, closed                  | closed_empty     | read_unanswered  | -          | no         | *        | some | server       | -                  | -
FIN over unread               | closed_empty     | accepted_unread  | -          | unknown    | *        | -    | */server     | *                  | *
FIN over unread, then read    | closed_empty     | accepted_unread  | -          | no         | *        | some | server       | *                  | *
idle, closed, then asked      | closed_empty     | accepted_unread  | -          | unknown    | *        | -    | */server     | *                  | -
read, never answered          | hung             | read_unanswered  | -          | no         | *        | some | server       | *                  | *
half answered                 | truncated        | answered_partly  | -          | no         | *        | some | server       | -                  | -
read, disconnected            | reset_empty      | read_unanswered  | -          | no         | *        | some | server       | TCP_STATE          | server
queued, destroyed             | reset_empty      | unknown          | never_accepted+accepted_unread | unknown | - | - | -            | TCP_STATE          | -
answered                      | served           | -                | -          | -          | *        | some | server       | -                  | -
passed on, read there         | closed_empty     | read_unanswered  | -          | no         | *        | some | other        | -                  | -
read by another thread        | reset_empty      | read_unanswered  | -          | no         | *        | some | server       | TCP_STATE          | server
forked, read, child killed    | closed_empty     | read_unanswered  | -          | no         | *        | some | server       | -                  | -
forked, unread, child killed  | reset_empty      | accepted_unread  | -          | yes        | *        | -    | server/other | TCP_ABORT_ON_CLOSE | other
";

/// Packets and sock_diag, which sees no read: a peek leaves the data where it is, so that it never
/// proves a request unread. Nor can it tell a queue's reset from those of connections that are reset
/// beside it.
pub(crate) const DIAG: &str = "
fate                          | outcome          | cause            | candidates | retry_safe | accepted | read | server       | reason | reset by
nobody listens                | refused          | not_listening    | -          | yes        | -        | -    | -            | -      | -
a firewall rejects            | refused          | unknown          | *          | yes        | -        | -    | -            | -      | -
queue full at SYN             | unanswered       | queue_full       | -          | yes        | -        | -    | -            | -      | -
queue full in handshake       | hung             | handshake_limbo  | -          | unknown    | -        | -    | -            | -      | -
overflow aborts               | reset_empty      | queue_full       | -          | yes/unknown | -       | -    | -            | -      | -
deferred, listener closes     | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | -      | -
queued, listener closes       | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | -      | -
queued, listener shut down    | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | -      | -
queued, owner killed          | reset_empty      | never_accepted   | -          | yes        | -        | -    | -            | -      | -
queued idle, listener closes  | reset_on_connect | never_accepted   | -          | yes        | -        | -    | -            | -      | -
queued idle, beside linger 0  | reset_on_connect | unknown          | never_accepted+accepted_unread | yes | - | - | -            | -      | -
the same, owner killed        | reset_on_connect | unknown          | never_accepted+accepted_unread | yes | - | - | -            | -      | -
queued, client gives up       | hung             | never_accepted/unknown | *    | unknown    | -        | -    | -            | -      | -
queued, read too late         | hung             | never_accepted/unknown | -/never_accepted+accepted_unread+read_unanswered/accepted_unread+read_unanswered | unknown/no | * | - | -/server | - | -
owned, read too late          | hung             | unknown          | accepted_unread+read_unanswered | unknown/no | * | - | server       | -      | -
closed unread                 | reset_empty      | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server       | -      | -
owner killed, unread          | reset_empty      | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server/other | -      | -
one byte read, closed         | reset_empty      | unknown/read_unanswered | -/accepted_unread+read_unanswered | unknown/no | * | * | server | - | -
peeked at, closed             | reset_empty      | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server       | -      | -
read, linger 0                | reset_empty      | read_unanswered  | -          | no/unknown | *        | *    | server       | -      | -
idle, linger 0                | reset_on_connect | accepted_unread/unknown | -/accepted_unread | yes | * | -  | server       | -      | -
idle, owner killed, linger 0  | reset_on_connect | accepted_unread/unknown | -/accepted_unread | yes | * | -  | server/other | -      | -
read, closed                  | closed_empty     | read_unanswered  | -          | no/unknown | *        | *    | server       | -      | -
FIN over unread               | closed_empty     | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server       | -      | -
FIN over unread, then read    | closed_empty     | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server       | -      | -
idle, closed, then asked      | closed_empty     | accepted_unread/unknown | -/accepted_unread+read_unanswered | unknown | * | - | server | - | -
read, never answered          | hung             | read_unanswered/unknown | -/accepted_unread+read_unanswered | no/unknown | * | * | server  | -      | -
half answered                 | truncated        | answered_partly  | -          | no/unknown | *        | *    | server       | -      | -
read, disconnected            | reset_empty      | unknown/read_unanswered | -/never_accepted+accepted_unread+read_unanswered/accepted_unread+read_unanswered | unknown/no | * | - | -/server | -      | -
queued, destroyed             | reset_empty      | unknown          | never_accepted+accepted_unread+read_unanswered | unknown | - | - | -   | -      | -
answered                      | served           | -                | -          | -          | *        | *    | server       | -      | -
passed on, read there         | closed_empty     | unknown/read_unanswered | -/accepted_unread+read_unanswered | unknown/no | * | * | server/other | - | -
read by another thread        | reset_empty      | read_unanswered  | -          | no/unknown | *        | *    | server       | -      | -
forked, read, child killed    | closed_empty     | read_unanswered  | -          | no/unknown | *        | *    | server/other | -      | -
forked, unread, child killed  | reset_empty      | unknown          | accepted_unread+read_unanswered | unknown | * | -   | server/other | -      | -
";
