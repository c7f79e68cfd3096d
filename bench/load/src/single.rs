//! One connection by itself, in blocking calls: how long a server takes to answer it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    client::request,
    frame::{Opcode, encode},
};

/// How long an answer may take.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// An open WebSocket.
#[derive(Debug)]
pub struct Single {
    stream: BufReader<TcpStream>,
}

impl Single {
    /// Connects to a port on 127.0.0.1, and shakes hands.
    pub fn open(port: u16, path: &str) -> Result<Self> {
        Self::open_over(connect(port)?, path)
    }

    /// Shakes hands over this connection.
    pub fn open_over(mut stream: TcpStream, path: &str) -> Result<Self> {
        stream.write_all(&request(path, false))?;
        let mut stream = BufReader::new(stream);
        let status = head(&mut stream)?;
        ensure!(
            status.starts_with("HTTP/1.1 101 "),
            "the handshake is answered with {status}"
        );
        Ok(Self { stream })
    }

    /// Pings, and waits for the pong. Nothing else is expected.
    pub fn ping(&mut self) -> Result<()> {
        const PAYLOAD: &[u8; 4] = b"ping";
        self.stream
            .get_mut()
            .write_all(&encode(Opcode::Ping, PAYLOAD))?;
        let mut answer = [0; 6];
        self.stream.read_exact(&mut answer)?;
        let [opcode, length, payload @ ..] = &answer;
        ensure!(
            (*opcode, *length, payload) == (0x8a, 4, PAYLOAD),
            "a ping is answered with {answer:?}"
        );
        Ok(())
    }

    /// The connection.
    pub fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}

/// Asks for a page over a connection of its own, which must be there.
pub fn get(port: u16, path: &str) -> Result<()> {
    let mut stream = connect(port)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let status = head(&mut BufReader::new(stream))?;
    ensure!(
        status.starts_with("HTTP/1.1 200 "),
        "{path} is answered with {status}"
    );
    Ok(())
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot connect to port {port}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    Ok(stream)
}

/// Reads the head of an answer, and returns its first line.
fn head(stream: &mut BufReader<TcpStream>) -> Result<String> {
    let (mut status, mut line) = (String::new(), String::new());
    stream.take(HEAD_BYTES_MAX).read_line(&mut status)?;
    while line != "\r\n" {
        line.clear();
        let length = stream.take(HEAD_BYTES_MAX).read_line(&mut line)?;
        ensure!(length > 0, "the answer ends in its head: {status}");
    }
    Ok(status.trim_end().to_owned())
}
