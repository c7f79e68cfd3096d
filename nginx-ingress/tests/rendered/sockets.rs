//! A real nginx with the rendered configuration, between clients and a worker that this test plays: it
//! holds the sockets that it was asked to, and passes on every head that a gateway would take.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use std::{process, thread};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use wsgateway_nginx_ingress::conf::{Capacity, ErrorLog, ListenerSettings, Listeners, Standalone};
use wsgateway_nginx_ingress::value::{FilePath, ListenAddress, LocationPath, UpstreamAddress};
use wsgateway_nginx_ingress::{Exposure, ExposureSettings};

/// What the gateway takes of the head of a handshake (`HEAD_BYTES_MAX` there), with what nginx adds.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// More than this passes for a hang.
const PATIENCE: Duration = Duration::from_secs(20);

use crate::nginx::Nginx;

#[test]
fn it_holds_the_sockets_that_it_was_asked_to() {
    let Some(nginx) = Nginx::find() else {
        return;
    };
    allow_descriptors(4_096);
    let worker = Worker::start();
    let hold = |capacity, number| {
        let standalone = standalone(&worker, capacity, number);
        let _running = nginx.start(&standalone);
        let address = address(number);
        let clients = (0..700).map_while(|_| {
            let (status, stream) = shake_hands(address, "").ok()?;
            (status == "HTTP/1.1 101 Switching Protocols").then_some(stream)
        });
        clients.collect::<Vec<_>>().len()
    };
    let asked = Capacity::for_sockets(700, NonZeroU16::MIN, u32::MAX);
    assert_eq!(hold(asked, 1), 700);
    // As in the nginx.conf of most packages: that this is too few shows that the above means something.
    let usual = Capacity {
        worker_connections: 1_024,
        ..asked
    };
    let few = hold(usual, 2);
    assert!((450..512).contains(&few), "{few}");
}

#[test]
fn every_head_that_a_gateway_takes_reaches_it_whole() {
    let Some(nginx) = Nginx::find() else {
        return;
    };
    let worker = Worker::start();
    let capacity = Capacity::for_sockets(10, NonZeroU16::MIN, u32::MAX);
    let _running = nginx.start(&standalone(&worker, capacity, 3));
    let check = |cookie: usize, authorization: usize| {
        let headers = [("Cookie", cookie), ("Authorization", authorization)]
            .map(|(name, length)| format!("{name}: {}\r\n", "x".repeat(length)));
        let (status, _) = shake_hands(address(3), &headers.concat()).unwrap();
        assert_eq!(status, "HTTP/1.1 101 Switching Protocols");
        let head = worker.heads.recv_timeout(PATIENCE).unwrap();
        for header in &headers {
            assert!(head.contains(header.as_str()), "{cookie} {authorization}");
        }
        head.len()
    };
    check(20, 20);
    check(900, 20);
    check(2_000, 1_500);
    check(8 << 10, 7 << 10);
    let longest = check(0, 15_900);
    assert!((16_000..HEAD_BYTES_MAX).contains(&longest), "{longest}");
}

/// An nginx in front of the worker. Each test has an address of its own, which nobody else listens on.
fn standalone(worker: &Worker, capacity: Capacity, number: u8) -> Standalone {
    let path = LocationPath::new("/ws").unwrap();
    Standalone {
        exposure: Exposure::new(ExposureSettings::for_paths(vec![path])).unwrap(),
        listeners: Listeners::new(ListenerSettings {
            http: vec![ListenAddress::try_from(address(number)).unwrap()],
            https: None,
        })
        .unwrap(),
        workers: vec![UpstreamAddress::try_from(worker.address).unwrap()],
        capacity,
        directory: FilePath::new("/replaced").unwrap(),
        error_log: ErrorLog::File(FilePath::new("/replaced").unwrap()),
        access_log: None,
        worker_shutdown_timeout: None,
    }
}

/// An address of the loopback network that is this process's, below the ports of outgoing connections.
fn address(number: u8) -> SocketAddr {
    let [.., high, low] = process::id().to_be_bytes();
    (Ipv4Addr::new(127, 100 + number, high, low.max(1)), 18_480).into()
}

/// The status line, and the connection. nginx may not listen yet.
#[allow(clippy::disallowed_methods)] // Nothing tells when nginx listens but a connection; no runtime here.
fn shake_hands(address: SocketAddr, headers: &str) -> std::io::Result<(String, TcpStream)> {
    let begun = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(address) {
            Err(_) if begun.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            other => break other?,
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{headers}\r\n"
    )?;
    let head = read_head(&mut stream)?;
    let status = head.lines().next().unwrap_or_default().to_owned();
    Ok((status, stream))
}

fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4_096];
    while !head.ends_with(b"\r\n\r\n") {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.extend(buffer.iter().take(length));
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Answers each handshake with 101, keeps the connection until nginx ends, and hands over the heads.
struct Worker {
    address: SocketAddr,
    heads: Receiver<String>,
}

impl Worker {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, heads) = channel();
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // nginx may have ended in between.
                let Ok(head) = read_head(&mut stream) else {
                    continue;
                };
                let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                if stream.write_all(answer.as_bytes()).is_err() || sender.send(head).is_err() {
                    return;
                }
                kept.push(stream);
            }
        });
        Self { address, heads }
    }
}

/// Both ends of each connection are this process's, or nginx is between them.
fn allow_descriptors(wanted: u64) {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(
        hard >= wanted,
        "this test needs {wanted} descriptors (ulimit -Hn)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).unwrap();
}
