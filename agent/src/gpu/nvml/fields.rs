//! Field values: many numbers by one call.
//!
//! In: numbers of fields, by their old numbers. Out: their values. The call is made directly: the wrapper does not know
//! signed values. Fields that a card has not are left out from then on.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, FieldIdScheme};
use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlReturn_enum_NVML_SUCCESS};

use super::ask::{Asker, Verdict, judge};
use crate::gpu::source::Failure;

/// Kinds of values (`nvmlValueType_t`); 5 and 6 came after the wrapper.
const DOUBLE: u32 = 0;
const UNSIGNED_INT: u32 = 1;
const UNSIGNED_LONG: u32 = 2;
const UNSIGNED_LONG_LONG: u32 = 3;
const SIGNED_LONG_LONG: u32 = 4;
const SIGNED_INT: u32 = 5;
const UNSIGNED_SHORT: u32 = 6;

/// From driver 580.82 on the fields 251 to 255 are 269 to 273; those numbers are something else before.
const MOVED: std::ops::RangeInclusive<u32> = 251..=255;
const MOVED_BY: u32 = 18;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    Real(f64),
}

impl Value {
    /// `None`: of another kind, or out of range.
    pub(super) fn whole<T: TryFrom<i128>>(self) -> Option<T> {
        match self {
            Self::Whole(value) => T::try_from(value).ok(),
            Self::Real(_) => None,
        }
    }
}

/// Fields that are read together.
pub(super) struct Fields {
    what: &'static str,
    fields: Vec<Field>,
}

struct Field {
    id: u32,
    absent: bool,
    value: Option<Value>,
}

impl Fields {
    pub(super) fn new(what: &'static str, ids: &[u32]) -> Self {
        let fields = ids.iter().map(|&id| Field { id, absent: false, value: None }).collect();
        Self { what, fields }
    }

    /// Reads all that there are.
    ///
    /// # Errors
    /// The GPU or the library is gone.
    pub(super) fn read(&mut self, asker: &mut Asker) -> Result<(), Failure> {
        self.fields.iter_mut().for_each(|field| field.value = None);
        let ids: Vec<u32> = self.fields.iter().filter(|field| !field.absent).map(|field| field.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let Some(values) = asker.ask(self.what, |device| values(device, &ids))? else { return Ok(()) };
        let present = self.fields.iter_mut().filter(|field| !field.absent);
        for (field, value) in present.zip(&values) {
            let error = match value_of(value) {
                Ok(value) => {
                    asker.note_answer();
                    field.value = value;
                    continue;
                }
                Err(error) => error,
            };
            // The handle is right, so it is the number that this driver does not know.
            let unknown = matches!(error, NvmlError::InvalidArg);
            match judge(self.what, &error) {
                Verdict::Gone(failure) => return Err(failure),
                Verdict::Absent => field.absent = true,
                Verdict::Missing if unknown => field.absent = true,
                Verdict::Missing => asker.note_refusal(self.what, &error),
            }
        }
        Ok(())
    }

    pub(super) fn whole<T: TryFrom<i128>>(&self, id: u32) -> Option<T> {
        self.fields.iter().find(|field| field.id == id)?.value?.whole()
    }

    /// The GPU was split or joined: it may have now what it had not.
    pub(super) fn forget(&mut self) {
        self.fields.iter_mut().for_each(|field| field.absent = false);
    }
}

fn values(device: &Device<'_>, ids: &[u32]) -> Result<Vec<nvmlFieldValue_t>, NvmlError> {
    let get = nvml_sym(device.nvml().lib().nvmlDeviceGetFieldValues.as_ref())?;
    let scheme = device.nvml().field_id_scheme();
    let mut values: Vec<nvmlFieldValue_t> = ids.iter().map(|&id| question(numbered(scheme, id))).collect();
    let count = i32::try_from(values.len()).map_err(|_too_many| NvmlError::InvalidArg)?;
    // SAFETY: the handle is of this library; it gets as many values as it is told of.
    nvml_try(unsafe { get(device.handle(), count, values.as_mut_ptr()) })?;
    Ok(values)
}

fn question(id: u32) -> nvmlFieldValue_t {
    // SAFETY: a C struct of numbers, for which zero is a value.
    let mut value: nvmlFieldValue_t = unsafe { std::mem::zeroed() };
    value.fieldId = id;
    value
}

fn numbered(scheme: FieldIdScheme, id: u32) -> u32 {
    if scheme == FieldIdScheme::V13Update1 && MOVED.contains(&id) { id + MOVED_BY } else { id }
}

/// `None`: a kind of value that came later.
fn value_of(answer: &nvmlFieldValue_t) -> Result<Option<Value>, NvmlError> {
    if answer.nvmlReturn != nvmlReturn_enum_NVML_SUCCESS {
        return Err(answer.nvmlReturn.into());
    }
    let value = answer.value;
    // SAFETY: the kind says which member was written; every one is a number, for which any bytes are a value.
    let value = unsafe {
        match answer.valueType {
            DOUBLE => Value::Real(value.dVal),
            UNSIGNED_INT => Value::Whole(value.uiVal.into()),
            UNSIGNED_LONG => Value::Whole(value.ulVal.into()),
            UNSIGNED_LONG_LONG => Value::Whole(value.ullVal.into()),
            SIGNED_LONG_LONG => Value::Whole(value.sllVal.into()),
            SIGNED_INT => Value::Whole(value.siVal.into()),
            UNSIGNED_SHORT => Value::Whole(value.usVal.into()),
            _ => return Ok(None),
        }
    };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use nvml_wrapper_sys::bindings::nvmlValue_t;

    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let read = |kind: u32, value: nvmlValue_t| {
            value_of(&nvmlFieldValue_t { valueType: kind, value, ..question(1) }).unwrap()
        };
        let all_ones = nvmlValue_t { ullVal: u64::MAX };
        assert_eq!(read(0, nvmlValue_t { dVal: 0.5 }), Some(Value::Real(0.5)));
        assert_eq!(read(1, all_ones), Some(Value::Whole(0xffff_ffff)));
        assert_eq!(read(2, all_ones), Some(Value::Whole(u64::MAX.into())));
        assert_eq!(read(3, all_ones), Some(Value::Whole(u64::MAX.into())));
        assert_eq!(read(4, all_ones), Some(Value::Whole(-1)));
        assert_eq!(read(5, nvmlValue_t { siVal: -2 }), Some(Value::Whole(-2)));
        assert_eq!(read(6, all_ones), Some(Value::Whole(0xffff)));
        assert_eq!(read(7, all_ones), None);
        assert_eq!(Value::Whole(-2).whole::<u64>(), None);
        assert_eq!(Value::Whole(-2).whole::<i32>(), Some(-2));
    }

    #[test]
    fn a_refused_field_has_no_value_whatever_is_in_it() {
        let answer = nvmlFieldValue_t { nvmlReturn: 3, ..question(82) };
        assert!(matches!(value_of(&answer), Err(NvmlError::NotSupported)));
    }

    #[test]
    fn moved_fields_are_asked_by_the_number_of_this_driver() {
        for (id, new) in [(83, 83), (250, 250), (251, 269), (253, 271), (255, 273), (256, 256)] {
            assert_eq!(numbered(FieldIdScheme::V12, id), id);
            assert_eq!(numbered(FieldIdScheme::V13Update1, id), new);
        }
    }
}
