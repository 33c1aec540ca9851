//! Where the library is, and the library while it is in use.
//!
//! In: a configured path, or the roots of the file systems that may have it. Out: one that answered `nvmlInit`.

use std::ffi::OsStr;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use super::ask::failure;
use crate::gpu::source::Failure;

/// What the loader finds by itself: on hosts by its cache, in containers where the toolkit put it.
const NAME: &str = "libnvidia-ml.so.1";
/// The host; the driver's container; the host as a container may have it mounted.
const ROOTS: [&str; 3] = ["/", "/run/nvidia/driver", "/host"];
/// Folders of libraries, below a root.
const FOLDERS: [&str; 10] = [
    "usr/lib64",
    MULTIARCH,
    "usr/lib64/nvidia/current",
    MULTIARCH_CURRENT,
    "lib64",
    "usr/lib",
    "usr/lib/nvidia/current",
    // Google's nodes.
    "home/kubernetes/bin/nvidia/lib64",
    // Windows' Linux.
    "usr/lib/wsl/lib",
    // NixOS.
    "run/opengl-driver/lib",
];
#[cfg(target_arch = "aarch64")]
const MULTIARCH: &str = "usr/lib/aarch64-linux-gnu";
#[cfg(target_arch = "aarch64")]
const MULTIARCH_CURRENT: &str = "usr/lib/aarch64-linux-gnu/nvidia/current";
#[cfg(not(target_arch = "aarch64"))]
const MULTIARCH: &str = "usr/lib/x86_64-linux-gnu";
#[cfg(not(target_arch = "aarch64"))]
const MULTIARCH_CURRENT: &str = "usr/lib/x86_64-linux-gnu/nvidia/current";
/// Folder of libraries that programs are linked with, and that can do nothing.
const STUBS: &str = "stubs";

/// Where the library may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// There, and nowhere else.
    pub configured: Option<PathBuf>,
    /// Also where the loader finds it.
    pub loader: bool,
    /// Below each of these.
    pub roots: Vec<PathBuf>,
}

impl Places {
    /// Those of a node; only `configured` where it is given.
    #[must_use]
    pub fn of_node(configured: Option<PathBuf>) -> Self {
        Self { configured, loader: true, roots: ROOTS.map(PathBuf::from).into() }
    }

    /// Paths to try, the best first. A name without a folder is the loader's to find.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        if let Some(configured) = &self.configured {
            return vec![configured.clone()];
        }
        let below = |root: &PathBuf| FOLDERS.map(|folder| root.join(folder).join(NAME));
        let mut paths: Vec<PathBuf> = self.loader.then(|| NAME.into()).into_iter().collect();
        for path in self.roots.iter().flat_map(below) {
            // The same file by two names is tried once.
            let Ok(real) = path.canonicalize() else { continue };
            if !is_stub(&real) && !paths.iter().any(|other| other.canonicalize().is_ok_and(|it| it == real)) {
                paths.push(path);
            }
        }
        paths
    }

    /// Where it was looked for, for people.
    #[must_use]
    pub fn looked_for(&self) -> String {
        match &self.configured {
            Some(configured) => configured.display().to_string(),
            None => {
                let roots: Vec<String> = self.roots.iter().map(|root| root.display().to_string()).collect();
                format!(
                    "{NAME} where the loader finds it and in the usual folders below {}",
                    roots.join(", ")
                )
            }
        }
    }
}

fn is_stub(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.components().any(|part| part.as_os_str() == STUBS))
}

/// A library that answers. Shared by the threads that ask it, and shut down with the last of them: until then the
/// driver cannot be unloaded.
pub(super) struct Library {
    nvml: ManuallyDrop<Nvml>,
    pub(super) path: PathBuf,
}

impl Library {
    /// The first that answers.
    pub(super) fn open(places: &Places) -> Result<Self, Failure> {
        let mut told: Option<Failure> = None;
        for path in places.paths() {
            match Nvml::builder().lib_path(path.as_os_str()).init() {
                Ok(nvml) => {
                    let path = if path == Path::new(NAME) { loaded().unwrap_or(path) } else { path };
                    return Ok(Self { nvml: ManuallyDrop::new(nvml), path });
                }
                Err(error) => told = worse(told, refusal(&path, &error)),
            }
        }
        Err(told
            .unwrap_or_else(|| Failure::Absent(format!("there is no {}", places.looked_for())))
            .with(places))
    }

