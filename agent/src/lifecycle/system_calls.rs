//! The system calls that a running agent needs; the kernel refuses it every other.
//!
//! In: whether refusals are enforced. Out: filters, installed for all threads. Three of them, because the
//! kernel takes the strictest answer, and of equal ones that of the filter that came last:
//!
//! | Filter | It looks at | What it refuses |
//! |---|---|---|
//! | intruder | the call | ends the process: nothing in the agent or a library makes such a call by mistake |
//! | arguments | what a needed call is asked | `EPERM`: a file opened for writing, a new process, memory to execute |
//! | calls | the call | `ENOSYS`: a library takes it for an older kernel and does it by older means |
//!
//! So a libc or kernel that wants another call loses what that call was for, and the agent goes on. What
//! refused calls there are is told by `sandbox.mode = "log"`: they are allowed then, and the kernel logs each.
//!
//! Where GPUs are read, the driver's library is loaded after this, at any time, and asks its device nodes by `ioctl`.
//! That takes more: files may be executed from (never memory that was written), and files that exist may be opened for
//! reading and writing. What keeps those others from harm is who the agent runs as, and where the unit lets it write.
//!
//! The list is what `strace -f -c` shows of all tests of the running agent, and a margin: what other
//! versions of libc do for the same (glibc 2.28 to 2.41 and musl, by their sources), and what a panic does.

use anyhow::{Context as _, Result};
use libc::c_long;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};

/// Needed whatever the arguments are: reading, answering, waiting, memory, threads and time.
const PLAIN: &[c_long] = &[
    // Files and sockets that are open.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    // What there is below a folder.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    // Waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Threads, signals, and the end.
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Who and when.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// The older forms of some of them, which newer machines never had.
#[cfg(target_arch = "x86_64")]
const PLAIN_OLD: &[c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const PLAIN_OLD: &[c_long] = &[];

/// What keeping a state takes: writing at a place, and waiting for the disk.
const KEEP: &[c_long] = &[libc::SYS_pwrite64, libc::SYS_fdatasync];

/// What loading a library and asking a driver need besides: how a file system is, other descriptors for a file, waiting
/// in an older way, and what a thread is. All but the second only look.
const DEVICES: &[c_long] = &[
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pselect6,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_capget,
    libc::SYS_getcpu,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
];
#[cfg(target_arch = "x86_64")]
const DEVICES_OLD: &[c_long] = &[libc::SYS_select, libc::SYS_dup2];
#[cfg(not(target_arch = "x86_64"))]
const DEVICES_OLD: &[c_long] = &[];

/// Other programs, other processes, other rights: an agent that is its own never asks for these.
const INTRUDER: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_chroot,
    libc::SYS_setuid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
];

/// Of `bpf`: the entries of tables, what a program is, and a pass of an iterator. Nothing is loaded any more.
const BPF_COMMANDS: [u64; 7] = [
    1,  // BPF_MAP_LOOKUP_ELEM
    2,  // BPF_MAP_UPDATE_ELEM
    3,  // BPF_MAP_DELETE_ELEM
    15, // BPF_OBJ_GET_INFO_BY_FD
    24, // BPF_MAP_LOOKUP_BATCH
    28, // BPF_LINK_CREATE: of programs that are loaded
    33, // BPF_ITER_CREATE
];
/// Run-time statistics of the programs; the kernel asks for CAP_SYS_ADMIN besides.
const BPF_ENABLE_STATS: u64 = 32;
/// Of `ioctl`: non-blocking, close on exec, bytes that wait, is it a terminal; and a probe that goes off.
const CONTROLS: [u64; 5] =
    [libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD, libc::TCGETS, PERF_EVENT_IOC_DISABLE];
const PERF_EVENT_IOC_DISABLE: u64 = 0x2401;
const FILE_CONTROLS: [i32; 5] =
    [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];
/// Of `prctl`: names of threads and of memory; and, as the next filter is installed, what it begins with.
const PROCESS_CONTROLS: [i32; 4] =
    [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_SET_NO_NEW_PRIVS];
const SOCKET_OPTIONS: [(i32, i32); 5] = [
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_LINGER),
];
/// Calls that open a file, and which argument says how.
const OPEN: &[(c_long, u8)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];
/// A file opened with any of these is changed.
const OPEN_TO_WRITE: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;
/// Of these a device may be asked for the first alone. (An unnamed file is made by a flag of its own.)
const DEVICE_OPEN: i32 = OPEN_TO_WRITE | (libc::O_TMPFILE & !libc::O_DIRECTORY);
/// A thread, which shares all with the others, and not a process or one with namespaces of its own.
const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Of a socket's type: what it is, without how it is opened.
const SOCKET_KIND: u64 = 0xf;

