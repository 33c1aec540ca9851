//! Ends of connections that the kernel told by itself, put behind what their process did before.
//!
//! A client that leaves at once ends a connection on one processor while the write that answered it is still being
//! copied on another: the end reaches the ring first. It is held until the socket's next event, whose time says which
//! of the two came first, or until nothing from before can still come.

use std::collections::HashMap;
use std::time::Duration;

use inferscope_common::socket::SocketEvent;

use crate::clock::BootTime;

/// Ends that are held at once: of 300,000 connections a second at the pace at which the rings are looked at. One more
/// takes its place in the order of the ring.
pub const ENDS_MAX: usize = 16_384;
/// A program has put its event into the ring by then, also where something else was let onto its processor meanwhile.
const SETTLED_AFTER: Duration = Duration::from_millis(20);

/// Ends by socket.
#[derive(Debug, Default)]
pub(super) struct Ends {
    held: HashMap<u64, SocketEvent>,
}

impl Ends {
    /// Holds an end; false where there is no room, and where a later one of the same socket is held.
    pub(super) fn hold(&mut self, end: SocketEvent) -> bool {
        if self.held.len() >= ENDS_MAX || self.held.contains_key(&end.socket) {
            return false;
        }
        self.held.insert(end.socket, end);
        true
    }

    /// The end of a socket, if it came before the event.
    pub(super) fn before(&mut self, event: &SocketEvent) -> Option<SocketEvent> {
        let end = self.held.get(&event.socket)?;
        // By time: a write's is that of its bytes, and its number is taken when the call is over.
        let earlier = end.time_ns <= event.time_ns;
        if earlier { self.held.remove(&event.socket) } else { None }
    }

    /// Those before which nothing can come any more, in their order.
    pub(super) fn settled(&mut self, now: BootTime) -> Vec<SocketEvent> {
        let settled = |end: &SocketEvent| now.since(BootTime(end.time_ns)) >= SETTLED_AFTER;
        self.take(settled)
    }

    /// Those, in their order.
    pub(super) fn take(&mut self, which: impl Fn(&SocketEvent) -> bool) -> Vec<SocketEvent> {
        let mut ends: Vec<_> = self.held.extract_if(|_, end| which(end)).map(|(_, end)| end).collect();
        ends.sort_unstable_by_key(|end| end.time_ns);
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(socket: u64, millis: u64) -> SocketEvent {
        SocketEvent { socket, time_ns: millis * 1_000_000, ..SocketEvent::default() }
    }

    #[test]
    fn an_end_takes_its_place_by_time() {
        let mut ends = Ends::default();
        assert!(ends.hold(end(7, 10)));
        assert_eq!(ends.before(&end(7, 9)), None);
        assert!(!ends.hold(end(7, 9)));
        assert_eq!(ends.before(&end(8, 99)), None);
        assert_eq!(ends.before(&end(7, 10)), Some(end(7, 10)));
        assert_eq!(ends.before(&end(7, 11)), None);
    }

    #[test]
    fn ends_settle_in_their_order() {
        let mut ends = Ends::default();
        for (socket, millis) in [(1, 30), (2, 10), (3, 20), (4, 31)] {
            assert!(ends.hold(end(socket, millis)));
        }
        let sockets = |ends: Vec<SocketEvent>| ends.iter().map(|end| end.socket).collect::<Vec<_>>();
        assert_eq!(sockets(ends.settled(BootTime(29_999_999))), Vec::<u64>::new());
        assert_eq!(sockets(ends.settled(BootTime(50_000_000))), [2, 3, 1]);
        assert_eq!(sockets(ends.take(|_| true)), [4]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut ends = Ends::default();
        assert!((0..ENDS_MAX as u64).all(|socket| ends.hold(end(socket, 1))));
        assert!(!ends.hold(end(u64::MAX, 1)));
    }
}
