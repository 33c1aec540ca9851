//! Places for connections: so many in all, and fewer for each peer, so that one cannot keep the others out.
//!
//! In: the address of whoever connects. Out: a [`Place`] to hold while the connection lives, or none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that tell networks apart; a host may use any address of its own.
const NETWORK: u128 = !0 << 64;

/// Connections of each peer that has some.
type Taken = HashMap<IpAddr, usize>;

/// All places.
#[derive(Clone, Debug)]
pub struct Places {
    max: usize,
    peer_max: usize,
    taken: Arc<Mutex<Taken>>,
}

/// One of them, free again when dropped.
#[derive(Debug)]
pub struct Place {
    peer: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    #[must_use]
    pub fn new(max: usize, peer_max: usize) -> Self {
        Self { max, peer_max, taken: Arc::default() }
    }

    /// One for whoever connects from `address`.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let peer = peer(address);
        let mut taken = lock(&self.taken);
        let of_peer = taken.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.peer_max || taken.values().sum::<usize>() >= self.max {
            return None;
        }
        taken.insert(peer, of_peer + 1);
        Some(Place { peer, taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        match taken.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.peer)),
        }
    }
}

/// The host, as far as its address tells: the whole of 127.0.0.0/8 is this one.
fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if address.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address => address,
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Places, address: &str) -> Option<Place> {
        places.take(address.parse().unwrap())
    }

    #[test]
    fn one_peer_does_not_get_all_places() {
        let places = Places::new(3, 2);
        let mut held: Vec<_> = (0..3).filter_map(|_| take(&places, "192.0.2.1")).collect();
        assert_eq!(held.len(), 2);
        held.extend(take(&places, "192.0.2.2"));
        assert_eq!(held.len(), 3);
        assert!(take(&places, "192.0.2.3").is_none(), "there is no fourth place");
        held.remove(0);
        held.extend(take(&places, "192.0.2.1"));
        assert_eq!(held.len(), 3);
        drop(held);
        assert!(lock(&places.taken).is_empty());
    }

    #[test]
    fn addresses_of_one_host_are_one_peer() {
        for (one, other, same) in [
            ("127.0.0.1", "127.0.0.2", true),
            ("127.0.0.1", "::1", true),
            ("127.0.0.1", "::ffff:127.0.0.9", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("192.0.2.1", "192.0.2.2", false),
        ] {
            let [one, other] = [one, other].map(|address| peer(address.parse().unwrap()));
            assert_eq!(one == other, same, "{one} and {other}");
        }
    }
}
