//! The deadlines and limits of a connection, and that nobody else notices when one meets its own.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use wsgateway_e2e::{
    frame::{Frame, PING, PONG},
    gateway::Gateway,
    nats::NatsServer,
    needs,
    resources::{descriptors, resident_bytes},
    row::row,
    socket::{Endpoint, RawSocket, Received},
    wait::{SOON, until, until_true},
};

/// By how much the sweeper may be late, and this machine beside it.
const LATE: Duration = Duration::from_millis(2_500);

const MILLIS_400: Duration = Duration::from_millis(400);
const PONG_WAIT: Duration = Duration::from_secs(2);

const LIVE: &str = "
websocket: {pingPeriod: 400ms, pongWait: 2s, writeWait: 1s}
limits: {connections: 3}
routes:
  - {name: echo, path: /echo, fromClient: {type: Echo}}
";

fn start(live: &str) -> (NatsServer, Gateway) {
    let nats = NatsServer::start();
    let gateway = Gateway::start(&nats.url(), live);
    (nats, gateway)
}

/// Does `step` until the connection ends, and tells after how long that was.
fn ended(socket: &mut RawSocket, mut step: impl FnMut(&mut RawSocket, Option<Frame>)) -> Duration {
    let opened = Instant::now();
    loop {
        let frame = match socket.receive(Duration::from_millis(50)) {
            Received::Frame(frame) => Some(frame),
            Received::Nothing => None,
            Received::End | Received::Reset => return opened.elapsed(),
        };
        assert!(opened.elapsed() < SOON, "it does not end");
        step(socket, frame);
    }
}

#[test]
fn a_ping_comes_each_period() {
    needs!(NatsServer);
    let (_nats, gateway) = start(LIVE);
    let mut socket = RawSocket::open(gateway.address(), "/echo");
    let mut last = Instant::now();
    for number in 0..8 {
        let frame = match socket.receive(SOON) {
            Received::Frame(frame) => frame,
            other => panic!("no ping, but {other:?}"),
        };
        assert_eq!(frame.opcode, PING);
        let since = last.elapsed();
        // The first comes within the last quarter, so that those who open together spread.
        let earliest = if number == 0 {
            MILLIS_400 * 3 / 4
        } else {
            MILLIS_400
        };
        assert!(
            since + Duration::from_millis(20) >= earliest,
            "ping {number} after {since:?}"
        );
        assert!(since <= MILLIS_400 + LATE, "ping {number} after {since:?}");
        last = Instant::now();
        socket.send_frame(&Frame::new(PONG, frame.payload));
    }
}

#[test]
fn who_does_not_pong_is_closed_at_pong_wait_and_data_does_not_help() {
    needs!(NatsServer);
    let (_nats, gateway) = start(LIVE);
    let in_time = |took: Duration| {
        assert!(
            (PONG_WAIT..PONG_WAIT + LATE).contains(&took),
            "closed after {took:?}"
        );
    };
    row("a silent one", || {
        let mut socket = RawSocket::open(gateway.address(), "/echo");
        let mut code = None;
        in_time(ended(&mut socket, |socket, frame| {
            if let Some(found) = frame.as_ref().and_then(Frame::close_code) {
                code = Some(found);
                let _ = socket.try_send(Frame::close(found, "").encode());
            }
        }));
        assert_eq!(code, Some(1008));
    });
    row("one that talks all the time", || {
        let mut socket = RawSocket::open(gateway.address(), "/echo");
        in_time(ended(&mut socket, |socket, frame| {
            let answer = match frame.as_ref().and_then(Frame::close_code) {
                Some(code) => Frame::close(code, ""),
                None => Frame::text("but I am here"),
            };
            let _ = socket.try_send(answer.encode());
        }));
    });
}

#[test]
fn who_pongs_lives_on_and_an_unfinished_message_does_not() {
    needs!(NatsServer);
    let (_nats, gateway) = start(LIVE);
    let mut unfinished = RawSocket::open(gateway.address(), "/echo");
    let mut idle = RawSocket::open(gateway.address(), "/echo");
    unfinished.send_frame(&Frame::text("never ").unfinished());
    let mut code = None;
    let took = ended(&mut unfinished, |socket, frame| {
        let Some(frame) = frame else { return };
        let answer = match frame.close_code() {
            Some(found) => {
                code = Some(found);
                frame
            }
            None => Frame::new(PONG, frame.payload),
        };
        let _ = socket.try_send(
            Frame {
                masked: true,
                ..answer
            }
            .encode(),
        );
        // The other one pongs along, so that both have lived equally long.
        while let Received::Frame(ping) = idle.receive(Duration::from_millis(1)) {
            idle.send_frame(&Frame::new(PONG, ping.payload));
        }
    });
    assert_eq!(code, Some(1008));
    assert!(
        (PONG_WAIT..PONG_WAIT + LATE).contains(&took),
        "closed after {took:?}"
    );
    let until_late = Instant::now() + PONG_WAIT;
    while Instant::now() < until_late {
        if let Received::Frame(ping) = idle.receive(MILLIS_400) {
            idle.send_frame(&Frame::new(PONG, ping.payload));
        }
    }
    idle.send_frame(&Frame::text("alive"));
    assert_eq!(idle.message(SOON), "alive");
}

