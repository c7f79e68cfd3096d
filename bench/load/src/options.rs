//! What was typed.

use std::{str::FromStr, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::{frame::Opcode, mark};

/// Loads a WebSocket server and prints what that cost it, as a line of JSON.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
pub struct Options {
    /// What is done.
    #[command(subcommand)]
    pub mode: Mode,
}

/// What is done to the server.
#[derive(Debug, Subcommand)]
pub enum Mode {
    /// Connects clients and lets them be: the cost of setting up, and the memory.
    Idle(Idle),
    /// Connects clients, publishes to NATS, and counts what arrives at each of them.
    Fanout(Fanout),
    /// Connects, closes and connects again.
    Churn(Churn),
    /// Holds more connections than one process can, to one server of many processes.
    Hold(Hold),
    /// One of the client processes of `hold`, which starts it and gives it orders on standard input.
    #[command(hide = true)]
    Member(Member),
    /// Sends messages that the server sends back.
    Echo(Echo),
    /// Memory of the server and of the kernel, step by step.
    Weight(Weight),
    /// Memory for more and more connections.
    Ramp(Ramp),
    /// Connects many clients at the same moment and drops them, again and again.
    Storm(Storm),
    /// Connects clients that subscribe to much, and publishes to one subject after the other.
    Subjects(Subjects),
    /// How long others wait while messages go out to many.
    Meanwhile(Meanwhile),
}

/// The server, and how a client gets what it is to get.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The server's name in the output.
    #[arg(long, default_value = "server")]
    pub server: String,
    /// The scenario's name in the output.
    #[arg(long, default_value = "")]
    pub scenario: String,
    /// The server's port on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    /// The path of the handshake; `{n}` in it stands for the client's number, from 0.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Offer permessage-deflate as browsers do. The server must take it.
    #[arg(long)]
    pub compress: bool,
    /// The server's processes, whose CPU time and memory are measured.
    #[arg(long = "pid", value_delimiter = ',', required = true)]
    pub pids: Vec<i32>,
    /// Processes that work for this run without being measured, as nats-server does. Whatever else
    /// is busy on the machine is reported as noise.
    #[arg(long = "bystander", value_delimiter = ',')]
    pub bystanders: Vec<i32>,
    /// A message to send once connected: text, or binary with `bin:` before it; `\r` and `\n` mean
    /// those characters.
    #[arg(long = "init")]
    pub greetings: Vec<Greeting>,
    /// Connections.
    #[arg(long, default_value_t = 1000)]
    pub conns: usize,
    /// Handshakes in progress at a time.
    #[arg(long, default_value_t = 200)]
    pub at_once: usize,
}

/// Options of `idle`.
#[derive(Debug, Clone, Args)]
pub struct Idle {
    /// The server.
    #[command(flatten)]
    pub target: Target,
    /// Seconds between the last handshake and the measurement of memory.
    #[arg(long, default_value_t = 2)]
    pub settle: u64,
}

/// Where messages enter.
#[derive(Debug, Clone, Args)]
pub struct Source {
    /// The port of NATS on 127.0.0.1.
    #[arg(long, default_value_t = 4222)]
    pub nats: u16,
    /// The subject.
    #[arg(long, default_value = "bench")]
    pub subject: String,
    /// The size of a message, in bytes: JSON that carries a timestamp.
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// Orders of a shop, of up to that size, instead of a timestamp with filling.
    #[arg(long)]
    pub orders: bool,
}

impl Source {
    /// A message that carries this time.
    pub fn message(&self, stamp_ns: u64) -> Vec<u8> {
        if self.orders {
            mark::order(stamp_ns, self.size)
        } else {
            mark::message(stamp_ns, self.size)
        }
    }
}

/// Options of `fanout`.
#[derive(Debug, Clone, Args)]
pub struct Fanout {
    /// The server.
    #[command(flatten)]
    pub target: Target,
    /// Where messages enter.
    #[command(flatten)]
    pub source: Source,
    /// Messages.
    #[arg(long, default_value_t = 1000)]
    pub msgs: u64,
    /// Messages that are under way at most: published, and not yet at every client.
    #[arg(long, default_value_t = 4)]
    pub window: u64,
    /// Messages a second instead of a window: an open loop.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Messages that are published one by one beforehand, and not counted.
    #[arg(long, default_value_t = 1)]
    pub warm: u64,
    /// Seconds between the last handshake and the first message.
    #[arg(long, default_value_t = 2)]
    pub settle: u64,
    /// Connections beside those of `--conns` that never read. At the end the server must have closed
    /// them, as proof that they did stall.
    #[arg(long, default_value_t = 0)]
    pub stalled: usize,
    /// Seconds after which the server closes them.
    #[arg(long, default_value_t = 15)]
    pub write_wait: u64,
}

/// Options of `churn`.
#[derive(Debug, Clone, Args)]
pub struct Churn {
    /// The server; `--conns` is how many are open at a time.
    #[command(flatten)]
    pub target: Target,
    /// Connections to open and close.
    #[arg(long, default_value_t = 20_000)]
    pub total: u64,
}

/// Options of `hold`.
#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// The server: all its processes together, on one port. `--conns` and `--at-once` are for all clients.
    #[command(flatten)]
    pub target: Target,
    /// Where the message enters.
    #[command(flatten)]
    pub source: Source,
    /// Client processes. Each has its part of the connections, and a limit of descriptors.
    #[arg(long, default_value_t = 1)]
    pub members: u16,
    /// Seconds for which the connections are held before the message.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Megabytes that the machine must have left. With less the run ends, before the machine swaps or
    /// the kernel kills.
    #[arg(long, default_value_t = 1500)]
    pub memory_left: u64,
}

