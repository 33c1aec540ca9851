//! Requests whose time overlaps one in which the clocks of their server's GPUs were held down.
//!
//! Each counts once for each cause of a throttle. The count is exact to a poll: a throttle that is seen at one reading and
//! at neither neighbour may have reached from the one to the other.

use std::collections::HashSet;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::Pair;
use crate::gpu::ThrottleCause;
use crate::registry::Registries;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: Arc<str>,
    workload: Arc<str>,
    cause: &'static str,
}

/// `vllm_requests_under_throttle_total{model,workload,cause}`.
#[derive(Debug, Default)]
pub(super) struct Throttled {
    requests: Family<Labels, Counter>,
    /// Those whose series are there.
    pairs: HashSet<Pair>,
}

impl Throttled {
    pub(super) fn new(registries: &mut Registries) -> Self {
        let throttled = Self::default();
        let help = "Inference requests that ended, during which the clocks of their server's GPUs were held \
                    down, by cause; one with two causes counts for both";
        registries.common.register("vllm_requests_under_throttle", help, throttled.requests.clone());
        throttled
    }

    /// Counts one of a server that has GPUs; all series of its pair are there then, at 0 at least.
    pub(super) fn count(&mut self, pair: &Pair, causes: &[ThrottleCause]) {
        if !self.pairs.contains(pair) {
            for cause in ThrottleCause::ALL {
                drop(self.requests.get_or_create(&labels(pair, cause)));
            }
            self.pairs.insert(pair.clone());
        }
        for cause in causes {
            self.requests.get_or_create(&labels(pair, *cause)).inc();
        }
    }

    pub(super) fn end(&mut self, pair: &Pair) {
        if self.pairs.remove(pair) {
            for cause in ThrottleCause::ALL {
                self.requests.remove(&labels(pair, cause));
            }
        }
    }
}

fn labels((workload, model): &Pair, cause: ThrottleCause) -> Labels {
    Labels { model: model.clone(), workload: workload.clone(), cause: cause.label() }
}
