//! What a person sees: one line for each thing that happens, with the name of who said it in front.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

/// Names are padded to this, so that lines of up to 99 workers stand in one column.
const NAME_WIDTH: usize = 9;

/// The colours of the children, ANSI. Red is left for problems.
const COLOURS: [u8; 5] = [36, 32, 35, 34, 33];

/// A longer line is broken off, so that a child without line ends cannot take all memory.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// The terminal, or whatever the output was sent to.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    colours: bool,
}

impl Console {
    /// Colours are used on a terminal alone, and never where `NO_COLOR` is set (<https://no-color.org>).
    pub fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            colours: wanted && io::stdout().is_terminal(),
        }
    }

    /// What a child said.
    pub fn line(self, child: &str, text: &str) {
        let colour = child
            .bytes()
            .fold(0_usize, |sum, byte| sum + usize::from(byte));
        let colour = COLOURS.get(colour % COLOURS.len()).copied();
        self.write(child, colour, text);
    }

    /// What `wsgw` itself has to say.
    pub fn say(self, text: impl fmt::Display) {
        self.write("wsgw", None, &text.to_string());
    }

    /// Likewise, where something is wrong.
    pub fn problem(self, text: impl fmt::Display) {
        self.write("wsgw", Some(31), &text.to_string());
    }

    /// Text that stands for itself, such as the lines to try.
    pub fn block(self, text: &str) {
        put(text);
    }

    fn write(self, name: &str, colour: Option<u8>, text: &str) {
        match colour.filter(|_| self.colours) {
            Some(colour) => put(&format!(
                "\x1b[{colour}m{name:<NAME_WIDTH$} |\x1b[0m {text}\n"
            )),
            None => put(&format!("{name:<NAME_WIDTH$} | {text}\n")),
        }
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// Awaits that all of it has been written, before something is written elsewhere or the process ends.
    pub fn flush(self) {
        let (done, is_done) = mpsc::sync_channel(1);
        if output().send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_PATIENCE);
        }
    }
}

/// How long the end of the process waits for a reader.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// How many lines wait for a terminal that takes none, as after Ctrl-S. Later ones are dropped and counted: who does
/// not read must not stop the gateways.
const LINES_MAX: usize = 4_096;

enum Message {
    Text(String),
    Flush(SyncSender<()>),
}

/// Lines that were dropped since the last one that was not.
static DROPPED: AtomicU64 = AtomicU64::new(0);

fn put(text: &str) {
    let dropped = DROPPED.swap(0, Ordering::Relaxed);
    let text = match dropped {
        0 => text.to_owned(),
        count => format!("({count} lines were dropped: nobody took them)\n{text}"),
    };
    if output().try_send(Message::Text(text)).is_err() {
        DROPPED.fetch_add(dropped + 1, Ordering::Relaxed);
    }
}

/// The one thread that writes to standard output, each line whole. A reader that went away is no reason to stop.
fn output() -> &'static SyncSender<Message> {
    static OUTPUT: OnceLock<SyncSender<Message>> = OnceLock::new();
    OUTPUT.get_or_init(|| {
        let (sender, messages) = mpsc::sync_channel(LINES_MAX);
        thread::spawn(move || {
            for message in messages {
                match message {
                    Message::Text(text) => {
                        let mut stdout = io::stdout().lock();
                        let _ = stdout
                            .write_all(text.as_bytes())
                            .and_then(|()| stdout.flush());
                    }
                    Message::Flush(done) => {
                        let _ = done.try_send(());
                    }
                }
            }
        });
        sender
    })
}
