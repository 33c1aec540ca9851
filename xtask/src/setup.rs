//! `setup`: fetches what building (and, asked to, testing) needs and this machine lacks.
//!
//! In: the machine as it is. Out: one line per step. Whatever is there already is left alone, so a second call does
//! nothing and needs no network.
//!
//! What a build needs lies with the toolchain, because cargo looks for it there. What only tests need is unpacked
//! into the build folder, so that nothing starts or changes on the machine; only tcpdump, qemu, rpm, debootstrap and
//! Java are system packages.

pub mod apt;
mod bpf_linker;
mod debian_root;
pub mod package_tools;
mod python_tools;
mod rust_source;
mod test_tools;

use crate::place::Place;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

#[derive(Args)]
pub struct Options {
    /// Also fetch what packages and tests need: cargo-deb, cargo-generate-rpm, tcpdump, two generations of Prometheus, Alertmanager,
    /// kustomize, Helm, Podman's quadlet, a validator for Kubernetes, builders for Grafana, Event-Driven Ansible with Java, qemu and busybox, rpm, debootstrap and with
    /// it a system of Debian 12
    #[arg(long)]
    tests: bool,
    /// Only say what is missing; the exit status is 1 if anything is
    #[arg(long)]
    check: bool,
    /// Put what a build needs under DIR, as if toolchain and cargo lived there: to try the set-up itself
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Build,
    BuildAndPackages,
    /// Packages, too, for they are tested.
    BuildAndTests,
    /// Also what the bench measures the agent beside.
    BuildTestsAndObservers,
}

/// One thing a machine may lack.
trait Step: Sync {
    fn name(&self) -> String;
    /// Why it is missing, or `None` where it is there.
    fn missing(&self) -> Option<String>;
    /// Fetches it. An error says what to do by hand.
    fn fetch(&self, machine: &Machine) -> Result<Fetched>;
}

/// What became of a step.
enum Fetched {
    /// From where it came.
    From(String),
    /// This machine cannot have it, and why; what needs it is skipped.
    Unavailable(String),
}

/// The folders that set-up fills.
struct Machine {
    place: Place,
    /// The toolchain's own folder: sources of `core` go here, LLVM is found here.
    sysroot: PathBuf,
    /// Where rust-src goes: `sysroot` but for `--into`.
    source_root: PathBuf,
    /// Where cargo installs programs.
    cargo_home: PathBuf,
    /// `1.95.0`
    rustc: String,
    /// The LLVM that rustc carries: `22`
    llvm_major: String,
}

