//! The NATS side against a real nats-server: the shards are the test.
//!
//! The server is the one that `WSGW_NATS_SERVER` names, else that of the `PATH`, else that of
//! `hack/obtain`. Where there is none the tests are skipped and say so; with `CI=true` they fail.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what is not as it should be fails the test"
)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    env, fs,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{RequestErrorKind, jetstream};
use futures_util::StreamExt;
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use wsgateway_crds::{
    config::{self, JetStreamApi, NatsCredentials},
    value,
};
use wsgateway_gateway::{
    exchange::{
        ClientId, ConnectionKey, QueueId, QueueState, QueueStatus, ShardId, ShardOutlet, ToNats,
        ToShard, shard_channel,
    },
    nats::{self, NatsHandle, NatsMetrics, PublishError},
};

const SOON: Duration = Duration::from_secs(10);

/// Where nats-server is. `None` is said once.
fn nats_server() -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = PATH.get_or_init(|| {
        let named = ["WSGW_NATS_SERVER", "NATS_SERVER"]
            .into_iter()
            .find_map(env::var_os);
        let on_path = || {
            let path = env::var_os("PATH")?;
            env::split_paths(&path)
                .map(|dir| dir.join("nats-server"))
                .find(|file| file.is_file())
        };
        let obtained = || {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/obtain");
            let output = Command::new(script).arg("nats-server").output().ok()?;
            Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
        };
        let found = named.map(PathBuf::from).or_else(on_path).or_else(obtained);
        found.filter(|file| file.is_file())
    });
    if found.is_none() {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "no nats-server");
        eprintln!("skipped: 1 (no nats-server)");
    }
    found.as_deref()
}

macro_rules! needs_nats {
    () => {
        if nats_server().is_none() {
            return;
        }
    };
}

static NAMES: AtomicU32 = AtomicU32::new(0);

struct Folder(PathBuf);