/// Options of `member`.
#[derive(Debug, Clone, Args)]
pub struct Member {
    /// The server; `--conns` and `--at-once` are for this process.
    #[command(flatten)]
    pub target: Target,
    /// Which member it is: each has source addresses of its own.
    #[arg(long)]
    pub number: u16,
}

/// Options of `echo`.
#[derive(Debug, Clone, Args)]
pub struct Echo {
    /// The server; each connection has one message under way.
    #[command(flatten)]
    pub target: Target,
    /// Messages, over all connections.
    #[arg(long, default_value_t = 100_000)]
    pub msgs: u64,
    /// The size of a message, in bytes.
    #[arg(long, default_value_t = 64)]
    pub size: usize,
}

/// Options of `weight`.
#[derive(Debug, Clone, Args)]
pub struct Weight {
    /// The server, freshly started.
    #[command(flatten)]
    pub target: Target,
    /// Where messages enter.
    #[command(flatten)]
    pub source: Source,
    /// Clients send 16 messages each and get them back; otherwise they get 16 from NATS.
    #[arg(long)]
    pub echo: bool,
    /// The server's ping period, in seconds: how long to wait for a ping to every client.
    /// With 0, pings are not waited for.
    #[arg(long, default_value_t = 30)]
    pub ping_period: u64,
}

/// Options of `ramp`.
#[derive(Debug, Clone, Args)]
pub struct Ramp {
    /// The server, freshly started.
    #[command(flatten)]
    pub target: Target,
    /// Connections at which memory is measured, ascending.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "1000,2000,5000,10000,18000"
    )]
    pub counts: Vec<usize>,
    /// Seconds between the last handshake and the measurement.
    #[arg(long, default_value_t = 2)]
    pub settle: u64,
}

/// Options of `storm`.
#[derive(Debug, Clone, Args)]
pub struct Storm {
    /// The server, freshly started; `--conns` is how many connect at once.
    #[command(flatten)]
    pub target: Target,
    /// Storms, one after the other.
    #[arg(long, default_value_t = 10)]
    pub storms: u32,
    /// Seconds after the last one until memory is measured for the last time.
    #[arg(long, default_value_t = 5)]
    pub settle: u64,
}

/// Options of `subjects`.
#[derive(Debug, Clone, Args)]
pub struct Subjects {
    /// The server, freshly started.
    #[command(flatten)]
    pub target: Target,
    /// Where messages enter. In the subject, `{n}` stands for a client's number and `{k}` for one of
    /// its subjects: with `{n}` a message is for that client alone, otherwise for all.
    #[command(flatten)]
    pub source: Source,
    /// How many subjects a client has: `{k}` is below it.
    #[arg(long, default_value_t = 1)]
    pub each: u64,
    /// Messages, one after the other, to one subject after the other.
    #[arg(long, default_value_t = 1000)]
    pub msgs: u64,
    /// Seconds between the last handshake and the first message.
    #[arg(long, default_value_t = 2)]
    pub settle: u64,
}

/// Options of `meanwhile`.
#[derive(Debug, Clone, Args)]
pub struct Meanwhile {
    /// The server; its clients get the messages.
    #[command(flatten)]
    pub target: Target,
    /// Where messages enter.
    #[command(flatten)]
    pub source: Source,
    /// Messages under way at most.
    #[arg(long, default_value_t = 4)]
    pub window: u64,
    /// The path that others connect to.
    #[arg(long, default_value = "/echo")]
    pub probe_path: String,
    /// The port on 127.0.0.1 where `GET /livez` is answered.
    #[arg(long)]
    pub admin: u16,
    /// Seconds of probing: so long without messages, and so long with them.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

/// A message that a client sends once it is connected.
#[derive(Debug, Clone)]
pub struct Greeting {
    /// Text or binary.
    pub opcode: Opcode,
    /// What it says.
    pub payload: Vec<u8>,
}

impl FromStr for Greeting {
    type Err = std::convert::Infallible;

    fn from_str(written: &str) -> Result<Self, Self::Err> {
        let unescaped = written.replace("\\r", "\r").replace("\\n", "\n");
        let (opcode, payload) = match unescaped.strip_prefix("bin:") {
            Some(binary) => (Opcode::Binary, binary),
            None => (Opcode::Text, unescaped.as_str()),
        };
        Ok(Self {
            opcode,
            payload: payload.as_bytes().to_vec(),
        })
    }
}

impl Mode {
    /// The server.
    pub const fn target(&self) -> &Target {
        match self {
            Self::Idle(options) => &options.target,
            Self::Fanout(options) => &options.target,
            Self::Churn(options) => &options.target,
            Self::Hold(options) => &options.target,
            Self::Member(options) => &options.target,
            Self::Echo(options) => &options.target,
            Self::Weight(options) => &options.target,
            Self::Ramp(options) => &options.target,
            Self::Storm(options) => &options.target,
            Self::Subjects(options) => &options.target,
            Self::Meanwhile(options) => &options.target,
        }
    }
}

impl Target {
    /// Refuses numbers that mean nothing.
    pub fn check(&self) -> Result<()> {
        ensure!(self.conns > 0, "--conns must be at least 1");
        ensure!(self.at_once > 0, "--at-once must be at least 1");
        Ok(())
    }
}

/// Seconds as a duration.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