pub fn run(place: &Place, options: &Options) -> Result<ExitCode> {
    let machine = Machine::find(place, options.into.as_deref())?;
    let scope = if options.tests { Scope::BuildAndTests } else { Scope::Build };
    if options.check {
        return Ok(check(&machine, scope));
    }
    Steps::of(&machine, scope).fetch(&machine, |name, line| match line {
        None => println!("setup: {name}: there"),
        Some(line) => println!("setup: {line}"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What other verbs call first: fetches what is missing and is silent about the rest.
///
/// # Errors
/// When something a build needs cannot be had; the error says what to do.
pub fn ensure(place: &Place, scope: Scope) -> Result<()> {
    let machine = Machine::find(place, None)?;
    Steps::of(&machine, scope).fetch(&machine, |_, line| {
        line.into_iter().for_each(|line| println!("setup: {line}"));
    })
}

/// In the order in which they are done, but that cargo builds while the rest is fetched and unpacked.
struct Steps {
    first: Vec<Box<dyn Step>>,
    built: Vec<Box<dyn Step>>,
    fetched: Vec<Box<dyn Step>>,
}

impl Steps {
    fn of(machine: &Machine, scope: Scope) -> Self {
        let first: Vec<Box<dyn Step>> = vec![
            Box::new(rust_source::RustSource::new(machine)),
            Box::new(bpf_linker::BpfLinker::new(machine)),
        ];
        let mut steps = Self { first, built: Vec::new(), fetched: Vec::new() };
        if scope >= Scope::BuildAndPackages {
            for tool in [&package_tools::DEB, &package_tools::RPM] {
                steps.built.push(Box::new(package_tools::PackageTool::new(machine, tool)));
            }
        }
        if scope >= Scope::BuildAndTests {
            steps.fetched = for_tests(machine);
        }
        if scope >= Scope::BuildTestsAndObservers {
            for program in test_tools::OBSERVERS {
                steps.fetched.push(Box::new(program));
            }
        }
        steps
    }

    fn all(&self) -> impl Iterator<Item = &dyn Step> {
        [&self.first, &self.built, &self.fetched].into_iter().flatten().map(AsRef::as_ref)
    }

    /// `tell` gets each step's name, and what became of it where it was missing.
    fn fetch(&self, machine: &Machine, tell: impl Fn(String, Option<String>) + Sync) -> Result<()> {
        let each = |steps: &[Box<dyn Step>]| -> Result<()> {
            for step in steps {
                tell(step.name(), fetch(step.as_ref(), machine)?);
            }
            Ok(())
        };
        each(&self.first)?;
        thread::scope(|scope| {
            let built = scope.spawn(|| each(&self.built));
            let fetched = each(&self.fetched);
            built.join().unwrap_or_else(|_| bail!("set-up panicked")).and(fetched)
        })
    }
}

fn for_tests(machine: &Machine) -> Vec<Box<dyn Step>> {
    let mut steps: Vec<Box<dyn Step>> = vec![Box::new(test_tools::TCPDUMP)];
    for what in test_tools::UNPACKED {
        steps.push(Box::new(test_tools::Tools::new(machine, what)));
    }
    for environment in &python_tools::ENVIRONMENTS {
        steps.push(Box::new(python_tools::PythonTools::new(machine, environment)));
    }
    steps.push(Box::new(test_tools::JAVA));
    if env::consts::ARCH == "x86_64" {
        steps.push(Box::new(test_tools::QEMU));
        steps.push(Box::new(test_tools::Busybox::new(machine)));
        steps.push(Box::new(test_tools::RPM));
        steps.push(Box::new(debian_root::DebianRoot::new(machine)));
    }
    steps
}

/// `None`: it is there.
fn fetch(step: &dyn Step, machine: &Machine) -> Result<Option<String>> {
    let Some(why) = step.missing() else { return Ok(None) };
    let name = step.name();
    println!("setup: {name}: {why}; fetching");
    let line = match step.fetch(machine).with_context(|| format!("set up {name}"))? {
        Fetched::From(origin) => format!("{name}: {origin}"),
        Fetched::Unavailable(why) => format!("{name}: cannot be had here: {why}"),
    };
    Ok(Some(line))
}

fn check(machine: &Machine, scope: Scope) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for step in Steps::of(machine, scope).all() {
        match step.missing() {
            None => println!("{}: there", step.name()),
            Some(why) => {
                println!("{}: missing: {why}", step.name());
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

impl Machine {
    fn find(place: &Place, into: Option<&Path>) -> Result<Self> {
        let rustc = |argument: &[&str]| {
            shell::captured(Command::new("rustc").args(argument).current_dir(&place.root))
                .context("ask the compiler; install the toolchain named in rust-toolchain.toml with rustup")
        };
        let sysroot = PathBuf::from(rustc(&["--print", "sysroot"])?);
        let version = rustc(&["-vV"])?;
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.map(str::to_owned).with_context(|| format!("find `{name}` in what `rustc -vV` says"))
        };
        let llvm = field("LLVM version")?;
        Ok(Self {
            place: place.clone(),
            source_root: into.map_or_else(|| sysroot.clone(), Path::to_owned),
            sysroot,
            cargo_home: into.map_or_else(cargo_home, |folder| Ok(folder.to_owned()))?,
            rustc: field("release")?,
            llvm_major: llvm.split('.').next().unwrap_or(&llvm).to_owned(),
        })
    }
}

/// Where `cargo install` puts programs; the proxies of rustup have its `bin` on the path of every build.
fn cargo_home() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CARGO_HOME") {
        return Ok(folder.into());
    }
    Ok(env::home_dir().context("find the home folder; set CARGO_HOME")?.join(".cargo"))
}
