//! A door for benches/raw.rs: the engine on a real link, with nobody recording what it sees.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::manner::{CloseBy, Does, Manner};
use super::{RawEngine, Way};
use crate::connect::request::Template;
use crate::connect::schedule::Arrivals;
use crate::connect::{Content, Engine as _, Job};
use crate::observe::route::route_to;
use crate::time::Clock;

/// Makes `connections` handshakes with `target` from so many loopback addresses, and resets them all;
/// returns how long the handshakes took, from the first SYN to the last SYN-ACK.
pub fn handshakes(target: SocketAddr, connections: u64, sources: u8) -> io::Result<Duration> {
    let per_source = connections.div_ceil(sources.into());
    let job = Job {
        target,
        count: connections,
        idle: 0,
        idle_delay: Duration::ZERO,
        arrivals: Arrivals::AtOnce,
        timeout: Duration::from_secs(60),
        request: Template::verbatim(Vec::new()),
        content: Content::Bytes { expect: None },
        sources,
        ports: usize::try_from(per_source).unwrap_or(usize::MAX),
        most_ports: usize::try_from(per_source).unwrap_or(usize::MAX),
    };
    let manner = Manner {
        does: Does::Handshake,
        close: CloseBy::Rst,
    };
    let clock = Clock::start();
    let way = Way::open(target, route_to(target)?)?;
    let sink = Box::new(|_| true);
    let mut engine = RawEngine::new(job, manner, way, clock, false, sink);
    while engine.connections.handshakes() < connections {
        engine.turn(u64::MAX, None)?;
    }
    let took = engine.first_opened().map_or(Duration::ZERO, |first| {
        Duration::from_nanos(u64::try_from(clock.now().since(first)).unwrap_or(0))
    });
    engine.interrupt();
    Box::new(engine).linger()?.stop();
    Ok(took)
}