/// What the settings ask for beyond measuring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Run-time statistics of the programs.
    pub statistics: bool,
    /// To connect to servers over TCP.
    pub connects: bool,
    /// To write to a file that was opened before.
    pub keeps: bool,
    /// To load the driver's library of GPUs, and to ask their device nodes.
    pub devices: bool,
}

/// What becomes of calls that are not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Enforced,
    /// Allowed, and the kernel logs each.
    LoggedOnly,
}

/// Installs the filters in every thread of this process; nothing takes them away again.
///
/// # Errors
/// The kernel has no filters (CONFIG_SECCOMP_FILTER), or one above this process refuses it more.
pub fn filter(refusal: Refusal, needs: Needs) -> Result<()> {
    for program in programs(refusal, needs)? {
        seccompiler::apply_filter_all_threads(&program).context("install the filter of system calls")?;
    }
    Ok(())
}

fn programs(refusal: Refusal, needs: Needs) -> Result<[BpfProgram; 3]> {
    let or_log = |action| match refusal {
        Refusal::Enforced => action,
        Refusal::LoggedOnly => SeccompAction::Log,
    };
    let errno = |number: i32| or_log(SeccompAction::Errno(number.unsigned_abs()));
    let devices = if needs.devices { [DEVICES, DEVICES_OLD] } else { [&[][..]; 2] };
    let keep = if needs.keeps { KEEP } else { &[] };
    let plain = || {
        let calls = [PLAIN, PLAIN_OLD, keep].into_iter().chain(devices).flatten();
        calls.map(|&call| (call, Vec::new()))
    };
    let checked = checked(needs)?;
    let called = plain().chain(checked.iter().map(|(call, _)| (*call, Vec::new())));
    // The filter of arguments has to let the one after it in, which then lets none in.
    let argued = plain().chain(checked.clone()).chain([(libc::SYS_seccomp, Vec::new())]);
    let intruder = INTRUDER.iter().map(|&call| (call, Vec::new()));
    Ok([
        program(intruder, SeccompAction::Allow, or_log(SeccompAction::KillProcess))?,
        program(argued, errno(libc::EPERM), SeccompAction::Allow)?,
        program(called, errno(libc::ENOSYS), SeccompAction::Allow)?,
    ])
}

type Rules = (c_long, Vec<SeccompRule>);

fn program(
    rules: impl Iterator<Item = Rules>,
    mismatch: SeccompAction,
    matches: SeccompAction,
) -> Result<BpfProgram> {
    let machine = std::env::consts::ARCH.try_into().context("filter system calls on this processor")?;
    let filter = SeccompFilter::new(rules.collect(), mismatch, matches, machine);
    filter.and_then(BpfProgram::try_from).context("write the filter of system calls")
}

/// Needed with some arguments only.
fn checked(needs: Needs) -> Result<Vec<Rules>> {
    let bits = |bits: i32| MaskedEq(bits.unsigned_abs().into());
    let one_of = |argument, values: &[i32]| -> Result<Vec<SeccompRule>> {
        values.iter().map(|value| rule(&[(argument, Dword, Eq, value.unsigned_abs().into())])).collect()
    };
    let bpf = BPF_COMMANDS.iter().copied().chain(needs.statistics.then_some(BPF_ENABLE_STATS));
    let options = SOCKET_OPTIONS.iter().map(|(level, option)| {
        rule(&[(1, Dword, Eq, level.unsigned_abs().into()), (2, Dword, Eq, option.unsigned_abs().into())])
    });
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let mut checked = vec![
        (libc::SYS_bpf, bpf.map(|command| rule(&[(0, Dword, Eq, command)])).collect::<Result<_>>()?),
        (libc::SYS_mmap, mappings(needs)?),
        (libc::SYS_mprotect, vec![rule(&[(2, Dword, bits(libc::PROT_EXEC), 0)])?]),
        (libc::SYS_clone, vec![rule(&[(0, Dword, bits(libc::CLONE_THREAD | NEW_NAMESPACES), thread)])?]),
        // To whom the socket is connected, and to nobody else.
        (libc::SYS_sendto, vec![rule(&[(4, Qword, Eq, 0)])?]),
        (libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX])?),
        (libc::SYS_setsockopt, options.collect::<Result<_>>()?),
        (libc::SYS_ioctl, controls(needs)?),
        (libc::SYS_fcntl, one_of(1, &FILE_CONTROLS)?),
        (libc::SYS_prctl, one_of(0, &PROCESS_CONTROLS)?),
        // To itself, as abort does.
        (libc::SYS_tgkill, vec![rule(&[(0, Dword, Eq, std::process::id().into())])?]),
        // A limit is read, not set.
        (libc::SYS_prlimit64, vec![rule(&[(2, Qword, Eq, 0)])?]),
    ];
    if needs.connects {
        let stream = u64::from(libc::SOCK_STREAM.unsigned_abs());
        let kind = MaskedEq(SOCKET_KIND);
        let socket = |family: i32| {
            rule(&[(0, Dword, Eq, family.unsigned_abs().into()), (1, Dword, kind.clone(), stream)])
        };
        checked.push((libc::SYS_socket, vec![socket(libc::AF_INET)?]));
        checked.push((libc::SYS_connect, Vec::new()));
    }
    for &(call, argument) in OPEN {
        let mut rules = vec![rule(&[(argument, Dword, bits(OPEN_TO_WRITE), 0)])?];
        if needs.devices {
            let both = u64::from(libc::O_RDWR.unsigned_abs());
            rules.push(rule(&[(argument, Dword, bits(DEVICE_OPEN), both)])?);
        }
        checked.push((call, rules));
    }
    Ok(checked)
}

