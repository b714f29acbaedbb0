//! Which tracepoints are listened to, what each would take away by its absence, and what their
//! records say. Which thread is whose is left to [`threads`](super::threads), what several records
//! say together to [`join`](super::join).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::format::{Field, Format, Symbols};
use crate::kernel::{Comm, TcpState, TracedWhat};
use crate::wire::Ends;

/// Bits of common_flags (enum trace_flag_type in include/linux/trace_events.h, which user space reads
/// as well): in a hard interrupt, in a softirq, in an NMI.
const INTERRUPTED: u64 = 0x08 | 0x10 | 0x40;
/// Softirqs are held off (TRACE_FLAG_BH_OFF), which may be so in an interrupt as well.
const BH_OFF: u64 = 0x80;
/// struct sockaddr_in and sockaddr_in6 begin with these.
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// As sched.h has it: a new task is a thread of the one that makes it.
const CLONE_THREAD: u64 = 0x0001_0000;
/// TRACE_SIGNAL_DELIVERED of enum in include/trace/events/signal.h: it was sent for good.
const SENT: u64 = 0;

/// Whose events an instance records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everybody's: sockets are worked on in whatever thread happens to run.
    Host,
    /// The threads of the server's processes.
    Server,
}

/// A tracepoint that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Which instance is to record it.
    pub(super) scope: Scope,
    /// Its folder.
    pub(super) system: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// What is not seen without it.
    shows: &'static str,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Read,
    ResetSent,
    ResetReceived,
    State,
    Retransmitted,
    Destroyed,
    SignalSent,
    AcceptEntered,
    AcceptLeft,
    ShutdownLeft,
    GroupExit,
    SignalDelivered,
    Exit,
    Birth,
}

const fn wanted(
    scope: Scope,
    system: &'static str,
    name: &'static str,
    what: What,
    shows: &'static str,
) -> Wanted {
    Wanted {
        scope,
        system,
        name,
        shows,
        what,
    }
}

/// All of them.
pub(super) const WANTED: &[Wanted] = &[
    wanted(
        Scope::Host,
        "tcp",
        "tcp_rcv_space_adjust",
        What::Read,
        "whether a process read a request",
    ),
    wanted(
        Scope::Host,
        "tcp",
        "tcp_send_reset",
        What::ResetSent,
        "who sent a reset",
    ),
    wanted(
        Scope::Host,
        "tcp",
        "tcp_receive_reset",
        What::ResetReceived,
        "when the server got a reset",
    ),
    wanted(
        Scope::Host,
        "sock",
        "inet_sock_set_state",
        What::State,
        "when sockets changed their state and when the listener was closed",
    ),
    wanted(
        Scope::Host,
        "tcp",
        "tcp_retransmit_skb",
        What::Retransmitted,
        "what the server sent again",
    ),
    wanted(
        Scope::Host,
        "tcp",
        "tcp_retransmit_synack",
        What::Retransmitted,
        "which SYN-ACKs the server sent again",
    ),
    wanted(
        Scope::Host,
        "tcp",
        "tcp_destroy_sock",
        What::Destroyed,
        "when the kernel let go of a socket",
    ),
    // Here since whoever sends a signal is seldom of the server's.
    wanted(
        Scope::Host,
        "signal",
        "signal_generate",
        What::SignalSent,
        "which signal ended a process that does not handle it",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_enter_accept",
        What::AcceptEntered,
        "which listener accept() took a connection from",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_enter_accept4",
        What::AcceptEntered,
        "which listener accept4() took a connection from",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_exit_accept",
        What::AcceptLeft,
        "what accept() took",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_exit_accept4",
        What::AcceptLeft,
        "what accept4() took",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_exit_shutdown",
        What::ShutdownLeft,
        "calls of shutdown()",
    ),
    wanted(
        Scope::Server,
        "syscalls",
        "sys_enter_exit_group",
        What::GroupExit,
        "whether a process ended itself or a signal ended it",
    ),
    wanted(
        Scope::Server,
        "signal",
        "signal_deliver",
        What::SignalDelivered,
        "which signals reached the server's processes",
    ),
    wanted(
        Scope::Server,
        "sched",
        "sched_process_exit",
        What::Exit,
        "when the server's processes ended",
    ),
    wanted(
        Scope::Server,
        "task",
        "task_newtask",
        What::Birth,
        "which process a thread belonged to that ended at once",
    ),
];

impl Wanted {
    /// What it would have shown, for the user.
    pub(super) fn lacking(&self, why: &str) -> String {
        let Wanted {
            system,
            name,
            shows,
            ..
        } = self;
        format!("{system}:{name} {why}: {shows} is not seen")
    }

