//! Which connection a client address belongs to, and which ones had one that was closed: a segment
//! finds its connection by its destination.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::RandomState;

/// A client's address, told apart in six bytes: there are few addresses, each with many ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Place {
    address: u32,
    port: u16,
}

impl Place {
    pub(super) fn port(self) -> u16 {
        self.port
    }
}

/// Stands for the slot of a connection that is gone.
const GONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Places {
    addresses: Vec<IpAddr>,
    numbers: HashMap<IpAddr, u32, RandomState>,
    slots: HashMap<Place, u32, RandomState>,
    /// The address found last: most are like the one before.
    last: Option<(IpAddr, u32)>,
}

impl Places {
    /// The place of `client`, new perhaps.
    pub(super) fn of(&mut self, client: SocketAddr) -> Place {
        if let Some(place) = self.find(client) {
            return place;
        }
        let address = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        self.addresses.push(client.ip());
        self.numbers.insert(client.ip(), address);
        Place {
            address,
            port: client.port(),
        }
    }

    /// The place of `client`, if connections were ever made from its address.
    pub(super) fn find(&mut self, client: SocketAddr) -> Option<Place> {
        let ip = client.ip();
        let address = match self.last {
            Some((last, address)) if last == ip => address,
            _ => {
                let address = *self.numbers.get(&ip)?;
                self.last = Some((ip, address));
                address
            }
        };
        Some(Place {
            address,
            port: client.port(),
        })
    }

    pub(super) fn address(&self, place: Place) -> SocketAddr {
        SocketAddr::new(self.addresses[place.address as usize], place.port)
    }

    pub(super) fn slot(&self, place: Place) -> Option<u32> {
        self.slots.get(&place).copied().filter(|&slot| slot != GONE)
    }

    /// Whether a connection was here that went in order.
    pub(super) fn was_ours(&self, place: Place) -> bool {
        self.slots.get(&place) == Some(&GONE)
    }

    pub(super) fn take(&mut self, place: Place, slot: u32) {
        self.slots.insert(place, slot);
    }

    pub(super) fn leave(&mut self, place: Place) {
        self.slots.insert(place, GONE);
    }

    /// Nothing is left to say about a connection that was here.
    pub(super) fn forget(&mut self, place: Place) {
        if self.was_ours(place) {
            self.slots.remove(&place);
        }
    }
}