/// Memory that is not executed; where a library is to be loaded, also a file's that is not written.
fn mappings(needs: Needs) -> Result<Vec<SeccompRule>> {
    let without = |bits: i32| (MaskedEq(bits.unsigned_abs().into()), 0);
    let (plain, nothing) = without(libc::PROT_EXEC);
    let mut rules = vec![rule(&[(2, Dword, plain, nothing)])?];
    if needs.devices {
        let ((unwritten, _), (of_file, _)) = (without(libc::PROT_WRITE), without(libc::MAP_ANONYMOUS));
        rules.push(rule(&[(2, Dword, unwritten, nothing), (3, Dword, of_file, nothing)])?);
    }
    Ok(rules)
}

/// A few; of a device any, since its driver alone knows its numbers.
fn controls(needs: Needs) -> Result<Vec<SeccompRule>> {
    if needs.devices {
        return Ok(Vec::new());
    }
    CONTROLS.iter().map(|&control| rule(&[(1, Dword, Eq, control)])).collect()
}

type Condition = (u8, seccompiler::SeccompCmpArgLen, seccompiler::SeccompCmpOp, u64);

/// All of these hold.
fn rule(conditions: &[Condition]) -> Result<SeccompRule> {
    let all = conditions.iter().map(|(argument, length, comparison, value)| {
        SeccompCondition::new(*argument, length.clone(), comparison.clone(), *value)
    });
    all.collect::<Result<Vec<_>, _>>().and_then(SeccompRule::new).context("write a rule for a system call")
}

