//! The families of this signal: name, unit and help, each written once.
//!
//! Names are without what the page adds: unit, and `_total` of counters.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// One family.
#[derive(Debug)]
pub struct Family {
    pub name: &'static str,
    pub help: &'static str,
    /// Empty where the name says it all.
    pub unit: &'static str,
    pub kind: MetricType,
}

impl Family {
    const fn gauge(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self { name, help, unit, kind: MetricType::Gauge }
    }

    const fn counter(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        Self { name, help, unit, kind: MetricType::Counter }
    }

    /// As the page's library has it.
    pub fn unit(&self) -> Option<Unit> {
        match self.unit {
            "" => None,
            "bytes" => Some(Unit::Bytes),
            "celsius" => Some(Unit::Celsius),
            "joules" => Some(Unit::Joules),
            "seconds" => Some(Unit::Seconds),
            other => Some(Unit::Other(other.to_owned())),
        }
    }
}

pub static MEMORY_USED: Family = Family::gauge(
    "gpu_memory_used",
    "bytes",
    "GPU memory that processes have, without what the driver keeps for itself.",
);
pub static MEMORY_TOTAL: Family = Family::gauge("gpu_memory_total", "bytes", "GPU memory there is.");
pub static MEMORY_RESERVED: Family =
    Family::gauge("gpu_memory_reserved", "bytes", "GPU memory that the driver keeps for itself.");

pub static TEMPERATURE: Family = Family::gauge("gpu_temperature", "celsius", "Temperature of the GPU.");
pub static MEMORY_TEMPERATURE: Family =
    Family::gauge("gpu_memory_temperature", "celsius", "Temperature of the GPU's memory.");
pub static MARGIN: Family = Family::gauge(
    "gpu_temperature_margin",
    "celsius",
    "Degrees to the nearest temperature at which the clocks go down; negative beyond.",
);
pub static SLOWDOWN: Family = Family::gauge(
    "gpu_slowdown_temperature",
    "celsius",
    "Temperature at which the hardware takes the clocks down.",
);
pub static SHUTDOWN: Family =
    Family::gauge("gpu_shutdown_temperature", "celsius", "Temperature at which the GPU turns itself off.");
pub static SLOPE: Family = Family::gauge(
    "gpu_temperature_slope_celsius_per_second",
    "",
    "Rise of the temperature: least-squares fit over the last minute.",
);
pub static TO_SLOWDOWN: Family = Family::gauge(
    "gpu_seconds_to_slowdown",
    "",
    "Time until heat takes the clocks down at the slope of the last minute; +Inf while it comes no nearer.",
);
pub static FAN: Family = Family::gauge("gpu_fan_speed", "percent", "Speed of the fan.");

pub static UTILIZATION: Family = Family::gauge(
    "gpu_utilization",
    "percent",
    "Time in which any kernel ran, of the driver's last sample period.",
);
pub static BANDWIDTH: Family = Family::gauge(
    "gpu_memory_bandwidth_utilization",
    "percent",
    "Time in which memory was read or written, of the driver's last sample period.",
);
pub static PROFILE: Family = Family::gauge(
    "gpu_profile_ratio",
    "",
    "Multiprocessors that had work, warps of those they could have, tensor cores that computed, memory \
     bandwidth that was used: means since the reading before.",
);

pub static POWER: Family = Family::gauge("gpu_power", "watts", "Power that the GPU draws.");
pub static POWER_LIMIT: Family =
    Family::gauge("gpu_power_limit", "watts", "The lowest power limit that is in force.");
pub static ENERGY: Family = Family::counter(
    "gpu_energy",
    "joules",
    "Energy since the agent began: by the card's counter, else power over time.",
);

pub static CLOCK: Family = Family::gauge("gpu_clock", "hertz", "Clocks as they run.");
pub static CLOCK_MAX: Family = Family::gauge("gpu_clock_max", "hertz", "The fastest that clocks may run.");
pub static PERFORMANCE_STATE: Family =
    Family::gauge("gpu_performance_state", "", "Performance state: 0 is the fastest, 15 the slowest.");
pub static THROTTLED: Family =
    Family::gauge("gpu_throttled", "", "Whether a cause holds the clocks down now.");
pub static THROTTLE: Family = Family::counter(
    "gpu_throttle",
    "seconds",
    "Time since the agent began for which a cause held the clocks down; causes may overlap.",
);

pub static ECC: Family = Family::counter(
    "gpu_ecc_errors",
    "",
    "Memory errors: volatile since the driver was loaded, aggregate in the life of the board.",
);
pub static REMAPPED: Family = Family::gauge(
    "gpu_remapped_rows",
    "",
    "Rows of memory that spare ones replace, by the errors that led to it.",
);
pub static REMAPPED_PENDING: Family =
    Family::gauge("gpu_remapped_rows_pending", "", "Whether rows wait for a reset to be replaced.");
pub static REMAPPED_FAILED: Family =
    Family::gauge("gpu_remapped_rows_failed", "", "Whether a row could not be replaced.");
pub static RETIRED: Family = Family::gauge(
    "gpu_retired_pages",
    "",
    "Pages of memory that are used no more, by the errors that led to it.",
);
pub static RETIRED_PENDING: Family =
    Family::gauge("gpu_retired_pages_pending", "", "Whether pages wait for a restart to be retired.");
pub static XID: Family = Family::counter(
    "gpu_xid_errors",
    "",
    "Faults that the driver told of since the agent began, by code and class.",
);

pub static PCIE_GENERATION: Family =
    Family::gauge("gpu_pcie_link_generation", "", "Generation at which the PCIe link runs; less when idle.");
pub static PCIE_GENERATION_MAX: Family =
    Family::gauge("gpu_pcie_link_generation_max", "", "The newest at which GPU and slot could.");
pub static PCIE_WIDTH: Family = Family::gauge("gpu_pcie_link_width", "", "Lanes of the PCIe link.");
pub static PCIE_WIDTH_MAX: Family =
    Family::gauge("gpu_pcie_link_width_max", "", "Lanes that GPU and slot could have.");
pub static PCIE_THROUGHPUT: Family = Family::gauge(
    "gpu_pcie_throughput_bytes_per_second",
    "",
    "Bytes over PCIe as the GPU sees them, in 20 ms every few seconds.",
);
pub static PCIE_REPLAYS: Family =
    Family::counter("gpu_pcie_replays", "", "PCIe packets that were sent once more.");
pub static NVLINK_ACTIVE: Family = Family::gauge("gpu_nvlink_links_active", "", "NVLinks that are up.");
pub static NVLINK_ERRORS: Family =
    Family::counter("gpu_nvlink_errors", "", "Errors of all NVLinks of the GPU together.");

pub static INFO: Family = Family::gauge("gpu_info", "", "What a GPU is and how it is set up: always 1.");
pub static STATE: Family = Family::gauge("gpu_state", "", "State of each GPU: 1 for the state it is in.");
pub static DRIVER: Family =
    Family::gauge("gpu_driver_info", "", "Driver, and the newest CUDA that it supports: always 1.");

pub static USE_MEMORY: Family =
    Family::gauge("gpu_workload_memory", "bytes", "GPU memory that the processes of a workload have.");
pub static USE_UTILIZATION: Family =
    Family::gauge("gpu_workload_utilization", "percent", "Time in which kernels of a workload ran, lately.");
