//! Publishes to NATS: just enough of its protocol, so that the loader's own cost stays small.

use std::{
    io::Write,
    net::{Ipv4Addr, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

/// How long NATS may take to answer.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A connection that publishes to one subject.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    subject: String,
    /// What has been written and not yet sent.
    batch: Vec<u8>,
    /// What NATS said and has not been looked at: less than a line.
    heard: Vec<u8>,
}

impl Publisher {
    /// Connects to NATS on 127.0.0.1.
    pub fn connect(port: u16, subject: &str) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("no NATS on port {port}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT))?;
        let mut publisher = Self {
            stream,
            subject: subject.to_owned(),
            batch: Vec::new(),
            heard: Vec::new(),
        };
        publisher.expect("INFO")?;
        publisher
            .stream
            .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n")?;
        publisher.expect("PONG")?;
        Ok(publisher)
    }

    /// Adds a message to those that [`flush`](Self::flush) sends.
    pub fn publish(&mut self, payload: &[u8]) {
        let subject = std::mem::take(&mut self.subject);
        self.publish_to(&subject, payload);
        self.subject = subject;
    }

    /// The same for another subject.
    pub fn publish_to(&mut self, subject: &str, payload: &[u8]) {
        self.batch
            .extend(format!("PUB {subject} {}\r\n", payload.len()).as_bytes());
        self.batch.extend(payload);
        self.batch.extend(b"\r\n");
    }

    /// Sends what was published, and answers what NATS asks.
    pub fn flush(&mut self) -> Result<()> {
        while let Some(line) = self.hear(MsgFlags::MSG_DONTWAIT)? {
            if line.starts_with("PING") {
                self.batch.extend(b"PONG\r\n");
            } else if line.starts_with("-ERR") {
                bail!("NATS says: {line}");
            }
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.batch)?;
        self.batch.clear();
        Ok(())
    }

    /// Waits for a line that begins like this.
    fn expect(&mut self, beginning: &str) -> Result<()> {
        loop {
            let line = self
                .hear(MsgFlags::empty())?
                .context("NATS does not answer")?;
            if line.starts_with("-ERR") {
                bail!("NATS says: {line}");
            }
            if line.starts_with(beginning) {
                return Ok(());
            }
        }
    }

    /// The next line, or `None` where there is none yet.
    fn hear(&mut self, flags: MsgFlags) -> Result<Option<String>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line = self.heard.drain(..=end).collect::<Vec<u8>>();
                return Ok(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            match recv(self.stream.as_raw_fd(), &mut buffer, flags) {
                Ok(0) => bail!("NATS has closed the connection"),
                Ok(length) => self.heard.extend(buffer.get(..length).unwrap_or_default()),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot read from NATS"),
            }
        }
    }
}
