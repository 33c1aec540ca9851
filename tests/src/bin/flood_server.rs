//! The server of the flood: answers as fast as it can, and says at its end what it did.

use anyhow::Result;
use clap::Parser;
use inferscope_tests::flood;

/// Streams events as fast as it can on a free port of loopback, and counts its system calls.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Tells this server from others of its kind on the node.
    #[arg(long)]
    name: Option<String>,
}

fn main() -> Result<()> {
    let Arguments { name: _ } = Arguments::parse();
    flood::serve()
}