#[cfg(test)]
#[allow(unsafe_code, reason = "memory is mapped to see that the filter refuses it")]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    use rustix::fs::OFlags;
    use rustix::io::Errno;
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect};

    use super::*;

    /// Set in a process that has filters: what it is to try.
    const ATTEMPT: &str = "XTASK_FILTERED_ATTEMPT";

    /// Tries something in a process of its own, since filters are for ever.
    fn attempt(what: &str) -> std::process::Output {
        let mut test = Command::new(std::env::current_exe().unwrap());
        test.args([
            "--exact",
            "lifecycle::system_calls::tests::attempts_of_a_filtered_process",
            "--nocapture",
        ]);
        test.env(ATTEMPT, what).output().unwrap()
    }

    /// What the attempts above do; nothing by itself.
    #[test]
    fn attempts_of_a_filtered_process() {
        let Ok(what) = std::env::var(ATTEMPT) else { return };
        let folder = tempfile::tempdir().unwrap();
        let refusal = if what == "log" { Refusal::LoggedOnly } else { Refusal::Enforced };
        let file = folder.path().join("old");
        std::fs::write(&file, "nothing").unwrap();
        let devices = what.starts_with("device");
        filter(refusal, Needs { devices, ..Needs::default() }).unwrap();
        let open = |more: i32| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).custom_flags(more).open(&file).map(drop)
        };
        let code = |error: std::io::Error| error.raw_os_error().unwrap();
        let create = || std::fs::File::create(folder.path().join("new")).map(drop);
        match what.as_str() {
            "exec" => drop(Command::new("/bin/true").exec()),
            "uid" => drop(rustix::thread::set_thread_uid(rustix::process::getuid())),
            "log" => create().unwrap(),
            "argument" => {
                std::fs::read_to_string("/proc/self/comm").unwrap();
                std::thread::spawn(|| std::fs::read_dir("/proc").unwrap().count()).join().unwrap();
                assert_eq!(create().map_err(code), Err(libc::EPERM));
                assert_eq!(open(0).map_err(code), Err(libc::EPERM));
                assert_eq!(control().map_err(code), Err(libc::EPERM));
                assert_eq!(map_file(&file, ProtFlags::READ | ProtFlags::EXEC), Err(Errno::PERM));
                assert_eq!(Command::new("/bin/true").status().map(drop).map_err(code), Err(libc::EPERM));
            }
            "call" => {
                let connected = std::net::TcpStream::connect("127.0.0.1:1").map(drop);
                assert_eq!(connected.map_err(code), Err(libc::ENOSYS));
                assert_eq!(std::fs::remove_dir(folder.path()).map_err(code), Err(libc::ENOSYS));
            }
            "device" => {
                open(0).unwrap();
                // Let in by the filter, and refused by what has no such control.
                assert_eq!(control().map_err(code), Err(libc::ENOTTY));
                map_file(&file, ProtFlags::READ | ProtFlags::EXEC).unwrap();
                rustix::fs::statfs("/").unwrap();
            }
            "device-argument" => {
                assert_eq!(create().map_err(code), Err(libc::EPERM));
                for more in [libc::O_CREAT, libc::O_TRUNC] {
                    assert_eq!(open(more).map_err(code), Err(libc::EPERM), "{more:#o}");
                }
                let written = std::fs::OpenOptions::new().write(true).open(&file).map(drop);
                assert_eq!(written.map_err(code), Err(libc::EPERM));
                let unnamed = OFlags::RDWR | OFlags::TMPFILE;
                let unnamed = rustix::fs::open(folder.path(), unnamed, rustix::fs::Mode::RUSR);
                assert_eq!(unnamed.map(drop), Err(Errno::PERM));
                let all = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
                assert_eq!(map_file(&file, all), Err(Errno::PERM));
                assert_eq!(map_anonymous(ProtFlags::READ | ProtFlags::EXEC), Err(Errno::PERM));
                assert_eq!(execute_written(), Err(Errno::PERM));
                assert_eq!(Command::new("/bin/true").status().map(drop).map_err(code), Err(libc::EPERM));
                assert_eq!(std::fs::remove_file(&file).map_err(code), Err(libc::ENOSYS));
            }
            "device-exec" => drop(Command::new("/bin/true").exec()),
            "panic" => drop(std::thread::spawn(|| panic!("on purpose")).join().unwrap_err()),
            "abort" => std::process::abort(),
            other => panic!("no attempt is called {other}"),
        }
        println!("attempted {what}");
    }

    /// A control that no file has.
    fn control() -> std::io::Result<()> {
        const NONE: libc::Ioctl = 0xc0de_4601_u32 as libc::Ioctl;
        let file = std::fs::File::open("/proc/self/comm")?;
        // SAFETY: it points nowhere, and nothing reads it.
        let answer = unsafe { libc::ioctl(file.as_raw_fd(), NONE, 0) };
        if answer == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    }

    const PAGE: usize = 4096;

    fn map_file(file: &std::path::Path, protection: ProtFlags) -> Result<(), Errno> {
        let file = std::fs::File::open(file).unwrap();
        // SAFETY: the kernel chooses where, and nobody touches it.
        unsafe { mmap(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE, file, 0) }.map(drop)
    }

    fn map_anonymous(protection: ProtFlags) -> Result<*mut std::ffi::c_void, Errno> {
        // SAFETY: the kernel chooses where, and nobody touches it.
        unsafe { mmap_anonymous(std::ptr::null_mut(), PAGE, protection, MapFlags::PRIVATE) }
    }

    fn execute_written() -> Result<(), Errno> {
        let memory = map_anonymous(ProtFlags::READ | ProtFlags::WRITE)?;
        // SAFETY: the page is this test's own.
        unsafe { mprotect(memory, PAGE, MprotectFlags::READ | MprotectFlags::EXEC) }
    }

    fn check_survives(what: &str) {
        let output = attempt(what);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(&format!("attempted {what}")), "{what}: {output:?}");
        assert!(output.status.success(), "{what}: {output:?}");
    }

    #[test]
    fn needed_calls_pass_and_others_are_refused() {
        for what in ["argument", "call", "log", "panic", "device", "device-argument"] {
            check_survives(what);
        }
    }

    #[test]
    fn a_call_of_an_intruder_ends_the_process() {
        for what in ["exec", "uid", "device-exec"] {
            let output = attempt(what);
            // In a test of its own thread the process ends all the same: the filter is everybody's.
            assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{what}: {output:?}");
        }
    }

    #[test]
    fn an_abort_is_an_abort() {
        assert_eq!(attempt("abort").status.signal(), Some(libc::SIGABRT));
    }

    #[test]
    fn no_call_is_in_two_lists() {
        let checked: Vec<c_long> =
            checked(Needs { statistics: true, connects: true, devices: true, keeps: true })
                .unwrap()
                .into_iter()
                .map(|(call, _)| call)
                .collect();
        let mut calls: Vec<_> = [PLAIN, PLAIN_OLD, KEEP, DEVICES, DEVICES_OLD, INTRUDER, &checked].concat();
        let count = calls.len();
        calls.sort_unstable();
        calls.dedup();
        assert_eq!(calls.len(), count);
    }
}