    /// What the kernel is to record of it.
    pub(super) fn filter(&self, format: &Format, port: u16) -> Option<String> {
        match self.what {
            What::State if format.field("protocol").is_some() => {
                Some(format!("sport == {port} && protocol == 6"))
            }
            // The signals that end a process at once where it does not handle them, but those that
            // run-times use for themselves by the thousand.
            What::SignalSent => {
                let fatal = [
                    libc::SIGHUP,
                    libc::SIGINT,
                    libc::SIGKILL,
                    libc::SIGUSR1,
                    libc::SIGUSR2,
                    libc::SIGPIPE,
                    libc::SIGALRM,
                    libc::SIGTERM,
                ];
                let each = fatal.map(|signal| format!("sig == {signal}"));
                Some(each.join(" || "))
            }
            _ if format.field("sport").is_some() => Some(format!("sport == {port}")),
            _ => None,
        }
    }
}

/// What a record says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Something about a socket.
    Socket(TracedWhat),
    /// accept() was called.
    AcceptEntered {
        /// The listener's descriptor.
        fd: i32,
    },
    /// accept() returned.
    AcceptLeft {
        /// A descriptor, or an error below 0.
        result: i64,
    },
    /// shutdown() did what it was asked.
    ShutDown,
    /// A signal that may end a process was sent to a thread, or to its process.
    SignalSent {
        /// Its number.
        signal: i32,
        /// To whom.
        tid: i32,
    },
    /// A signal was taken by the thread, or SIGKILL stands for another thread's having ended the
    /// process.
    SignalDelivered {
        /// Its number.
        signal: i32,
    },
    /// The process asked for its own end.
    GroupExit,
    /// The thread ended.
    Exit {
        /// Whether it was its process's last; none where this kernel does not say.
        last: Option<bool>,
        /// Its name.
        comm: Option<Comm>,
    },
    /// The thread made another.
    Birth {
        /// The new one.
        tid: i32,
        /// Whether it is of the same process.
        thread: bool,
    },
}

/// In what a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// In the thread that was running.
    Thread {
        /// Whether it held softirqs off.
        bh_off: bool,
    },
    /// In an interrupt that had taken the thread's place.
    Interrupt,
}

impl Context {
    fn of(flags: u64) -> Context {
        match flags & INTERRUPTED {
            0 => Context::Thread {
                bh_off: flags & BH_OFF != 0,
            },
            _ => Context::Interrupt,
        }
    }
}

/// A record, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The thread that was running.
    pub(super) tid: i32,
    /// Whether it had a part in this.
    pub(super) context: Context,
    /// What it says.
    pub(super) seen: Seen,
}

/// Reads the records of those events that this kernel has.
#[derive(Debug)]
pub(super) struct Decoder {
    port: u16,
    common: Option<Common>,
    known: HashMap<u16, Reading, foldhash::fast::FixedState>,
}

/// What every record begins with.
#[derive(Clone, Copy, Debug)]
struct Common {
    kind: Field,
    flags: Field,
    pid: Field,
}

/// How one event's records are read.
#[derive(Debug)]
enum Reading {
    Read(Socket),
    ResetReceived(Socket),
    Retransmitted(Tuple),
    Destroyed(Field),
    State {
        socket: Socket,
        from: Field,
        to: Field,
        protocol: Option<Field>,
    },
    ResetSent {
        tuple: Tuple,
        socket: Option<Field>,
        state: Option<Field>,
        reason: Option<(Field, Symbols)>,
    },
    SignalSent {
        signal: Field,
        tid: Field,
        result: Option<Field>,
    },
    AcceptEntered(Field),
    AcceptLeft(Field),
    ShutdownLeft(Field),
    GroupExit,
    SignalDelivered(Field),
    Exit {
        last: Option<Field>,
        comm: Option<Field>,
    },
    Birth {
        tid: Field,
        flags: Field,
    },
}

#[derive(Debug)]
struct Socket {
    pointer: Field,
    tuple: Tuple,
}

/// Where a record has its two ends: the socket's own, then the other's.
#[derive(Debug)]
enum Tuple {
    /// As ports in the host's order and addresses of either kind.
    Apart {
        ports: [Field; 2],
        v4: [Field; 2],
        v6: Option<[Field; 2]>,
        family: Option<Field>,
    },
    /// As two struct sockaddr.
    Whole([Field; 2]),
}

/// The fields of one event, asked for by name.
struct Fields<'a>(&'a Format);