impl Folder {
    fn make() -> Self {
        let number = NAMES.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsgateway-nats-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port that no other test of this process gets, and that the kernel gives to no outgoing connection before the server
/// has it, or while the server is away.
fn free_port() -> u16 {
    const RANGE: Range<u16> = 15_000..20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes begin at different places.
    let begin = std::process::id().wrapping_mul(31);
    let count = u32::from(RANGE.end - RANGE.start);
    let mut tried = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(5_000);
    let port = tried.find_map(|step| {
        let offset = begin.wrapping_add(step) % count;
        let port = RANGE.start + u16::try_from(offset).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .is_ok()
            .then_some(port)
    });
    port.expect("a port should be free")
}

struct Server {
    port: u16,
    folder: Folder,
    child: Option<Child>,
}

impl Server {
    async fn start(more: &str) -> Self {
        let port = free_port();
        let folder = Folder::make();
        let store = folder.0.display();
        folder.write(
            "conf",
            &format!(
                "listen: \"127.0.0.1:{port}\"\nhttp: -1\njetstream {{ store_dir: \"{store}\" }}\n{more}\n"
            ),
        );
        let mut server = Self {
            port,
            folder,
            child: None,
        };
        server.begin().await;
        server
    }

    async fn begin(&mut self) {
        let child = Command::new(nats_server().unwrap())
            .arg("-c")
            .arg(self.folder.0.join("conf"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.0.join("log")).unwrap())
            .spawn()
            .unwrap();
        self.child = Some(child);
        let log = self.folder.0.join("log");
        eventually("nats-server is ready", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            async move { text.contains("Server is ready") }
        })
        .await;
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    async fn client(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.unwrap()
    }

    /// A JetStream context and the stream `JOBS` with so many messages on `jobs.N`.
    async fn jobs(&self, count: usize) -> jetstream::Context {
        let context = jetstream::new(self.client().await);
        add_jobs(&context, 0..count).await;
        context
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn add_jobs(context: &jetstream::Context, numbers: Range<usize>) {
    let config = jetstream::stream::Config {
        name: "JOBS".into(),
        subjects: vec!["jobs.*".into()],
        retention: jetstream::stream::RetentionPolicy::WorkQueue,
        ..Default::default()
    };
    context.get_or_create_stream(config).await.unwrap();
    for number in numbers {
        let acked = context
            .publish(format!("jobs.{number}"), number.to_string().into())
            .await;
        acked.unwrap().await.unwrap();
    }
}

/// The server knows what was subscribed to before.
async fn round_trip(client: &async_nats::Client) {
    let nobody = client.request("nobody", "".into()).await;
    assert!(nobody.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders));
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The NATS side of one gateway, with the ends of its shards.
struct Pod {
    handle: NatsHandle,
    shards: Vec<ShardOutlet>,
    registry: Registry,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn config_of(servers: Vec<String>) -> config::Nats {
    config::Nats {
        servers,
        tls: None,
        credentials: None,
        jet_stream: JetStreamApi::default(),
    }
}

impl Pod {
    async fn start(server: &Server, shards: usize) -> Self {
        let pod = Self::with(config_of(vec![server.url()]), shards);
        eventually("connected", || async { pod.handle.is_connected() }).await;
        pod
    }

    fn with(config: config::Nats, shards: usize) -> Self {
        let mut registry = Registry::default();
        let metrics = NatsMetrics::register(&mut registry);
        let (handle, nats) = nats::new(config, metrics).unwrap();
        let (inboxes, outlets) = (0..shards).map(|_| shard_channel()).unzip();
        let stop = CancellationToken::new();
        let task = tokio::spawn(nats.run(inboxes, stop.clone()));
        Self {
            handle,
            shards: outlets,
            registry,
            stop,
            task,
        }
    }

    fn subscribe(&self, shard: u16, pattern: &str) {
        self.handle.send(ToNats::Subscribe {
            shard: ShardId(shard),
            pattern: pattern.into(),
        });
    }

    /// Payloads of the next rounds, until there are so many.
    async fn publications(&mut self, shard: usize, count: usize) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while found.len() < count {
            let received = timeout(SOON, self.shards[shard].receiver.recv()).await;
            let Ok(Some(ToShard::Publications(round))) = received else {
                panic!("{} of {count}: {received:?}", found.len())
            };
            self.shards[shard].finished(&round);
            for publication in &*round {
                let payload = std::str::from_utf8(publication.frame.payload()).unwrap();
                found.push((publication.pattern.to_string(), payload.to_owned()));
            }
        }
        found
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines()
            .filter(|line| line.starts_with(name) && !line.starts_with('#'))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap();
    }
}

/// The server knows what the pod has subscribed to.
async fn subscriptions(pod: &Pod, patterns: &[&str]) {
    for pattern in patterns {
        let known = pod.handle.subscribed((*pattern).into());
        timeout(SOON, known).await.unwrap();
    }
}

#[tokio::test]
async fn what_arrives_goes_in_order_to_the_shards_that_want_it() {
    needs_nats!();
    let server = Server::start("").await;
    let mut pod = Pod::start(&server, 3).await;
    pod.subscribe(0, "a");
    pod.subscribe(1, "a");
    pod.subscribe(1, "b.>");
    subscriptions(&pod, &["a", "b.>"]).await;
    let client = server.client().await;
    for number in 0..5_000 {
        client
            .publish("a", number.to_string().into())
            .await
            .unwrap();
    }
    client.publish("b.x", "for one".into()).await.unwrap();
    client.publish("c", "for nobody".into()).await.unwrap();
    client.flush().await.unwrap();

    let numbers: Vec<_> = (0..5_000)
        .map(|number| ("a".to_owned(), number.to_string()))
        .collect();
    let first: Vec<_> = pod.publications(0, 5_000).await;
    let of_a = |found: Vec<(String, String)>| -> Vec<_> {
        found
            .into_iter()
            .filter(|(pattern, _)| pattern == "a")
            .collect()
    };
    // A shard may see in a round what only another one wants.
    assert_eq!(of_a(first), numbers);
    let second = pod.publications(1, 5_001).await;
    assert!(second.contains(&("b.>".into(), "for one".into())));
    assert_eq!(of_a(second), numbers);
    assert!(
        pod.shards[2].receiver.try_recv().is_err(),
        "it wants nothing"
    );
    assert_eq!(pod.metric("wsgateway_nats_messages_received_total"), 5_001);
    assert_eq!(pod.metric("wsgateway_nats_dropped_total"), 0);
    pod.end().await;
}

#[tokio::test]
async fn what_is_published_once_a_subscription_is_known_arrives() {
    needs_nats!();
    // With and without the right to send to oneself.
    let denied = "authorization { users: [{ user: u, password: p, \
                  permissions: { publish: { deny: \"_INBOX.>\" } } }] }";
    for (more, limit_ms) in [("", 200), (denied, 20_000)] {
        let server = Server::start(more).await;
        let mut config = config_of(vec![server.url()]);
        let mut options = async_nats::ConnectOptions::new();
        if more == denied {
            let (user_file, password_file) = (
                server.folder.write("user", "u"),
                server.folder.write("password", "p"),
            );
            config.credentials = Some(NatsCredentials::UserPassword {
                user_file,
                password_file,
            });
            options = options.user_and_password("u".into(), "p".into());
        }
        let client = options.connect(server.url()).await.unwrap();
        let mut pod = Pod::with(config, 1);
        eventually("connected", || async { pod.handle.is_connected() }).await;
        let start = Instant::now();
        for number in 0..50 {
            let pattern = format!("p.{number}");
            pod.subscribe(0, &pattern);
            pod.handle.subscribed(pattern.as_str().into()).await;
            client.publish(pattern.clone(), "x".into()).await.unwrap();
            assert_eq!(pod.publications(0, 1).await, [(pattern, "x".to_owned())]);
        }
        eprintln!("50 new patterns in {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_millis(limit_ms));
        // What nobody has subscribed to is not waited for, and what is known is known at once.
        pod.handle.subscribed("q".into()).await;
        pod.handle.subscribed("p.1".into()).await;
        pod.end().await;
    }
}

#[tokio::test]
async fn an_unwanted_subscription_lingers_and_ends() {
    needs_nats!();
    let server = Server::start("").await;
    let pod = Pod::start(&server, 1).await;
    let shard = ShardId(0);
    for number in 0..500 {
        pod.subscribe(0, &format!("user.{number}.>"));
    }
    subscriptions(&pod, &["user.0.>", "user.499.>"]).await;
    assert_eq!(pod.metric("wsgateway_nats_subscriptions"), 500);
    for number in 0..499 {
        let pattern = format!("user.{number}.>").into();
        pod.handle.send(ToNats::Unsubscribe { shard, pattern });
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(pod.metric("wsgateway_nats_subscriptions"), 500);
    eventually("unsubscribed", || async {
        pod.metric("wsgateway_nats_subscriptions") == 1
    })
    .await;
    let client = server.client().await;
    // NATS itself says that nobody listens any more.
    eventually("the server forgot", || async {
        let request = client.request("user.7.x", "".into()).await;
        request.is_err_and(|error| error.kind() == RequestErrorKind::NoResponders)
    })
    .await;
    pod.end().await;
}

#[tokio::test]
async fn a_lost_server_is_noticed_at_once_and_subscriptions_come_back() {
    needs_nats!();
    let mut server = Server::start("").await;
    let mut pod = Pod::start(&server, 1).await;
    pod.subscribe(0, "a");
    subscriptions(&pod, &["a"]).await;
    pod.handle.try_publish("a".into(), "1".into()).unwrap();
    assert_eq!(pod.publications(0, 1).await[0].1, "1");

    server.stop();
    let stopped = Instant::now();
    while pod.handle.is_connected() {
        assert!(stopped.elapsed() < Duration::from_millis(500));
        tokio::task::yield_now().await;
    }
    let refused = pod.handle.try_publish("a".into(), "2".into());
    assert!(matches!(refused, Err(PublishError::Disconnected)));
    assert!(pod.handle.has_connected());
    // What a shard asks for meanwhile is made good.
    pod.subscribe(0, "b");
    eventually("counted", || async {
        pod.metric("wsgateway_nats_connected") == 0
    })
    .await;
    server.begin().await;
    eventually("back", || async { pod.handle.is_connected() }).await;
    subscriptions(&pod, &["a", "b"]).await;
    for subject in ["a", "b"] {
        pod.handle.try_publish(subject.into(), "3".into()).unwrap();
        assert_eq!(
            pod.publications(0, 1).await,
            [(subject.to_owned(), "3".to_owned())]
        );
    }
    assert_eq!(pod.metric("wsgateway_nats_disconnects_total"), 1);
    assert_eq!(pod.metric("wsgateway_nats_connects_total"), 2);
    pod.end().await;
}

#[tokio::test]
async fn a_gateway_that_starts_first_waits_for_the_server() {
    needs_nats!();
    let mut server = Server::start("").await;
    server.stop();
    let mut pod = Pod::with(config_of(vec![server.url()]), 1);
    pod.subscribe(0, "a");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!pod.handle.is_connected() && !pod.handle.has_connected());
    server.begin().await;
    eventually("connected", || async { pod.handle.has_connected() }).await;
    subscriptions(&pod, &["a"]).await;
    let client = server.client().await;
    client.publish("a", "x".into()).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(pod.publications(0, 1).await[0].1, "x");
    pod.end().await;
}

#[tokio::test]
async fn publishing_is_bounded_and_says_when_there_is_room_again() {
    needs_nats!();
    let server = Server::start("").await;
    let mut pod = Pod::start(&server, 1).await;
    let client = server.client().await;
    let mut received = client.subscribe("in").await.unwrap();
    round_trip(&client).await;
    let payload = bytes::Bytes::from(vec![b'x'; 64 << 10]);
    let mut taken = 0;
    // Nothing is sent while this task does not yield.
    let full = loop {
        match pod.handle.try_publish("in".into(), payload.clone()) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(taken, (8 << 20) / (64 << 10));
    let PublishError::Full(subject, back) = full else {
        panic!("{full:?}")
    };
    assert_eq!((&*subject, back.len()), ("in", 64 << 10));
    let told = timeout(SOON, pod.shards[0].receiver.recv()).await.unwrap();
    assert!(matches!(told, Some(ToShard::PublishRoom)));
    pod.handle.try_publish(subject, back).unwrap();
    for _ in 0..=taken {
        assert_eq!(
            timeout(SOON, received.next())
                .await
                .unwrap()
                .unwrap()
                .payload
                .len(),
            64 << 10
        );
    }
    let too_large = bytes::Bytes::from(vec![0; (1 << 20) + 1]);
    let refused = pod.handle.try_publish("in".into(), too_large);
    assert!(matches!(refused, Err(PublishError::TooLarge)));
    // What was accepted before the end is sent.
    pod.handle.try_publish("in".into(), "last".into()).unwrap();
    pod.end().await;
    assert_eq!(
        timeout(SOON, received.next())
            .await
            .unwrap()
            .unwrap()
            .payload,
        "last"
    );
}

#[tokio::test]
async fn a_rotated_password_is_read_with_the_next_connection() {
    needs_nats!();
    let users = |password: &str| {
        format!("authorization {{ users: [{{ user: ann, password: \"{password}\" }}] }}")
    };
    let mut server = Server::start(&users("first")).await;
    let user_file = server.folder.write("user", "ann\n");
    let password_file = server.folder.write("password", "first\n");
    let credentials = NatsCredentials::UserPassword {
        user_file,
        password_file,
    };
    let config = config::Nats {
        credentials: Some(credentials),
        ..config_of(vec![server.url()])
    };
    let pod = Pod::with(config, 1);
    eventually("connected", || async { pod.handle.is_connected() }).await;
    server.stop();
    let conf = fs::read_to_string(server.folder.0.join("conf")).unwrap();
    server
        .folder
        .write("conf", &conf.replace("first", "second"));
    server.folder.write("password", "second");
    server.begin().await;
    eventually("connected again", || async { pod.handle.is_connected() }).await;
    pod.end().await;
}

// --- queues ----------------------------------------------------------------------------------------------------

fn queue_config(max_deliver: u32, credit: u32) -> config::Queue {
    config::Queue {
        stream: "JOBS".into(),
        durable: "workers".into(),
        filter_subjects: vec!["jobs.*".parse().unwrap()],
        ack_wait: value::Duration::from_secs(30),
        max_deliver,
        max_in_flight_per_client: credit,
        dead_letter: Some("dead.jobs".parse().unwrap()),
    }
}

fn client_id(slot: u32) -> ClientId {
    ClientId {
        shard: ShardId(0),
        key: ConnectionKey {
            slot,
            generation: 0,
        },
    }
}

/// A queue of a pod, and its clients.
struct Work<'a> {
    pod: &'a mut Pod,
    queue: QueueId,
    status: Arc<QueueStatus>,
}

impl<'a> Work<'a> {
    fn open(pod: &'a mut Pod, config: &config::Queue) -> Self {
        let (queue, status) = pod.handle.queue(config);
        Self { pod, queue, status }
    }

    async fn state(&self, expected: QueueState) {
        eventually(&format!("{expected:?}"), || async {
            self.status.get() == expected
        })
        .await;
    }

    fn join(&self, slot: u32) {
        self.pod.handle.send(ToNats::QueueJoin {
            queue: self.queue,
            client: client_id(slot),
        });
    }

    fn leave(&self, slot: u32) {
        self.pod.handle.send(ToNats::QueueLeave {
            queue: self.queue,
            client: client_id(slot),
        });
    }

    fn receipt(&self, slot: u32, counter: u32) {
        let (queue, client) = (self.queue, client_id(slot));
        self.pod.handle.send(ToNats::QueueReceipt {
            queue,
            client,
            counter,
        });
    }

    /// The next deliveries: slot, counter, payload.
    async fn deliveries(&mut self, wait: Duration) -> Vec<(u32, u32, String)> {
        match timeout(wait, self.pod.shards[0].receiver.recv()).await {
            Ok(Some(ToShard::Deliveries(deliveries))) => deliveries
                .into_iter()
                .map(|delivery| {
                    assert_eq!(delivery.queue, self.queue);
                    let payload = std::str::from_utf8(delivery.frame.payload()).unwrap();
                    (
                        delivery.client.key.slot,
                        delivery.counter,
                        payload.to_owned(),
                    )
                })
                .collect(),
            Ok(other) => panic!("{other:?}"),
            Err(_) => Vec::new(),
        }
    }

    /// So many deliveries.
    async fn exactly(&mut self, count: usize) -> Vec<(u32, u32, String)> {
        let mut found = Vec::new();
        while found.len() < count {
            let more = self.deliveries(SOON).await;
            assert!(!more.is_empty(), "{} of {count}", found.len());
            found.extend(more);
        }
        assert_eq!(found.len(), count);
        found
    }
}

async fn consumer_info(context: &jetstream::Context) -> jetstream::consumer::Info {
    let stream = context.get_stream("JOBS").await.unwrap();
    stream.consumer_info("workers").await.unwrap()
}

#[tokio::test]
async fn nothing_is_fetched_without_a_client_and_credit_is_kept_to() {
    needs_nats!();
    let server = Server::start("").await;
    let context = server.jobs(50).await;
    let mut pod = Pod::start(&server, 1).await;
    let mut work = Work::open(&mut pod, &queue_config(5, 8));
    work.state(QueueState::Ready).await;
    let info = consumer_info(&context).await;
    assert_eq!(
        (info.config.max_deliver, info.config.max_ack_pending),
        (-1, -1)
    );
    assert_eq!((info.num_waiting, info.num_ack_pending), (0, 0));

    work.join(1);
    let found = work.exactly(8).await;
    let expected: Vec<_> = (0..8).map(|n| (1, n + 1, n.to_string())).collect();
    assert_eq!(found, expected, "in order, counted from one");
    assert!(
        work.deliveries(Duration::from_millis(200)).await.is_empty(),
        "no credit is left"
    );
    // A forged receipt, an old one, and one for a part.
    work.receipt(1, 900);
    work.receipt(1, 3);
    work.receipt(1, 2);
    assert_eq!(work.exactly(3).await.last().unwrap().1, 11);
    let info = consumer_info(&context).await;
    assert_eq!(
        (info.ack_floor.stream_sequence, info.num_ack_pending),
        (3, 8)
    );
    assert_eq!(info.num_waiting, 0, "no pull beyond the credit");
    // The rest is received; then the client goes.
    let mut counter = 11;
    while counter < 50 {
        work.receipt(1, counter);
        counter += u32::try_from(work.deliveries(SOON).await.len()).unwrap();
    }
    work.receipt(1, 50);
    eventually("all done", || async {
        consumer_info(&context).await.num_ack_pending == 0
    })
    .await;
    eventually("it waits", || async {
        consumer_info(&context).await.num_waiting == 1
    })
    .await;
    work.leave(1);
    eventually("cancelled", || async {
        consumer_info(&context).await.num_waiting == 0
    })
    .await;
    add_jobs(&context, 50..55).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let info = consumer_info(&context).await;
    assert_eq!(
        (
            info.num_ack_pending,
            info.num_pending,
            info.delivered.stream_sequence
        ),
        (0, 5, 50)
    );
    work.join(2);
    assert_eq!(work.exactly(5).await[0], (2, 1, "50".to_owned()));
    pod.end().await;
}

#[tokio::test]
async fn what_a_lost_client_held_comes_to_another_at_once_and_one_by_one() {
    needs_nats!();
    let server = Server::start("").await;
    let context = server.jobs(6).await;
    let (mut first, mut second) = (Pod::start(&server, 1).await, Pod::start(&server, 1).await);
    let config = queue_config(5, 6);
    let mut one = Work::open(&mut first, &config);
    let mut other = Work::open(&mut second, &config);
    one.state(QueueState::Ready).await;
    other.state(QueueState::Ready).await;
    one.join(1);
    one.exactly(6).await;
    other.join(7);
    assert!(
        other
            .deliveries(Duration::from_millis(100))
            .await
            .is_empty()
    );
    let lost = Instant::now();
    one.leave(1);
    for number in 0..6 {
        // It has failed before: it travels alone.
        let found = other.exactly(1).await;
        assert_eq!(found, [(7, number + 1, number.to_string())]);
        assert!(other.deliveries(Duration::from_millis(30)).await.is_empty());
        other.receipt(7, number + 1);
    }
    assert!(
        lost.elapsed() < Duration::from_secs(2),
        "{:?}",
        lost.elapsed()
    );
    eventually("empty", || async {
        consumer_info(&context).await.num_ack_pending == 0
    })
    .await;
    assert_eq!(first.metric("wsgateway_queue_naks_total"), 6);
    assert_eq!(second.metric("wsgateway_queue_redeliveries_total"), 6);
    // What is held when a gateway ends is given back by it.
    add_jobs(&context, 6..8).await;
    let mut other = Work::open(&mut second, &config);
    other.exactly(2).await;
    second.end().await;
    let mut one = Work::open(&mut first, &config);
    one.join(3);
    let mut found = one.exactly(1).await;
    one.receipt(3, 1);
    found.extend(one.exactly(1).await);
    // In either order: the server puts one back at the end when it meets the cancelled pull first.
    let payloads: HashSet<_> = found
        .iter()
        .map(|(_, _, payload)| payload.as_str())
        .collect();
    assert_eq!(payloads, HashSet::from(["6", "7"]));
    first.end().await;
}

#[tokio::test]
async fn a_thousand_messages_over_clients_that_come_and_go() {
    needs_nats!();
    let server = Server::start("").await;
    let context = server.jobs(1_000).await;
    let dead_config = jetstream::stream::Config {
        name: "DEAD".into(),
        subjects: vec!["dead.>".into()],
        ..Default::default()
    };
    let dead = context.create_stream(dead_config).await.unwrap();
    let poison: HashSet<String> = ["17", "333", "334", "801"].map(str::to_owned).into();
    let mut pods = Vec::new();
    for _ in 0..3 {
        pods.push(Pod::start(&server, 1).await);
    }
    let config = queue_config(4, 16);
    let mut received: HashMap<String, u32> = HashMap::new();
    let (mut slot, mut step) = (0, 0_u32);
    let mut clients: Vec<BTreeMap<u32, u32>> = vec![BTreeMap::new(); 3];
    let start = Instant::now();
    loop {
        if step % 30 == 0 && received.len() == 996 {
            let info = consumer_info(&context).await;
            if info.num_ack_pending == 0 && info.num_pending == 0 {
                break;
            }
        }
        // Less than `ackWait`: nothing is left to that.
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{} received",
            received.len()
        );
        for (pod, clients) in pods.iter_mut().zip(&mut clients) {
            let mut work = Work::open(pod, &config);
            step += 1;
            // They come, and now and then one goes in the middle of its work.
            while clients.len() < 3 {
                slot += 1;
                clients.insert(slot, 0);
                work.join(slot);
            }
            let deliveries = work.deliveries(Duration::from_millis(2)).await;
            let mut last: BTreeMap<u32, u32> = BTreeMap::new();
            for (slot, counter, payload) in deliveries {
                if !clients.contains_key(&slot) {
                    continue;
                }
                if poison.contains(&payload) || step % 97 == 0 {
                    clients.remove(&slot);
                    last.remove(&slot);
                    work.leave(slot);
                    continue;
                }
                *received.entry(payload).or_default() += 1;
                last.insert(slot, counter);
            }
            for (slot, counter) in last {
                work.receipt(slot, counter);
            }
            // All clients of a pod at once.
            if step % 301 == 0 {
                for slot in std::mem::take(clients).into_keys() {
                    work.leave(slot);
                }
            }
        }
    }
    eprintln!("1,000 messages in {:?}", start.elapsed());
    eventually("four dead", || {
        let mut dead = dead.clone();
        async move { dead.info().await.unwrap().state.messages == 4 }
    })
    .await;
    let mut dead_payloads = HashSet::new();
    for sequence in 1..=4 {
        let message = dead.get_raw_message(sequence).await.unwrap();
        let header = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
        assert_eq!(header("Wsgateway-Stream"), "JOBS");
        assert_eq!(header("Wsgateway-Consumer"), "workers");
        // One that a pod gave back, since its last client had just gone, was delivered once more: of that the pod
        // knows which gets it again, and no other.
        match header("Wsgateway-Reason").as_str() {
            "ClientGone" => assert_eq!(header("Wsgateway-Deliveries"), "4"),
            reason => {
                assert_eq!(reason, "DeliveriesExhausted");
                assert_eq!(header("Wsgateway-Deliveries"), "5");
            }
        }
        let payload = String::from_utf8(message.payload.to_vec()).unwrap();
        assert_eq!(header("Wsgateway-Subject"), format!("jobs.{payload}"));
        dead_payloads.insert(payload);
    }
    assert_eq!(dead_payloads, poison);
    assert!(received.keys().all(|payload| !poison.contains(payload)));
    for pod in pods {
        pod.end().await;
    }
}

#[tokio::test]
async fn what_no_client_may_be_given_goes_to_the_dead_letters_at_once() {
    needs_nats!();
    let server = Server::start("").await;
    let context = server.jobs(2).await;
    // No stream takes the subject: a plain subscriber hears it.
    let client = server.client().await;
    let mut dead = client.subscribe("dead.jobs").await.unwrap();
    round_trip(&client).await;
    let mut pod = Pod::start(&server, 1).await;
    let mut work = Work::open(&mut pod, &queue_config(5, 2));
    work.join(1);
    work.exactly(2).await;
    let undeliverable = ToNats::QueueUndeliverable {
        queue: work.queue,
        client: client_id(1),
        counter: 1,
    };
    work.pod.handle.send(undeliverable);
    let message = timeout(SOON, dead.next()).await.unwrap().unwrap();
    assert_eq!(message.payload, "0");
    let headers = message.headers.unwrap();
    assert_eq!(
        headers.get("Wsgateway-Reason").unwrap().as_str(),
        "Undeliverable"
    );
    work.receipt(1, 2);
    eventually("empty", || async {
        consumer_info(&context).await.num_ack_pending == 0
    })
    .await;
    pod.end().await;
}

#[tokio::test]
async fn a_missing_stream_a_conflict_and_a_deleted_consumer_heal() {
    needs_nats!();
    let server = Server::start("").await;
    let context = jetstream::new(server.client().await);
    let mut pod = Pod::start(&server, 1).await;
    let config = queue_config(5, 4);
    let mut work = Work::open(&mut pod, &config);
    work.state(QueueState::Unavailable).await;
    work.join(1);
    add_jobs(&context, 0..2).await;
    work.state(QueueState::Ready).await;
    assert_eq!(work.exactly(2).await.len(), 2);
    work.receipt(1, 2);
    eventually("empty", || async {
        consumer_info(&context).await.num_ack_pending == 0
    })
    .await;
    // Somebody deletes it, and there it is again.
    let stream = context.get_stream("JOBS").await.unwrap();
    stream.delete_consumer("workers").await.unwrap();
    eventually("made anew", || async {
        stream.consumer_info("workers").await.is_ok()
    })
    .await;
    add_jobs(&context, 2..3).await;
    assert_eq!(work.exactly(1).await, [(1, 3, "2".to_owned())]);
    work.receipt(1, 3);

    // Equal configurations are one queue; another wait is a conflict, and changes nothing.
    assert_eq!(work.pod.handle.queue(&config).0, work.queue);
    let queue = work.queue;
    let other = config::Queue {
        ack_wait: value::Duration::from_secs(7),
        ..config.clone()
    };
    let (conflicting, status) = pod.handle.queue(&other);
    assert_ne!(conflicting, queue);
    eventually("conflict", || async {
        status.get() == QueueState::Conflict
    })
    .await;
    assert_eq!(
        consumer_info(&context).await.config.ack_wait,
        Duration::from_secs(30)
    );
    // A queue that is not kept ends with its last client.
    pod.handle.retain_queues(&HashSet::from([conflicting]));
    let in_flight = r#"wsgateway_queue_clients{stream="JOBS",consumer="workers"}"#;
    assert_eq!(pod.metric(in_flight), 1);
    let again = pod.handle.queue(&config).0;
    assert_ne!(again, queue, "the old one takes no new clients");
    pod.end().await;
}

#[tokio::test]
async fn a_queue_survives_the_servers_restart() {
    needs_nats!();
    let mut server = Server::start("").await;
    let context = server.jobs(20).await;
    let mut pod = Pod::start(&server, 1).await;
    let mut work = Work::open(&mut pod, &queue_config(5, 4));
    work.join(1);
    work.exactly(4).await;
    server.stop();
    eventually("lost", || async { !work.pod.handle.is_connected() }).await;
    // A receipt and a client that goes while NATS is away.
    work.receipt(1, 2);
    work.leave(1);
    server.begin().await;
    eventually("back", || async { work.pod.handle.is_connected() }).await;
    work.join(2);
    let mut found = HashSet::new();
    let mut counter = 0;
    let start = Instant::now();
    let others: HashSet<_> = (2..20).map(|number: u32| number.to_string()).collect();
    while !found.is_superset(&others) && start.elapsed() < SOON {
        for (slot, latest, payload) in work.deliveries(SOON).await {
            assert_eq!(slot, 2);
            counter = latest;
            found.insert(payload);
        }
        work.receipt(2, counter);
    }
    // The first two as well where the server, which was killed, had not yet written what was pending.
    assert!(found.is_superset(&others), "{found:?}");
    eventually("empty", || async {
        consumer_info(&context).await.num_ack_pending == 0
    })
    .await;
    pod.end().await;
}

#[tokio::test]
async fn nothing_is_left_to_the_ack_wait_when_all_clients_go_in_the_middle_of_the_flow() {
    needs_nats!();
    let server = Server::start("").await;
    let context = server.jobs(600).await;
    let mut pods = [Pod::start(&server, 1).await, Pod::start(&server, 1).await];
    let config = queue_config(1_000, 16);
    let (mut slot, mut turn) = (0, 0_u32);
    let start = Instant::now();
    loop {
        turn += 1;
        for pod in &mut pods {
            let mut work = Work::open(pod, &config);
            slot += 1;
            work.join(slot);
            // It acknowledges what comes first, and goes while more is on its way.
            for _ in 0..=turn % 4 {
                if let Some((_, counter, _)) = work.deliveries(Duration::from_millis(5)).await.pop()
                {
                    work.receipt(slot, counter);
                    if turn % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            }
            work.leave(slot);
            while !work.deliveries(Duration::from_millis(1)).await.is_empty() {}
        }
        if turn % 5 == 0 {
            let info = consumer_info(&context).await;
            if info.num_ack_pending == 0 && info.num_pending == 0 {
                break;
            }
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{:?}",
            consumer_info(&context).await
        );
    }
    eprintln!("{turn} turns in {:?}", start.elapsed());
    for pod in pods {
        pod.end().await;
    }
}
