//! Who came and who went: told to the kernel, to the books of stalls and to the signals.
//!
//! In: what a look at the node changed. Out: bits of the kernel's tables, and what was of those that are gone forgotten.

use tracing::info;

use super::Pipeline;
use crate::clock::BootTime;
use crate::workload::Changes;

/// Looks for what a server had started before it was watched; what is missed is found by the next scan.
const CHILDREN_LOOKS: usize = 8;

impl Pipeline {
    /// Tells the kernel and the signals who came and went.
    pub(super) fn apply(&mut self, changes: &Changes) {
        self.apply_watched(changes);
        self.apply_ports(changes);
        if !changes.appeared.is_empty() {
            for _ in 0..CHILDREN_LOOKS {
                let found = self.workloads.find_children(BootTime::now());
                self.apply_watched(&found);
                if found.watch.is_empty() {
                    break;
                }
            }
            let found = self.workloads.find_listeners(BootTime::now());
            self.apply_ports(&found);
        }
        // Said last: from here on every request of theirs is measured from its arrival.
        for workload in &changes.appeared {
            info!(workload = %workload.label, kind = workload.kind.label(), "following");
        }
        for workload in &changes.gone {
            self.blame.forget_workload(&workload.label);
            for signal in &mut self.signals {
                signal.forget_workload(workload);
            }
        }
    }

    fn apply_watched(&mut self, changes: &Changes) {
        let tables = &mut self.probe.tables;
        for (tgids, on) in [(&changes.watch, true), (&changes.unwatch, false)] {
            for &tgid in tgids {
                self.account.note(tables.set_watched(tgid, on));
            }
        }
        // Its number may be given again, and its first thread's with it.
        self.account.note(self.probe.stalls.forget(changes.unwatch.iter().copied()));
    }

    fn apply_ports(&mut self, changes: &Changes) {
        for (ports, on) in [(&changes.listen_ports, true), (&changes.unlisten_ports, false)] {
            for &port in ports {
                self.account.note(self.probe.tables.set_served(port, on));
            }
        }
    }
}
