//! What hostile clients do. Each attack is bounded by a count, and tells by its panics where the gateway did not answer as
//! it should.

use std::{fs, io::Write, net::Ipv4Addr, process::Command, thread, time::Duration};

use flate2::{Compression, write::DeflateEncoder};
use wsgateway_e2e::{
    frame::{BINARY, CLOSE, Frame, PING, PONG},
    gateway::Gateway,
    nats::NatsServer,
    socket::{Endpoint, RawSocket, Received, request},
};

/// RSV1, as `Frame` counts the reserved bits.
const COMPRESSED: u8 = 4;

/// How long a connection may take to end that the gateway ends at one of its deadlines, which are seconds.
const ENDED: Duration = Duration::from_secs(60);

/// Whom the attackers attack.
pub(crate) struct Target<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) nats: &'a NatsServer,
    /// A header line with a good token: some attackers are users.
    pub(crate) bearer: String,
}

impl Target<'_> {
    /// A connection from one of the attackers' addresses, so that their ports are as many as they need.
    fn connect(&self, attacker: usize) -> RawSocket {
        self.connect_with(attacker, None)
    }

    fn connect_with(&self, attacker: usize, receive_bytes: Option<usize>) -> RawSocket {
        let address = Ipv4Addr::new(127, 0, 66, 1 + (attacker % 200) as u8);
        let from = Endpoint {
            address: Some(address.into()),
            receive_bytes,
        };
        RawSocket::connect_from(from, self.gateway.address())
    }

    fn upgrade(&self, mut socket: RawSocket, path: &str, headers: &str) -> RawSocket {
        let answer = socket.upgrade(path, &format!("{}{headers}", self.bearer));
        assert_eq!(answer.status, 101, "{answer:?}");
        socket
    }

    fn open(&self, attacker: usize, path: &str) -> RawSocket {
        self.upgrade(self.connect(attacker), path, "")
    }
}

/// So many attackers at once, each a thread that gets what CPU time nobody else wants: real ones have machines of their
/// own, and what they would take here is no harm that the gateway lets them do.
fn attackers(count: usize, attack: impl Fn(usize) + Sync) {
    thread::scope(|scope| {
        for attacker in 0..count {
            let attack = &attack;
            scope.spawn(move || {
                let me = fs::read_link("/proc/thread-self").unwrap();
                let me = me.file_name().unwrap();
                let done = Command::new("renice")
                    .args(["-n", "19", "-p"])
                    .arg(me)
                    .output();
                assert!(done.unwrap().status.success(), "renice");
                attack(attacker);
            });
        }
    });
}

/// Awaits that the gateway ends a connection, whatever it says before.
fn await_end(socket: &mut RawSocket) {
    while let received = socket.receive(ENDED)
        && !matches!(received, Received::End | Received::Reset)
    {
        assert_ne!(
            received,
            Received::Nothing,
            "the gateway keeps a hostile connection"
        );
    }
}

/// A close of the client's own is answered behind all that it has sent: so all of that has been dealt with.
fn leave(mut socket: RawSocket) {
    socket.send_frame(&Frame::close(1000, ""));
    loop {
        match socket.receive(ENDED) {
            Received::Frame(frame) if frame.opcode == CLOSE => return,
            Received::Frame(_) => {}
            other => panic!("no answer to a close, but {other:?}"),
        }
    }
}

/// Heads that come a byte at a time, and never to their end.
pub(crate) fn slow_heads(target: &Target<'_>) {
    let head = request("/ws", &target.bearer);
    attackers(4, |attacker| {
        let mut sockets: Vec<_> = (0..500).map(|_| target.connect(attacker)).collect();
        for byte in &head.as_bytes()[..40] {
            for socket in &mut sockets {
                // Who was slow in the eyes of the gateway may be gone already.
                let _ = socket.try_send([*byte]);
            }
        }
        sockets.iter_mut().for_each(await_end);
    });
}

/// Connections that say nothing at all, and `WebSockets` whose clients have gone without a word.
pub(crate) fn half_open(target: &Target<'_>) {
    attackers(4, |attacker| {
        let mut sockets: Vec<_> = (0..500).map(|_| target.connect(attacker)).collect();
        sockets.extend((0..125).map(|_| target.open(attacker, "/idle")));
        sockets.iter_mut().for_each(await_end);
    });
}

