//! One child: started, awaited until it is ready, its lines passed on, started again when it ends, stopped.
//!
//! It leads a process group of its own: Ctrl-C at the terminal reaches `wsgw` alone, which stops its children in
//! order, and whatever the child started ends with it.

use std::{
    ffi::OsString,
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    net::TcpStream,
    process::Command,
    sync::watch,
    task::JoinSet,
};

use super::{
    backoff::Backoff,
    console::{Console, LINE_BYTES_MAX},
    guard::Guard,
    http,
    leftover::{self, Record},
    metrics::Restarts,
    state::StateDir,
};

/// How often a child is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(25);

/// How long one question may take.
const READY_ANSWER: Duration = Duration::from_secs(2);

/// How long the last lines of a child that ended may take to arrive.
const LAST_LINES: Duration = Duration::from_millis(500);

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
}

/// How a child shows that it is ready.
#[derive(Debug, Clone)]
pub enum Ready {
    /// nats-server: a connection begins with an `INFO` line.
    NatsInfo(SocketAddr),
    /// The gateway: this path answers 200.
    Ok(SocketAddr, String),
    /// nginx: this path answers, whatever it says.
    Answers(SocketAddr, String),
}

impl Ready {
    async fn holds(&self) -> bool {
        let ask = async {
            match self {
                Self::NatsInfo(address) => {
                    let mut greeting = [0; 5];
                    let mut stream = TcpStream::connect(address).await.ok()?;
                    stream.read_exact(&mut greeting).await.ok()?;
                    (&greeting == b"INFO ").then_some(())
                }
                Self::Ok(address, path) => {
                    let (status, _) = http::get(*address, path).await.ok()?;
                    status.is_success().then_some(())
                }
                Self::Answers(address, path) => http::get(*address, path).await.ok().map(drop),
            }
        };
        matches!(tokio::time::timeout(READY_ANSWER, ask).await, Ok(Some(())))
    }
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

/// The task that keeps a child running.
struct Keeper {
    program: Program,
    context: Context,
    order: watch::Receiver<Order>,
    phases: watch::Sender<Phase>,
}

/// How one run of a child ended.
enum End {
    /// It was told to.
    Told,
    /// By itself, in the way described.
    ByItself { why: String, was_ready: bool },
}

impl Keeper {
    async fn keep(mut self) {
        let mut backoff = Backoff::new();
        let mut is_first = true;
        loop {
            let begin = Instant::now();
            match self.run(is_first).await {
                End::Told => break,
                End::ByItself {
                    why,
                    was_ready: false,
                } if is_first => {
                    self.context.forget(&self.program.name);
                    self.phases.send_replace(Phase::Failed(why));
                    return;
                }
                End::ByItself { why, .. } => {
                    is_first = false;
                    let wait = backoff.after(begin.elapsed());
                    self.context.restarts.count(&self.program.name);
                    self.context.console.problem(format_args!(
                        "{} {why}; starting it again in {} ms",
                        self.program.name,
                        wait.as_millis()
                    ));
                    self.phases.send_replace(Phase::Waiting);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = self.order.changed() => break,
                    }
                }
            }
        }
        self.context.forget(&self.program.name);
        self.phases.send_replace(Phase::Stopped);
    }

    /// Starts it and stays until it has ended, and its group with it.
    async fn run(&mut self, is_first: bool) -> End {
        self.phases.send_replace(Phase::Starting);
        let begin = Instant::now();
        let mut process = match spawn(&self.program) {
            Ok(process) => process,
            Err(error) => {
                let why = format!(
                    "cannot be started from {}: {error}",
                    self.program.path.display()
                );
                return End::ByItself {
                    why,
                    was_ready: false,
                };
            }
        };
        let pid = process.id().map_or(0, u32::cast_signed);
        self.context.record(&self.program.name, pid);
        let mut lines = Lines::follow(&mut process, &self.program.name, self.context.console);
        let mut was_ready = false;
        let told = loop {
            tokio::select! {
                biased;
                ended = process.wait() => break Err(ended),
                _ = self.order.changed() => break Ok(()),
                () = ready(&self.program.ready), if !was_ready => {
                    was_ready = true;
                    self.phases.send_replace(Phase::Running(pid));
                    if !is_first {
                        let ms = begin.elapsed().as_millis();
                        let name = &self.program.name;
                        self.context.console.say(format_args!("{name} is back, {ms} ms after its start"));
                    }
                }
            }
        };
        let end = match told {
            Ok(()) => {
                self.end_in_order(&mut process, pid).await;
                None
            }
            Err(ended) => Some(ended),
        };
        // Whatever the child had started, such as nginx's workers after `kill -9` of their master: they hold its port.
        leftover::kill_group(pid).await;
        let _ = process.wait().await;
        lines.finish().await;
        match end {
            None => End::Told,
            Some(ended) => End::ByItself {
                why: describe(ended, &lines.last()),
                was_ready,
            },
        }
    }

