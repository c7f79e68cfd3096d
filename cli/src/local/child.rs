//! One child: started, awaited until it is ready, its lines passed on, started again when it ends, stopped.
//!
//! It leads a process group of its own: Ctrl-C at the terminal reaches `wsgw` alone, which stops its children in
//! order, and whatever the child started ends with it.

mod keeper;
mod lines;
mod ready;

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::watch;

use super::{
    console::Console,
    guard::Guard,
    leftover::{self, Record},
    metrics::Restarts,
    state::StateDir,
};
use keeper::Keeper;
pub use ready::Ready;

/// What is run.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its name in front of its lines, such as `worker-1`.
    pub name: String,
    /// The executable file.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// How it shows that it is ready.
    pub ready: Ready,
    /// The signal by which it ends in order.
    pub stop_signal: Signal,
    /// How long it may take to end after that. Then it is killed.
    pub stop_patience: Duration,
    /// Lines with this mark are not shown. nats-server introduces itself in twenty.
    pub unshown: Option<&'static str>,
}

/// What every child is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// Where its lines go.
    pub console: Console,
    /// Where it is written down.
    pub state: Arc<StateDir>,
    /// Where its restarts are counted.
    pub restarts: Restarts,
    /// Who ends it should this process be killed.
    pub guard: Option<Arc<Guard>>,
}

impl Context {
    /// Writes down that a child runs, so that nothing can make it outlive us for long.
    fn record(&self, name: &str, pid: i32) {
        // It may have ended already.
        let Some(record) = Record::of(pid) else {
            return;
        };
        if let Some(guard) = &self.guard {
            guard.watch(name, &record);
        }
        if let Err(error) = leftover::record(&self.state, name, &record) {
            self.console.problem(error);
        }
    }

    fn forget(&self, name: &str) {
        leftover::forget(&self.state, name);
        if let Some(guard) = &self.guard {
            guard.forget(name);
        }
    }
}

/// Where a child stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It runs, and has not shown yet that it is ready.
    Starting,
    /// It runs and has been ready.
    Running(i32),
    /// It ended without being told to, and is started again after a while.
    Waiting,
    /// It ended before it was ever ready: starting it again would not help.
    Failed(String),
    /// It was told to end, and has.
    Stopped,
}

/// What a child has been told. Later ones overrule earlier ones, never the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Stop,
    Kill,
}

/// Why a child is not ready.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It ended.
    #[error("{name} {why}")]
    Failed {
        /// Its name.
        name: String,
        /// How it ended, and its last line.
        why: String,
    },
    /// It runs, and does not become ready.
    #[error("{name} is not ready after {} s", .patience.as_secs())]
    NotReady {
        /// Its name.
        name: String,
        /// For how long it was awaited.
        patience: Duration,
    },
}

impl ChildError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Failed { .. } => "ChildFailed",
            Self::NotReady { .. } => "ChildNotReady",
        }
    }
}

/// A supervised child.
#[derive(Debug)]
pub struct Child {
    name: String,
    orders: watch::Sender<Order>,
    phase: watch::Receiver<Phase>,
}

