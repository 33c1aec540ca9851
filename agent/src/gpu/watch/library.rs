//! The thread that opens the library and lists the GPUs. It alone has the session.
//!
//! In: orders, one at a time. Out: a report on each. It may hang in any of them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::desk::{Desk, Seat};
use super::{Report, spawn};
use crate::gpu::source::{Failure, GpuSource, Session};

/// What it is to do; lists and faults are of the session with this number.
pub(super) enum Order {
    Open,
    List(u64),
    Faults(u64),
    /// Lets the library go.
    Close,
}

/// # Errors
/// There is no thread to be had.
pub(super) fn start(
    source: Arc<dyn GpuSource>,
    reports: Sender<Report>,
) -> io::Result<(Sender<Order>, Arc<Desk>)> {
    let (order, orders) = channel();
    let desk = Arc::new(Desk::default());
    let seat = Seat(desk.clone());
    spawn("gpu-library", move || run(&*source, &orders, &reports, &seat))?;
    Ok((order, desk))
}

fn run(source: &dyn GpuSource, orders: &Receiver<Order>, reports: &Sender<Report>, seat: &Seat) {
    let mut session: Option<Box<dyn Session>> = None;
    for order in orders {
        if !seat.0.begin() {
            break;
        }
        let report = obey(source, &mut session, &order);
        let wanted = seat.0.end(false, || {
            if let Some(report) = report {
                // Nobody over it: it ends as there are no more orders.
                let _heard = reports.send(report);
            }
        });
        if !wanted {
            break;
        }
    }
}

fn obey(source: &dyn GpuSource, session: &mut Option<Box<dyn Session>>, order: &Order) -> Option<Report> {
    let closed = || Failure::Session("the library is not open".to_owned());
    match order {
        Order::Close => {
            *session = None;
            None
        }
        Order::Open => {
            // One that is open still has to let go first, or opening it again would begin nothing anew.
            *session = None;
            let opened = source.open().map(|opened| {
                let driver = opened.driver().clone();
                *session = Some(opened);
                driver
            });
            Some(Report::Opened(opened))
        }
        Order::List(number) => {
            let listed = session.as_ref().map_or_else(|| Err(closed()), |session| session.devices());
            Some(Report::Listed(*number, listed))
        }
        Order::Faults(number) => {
            let faults = session.as_ref().map_or_else(|| Err(closed()), |session| session.events());
            Some(Report::Faults(*number, faults))
        }
    }
}
