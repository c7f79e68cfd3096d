//! The pull model: a JetStream consumer whose messages go to one client each.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)] // A test's own functions.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use async_nats::jetstream::{self, consumer};
use wsgateway_e2e::{
    frame::{Frame, PING, PONG},
    gateway::Gateway,
    nats::{Nats, NatsServer},
    needs,
    socket::{RawSocket, Received},
    wait::{SOON, pause, until, until_true},
};

const SILENCE: Duration = Duration::from_millis(700);

/// `ackWait` is so long that what comes again soon came again because it was given back.
const LIVE: &str = "
routes:
  - name: jobs
    path: /jobs
    fromClient: {type: Discard}
    toClient:
      - name: jobs
        type: Queue
        stream: JOBS
        durable: workers
        filterSubjects: [jobs.>]
        ackWait: 60s
        maxDeliver: 3
        maxInFlightPerClient: 8
        deadLetter: dead.jobs
";

struct Setup {
    server: NatsServer,
    nats: Nats,
    gateways: Vec<Gateway>,
}

fn start(gateways: usize, live: &str) -> Setup {
    let server = NatsServer::start();
    let nats = server.client();
    let stream = jetstream::stream::Config {
        name: "JOBS".to_owned(),
        subjects: vec!["jobs.>".to_owned()],
        ..Default::default()
    };
    nats.run(nats.jetstream().create_stream(stream)).unwrap();
    let gateways = (0..gateways)
        .map(|_| Gateway::start(&server.url(), live))
        .collect();
    Setup {
        server,
        nats,
        gateways,
    }
}

/// Opens a connection to the queue, once its gateway has found it.
fn open(to: SocketAddr) -> RawSocket {
    until("the queue is served", SOON, || {
        let mut socket = RawSocket::connect(to);
        (socket.upgrade("/jobs", "").status == 101).then_some(socket)
    })
}

impl Setup {
    fn address(&self) -> SocketAddr {
        self.gateways[0].address()
    }

    /// What the server says of the consumer, once there is one.
    fn consumer(&self) -> consumer::Info {
        let info = async {
            let stream = self.nats.jetstream().get_stream("JOBS").await.ok()?;
            stream.consumer_info("workers").await.ok()
        };
        self.nats
            .run(info)
            .expect("the gateway should have made the consumer")
    }

    fn publish(&self, payloads: impl IntoIterator<Item = String>) {
        self.nats.run(async {
            let jetstream = self.nats.jetstream();
            for payload in payloads {
                let stored = jetstream
                    .publish("jobs.work", payload.into())
                    .await
                    .unwrap();
                stored.await.unwrap();
            }
        });
    }
}

/// Reads messages without answering any ping, as a client that has stopped to react.
fn without_receipt(socket: &mut RawSocket, count: usize) -> Vec<String> {
    let mut messages = Vec::new();
    while messages.len() < count {
        match socket.receive(SOON) {
            Received::Frame(frame) if frame.opcode == PING => {}
            Received::Frame(frame) => messages.push(String::from_utf8(frame.payload).unwrap()),
            other => panic!("after {messages:?} came {other:?}"),
        }
    }
    messages
}

/// Reads and answers until nothing has come for a while.
fn with_receipt(socket: &mut RawSocket) -> Vec<String> {
    let mut messages = Vec::new();
    loop {
        match socket.receive(SILENCE) {
            Received::Frame(frame) if frame.opcode == PING => {
                socket.send_frame(&Frame::new(PONG, frame.payload));
            }
            Received::Frame(frame) => messages.push(String::from_utf8(frame.payload).unwrap()),
            Received::Nothing => return messages,
            other => panic!("after {messages:?} came {other:?}"),
        }
    }
}

#[test]
fn each_message_goes_to_one_client_and_is_done_when_it_has_ponged() {
    needs!(NatsServer);
    let setup = start(2, LIVE);
    let mut clients: Vec<_> = setup
        .gateways
        .iter()
        .flat_map(|g| [open(g.address()), open(g.address())])
        .collect();
    setup.publish((0..200).map(|number| number.to_string()));
    let mut seen = BTreeMap::new();
    let everything: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| scope.spawn(|| with_receipt(client)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    for message in everything {
        *seen.entry(message).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 200);
    assert!(seen.values().all(|&times| times == 1), "{seen:?}");
    until_true("all are acknowledged", SOON, || {
        let info = setup.consumer();
        info.num_ack_pending == 0 && info.num_pending == 0
    });
    assert_eq!(setup.consumer().num_redelivered, 0);
}

#[test]
fn a_client_that_does_not_pong_gets_no_more_than_its_credit() {
    needs!(NatsServer);
    let setup = start(1, LIVE);
    let mut client = open(setup.address());
    setup.publish((0..50).map(|number| number.to_string()));
    assert_eq!(
        without_receipt(&mut client, 8),
        ["0", "1", "2", "3", "4", "5", "6", "7"]
    );
    while let Received::Frame(frame) = client.receive(SILENCE) {
        assert_eq!(frame.opcode, PING, "a ninth message: {frame:?}");
    }
    assert_eq!(setup.consumer().num_ack_pending, 8);
}

#[test]
fn what_a_lost_client_had_goes_to_another_at_once() {
    needs!(NatsServer);
    let setup = start(2, LIVE);
    let mut lost = open(setup.address());
    setup.publish((0..5).map(|number| number.to_string()));
    let had = without_receipt(&mut lost, 5);
    // On the other gateway, so that the messages must go through the server.
    let mut other = open(setup.gateways[1].address());
    assert_eq!(other.receive(SILENCE), Received::Nothing);
    let began = Instant::now();
    lost.reset();
    let mut got: Vec<_> = (0..5).map(|_| other.message(SOON)).collect();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}, but ackWait is 60 s",
        began.elapsed()
    );
    got.sort();
    assert_eq!(got, had);
    with_receipt(&mut other);
    until_true("all are acknowledged", SOON, || {
        setup.consumer().num_ack_pending == 0
    });
}