pub(crate) fn without_a_token(target: &Target<'_>) {
    attackers(4, |attacker| {
        for _ in 0..5_000 {
            let mut socket = target.connect(attacker);
            assert_eq!(socket.upgrade("/ws", "").status, 401);
            socket.reset();
        }
    });
}

/// A pong that nobody has asked for: so a flood that takes long on a slow machine is not taken for a client that is gone.
fn alive() -> Vec<u8> {
    Frame::new(PONG, "").encode()
}

pub(crate) fn pings(target: &Target<'_>) {
    let pings = [Frame::new(PING, "").encode().repeat(10_000), alive()].concat();
    attackers(20, |attacker| {
        let mut socket = target.open(attacker, "/idle");
        for _ in 0..20 {
            socket.send(&pings);
        }
        leave(socket);
    });
}

/// Messages of a byte a fragment, and one that is all empty fragments, which no limit of size would end.
pub(crate) fn tiny_fragments(target: &Target<'_>) {
    let begin = Frame::binary("x").unfinished().encode();
    let more = Frame::more("x").unfinished().encode().repeat(10_000);
    let end = Frame::more("x").encode();
    let message = [begin, more, end, alive()].concat();
    let nothing = Frame::more("").unfinished().encode().repeat(50_000);
    attackers(20, |attacker| {
        let mut socket = target.open(attacker, "/idle");
        for _ in 0..20 {
            socket.send(&message);
        }
        socket.send(Frame::binary("").unfinished().encode());
        socket.send(&nothing);
        leave(socket);
    });
}

/// Zeros by the megabyte in some kilobytes, zeros up to the limit time and again, and thirty thousand streams that hold nothing.
pub(crate) fn compression_bombs(target: &Target<'_>) {
    let too_big = bomb(48 << 20);
    let at_limit = [bomb(64 << 10).repeat(100), alive()].concat();
    // Each ends its stream, after which another one may begin within the message.
    let empty = compressed(&[0x03, 0x00].repeat(30_000));
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    attackers(10, |attacker| {
        let open = || target.upgrade(target.connect(attacker), "/idle", offer);
        for _ in 0..20 {
            let mut socket = open();
            socket.send(&too_big);
            assert_eq!(socket.closed(ENDED), Some(1009));
        }
        let mut socket = open();
        for _ in 0..10 {
            socket.send(&at_limit);
        }
        leave(socket);
        for _ in 0..10 {
            let mut socket = open();
            socket.send(&empty);
            assert_eq!(socket.closed(ENDED), Some(1007));
        }
    });
}

fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; bytes]).unwrap();
    compressed(&encoder.finish().unwrap())
}

fn compressed(payload: &[u8]) -> Vec<u8> {
    Frame::new(BINARY, payload).reserved(COMPRESSED).encode()
}

/// Clients that ask for a lot and take none of it.
pub(crate) fn slow_readers(target: &Target<'_>) {
    attackers(4, |attacker| {
        let slow = || target.connect_with(attacker, Some(4 << 10));
        let mut sockets: Vec<_> = (0..50)
            .map(|_| target.upgrade(slow(), "/big", ""))
            .collect();
        if attacker == 0 {
            let payload = vec![b'x'; 32 << 10];
            target.nats.client().publish_all("big", vec![payload; 300]);
        }
        sockets.iter_mut().for_each(await_end);
    });
}

/// A subject that nobody has asked for before with each connection.
pub(crate) fn subscriptions(target: &Target<'_>) {
    attackers(4, |attacker| {
        for room in 0..1_500 {
            target
                .open(attacker, &format!("/rooms/{attacker}-{room}"))
                .reset();
        }
    });
}

/// Random bytes in place of a request, and in place of frames.
pub(crate) fn noise(target: &Target<'_>) {
    attackers(4, |attacker| {
        let mut state = 0x9E37_79B9_7F4A_7C15 ^ attacker as u64;
        let mut bytes = || -> Vec<u8> {
            let byte = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            };
            (0..2_048).map(byte).collect()
        };
        for _ in 0..250 {
            let mut socket = target.connect(attacker);
            // It may be refused before all of it is out.
            let _ = socket.try_send(bytes());
            socket.reset();
            let mut socket = target.open(attacker, "/idle");
            let _ = socket.try_send(bytes());
            socket.reset();
        }
    });
}
