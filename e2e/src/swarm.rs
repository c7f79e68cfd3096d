//! Honest clients by the thousand: what each gets of a steady rate of messages, and how late.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

use crate::{
    frame::{CLOSE, Frame, PING, PONG, TEXT},
    http::Response,
    nats::NatsServer,
    socket::request,
    wait::{SOON, pause, until_true},
};

/// How often a message is published.
const PERIOD: Duration = Duration::from_millis(50);

/// Clients that read at once and answer pings, and a publisher of numbered messages for them.
#[derive(Debug)]
pub struct Swarm {
    clients: u64,
    seen: Arc<Seen>,
    publisher: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    over: AtomicBool,
    open: AtomicU64,
    published: AtomicU64,
    received: AtomicU64,
    /// Messages that came out of turn, and connections that ended.
    wrong: AtomicU64,
    /// Microseconds from the publication to the client.
    latencies: Mutex<Vec<u32>>,
}

/// How late messages were.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Of half of them, at most.
    pub p50: Duration,
    /// Of 99 of 100, at most.
    pub p99: Duration,
    /// How many there were.
    pub count: usize,
}

impl Swarm {
    /// Connects so many to a path whose route brings the messages of `subject`, with these header lines, and begins to publish.
    pub fn start(
        nats: &NatsServer,
        subject: &'static str,
        gateway: SocketAddr,
        path: &str,
        headers: &str,
        clients: u64,
    ) -> Self {
        let seen = Arc::new(Seen::default());
        let (of_reader, request) = (seen.clone(), request(path, headers));
        let reader = thread::spawn(move || read_all(&of_reader, gateway, &request, clients));
        until_true("all honest clients are in", 3 * SOON, || {
            seen.open.load(Ordering::SeqCst) == clients
        });
        let (of_publisher, nats) = (seen.clone(), nats.client());
        let publisher = thread::spawn(move || {
            while !of_publisher.over.load(Ordering::SeqCst) {
                let number = of_publisher.published.load(Ordering::SeqCst);
                nats.publish(subject, format!("{number} {}", micros()));
                of_publisher.published.store(number + 1, Ordering::SeqCst);
                pause(PERIOD);
            }
        });
        Self {
            clients,
            seen,
            publisher: Some(publisher),
            reader: Some(reader),
        }
    }

    /// Does some work, and tells how late messages were meanwhile. Every client has got every message of that time when
    /// this returns, in order, and has kept its connection; else this panics.
    pub fn during(&self, work: impl FnOnce()) -> Latency {
        self.seen.latencies.lock().unwrap().clear();
        work();
        let published = self.seen.published.load(Ordering::SeqCst);
        let wrong = || self.seen.wrong.load(Ordering::SeqCst);
        until_true("every honest client has every message", 3 * SOON, || {
            assert_eq!(
                wrong(),
                0,
                "an honest client has lost a message or its connection"
            );
            self.seen.received.load(Ordering::SeqCst) >= published * self.clients
        });
        let mut latencies = std::mem::take(&mut *self.seen.latencies.lock().unwrap());
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            Duration::from_micros(u64::from(latencies[place.min(latencies.len() - 1)]))
        };
        Latency {
            p50: at(0.5),
            p99: at(0.99),
            count: latencies.len(),
        }
    }

    /// Awaits so many more publications.
    pub fn await_publications(&self, count: u64) {
        let until_then = self.seen.published.load(Ordering::SeqCst) + count;
        until_true("messages are published", 10 * SOON, || {
            self.seen.published.load(Ordering::SeqCst) >= until_then
        });
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::SeqCst);
        for thread in [self.publisher.take(), self.reader.take()] {
            let ended = thread.map(JoinHandle::join);
            assert!(
                thread::panicking() || !matches!(ended, Some(Err(_))),
                "a thread of the swarm failed"
            );
        }
    }
}

/// Microseconds since the first call.
fn micros() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// One thread for all of them: what it costs is the same in every phase.
fn read_all(seen: &Arc<Seen>, gateway: SocketAddr, request: &str, clients: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = LocalSet::new();
    let request: Rc<str> = request.into();
    runtime.block_on(local.run_until(async {
        for _ in 0..clients {
            let mut socket = TcpStream::connect(gateway).await.unwrap();
            let rest = shake_hands(&mut socket, &request).await;
            seen.open.fetch_add(1, Ordering::SeqCst);
            let seen = seen.clone();
            tokio::task::spawn_local(async move {
                if read(&seen, socket, rest).await.is_none() && !seen.over.load(Ordering::SeqCst) {
                    seen.wrong.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while !seen.over.load(Ordering::SeqCst) {
            tokio::time::sleep(PERIOD).await;
        }
    }));
}

async fn shake_hands(socket: &mut TcpStream, request: &str) -> Vec<u8> {
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "no answer");
        if let Some(answer) = Response::parse(&bytes) {
            assert_eq!(answer.status, 101, "{answer:?}");
            return answer.body;
        }
    }
}

/// None where the connection ends.
async fn read(seen: &Seen, mut socket: TcpStream, mut bytes: Vec<u8>) -> Option<()> {
    // All were in before the first was published.
    let mut next = 0;
    loop {
        while let Some(frame) = Frame::decode(&mut bytes) {
            match frame.opcode {
                TEXT => {
                    let text = String::from_utf8(frame.payload).unwrap();
                    let (number, published) = text.split_once(' ').unwrap();
                    let number: u64 = number.parse().unwrap();
                    if number != next {
                        seen.wrong.fetch_add(1, Ordering::SeqCst);
                    }
                    next = number + 1;
                    let late = micros() - published.parse::<u64>().unwrap();
                    seen.latencies.lock().unwrap().push(late as u32);
                    seen.received.fetch_add(1, Ordering::SeqCst);
                }
                PING => {
                    let pong = Frame::new(PONG, frame.payload).encode();
                    socket.write_all(&pong).await.ok()?;
                }
                CLOSE => return None,
                _ => {}
            }
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