    async fn end_in_order(&mut self, process: &mut tokio::process::Child, pid: i32) {
        if *self.order.borrow_and_update() == Order::Kill {
            return;
        }
        let _ = kill(Pid::from_raw(pid), self.program.stop_signal);
        let patience = self.program.stop_patience;
        tokio::select! {
            _ = process.wait() => {}
            _ = self.order.changed() => {}
            () = tokio::time::sleep(patience) => {
                let name = &self.program.name;
                let console = self.context.console;
                console.problem(format_args!("{name} did not end within {patience:?}: killing it"));
            }
        }
    }
}

async fn ready(ready: &Ready) {
    while !ready.holds().await {
        tokio::time::sleep(READY_POLL).await;
    }
}

fn spawn(program: &Program) -> std::io::Result<tokio::process::Child> {
    Command::new(&program.path)
        .args(&program.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

fn describe(ended: std::io::Result<ExitStatus>, last_line: &str) -> String {
    let status = match ended {
        Ok(status) => status,
        Err(error) => return format!("is lost: {error}"),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended with exit code 0".to_owned(),
        (Some(code), _) if last_line.is_empty() => format!("ended with exit code {code}"),
        (Some(code), _) => format!("ended with exit code {code} (its last line: {last_line})"),
        // Who was killed could not say why.
        (None, Some(signal)) => match Signal::try_from(signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// The two outputs of a child, on their way to the console.
struct Lines {
    tasks: JoinSet<()>,
    last: Arc<Mutex<String>>,
}

impl Lines {
    fn follow(process: &mut tokio::process::Child, name: &str, console: Console) -> Self {
        let mut lines = Self {
            tasks: JoinSet::new(),
            last: Arc::default(),
        };
        if let Some(stdout) = process.stdout.take() {
            lines.pass_on(stdout, name, console);
        }
        if let Some(stderr) = process.stderr.take() {
            lines.pass_on(stderr, name, console);
        }
        lines
    }

    fn pass_on(
        &mut self,
        output: impl AsyncRead + Unpin + Send + 'static,
        name: &str,
        console: Console,
    ) {
        let name = name.to_owned();
        let last = Arc::clone(&self.last);
        self.tasks.spawn(each_line(output, move |line| {
            console.line(&name, line);
            if !line.trim().is_empty() {
                line.trim()
                    .clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }));
    }

    /// Awaits the last lines of a child that has ended.
    async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_LINES, all).await.is_err() {
            self.tasks.abort_all();
        }
    }

    fn last(&self) -> String {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Calls `take` with each line. One that is longer than [`LINE_BYTES_MAX`] comes in pieces.
async fn each_line(output: impl AsyncRead + Unpin, mut take: impl FnMut(&str)) {
    let mut output = BufReader::with_capacity(LINE_BYTES_MAX, output);
    let mut line = Vec::new();
    loop {
        let room = LINE_BYTES_MAX.saturating_sub(line.len()) as u64;
        let read = (&mut output).take(room).read_until(b'\n', &mut line).await;
        let is_over = !matches!(read, Ok(1..));
        if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX || (is_over && !line.is_empty()) {
            let text = String::from_utf8_lossy(&line);
            take(text.trim_end_matches(['\n', '\r']));
            line.clear();
        }
        if is_over {
            return;
        }
    }
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

    #[tokio::test]
    async fn lines_come_whole_and_endless_ones_in_pieces() {
        let endless = "x".repeat(LINE_BYTES_MAX + 5);
        let text = format!("one\r\n\n{endless}\nlast");
        let mut lines = Vec::new();
        each_line(text.as_bytes(), |line| lines.push(line.to_owned())).await;
        let lengths: Vec<_> = lines.iter().map(String::len).collect();
        assert_eq!(lengths, [3, 0, LINE_BYTES_MAX, 5, 4]);
    }
}