#[test]
fn above_the_limit_of_connections_comes_503_until_a_place_is_free() {
    needs!(NatsServer);
    let (_nats, gateway) = start(LIVE);
    let mut open: Vec<_> = (0..3)
        .map(|_| RawSocket::open(gateway.address(), "/echo"))
        .collect();
    let refused = RawSocket::connect(gateway.address()).upgrade("/echo", "");
    assert_eq!(refused.status, 503, "{refused:?}");
    let retry_after = refused.header("retry-after").map(str::parse::<u32>);
    assert!(matches!(retry_after, Some(Ok(1..=60))), "{refused:?}");
    for way in ["close", "reset"] {
        let leaving = open.pop().unwrap();
        match way {
            "reset" => leaving.reset(),
            _ => drop(leaving),
        }
        let back = until("there is a place again", SOON, || {
            let mut socket = RawSocket::connect(gateway.address());
            (socket.upgrade("/echo", "").status == 101).then_some(socket)
        });
        open.push(back);
    }
}

/// Small enough that the kernel's buffers do not hide who does not read.
const SMALL: Endpoint = Endpoint {
    address: None,
    receive_bytes: Some(4 << 10),
};

#[test]
fn who_stops_reading_is_closed_at_write_wait_while_a_thousand_others_get_everything() {
    needs!(NatsServer);
    let live = "
websocket: {pingPeriod: 10s, pongWait: 30s, writeWait: 3s}
limits: {outboxBytes: 64Mi, outboxMessages: 100000}
routes:
  - name: news
    path: /news
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, subjects: [news]}]
";
    let (clients, messages) = (1_000, 60);
    let (server, gateway) = start(live);
    let nats = server.client();
    let payload = |number: usize| format!("{number:06} {}", "x".repeat(8 << 10));
    let idle_descriptors = descriptors(gateway.pid());
    // The first round is to have seen the memory that stays with the process whatever happens.
    let mut resident = [0; 3];
    for (round, resident) in resident.iter_mut().enumerate() {
        let slow: Vec<_> = (0..20)
            .map(|_| RawSocket::open_from(SMALL, gateway.address(), "/news"))
            .collect();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let to = gateway.address();
                let mut readers: Vec<_> = (0..clients / 4)
                    .map(|_| RawSocket::open(to, "/news"))
                    .collect();
                thread::spawn(move || {
                    for number in 0..messages {
                        for client in &mut readers {
                            let text = client.message(SOON);
                            assert!(text.starts_with(&format!("{number:06} ")), "out of order");
                        }
                    }
                })
            })
            .collect();
        let began = Instant::now();
        nats.publish_all("news", (0..messages).map(payload));
        for reader in readers {
            reader.join().unwrap();
        }
        println!(
            "round {round}: {clients} clients had all after {:?}",
            began.elapsed()
        );
        until_true("the slow ones are closed too", SOON, || {
            descriptors(gateway.pid()) <= idle_descriptors
        });
        println!("round {round}: all closed after {:?}", began.elapsed());
        assert!(
            began.elapsed() >= Duration::from_secs(3),
            "nobody is closed before writeWait"
        );
        for mut socket in slow {
            // It had been sent some, and then the connection ended without the rest.
            let mut whole = 0;
            while let Received::Frame(_) = socket.receive(SOON) {
                whole += 1;
            }
            assert!(whole < messages, "it was no slow client");
        }
        *resident = resident_bytes(gateway.pid());
    }
    println!("resident memory after each round: {resident:?}");
    assert!(
        resident[2] < resident[0] + (4 << 20),
        "memory does not return: {resident:?}"
    );
}

#[test]
fn a_full_outbox_meets_the_policy_of_its_source() {
    needs!(NatsServer);
    let live = "
websocket: {pingPeriod: 10s, pongWait: 60s, writeWait: 20s}
limits: {outboxBytes: 256Ki, outboxMessages: 100000}
routes:
  - name: strict
    path: /disconnect
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, subjects: [news], slowConsumer: Disconnect}]
  - name: lenient
    path: /drop
    fromClient: {type: Echo}
    toClient: [{name: live, type: Core, subjects: [news], slowConsumer: DropOldest}]
";
    let messages = 2_000;
    let (server, gateway) = start(live);
    let nats = server.client();
    let open = |to: SocketAddr, path| RawSocket::open_from(SMALL, to, path);
    let mut strict = open(gateway.address(), "/disconnect");
    let mut lenient = open(gateway.address(), "/drop");
    let began = Instant::now();
    let payload = |number: usize| format!("{number:06} {}", "x".repeat(8 << 10));
    nats.publish_all("news", (0..messages).map(payload));

    row("Disconnect", || {
        // The close frame waits behind what the kernel has; the connection ends, and soon.
        let mut whole = 0;
        while let Received::Frame(frame) = strict.receive(SOON) {
            whole += usize::from(frame.close_code().is_none());
        }
        assert!(
            whole < messages && began.elapsed() < Duration::from_secs(15),
            "{whole}"
        );
    });
    row("DropOldest", || {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&(messages - 1)) {
            let message = lenient.message(SOON);
            numbers.push(message[..6].parse::<usize>().unwrap());
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
        assert!(numbers.len() < messages, "some were dropped");
        lenient.send_frame(&Frame::text("and it goes on"));
        assert_eq!(lenient.message(SOON), "and it goes on");
    });
}
