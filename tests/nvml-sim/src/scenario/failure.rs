//! What goes wrong, and when: calls that fail, calls that hang, a driver that goes and comes back.

use nvml_wrapper_sys::bindings as nv;
use serde::Deserialize;

use super::spans::{never, seconds, spanned};

spanned!(Fail, Hang, Absence);

/// Names of return codes as the library's header has them, without `NVML_ERROR_`.
const CODES: [(&str, u32); 19] = [
    ("UNINITIALIZED", nv::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED),
    ("INVALID_ARGUMENT", nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT),
    ("NOT_SUPPORTED", nv::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED),
    ("NO_PERMISSION", nv::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION),
    ("NOT_FOUND", nv::nvmlReturn_enum_NVML_ERROR_NOT_FOUND),
    ("INSUFFICIENT_SIZE", nv::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE),
    ("DRIVER_NOT_LOADED", nv::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED),
    ("TIMEOUT", nv::nvmlReturn_enum_NVML_ERROR_TIMEOUT),
    ("IRQ_ISSUE", nv::nvmlReturn_enum_NVML_ERROR_IRQ_ISSUE),
    ("LIBRARY_NOT_FOUND", nv::nvmlReturn_enum_NVML_ERROR_LIBRARY_NOT_FOUND),
    ("FUNCTION_NOT_FOUND", nv::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND),
    ("GPU_IS_LOST", nv::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST),
    ("RESET_REQUIRED", nv::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED),
    ("OPERATING_SYSTEM", nv::nvmlReturn_enum_NVML_ERROR_OPERATING_SYSTEM),
    ("LIB_RM_VERSION_MISMATCH", nv::nvmlReturn_enum_NVML_ERROR_LIB_RM_VERSION_MISMATCH),
    ("IN_USE", nv::nvmlReturn_enum_NVML_ERROR_IN_USE),
    ("MEMORY", nv::nvmlReturn_enum_NVML_ERROR_MEMORY),
    ("NO_DATA", nv::nvmlReturn_enum_NVML_ERROR_NO_DATA),
    ("UNKNOWN", nv::nvmlReturn_enum_NVML_ERROR_UNKNOWN),
];

/// What a call answers instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenCode")]
pub struct Code(pub u32);

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenCode {
    Number(u32),
    Name(String),
}

impl TryFrom<WrittenCode> for Code {
    type Error = String;

    fn try_from(written: WrittenCode) -> Result<Self, String> {
        match written {
            WrittenCode::Number(code) => Ok(Self(code)),
            WrittenCode::Name(name) => CODES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, code)| Self(*code))
                .ok_or_else(|| format!("no return code is called `{name}`")),
        }
    }
}

/// Which calls, by name; one that ends in `*` stands for all that begin so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Calls(pub Vec<String>);

impl Calls {
    #[must_use]
    pub fn has(&self, symbol: &str) -> bool {
        self.0.iter().any(|call| match call.strip_suffix('*') {
            Some(start) => symbol.starts_with(start),
            None => call == symbol,
        })
    }
}

/// Calls that fail for a time; without names, all of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    pub code: Code,
    pub calls: Option<Calls>,
}

/// Calls that come back only when this time is over; without names, all of them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hang {
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    pub calls: Option<Calls>,
}

/// The driver is not there; when it is again, it counts from 0, and who used it before has to begin anew.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absence {
    /// Nanoseconds of the scenario.
    #[serde(default, deserialize_with = "seconds")]
    pub from: u64,
    /// Without it, for good.
    #[serde(default = "never", deserialize_with = "seconds")]
    pub to: u64,
    /// What calls answer meanwhile.
    pub code: Option<Code>,
    /// What `nvmlInit_v2` answers meanwhile.
    pub init_code: Option<Code>,
    /// The version that comes back.
    pub driver_version: Option<String>,
}

impl Absence {
    #[must_use]
    pub fn code(&self) -> u32 {
        self.code.map_or(nv::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED, |code| code.0)
    }

    #[must_use]
    pub fn init_code(&self) -> u32 {
        self.init_code.map_or(nv::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED, |code| code.0)
    }
}

/// The code with which a call fails at this time.
#[must_use]
pub fn failure(fails: &[Fail], symbol: &str, ns: u64) -> Option<u32> {
    let names = |calls: &Option<Calls>| calls.as_ref().is_none_or(|calls| calls.has(symbol));
    fails.iter().find(|fail| fail.span().has(ns) && names(&fail.calls)).map(|fail| fail.code.0)
}

/// Until when a call that is made at this time hangs.
#[must_use]
pub fn hang(hangs: &[Hang], symbol: &str, ns: u64) -> Option<u64> {
    let names = |calls: &Option<Calls>| calls.as_ref().is_none_or(|calls| calls.has(symbol));
    hangs.iter().filter(|hang| hang.span().has(ns) && names(&hang.calls)).map(|hang| hang.to).max()
}