impl Fields<'_> {
    fn need(&self, name: &'static str) -> Result<Field, String> {
        let field = self.0.field(name);
        field.ok_or_else(|| format!("has no field {name} in this kernel"))
    }

    fn both(&self, names: [&'static str; 2]) -> Result<[Field; 2], String> {
        Ok([self.need(names[0])?, self.need(names[1])?])
    }

    fn tuple(&self) -> Result<Tuple, String> {
        let [saddr, daddr] = self.both(["saddr", "daddr"])?;
        if self.0.field("sport").is_none() && saddr.size >= 28 && daddr.size >= 28 {
            return Ok(Tuple::Whole([saddr, daddr]));
        }
        Ok(Tuple::Apart {
            ports: self.both(["sport", "dport"])?,
            v4: [saddr, daddr],
            v6: self.both(["saddr_v6", "daddr_v6"]).ok(),
            family: self.0.field("family"),
        })
    }

    fn socket(&self) -> Result<Socket, String> {
        Ok(Socket {
            pointer: self.need("skaddr")?,
            tuple: self.tuple()?,
        })
    }
}

impl Reading {
    fn of(what: What, format: &Format) -> Result<Reading, String> {
        let fields = Fields(format);
        Ok(match what {
            What::Read => Reading::Read(fields.socket()?),
            What::ResetReceived => Reading::ResetReceived(fields.socket()?),
            What::Retransmitted => Reading::Retransmitted(fields.tuple()?),
            What::Destroyed => Reading::Destroyed(fields.need("skaddr")?),
            What::State => Reading::State {
                socket: fields.socket()?,
                from: fields.need("oldstate")?,
                to: fields.need("newstate")?,
                protocol: format.field("protocol"),
            },
            What::ResetSent => Reading::ResetSent {
                tuple: fields.tuple()?,
                socket: format.field("skaddr"),
                state: format.field("state"),
                reason: format
                    .field("reason")
                    .map(|field| (field, format.symbols("reason"))),
            },
            What::SignalSent => Reading::SignalSent {
                signal: fields.need("sig")?,
                tid: fields.need("pid")?,
                result: format.field("result"),
            },
            What::AcceptEntered => Reading::AcceptEntered(fields.need("fd")?),
            What::AcceptLeft => Reading::AcceptLeft(fields.need("ret")?),
            What::ShutdownLeft => Reading::ShutdownLeft(fields.need("ret")?),
            What::GroupExit => Reading::GroupExit,
            What::SignalDelivered => Reading::SignalDelivered(fields.need("sig")?),
            What::Exit => Reading::Exit {
                last: format.field("group_dead"),
                comm: format.field("comm"),
            },
            What::Birth => Reading::Birth {
                tid: fields.need("pid")?,
                flags: fields.need("clone_flags")?,
            },
        })
    }

    /// What is missing all the same.
    fn lacks(&self) -> Option<&'static str> {
        match self {
            Reading::ResetSent { reason: None, .. } => {
                Some("has no reason in this kernel: why a reset was sent is not seen")
            }
            Reading::Exit { last: None, .. } => Some(
                "has no group_dead in this kernel: a process counts as ended when its first thread is",
            ),
            _ => None,
        }
    }
}

impl Decoder {
    /// One that knows no event yet; of sockets only those are read whose own port is `port`.
    pub(super) fn new(port: u16) -> Decoder {
        Decoder {
            port,
            common: None,
            known: HashMap::default(),
        }
    }

    /// Learns an event; says what it lacks all the same, or why it is of no use.
    pub(super) fn learn(
        &mut self,
        wanted: &Wanted,
        format: &Format,
    ) -> Result<Option<String>, String> {
        let unusable = |why: String| wanted.lacking(&why);
        let reading = Reading::of(wanted.what, format).map_err(unusable)?;
        let fields = Fields(format);
        if self.common.is_none() {
            let common = |name| fields.need(name).map_err(unusable);
            self.common = Some(Common {
                kind: common("common_type")?,
                flags: common("common_flags")?,
                pid: common("common_pid")?,
            });
        }
        let lacks = reading.lacks();
        let lacks = lacks.map(|lacks| format!("{}:{} {lacks}", wanted.system, wanted.name));
        self.known.insert(format.id, reading);
        Ok(lacks)
    }

    /// Reads a record; none where it says nothing of the server, is of no known event or too short.
    pub(super) fn read(&self, record: &[u8]) -> Option<Event> {
        let common = self.common?;
        let kind = u16::try_from(common.kind.unsigned(record)?).ok()?;
        let seen = self.seen(self.known.get(&kind)?, record)?;
        Some(Event {
            tid: common.pid.int(record)?,
            context: Context::of(common.flags.unsigned(record)?),
            seen,
        })
    }