impl Child {
    /// Starts it. From now on it is kept running.
    pub fn start(program: Program, context: &Context) -> Self {
        let (orders, order) = watch::channel(Order::Run);
        let (phases, phase) = watch::channel(Phase::Starting);
        let name = program.name.clone();
        let keeper = Keeper {
            program,
            context: context.clone(),
            order,
            phases,
        };
        tokio::spawn(keeper.keep());
        Self {
            name,
            orders,
            phase,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it has been told to end, and has.
    pub fn has_stopped(&self) -> bool {
        self.phase.has_changed().is_err()
    }

    /// Its process, while it runs and has been ready.
    pub fn pid(&self) -> Option<i32> {
        match *self.phase.borrow() {
            Phase::Running(pid) => Some(pid),
            _ => None,
        }
    }

    /// Awaits that it is ready.
    pub async fn ready(&self, patience: Duration) -> Result<(), ChildError> {
        let mut phase = self.phase.clone();
        let decided = phase.wait_for(|phase| {
            matches!(phase, Phase::Running(_) | Phase::Failed(_) | Phase::Stopped)
        });
        match tokio::time::timeout(patience, decided)
            .await
            .map(|phase| phase.map(|p| p.clone()))
        {
            Ok(Ok(Phase::Running(_))) => Ok(()),
            Ok(Ok(Phase::Failed(why))) => Err(ChildError::Failed {
                name: self.name.clone(),
                why,
            }),
            Ok(_) => Err(ChildError::Failed {
                name: self.name.clone(),
                why: "was stopped".to_owned(),
            }),
            Err(_) => Err(ChildError::NotReady {
                name: self.name.clone(),
                patience,
            }),
        }
    }

    /// Sends it alone a signal, such as SIGHUP. Says whether there was somebody to send it to.
    pub fn signal(&self, signal: Signal) -> bool {
        self.pid()
            .is_some_and(|pid| kill(Pid::from_raw(pid), signal).is_ok())
    }

    /// Tells it to end in order.
    pub fn tell_to_stop(&self) {
        self.orders
            .send_if_modified(|order| raise(order, Order::Stop));
    }

    /// Ends it at once.
    pub fn tell_to_die(&self) {
        self.orders
            .send_if_modified(|order| raise(order, Order::Kill));
    }

    /// Awaits its end, once it has been told.
    pub async fn stopped(&self) {
        // Its task lets go of the phase when it has ended, and of nothing before.
        let _ = self.phase.clone().wait_for(|_| false).await;
    }
}

fn raise(order: &mut Order, to: Order) -> bool {
    let rises = *order < to;
    *order = to.max(*order);
    rises
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::{port, state::tests::Scratch};

    fn shell(name: &str, script: &str, ready: Ready) -> Program {
        Program {
            name: name.to_owned(),
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            ready,
            stop_signal: Signal::SIGTERM,
            stop_patience: Duration::from_millis(300),
            unshown: None,
        }
    }

    /// Something that answers readiness for as long as the test runs.
    async fn nats_like() -> Ready {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"INFO {}\r\n").await;
            }
        });
        Ready::NatsInfo(address)
    }

    async fn context(name: &str) -> (Scratch, Context) {
        let scratch = Scratch::new(name);
        let state = Arc::new(StateDir::open(&scratch.0).await.unwrap());
        (
            scratch,
            Context {
                console: Console::new(),
                state,
                restarts: Restarts::default(),
                guard: None,
            },
        )
    }

    #[tokio::test]
    async fn a_killed_child_is_back_and_what_it_had_started_is_gone() {
        let (_scratch, context) = context("back").await;
        let program = shell("nginx", "sleep 1000 & wait", nats_like().await);
        let child = Child::start(program, &context);
        child.ready(Duration::from_secs(5)).await.unwrap();
        let first = child.pid().unwrap();
        assert!(child.signal(Signal::SIGKILL));
        let mut phase = child.phase.clone();
        let again = phase.wait_for(|phase| matches!(phase, Phase::Running(pid) if *pid != first));
        tokio::time::timeout(Duration::from_secs(5), again)
            .await
            .unwrap()
            .unwrap();
        assert!(leftover::members(first).is_empty());
        assert_eq!(context.restarts.counted("nginx"), 1);

        let second = child.pid().unwrap();
        child.tell_to_stop();
        child.stopped().await;
        assert!(leftover::members(second).is_empty());
        assert_eq!(*child.phase.borrow(), Phase::Stopped);
        assert!(context.state.read("run/nginx.pid").is_none());
    }

    #[tokio::test]
    async fn a_child_that_ends_before_it_is_ready_has_failed_with_its_last_line() {
        let (_scratch, context) = context("failed").await;
        let closed = port::free(17_500).unwrap();
        let closed = Ready::NatsInfo(closed.address());
        let program = shell("nats", "echo begin; echo 'no room' >&2; exit 3", closed);
        let child = Child::start(program, &context);
        let error = child.ready(Duration::from_secs(5)).await.unwrap_err();
        let text = "nats ended with exit code 3 (its last line: no room)";
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            ("ChildFailed", text)
        );
    }

    #[tokio::test]
    async fn a_child_that_does_not_end_is_killed() {
        let (_scratch, context) = context("stubborn").await;
        let program = shell(
            "worker-1",
            "trap '' TERM; while :; do sleep 0.1; done",
            nats_like().await,
        );
        let child = Child::start(program, &context);
        child.ready(Duration::from_secs(5)).await.unwrap();
        let pid = child.pid().unwrap();
        child.tell_to_stop();
        child.stopped().await;
        assert!(leftover::members(pid).is_empty());
    }
}
