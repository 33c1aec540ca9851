//! One GPU, asked: what the library answered, and what that means.
//!
//! In: calls. Out: values; `None` for what is not there; an error only where the GPU or the library is gone. What is not
//! there for good is remembered by the name of the question, and not asked again.

use std::collections::BTreeSet;
use std::sync::Arc;

use nvml_wrapper::Device;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings::nvmlDevice_t;

use super::library::Library;
use crate::gpu::source::Failure;

/// Return codes that the wrapper has no name for.
const ARGUMENT_VERSION_MISMATCH: u32 = 25;
const DEPRECATED: u32 = 26;

/// The library's name for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(pub(super) nvmlDevice_t);

// SAFETY: the library takes its handles from any thread; here they are only handed back to it.
unsafe impl Send for Handle {}

/// Asks one GPU, and remembers what it has not.
pub(super) struct Asker {
    library: Arc<Library>,
    handle: Handle,
    absent: BTreeSet<&'static str>,
    /// Of this reading: questions that were answered, and the first that was refused.
    answered: u32,
    refused: Option<String>,
}

/// What an error means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The card, the driver or the library has no such thing.
    Absent,
    /// Not this time.
    Missing,
    Gone(Failure),
}

impl Asker {
    pub(super) fn new(library: Arc<Library>, handle: Handle) -> Self {
        Self { library, handle, absent: BTreeSet::new(), answered: 0, refused: None }
    }

    pub(super) fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// Another reading begins.
    pub(super) fn begin(&mut self) {
        self.answered = 0;
        self.refused = None;
    }

    /// # Errors
    /// Nothing was answered in this reading, and not because there is nothing.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        match self.refused.take() {
            Some(text) if self.answered == 0 => Err(Failure::Refused(text)),
            _ => Ok(()),
        }
    }

    /// The GPU was split or joined: it may have now what it had not.
    pub(super) fn forget(&mut self) {
        self.absent.clear();
    }

    pub(super) fn is_absent(&self, what: &'static str) -> bool {
        self.absent.contains(what)
    }

    /// # Errors
    /// The GPU or the library is gone.
    pub(super) fn ask<T>(
        &mut self,
        what: &'static str,
        call: impl FnOnce(&Device<'_>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Failure> {
        if self.absent.contains(what) {
            return Ok(None);
        }
        // SAFETY: the handle is of this library, which lives as long as this does.
        let device = unsafe { Device::new(self.handle.0, self.library.nvml()) };
        let answer = call(&device);
        self.take(what, answer)
    }

    /// The same of one part of several: where it is not `first`, its absence is no word on the others.
    ///
    /// # Errors
    /// The GPU or the library is gone.
    pub(super) fn ask_part<T>(
        &mut self,
        what: &'static str,
        first: bool,
        call: impl FnOnce(&Device<'_>) -> Result<T, NvmlError>,
    ) -> Result<Option<T>, Failure> {
        let answer = self.ask(what, call)?;
        if !first {
            self.absent.remove(what);
        }
        Ok(answer)
    }

    fn take<T>(&mut self, what: &'static str, answer: Result<T, NvmlError>) -> Result<Option<T>, Failure> {
        let error = match answer {
            Ok(value) => {
                self.answered += 1;
                return Ok(Some(value));
            }
            Err(error) => error,
        };
        match judge(what, &error) {
            Verdict::Gone(failure) => return Err(failure),
            Verdict::Absent => drop(self.absent.insert(what)),
            Verdict::Missing => self.note_refusal(what, &error),
        }
        Ok(None)
    }

    /// A question was refused this time.
    pub(super) fn note_refusal(&mut self, what: &str, error: &NvmlError) {
        self.refused.get_or_insert_with(|| format!("{what}: {error}"));
    }

    pub(super) fn note_answer(&mut self) {
        self.answered += 1;
    }
}

/// What an error means for one question.
pub(super) fn judge(what: &str, error: &NvmlError) -> Verdict {
    match error {
        NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => {
            Verdict::Absent
        }
        // A newer library wants, or has, another form of it.
        NvmlError::UnexpectedVariant(ARGUMENT_VERSION_MISMATCH | DEPRECATED) => Verdict::Absent,
        other => match failure(what, other) {
            Failure::Refused(_) => Verdict::Missing,
            gone => Verdict::Gone(gone),
        },
    }
}

/// An error as it is for a whole GPU, or for the library.
pub(super) fn failure(what: &str, error: &NvmlError) -> Failure {
    let text = format!("{what}: {error}");
    match error {
        NvmlError::GpuLost | NvmlError::ResetRequired => Failure::Lost(text),
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch => {
            Failure::Session(text)
        }
        _ => Failure::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_mean_what_the_library_says_they_do() {
        let verdict = |code: u32| judge("power", &NvmlError::from(code));
        let text = |code: u32| format!("power: {}", NvmlError::from(code));
        for absent in [3, 13, 25, 26] {
            assert_eq!(verdict(absent), Verdict::Absent, "{absent}");
        }
        assert_eq!(judge("power", &NvmlError::FailedToLoadSymbol(String::new())), Verdict::Absent);
        for missing in [2, 4, 6, 7, 10, 11, 17, 19, 20, 21, 27, 28, 77, 999] {
            assert_eq!(verdict(missing), Verdict::Missing, "{missing}");
        }
        for lost in [15, 16] {
            assert_eq!(verdict(lost), Verdict::Gone(Failure::Lost(text(lost))));
        }
        for session in [1, 9, 18] {
            assert_eq!(verdict(session), Verdict::Gone(Failure::Session(text(session))));
        }
    }
}
