use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::registry::Registry;
use tokio::sync::{Semaphore, mpsc};

use super::*;

/// How long a test waits for what must happen.
const SOON: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
#[error("it was told to fail")]
struct Failed;

impl Failure for Failed {
    fn reason(&self) -> &'static str {
        "Failed"
    }
}

/// A reconciler that says what it starts, and ends each as it is told to.
struct Told {
    started: mpsc::Sender<String>,
    may_end: Semaphore,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Reconcile for Told {
    type Error = Failed;

    async fn reconcile(&self, gateway: &Key, _: Visit) -> Result<Outcome, Failed> {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let _ = self.started.send(gateway.name.to_string()).await;
        if let Ok(permit) = self.may_end.acquire().await {
            permit.forget();
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        match &*gateway.name {
            "panics" => panic!("as it was told to"),
            "fails" => Err(Failed),
            "gone" => Ok(Outcome::Gone),
            _ => Ok(Outcome::Settled),
        }
    }
}

struct Fixture {
    queue: Queue,
    registry: Registry,
    told: Arc<Told>,
    started: mpsc::Receiver<String>,
    stop: CancellationToken,
    run: tokio::task::JoinHandle<()>,
}

fn key(name: &str) -> Key {
    Key::new("shop", name)
}

impl Fixture {
    fn start(concurrency: usize, first: &[&str]) -> Self {
        let mut registry = Registry::default();
        let queue = Queue::new(Metrics::register(&mut registry));
        let (sender, started) = mpsc::channel(64);
        let told = Arc::new(Told {
            started: sender,
            may_end: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        let config = QueueConfig {
            concurrency,
            resync: Duration::from_secs(3_600),
        };
        let first: Vec<_> = first.iter().map(|name| key(name)).collect();
        let run = {
            let (queue, told, stop) = (queue.clone(), told.clone(), stop.clone());
            tokio::spawn(async move { queue.run(config, told, || first, stop).await })
        };
        Self {
            queue,
            registry,
            told,
            started,
            stop,
            run,
        }
    }

    async fn started(&mut self) -> String {
        let next = time::timeout(SOON, self.started.recv()).await;
        next.expect("one should start soon")
            .expect("the queue should run")
    }

    async fn ended(self) -> String {
        let run = time::timeout(SOON, self.run).await;
        run.expect("the queue should end soon")
            .expect("it should not panic");
        crate::metrics::render(&self.registry)
    }
}

#[tokio::test]
async fn a_stop_starts_no_more_and_awaits_those_that_run() {
    let mut fixture = Fixture::start(2, &["a", "b", "c"]);
    fixture.started().await;
    fixture.started().await;
    fixture.stop.cancel();
    assert!(!fixture.run.is_finished());
    fixture.told.may_end.add_permits(3);
    let told = fixture.told.clone();
    let metrics = fixture.ended().await;
    assert_eq!(told.most.load(Ordering::SeqCst), 2);
    let line = "wsgateway_operator_reconciles_total{result=\"success\"} 2";
    assert!(metrics.contains(line), "{metrics}");
    assert!(
        metrics.contains("wsgateway_operator_queue_running 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_panic_is_a_failure_of_one() {
    let mut fixture = Fixture::start(1, &["panics"]);
    assert_eq!(fixture.started().await, "panics");
    fixture.queue.trigger(&key("fine"), Cause::Event);
    fixture.told.may_end.add_permits(1);
    assert_eq!(fixture.started().await, "fine");
    fixture.told.may_end.add_permits(10);
    assert_eq!(fixture.started().await, "panics", "it is tried again");
    fixture.stop.cancel();
    let metrics = fixture.ended().await;
    let line = "wsgateway_operator_reconciles_total{result=\"Panic\"} 2";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn a_changed_spec_does_not_wait_for_the_backoff() {
    let mut fixture = Fixture::start(1, &["fails"]);
    fixture.told.may_end.add_permits(100);
    // From the tenth failure on, the wait is minutes.
    for _ in 0..12 {
        assert_eq!(fixture.started().await, "fails");
        fixture.queue.trigger(&key("fails"), Cause::Spec);
    }
    fixture.stop.cancel();
    fixture.ended().await;
}

#[tokio::test]
async fn who_drops_the_queue_drops_what_runs_and_what_it_is_given() {
    let mut fixture = Fixture::start(1, &["a"]);
    fixture.started().await;
    fixture.run.abort();
    let ended = time::timeout(SOON, &mut fixture.run).await;
    assert!(ended.expect("it should end soon").is_err());
    fixture.queue.trigger(&key("b"), Cause::Spec);
    assert!(fixture.queue.lock().is_none());
    // What ran holds a reference for as long as it lives.
    let told = Arc::downgrade(&fixture.told);
    drop(fixture.told);
    time::timeout(SOON, async {
        while fixture.started.recv().await.is_some() {}
    })
    .await
    .expect("the reconcile should have been dropped");
    assert!(told.upgrade().is_none());
}