    fn seen(&self, reading: &Reading, record: &[u8]) -> Option<Seen> {
        Some(match reading {
            Reading::Read(socket) => Seen::Socket(TracedWhat::Read {
                ends: self.ends(&socket.tuple, record)?,
                socket: socket.pointer.unsigned(record)?,
            }),
            Reading::ResetReceived(socket) => Seen::Socket(TracedWhat::ResetReceived {
                ends: self.ends(&socket.tuple, record)?,
                socket: socket.pointer.unsigned(record)?,
            }),
            Reading::Retransmitted(tuple) => Seen::Socket(TracedWhat::Retransmitted {
                ends: self.ends(tuple, record)?,
            }),
            Reading::Destroyed(socket) => Seen::Socket(TracedWhat::Destroyed {
                socket: socket.unsigned(record)?,
            }),
            Reading::State {
                socket,
                from,
                to,
                protocol,
            } => {
                const TCP: u64 = 6;
                if protocol.is_some_and(|field| field.unsigned(record) != Some(TCP)) {
                    return None;
                }
                Seen::Socket(TracedWhat::State {
                    ends: self.ends(&socket.tuple, record)?,
                    socket: socket.pointer.unsigned(record)?,
                    from: state(*from, record),
                    to: state(*to, record),
                })
            }
            Reading::ResetSent {
                tuple,
                socket,
                state: at,
                reason,
            } => Seen::Socket(TracedWhat::ResetSent {
                ends: self.ends(tuple, record)?,
                socket: socket
                    .and_then(|field| field.unsigned(record))
                    .filter(|&pointer| pointer != 0),
                state: at.and_then(|field| state(field, record)),
                reason: reason.as_ref().and_then(|(field, names)| {
                    let number = field.unsigned(record)?;
                    // A number that the format file does not name is still what the kernel said.
                    let name = names.name(number).map(Box::from);
                    Some(name.unwrap_or_else(|| number.to_string().into()))
                }),
            }),
            Reading::SignalSent {
                signal,
                tid,
                result,
            } => {
                if result.is_some_and(|field| field.unsigned(record) != Some(SENT)) {
                    return None;
                }
                Seen::SignalSent {
                    signal: signal.int(record)?,
                    tid: tid.int(record)?,
                }
            }
            Reading::AcceptEntered(fd) => Seen::AcceptEntered {
                fd: fd.int(record)?,
            },
            Reading::AcceptLeft(result) => Seen::AcceptLeft {
                result: result.long(record)?,
            },
            Reading::ShutdownLeft(result) => match result.long(record)? {
                0.. => Seen::ShutDown,
                _ => return None,
            },
            Reading::GroupExit => Seen::GroupExit,
            Reading::SignalDelivered(signal) => Seen::SignalDelivered {
                signal: signal.int(record)?,
            },
            Reading::Exit { last, comm } => Seen::Exit {
                last: last
                    .and_then(|field| field.unsigned(record))
                    .map(|last| last != 0),
                comm: comm.and_then(|field| field.bytes(record)).map(Comm::new),
            },
            Reading::Birth { tid, flags } => Seen::Birth {
                tid: tid.int(record)?,
                thread: flags.unsigned(record)? & CLONE_THREAD != 0,
            },
        })
    }

    /// The ends of a socket of the server's. Those of others, and among them a client's on the same
    /// host, are none: a RST that the client sent is not the server's.
    fn ends(&self, tuple: &Tuple, record: &[u8]) -> Option<Ends> {
        let [server, client] = tuple.read(record)?;
        (server.port() == self.port).then_some(Ends { client, server })
    }
}

impl Tuple {
    fn read(&self, record: &[u8]) -> Option<[SocketAddr; 2]> {
        let end = |at: usize| match self {
            Tuple::Whole(ends) => sockaddr(ends[at].bytes(record)?),
            Tuple::Apart {
                ports,
                v4,
                v6,
                family,
            } => {
                let port = u16::try_from(ports[at].unsigned(record)?).ok()?;
                let family = family.and_then(|field| field.unsigned(record));
                let v6 = v6.filter(|_| family != Some(u64::from(AF_INET)));
                let ip = match v6 {
                    Some(v6) => IpAddr::from(v6[at].array::<16>(record)?),
                    None => IpAddr::from(v4[at].array::<4>(record)?),
                };
                // A dual-stack socket's ::ffff:a.b.c.d is a.b.c.d on the wire.
                Some(SocketAddr::new(ip.to_canonical(), port))
            }
        };
        Some([end(0)?, end(1)?])
    }
}

fn state(field: Field, record: &[u8]) -> Option<TcpState> {
    let number = u8::try_from(field.unsigned(record)?).ok()?;
    TcpState::from_number(number)
}

/// A struct sockaddr_in or sockaddr_in6. The kernel fills in none where it knows no address.
fn sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let ip = match family {
        AF_INET => {
            let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        AF_INET6 => {
            let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests;
