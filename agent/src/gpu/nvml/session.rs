//! One library that answers: what it is, and which GPUs there are.

use std::sync::Arc;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device as Gpu, cuda_driver_version_major, cuda_driver_version_minor};

use super::ask::{Handle, failure};
use super::device::NvmlDevice;
use super::events::Faults;
use super::library::Library;
use crate::gpu::source::{Device, Driver, Events, Failure, Found, Identity, Session};

/// GPUs of one node, at most.
const GPUS_MAX: u32 = 64;

pub(super) struct NvmlSession {
    library: Arc<Library>,
    driver: Driver,
}

impl NvmlSession {
    pub(super) fn new(library: Arc<Library>) -> Self {
        let nvml = library.nvml();
        let cuda = |version| {
            format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version))
        };
        let driver = Driver {
            library: library.path.clone(),
            version: nvml.sys_driver_version().ok(),
            // The library asks CUDA's for its number, once; nothing of CUDA is begun by that.
            cuda: nvml.sys_cuda_driver_version().ok().map(cuda),
        };
        Self { library, driver }
    }

    fn count(&self) -> Result<u32, Failure> {
        let count = self.library.nvml().device_count();
        count.map(|count| count.min(GPUS_MAX)).map_err(|error| failure("count of GPUs", &error))
    }

    fn gpu(&self, index: u32) -> Result<(Handle, Identity), Failure> {
        let refused = |error: &NvmlError| failure(&format!("GPU {index}"), error);
        let gpu = self.library.nvml().device_by_index(index).map_err(|error| refused(&error))?;
        let identity = identity(&gpu, index).map_err(|error| refused(&error))?;
        // SAFETY: the handle is kept beside its library.
        Ok((Handle(unsafe { gpu.handle() }), identity))
    }
}

fn identity(gpu: &Gpu<'_>, index: u32) -> Result<Identity, NvmlError> {
    // Only the UUID is needed: it is the name of all that is told of a GPU.
    let uuid = gpu.uuid()?;
    let name = gpu.name().unwrap_or_default();
    let bus_id = gpu.pci_info().map(|pci| pci.bus_id).unwrap_or_default();
    Ok(Identity { uuid, index, name, bus_id })
}

impl Session for NvmlSession {
    fn driver(&self) -> &Driver {
        &self.driver
    }

    fn devices(&self) -> Result<Vec<Found>, Failure> {
        let mut devices = Vec::new();
        for index in 0..self.count()? {
            devices.push(match self.gpu(index) {
                Ok((handle, identity)) => {
                    Ok(Box::new(NvmlDevice::new(self.library.clone(), handle, identity)) as Box<dyn Device>)
                }
                Err(failure @ Failure::Session(_)) => return Err(failure),
                Err(failure) => Err(failure),
            });
        }
        Ok(devices)
    }

    fn events(&self) -> Result<Box<dyn Events>, Failure> {
        let gpus = (0..self.count()?).filter_map(|index| self.gpu(index).ok());
        let gpus = gpus.map(|(handle, identity)| (handle, identity.uuid)).collect();
        Ok(Box::new(Faults::of(self.library.clone(), gpus)?))
    }
}
