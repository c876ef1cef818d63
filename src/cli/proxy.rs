//! `proxy`: programs of the host reach a network's containers by name.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use anyhow::Context;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Global;
use super::client::Daemon;
use super::values;
use crate::control::requests::{Request, RouterRequest};

/// A SOCKS proxy into a network.
#[derive(Debug, clap::Args)]
#[command(after_help = "EXAMPLES\n  tapswitch proxy net1\n  \
    tapswitch proxy net1 --listen 127.0.0.1:1080 &\n  \
    curl --socks5-hostname 127.0.0.1:1080 http://web/")]
pub struct ProxyArgs {
    /// Name or id of the network
    network: String,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1080", value_parser = values::listener)]
    listen: SocketAddr,
}

/// `tapswitch proxy`: serves until it is ended, or the daemon is.
///
/// # Errors
/// When the address is somebody else's, and what the daemon refuses.
pub fn run(global: &Global, arguments: ProxyArgs) -> anyhow::Result<u8> {
    let ProxyArgs { network, listen } = arguments;
    let mut daemon = Daemon::connect(&global.socket())?;
    let listener = TcpListener::bind(listen)
        .with_context(|| format!("cannot listen on {listen}: choose another port with --listen"))?;
    listener.set_nonblocking(true)?;
    let own = listener.local_addr()?;
    let request = Request::Router(RouterRequest::Proxy { network });
    let name: String = daemon.call_with(request, &[listener.as_fd()])?;
    drop(listener);
    writeln!(std::io::stdout(), "SOCKS proxy into network '{name}' at {own}")?;
    let mut ends = [PollFd::new(daemon.descriptor(), PollFlags::POLLIN)];
    while let Err(nix::errno::Errno::EINTR) = poll(&mut ends, PollTimeout::NONE) {}
    anyhow::bail!("the daemon has ended, and with it the proxy")
}