#[test]
fn a_message_that_every_client_dies_of_goes_to_the_dead_letters() {
    needs!(NatsServer);
    let setup = start(1, LIVE);
    let mut dead = setup.nats.subscribe("dead.jobs");
    setup.publish(["poison".to_owned()]);
    for _ in 0..3 {
        let mut victim = open(setup.address());
        assert_eq!(without_receipt(&mut victim, 1), ["poison"]);
        victim.reset();
    }
    assert_eq!(dead.next(SOON).as_deref(), Some(b"poison".as_slice()));
    let mut next = open(setup.address());
    setup.publish(["good".to_owned()]);
    assert_eq!(
        next.message(SOON),
        "good",
        "the dead one does not come again"
    );
    assert_eq!(dead.next(SILENCE), None, "nor twice to the dead letters");
}

#[test]
fn nothing_is_fetched_while_nobody_is_connected() {
    needs!(NatsServer);
    let setup = start(1, LIVE);
    setup.publish(["before".to_owned()]);
    let mut client = open(setup.address());
    assert_eq!(with_receipt(&mut client), ["before"]);
    drop(client);
    until_true("the pull is cancelled", SOON, || {
        setup.consumer().num_waiting == 0
    });
    let delivered = setup.consumer().delivered.consumer_sequence;
    setup.publish((0..20).map(|number| number.to_string()));
    pause(Duration::from_secs(1));
    let info = setup.consumer();
    assert_eq!(
        (info.delivered.consumer_sequence, info.num_pending),
        (delivered, 20)
    );
    let mut client = open(setup.address());
    assert_eq!(with_receipt(&mut client).len(), 20);
}

#[test]
fn a_consumer_with_other_settings_is_not_changed() {
    needs!(NatsServer);
    let setup = start(0, LIVE);
    let theirs = consumer::pull::Config {
        durable_name: Some("workers".to_owned()),
        filter_subject: "jobs.other".to_owned(),
        ..Default::default()
    };
    setup.nats.run(async {
        let stream = setup.nats.jetstream().get_stream("JOBS").await.unwrap();
        stream.create_consumer(theirs).await.unwrap();
    });
    let gateway = Gateway::start(&setup.server.url(), LIVE);
    let refused = RawSocket::connect(gateway.address()).upgrade("/jobs", "");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(setup.consumer().config.filter_subject, "jobs.other");
}

/// How a client leaves that has read some messages.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// It has answered all pings, and says goodbye.
    Politely,
    /// It has read, and its machine fails.
    WithoutReceipt,
    /// It never read what had been written to it.
    Unread,
}

#[test]
fn a_thousand_messages_survive_ten_clients_that_come_and_go() {
    needs!(NatsServer);
    let live = LIVE.replace("maxDeliver: 3", "maxDeliver: 100");
    let setup = start(2, &live);
    let done = AtomicBool::new(false);
    let read = Mutex::new(BTreeMap::<String, u32>::new());
    let client = |number: usize| {
        let to = setup.gateways[number % 2].address();
        for visit in number.. {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let leaving = [Leaving::Politely, Leaving::WithoutReceipt, Leaving::Unread][visit % 3];
            for message in self::visit(
                to,
                leaving,
                Duration::from_millis(50 + visit as u64 % 7 * 30),
            ) {
                *read.lock().unwrap().entry(message).or_default() += 1;
            }
        }
    };
    thread::scope(|scope| {
        for number in 0..10 {
            scope.spawn(move || client(number));
        }
        setup.publish((0..1_000).map(|number| format!("{number} {}", "x".repeat(2_000))));
        until(
            "all have been acknowledged",
            Duration::from_secs(60),
            || {
                let info = setup.consumer();
                (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
            },
        );
        done.store(true, Ordering::Relaxed);
    });
    let read = read.into_inner().unwrap();
    assert_eq!(read.len(), 1_000, "each was read whole by somebody");
    println!("read {} times in all", read.values().sum::<u32>());
}

/// One client's stay. Returns the messages that it has read whole and answered for.
fn visit(to: SocketAddr, leaving: Leaving, stay: Duration) -> Vec<String> {
    let mut socket = open(to);
    let mut messages = Vec::new();
    let end = Instant::now() + stay;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if let Leaving::Unread = leaving {
            pause(left);
            continue;
        }
        match socket.receive(left) {
            Received::Frame(frame) if frame.opcode == PING => {
                if let Leaving::Politely = leaving {
                    socket.send_frame(&Frame::new(PONG, frame.payload));
                }
            }
            Received::Frame(frame) => messages.push(String::from_utf8(frame.payload).unwrap()),
            Received::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
    if let Leaving::Politely = leaving {
        socket.send_frame(&Frame::close(1000, ""));
    } else {
        socket.reset();
        // What it took along must come again to somebody who answers.
        messages.clear();
    }
    messages
}
