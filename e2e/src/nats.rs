//! A real nats-server, and a client of it for tests.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use async_nats::{Client, Subscriber, jetstream};
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use crate::{
    directory::Directory,
    http,
    port::Port,
    process::{Process, command},
    program::Program,
    wait::SOON,
};

/// A nats-server.
#[derive(Debug)]
pub struct NatsServer {
    port: Port,
    monitor: Port,
    directory: Directory,
    /// The running one, of those that had this port and these files one after the other.
    pub process: Process,
}

impl NatsServer {
    /// Starts one with JetStream that everybody may use.
    pub fn start() -> Self {
        Self::configured("jetstream { store_dir: \"DIR/store\" }")
    }

    /// Starts one with these lines of configuration beside its port. `DIR` in them is its folder.
    pub fn configured(lines: &str) -> Self {
        let (port, monitor) = (Port::lease(), Port::lease());
        let directory = Directory::make();
        let lines = lines.replace("DIR", &directory.path().display().to_string());
        directory.write(
            "nats.conf",
            format!(
                "listen: \"{}\"\nhttp: \"{}\"\n{lines}\n",
                port.address(),
                monitor.address()
            ),
        );
        let process = Self::run(&directory);
        Self {
            port,
            monitor,
            directory,
            process,
        }
    }

    fn run(directory: &Directory) -> Process {
        let mut command = command(Program::NatsServer.expect());
        let mut process = Process::start(
            "nats-server",
            command
                .arg("--config")
                .arg(directory.path().join("nats.conf")),
        );
        process.line("Server is ready", SOON);
        process
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://{}", self.port.address())
    }

    /// Its folder.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after [`kill`](Self::kill), with the same port and files.
    pub fn restart(&mut self) {
        self.process = Self::run(&self.directory);
    }

    /// How many clients are connected.
    pub fn connections(&self) -> u64 {
        self.monitored("/varz", "connections")
    }

    /// How many subscriptions its clients have to exactly this subject. Others, such as that of a client for answers to its
    /// requests, come when they like.
    pub fn subscriptions_to(&self, subject: &str) -> usize {
        let connections = http::get(self.monitor.address(), "/connz?subs=1").text();
        let connections = connections.replace("\\u003e", ">");
        connections.matches(&format!("\"{subject}\"")).count()
    }

    /// The sum of all numbers of this name on a page of its monitoring port.
    fn monitored(&self, page: &str, name: &str) -> u64 {
        let text = http::get(self.monitor.address(), page).text();
        let field = format!("\"{name}\": ");
        let values = text.split(&field).skip(1);
        values
            .map(|rest| {
                rest.split([',', '\n'])
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum()
    }

    /// Connects a client.
    pub fn client(&self) -> Nats {
        Nats::connect(&self.url())
    }
}

/// A client whose calls return when the server has taken them.
#[derive(Debug)]
pub struct Nats {
    runtime: Runtime,
    client: Client,
}

impl Nats {
    /// Connects to a server.
    pub fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime
            .block_on(async_nats::connect(url))
            .unwrap_or_else(|error| panic!("no connection to {url}: {error}"));
        Self { runtime, client }
    }

    /// Publishes one message.
    pub fn publish(&self, subject: &str, payload: impl AsRef<[u8]>) {
        self.publish_all(subject, [payload]);
    }

    /// Publishes messages, one after the other.
    pub fn publish_all<P: AsRef<[u8]>>(
        &self,
        subject: &str,
        payloads: impl IntoIterator<Item = P>,
    ) {
        self.runtime.block_on(async {
            for payload in payloads {
                let payload = payload.as_ref().to_vec().into();
                self.client
                    .publish(subject.to_owned(), payload)
                    .await
                    .unwrap();
            }
            self.client.flush().await.unwrap();
        });
    }

    /// Subscribes, so that what is published from now on arrives.
    pub fn subscribe(&self, subject: &str) -> Subscription<'_> {
        let subscriber = self.runtime.block_on(async {
            let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
            // A flush only writes. What comes back from the server behind the subscription shows that
            // the server knows it.
            let inbox = self.client.new_inbox();
            let mut echo = self.client.subscribe(inbox.clone()).await.unwrap();
            self.client.publish(inbox, "".into()).await.unwrap();
            echo.next().await.expect("the server should answer");
            subscriber
        });
        Subscription {
            nats: self,
            subscriber,
        }
    }

    /// The JetStream side of the client.
    pub fn jetstream(&self) -> jetstream::Context {
        // It starts a task.
        let _guard = self.runtime.enter();
        jetstream::new(self.client.clone())
    }

    /// Runs what needs the asynchronous client itself.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// What arrives on a subject.
#[derive(Debug)]
pub struct Subscription<'a> {
    nats: &'a Nats,
    subscriber: Subscriber,
}

impl Subscription<'_> {
    /// The next payload, or nothing when none came in that time.
    pub fn next(&mut self, within: Duration) -> Option<Vec<u8>> {
        let next = async {
            loop {
                let message = self.subscriber.next().await?;
                // What is sent to an inbox is somebody's answer, and also means `>`.
                if !message.subject.starts_with("_INBOX.") {
                    return Some(message.payload.to_vec());
                }
            }
        };
        let limited = async { tokio::time::timeout(within, next).await };
        self.nats.runtime.block_on(limited).ok()?
    }

    /// The given number of payloads, or fewer when they did not come in that time.
    pub fn take(&mut self, count: usize, within: Duration) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + within;
        std::iter::from_fn(|| self.next(deadline.saturating_duration_since(Instant::now())))
            .take(count)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_server_comes_back_with_what_it_had_stored() {
        crate::needs!(NatsServer);
        let mut server = NatsServer::start();
        let nats = server.client();
        let stream = jetstream::stream::Config {
            name: "S".to_owned(),
            ..Default::default()
        };
        nats.run(nats.jetstream().create_stream(stream)).unwrap();
        let mut inbox = nats.subscribe("a");
        nats.publish_all("a", ["1", "2"]);
        assert_eq!(inbox.take(2, SOON), [b"1", b"2"]);
        server.kill();
        server.restart();
        let nats = server.client();
        nats.run(nats.jetstream().get_stream("S")).unwrap();
    }
}