    pub(super) fn nvml(&self) -> &Nvml {
        &self.nvml
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Without its end the wrapper would panic: such a library stays.
        if self.nvml.lib().nvmlShutdown.is_ok() {
            // SAFETY: nobody else has it, and it is not touched again.
            unsafe { ManuallyDrop::drop(&mut self.nvml) }
        }
    }
}

/// Why one library is no use. Not there, or not to be loaded, is `None`: that is told of all together.
fn refusal(path: &Path, error: &NvmlError) -> Option<Failure> {
    let text = format!("{}: {error}", path.display());
    match error {
        NvmlError::LibloadingError(_) if path.is_absolute() => Some(Failure::Absent(text)),
        NvmlError::LibloadingError(_) => None,
        NvmlError::DriverNotLoaded
        | NvmlError::LibraryNotFound
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::FunctionNotFound => Some(Failure::Absent(text)),
        other => Some(match failure(&path.display().to_string(), other) {
            Failure::Lost(text) => Failure::Refused(text),
            kept => kept,
        }),
    }
}

/// The failure that says more: one of a library that was loaded before one of a library that is not there.
fn worse(told: Option<Failure>, next: Option<Failure>) -> Option<Failure> {
    match (told, next) {
        (Some(Failure::Absent(_)) | None, Some(next)) => Some(next),
        (told, _) => told,
    }
}

impl Failure {
    /// Says where else it was looked for, where nothing was found at all.
    fn with(self, places: &Places) -> Self {
        match self {
            Self::Absent(text) if places.configured.is_none() && !text.contains(&places.looked_for()) => {
                Self::Absent(format!("{text}; looked for {}", places.looked_for()))
            }
            other => other,
        }
    }
}

/// Which file the loader took.
fn loaded() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    let of_library = |path: &&Path| {
        let name = path.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name.starts_with("libnvidia-ml.so"))
    };
    paths.find(of_library).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn put(root: &Path, path: &str) -> PathBuf {
        let path = root.join(path).join(NAME);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "no library").unwrap();
        path
    }

    #[test]
    fn libraries_are_looked_for_where_drivers_put_them() {
        let (host, driver) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let places = Places {
            configured: None,
            loader: true,
            roots: vec![host.path().to_owned(), driver.path().to_owned()],
        };
        assert_eq!(places.paths(), [PathBuf::from(NAME)]);
        let wsl = put(host.path(), "usr/lib/wsl/lib");
        let debian = put(host.path(), MULTIARCH_CURRENT);
        let container = put(driver.path(), "usr/lib64");
        assert_eq!(places.paths(), [NAME.into(), debian, wsl, container.clone()]);
        // A merged /usr has the same file twice.
        std::os::unix::fs::symlink("usr/lib64", driver.path().join("lib64")).unwrap();
        let without_loader =
            Places { loader: false, roots: vec![driver.path().to_owned()], ..places.clone() };
        assert_eq!(without_loader.paths(), [container]);
        let configured = Places { configured: Some("/opt/lib.so".into()), ..places };
        assert_eq!(configured.paths(), [PathBuf::from("/opt/lib.so")]);
    }

    #[test]
    fn stubs_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        let stub = put(root.path(), "cuda/lib64/stubs");
        let link = root.path().join("usr/lib64").join(NAME);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(stub, link).unwrap();
        let places = Places { configured: None, loader: false, roots: vec![root.path().to_owned()] };
        assert_eq!(places.paths(), [] as [PathBuf; 0]);
    }

    #[test]
    fn what_is_no_library_is_absent_and_says_where_it_was_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let places = Places { configured: None, loader: false, roots: vec![root.path().to_owned()] };
        let open = |places: &Places| Library::open(places).err().unwrap();
        let Failure::Absent(text) = open(&places) else { panic!("{:?}", open(&places)) };
        assert!(text.contains(&root.path().display().to_string()), "{text}");
        let path = put(root.path(), "usr/lib");
        let Failure::Absent(text) = open(&places) else { panic!("{:?}", open(&places)) };
        assert!(text.contains(&path.display().to_string()), "{text}");
        let gone = Places { configured: Some(root.path().join("none.so")), ..places };
        let Failure::Absent(text) = open(&gone) else { panic!("{:?}", open(&gone)) };
        assert!(text.contains("none.so") && !text.contains("looked for"), "{text}");
    }
}
