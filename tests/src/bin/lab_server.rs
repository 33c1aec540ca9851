//! The laboratory's server, in the arguments of vLLM's processes: `serve` starts the engine's process itself.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use inferscope_tests::lab::engine::{self, Work};
use inferscope_tests::lab::server;
use rustix::process::Signal;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// The API process; says where it listens
    Serve {
        /// Address on loopback
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// What the engine does at each step: memory:MIB, map:PATH, direct:PATH
        #[arg(long)]
        work: Option<String>,
        /// Bytes that the kernel may hold for a client that does not read
        #[arg(long)]
        send_buffer: Option<u32>,
        /// Bytes of text in each token
        #[arg(long, default_value_t = 5)]
        text_bytes: usize,
        /// Passed over; tells one server from another
        #[arg(long)]
        name: Option<String>,
    },
    /// The engine's process: standard input is its socket
    Engine {
        #[arg(long)]
        work: Option<Work>,
    },
    /// A process of the server that serves no request
    Helper,
}

/// Ends with the API process.
struct Part(Child);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    match Arguments::parse().role {
        Role::Serve { listen, work, send_buffer, text_bytes, .. } => {
            serve(listen, work.as_deref(), server::Options { send_buffer, text_bytes })
        }
        Role::Engine { work } => {
            end_with_parent()?;
            let socket = std::io::stdin().as_fd().try_clone_to_owned().context("take the socket")?;
            engine::run(UnixStream::from(socket), work.as_ref())
        }
        Role::Helper => {
            end_with_parent()?;
            loop {
                engine::spin(Duration::from_millis(1));
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// A test that kills the API process leaves none of the others behind.
fn end_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).context("end with the API process")
}

fn serve(listen: SocketAddr, work: Option<&str>, options: server::Options) -> Result<()> {
    let (own, engines) = UnixStream::pair().context("make a pair of sockets")?;
    let program = std::env::current_exe().context("find this program")?;
    let part = |title: &str| {
        let mut command = Command::new(&program);
        command.arg0(title);
        command
    };
    let mut engine = part("VLLM::EngineCore");
    engine.arg("engine").args(work.into_iter().flat_map(|work| ["--work", work]));
    let _engine = Part(engine.stdin(OwnedFd::from(engines)).spawn().context("start the engine")?);
    let _helper = Part(part("resource_tracker").arg("helper").spawn().context("start the helper")?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = server::listen(listen)?;
        println!("listening at {}", listener.local_addr()?);
        server::serve(listener, own, options).await
    })
}
