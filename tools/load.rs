//! Traffic for `tools/compare`: a server that answers and counts, and one client per measurement.
//!
//! Every client prints one JSON object. The server prints its counters for each line it reads on stdin and ends
//! with the end of stdin, so that it never outlives whoever started it. Rates are formed by the caller from two
//! readings on the server's own clock: what was *delivered* counts, never what was sent.

use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use serde_json::json;

/// TCP: every byte comes back.
const ECHO_PORT: u16 = 7001;
/// TCP: one byte comes back, then the server closes (so that TIME_WAIT stays on its side).
const CONNECT_PORT: u16 = 7002;
/// UDP: what `flood` sends is counted.
const FLOOD_PORT: u16 = 7003;
/// UDP: what `paced` sends is counted.
const PACED_PORT: u16 = 7004;

/// UDP payload that makes a 64-byte Ethernet frame: 14 + 20 + 8 + 18, and 4 of frame check sequence.
const SMALL_PAYLOAD: [u8; 18] = [0; 18];

/// Makes and counts traffic for tools/compare.
#[derive(Parser)]
enum Command {
    /// Answers and counts until stdin ends; one line in, the counters out.
    Serve {
        /// Address to listen on.
        address: IpAddr,
    },
    /// TCP round trips of one byte, one after the other.
    RoundTrips {
        /// The server's address.
        server: IpAddr,
        /// Seconds measured.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Seconds before that which do not count.
        #[arg(long, default_value_t = 0.5)]
        warm_up: f64,
    },
    /// Connections one after the other: connect, one byte there and back, close.
    Connections {
        /// The server's address.
        server: IpAddr,
        /// Seconds measured.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        /// Ends after so many, even when there is time left.
        #[arg(long, default_value_t = u64::MAX)]
        count: u64,
    },
    /// 64-byte UDP frames as fast as they go; the address may be a broadcast address.
    Flood {
        /// Where to.
        server: IpAddr,
        /// How long.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// 64-byte UDP frames at a steady rate.
    Paced {
        /// Where to.
        server: IpAddr,
        /// Frames per second.
        #[arg(long, default_value_t = 1000)]
        rate: u32,
        /// How long.
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
}

fn main() -> anyhow::Result<()> {
    let result = match Command::parse() {
        Command::Serve { address } => return serve(address),
        Command::RoundTrips { server, seconds, warm_up } => {
            let all =
                round_trips(server, Duration::from_secs_f64(warm_up), Duration::from_secs_f64(seconds))?;
            summary(all)
        }
        Command::Connections { server, seconds, count } => {
            connections(server, Duration::from_secs_f64(seconds), count)?
        }
        Command::Flood { server, seconds } => flood(server, Duration::from_secs_f64(seconds))?,
        Command::Paced { server, rate, seconds } => paced(server, rate, seconds)?,
    };
    println!("{result}");
    Ok(())
}

fn serve(address: IpAddr) -> anyhow::Result<()> {
    let echo = TcpListener::bind((address, ECHO_PORT)).context("echo port")?;
    let connect = TcpListener::bind((address, CONNECT_PORT)).context("connection port")?;
    thread::spawn(move || {
        for stream in echo.incoming().flatten() {
            thread::spawn(move || echo_until_closed(stream));
        }
    });
    thread::spawn(move || connect.incoming().flatten().for_each(answer_once));
    let flooded = count_datagrams(address, FLOOD_PORT)?;
    let paced = count_datagrams(address, PACED_PORT)?;

    let start = Instant::now();
    for line in io::stdin().lock().lines() {
        line?;
        let counters = json!({
            "seconds": start.elapsed().as_secs_f64(),
            "flooded": flooded.load(Ordering::Relaxed),
            "paced": paced.load(Ordering::Relaxed),
        });
        println!("{counters}");
    }
    Ok(())
}

/// A connection's end, however it comes, ends its thread: the client reports what went wrong.
fn echo_until_closed(mut stream: TcpStream) {
    let mut byte = [0];
    let ready = stream.set_nodelay(true);
    while ready.is_ok() && stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

fn answer_once(mut stream: TcpStream) {
    let mut byte = [0];
    if stream.read_exact(&mut byte).is_ok() {
        // The client sees a missing answer as an early end of the connection and says so.
        let _ = stream.write_all(&byte);
    }
}

/// Starts a thread that counts what arrives at the port.
fn count_datagrams(address: IpAddr, port: u16) -> anyhow::Result<Arc<AtomicU64>> {
    let socket = UdpSocket::bind((address, port)).with_context(|| format!("UDP port {port}"))?;
    let count = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&count);
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while socket.recv(&mut buffer).is_ok() {
            shared.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(count)
}

/// Durations of all round trips after the warm-up.
fn round_trips(server: IpAddr, warm_up: Duration, measured: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut stream = connect(server, ECHO_PORT)?;
    let mut byte = [0];
    let mut all = Vec::new();
    let start = Instant::now();
    loop {
        let sent = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        let elapsed = start.elapsed();
        if elapsed >= warm_up + measured {
            return Ok(all);
        }
        if elapsed >= warm_up {
            all.push(sent.elapsed());
        }
    }
}

fn summary(mut round_trips: Vec<Duration>) -> serde_json::Value {
    round_trips.sort_unstable();
    let microseconds = |share: f64| {
        let index = (round_trips.len() as f64 * share) as usize;
        round_trips.get(index.min(round_trips.len().saturating_sub(1))).map(|d| d.as_secs_f64() * 1e6)
    };
    json!({
        "count": round_trips.len(),
        "p50_us": microseconds(0.5),
        "p99_us": microseconds(0.99),
        "max_us": microseconds(1.0),
    })
}

fn connect(server: IpAddr, port: u16) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(server, port), Duration::from_secs(3))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

fn connections(server: IpAddr, duration: Duration, most: u64) -> anyhow::Result<serde_json::Value> {
    let start = Instant::now();
    let mut count = 0u64;
    let mut byte = [0];
    while count < most && start.elapsed() < duration {
        let mut stream = connect(server, CONNECT_PORT)?;
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        anyhow::ensure!(stream.read(&mut byte)? == 0, "the server sent more than one byte");
        count += 1;
    }
    Ok(json!({ "count": count, "per_second": count as f64 / start.elapsed().as_secs_f64() }))
}

fn small_frames(server: IpAddr, port: u16) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_broadcast(true)?;
    socket.connect((server, port))?;
    Ok(socket)
}

/// Frames that the local queue refuses (ENOBUFS) are simply not sent; anything else ends the flood.
fn flood(server: IpAddr, duration: Duration) -> anyhow::Result<serde_json::Value> {
    const BETWEEN_CLOCK_READINGS: u64 = 64;
    let socket = small_frames(server, FLOOD_PORT)?;
    let start = Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < duration {
        for _ in 0..BETWEEN_CLOCK_READINGS {
            match socket.send(&SMALL_PAYLOAD) {
                Ok(_) => sent += 1,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error).context("flood"),
            }
        }
    }
    Ok(json!({ "sent": sent, "per_second": sent as f64 / start.elapsed().as_secs_f64() }))
}

fn paced(server: IpAddr, rate: u32, seconds: f64) -> anyhow::Result<serde_json::Value> {
    let socket = small_frames(server, PACED_PORT)?;
    let total = (f64::from(rate) * seconds) as u64;
    let start = Instant::now();
    for number in 0..total {
        let due = start + Duration::from_secs_f64(number as f64 / f64::from(rate));
        thread::sleep(due.saturating_duration_since(Instant::now()));
        socket.send(&SMALL_PAYLOAD).context("paced")?;
    }
    Ok(json!({ "sent": total }))
}
