//! The lines of a child, on their way to the console.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    task::JoinSet,
};

use super::Program;
use crate::local::console::{Console, LINE_BYTES_MAX};

/// How long the last lines of a child that ended may take to arrive.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The two outputs of a child, on their way to the console.
pub(super) struct Lines {
    tasks: JoinSet<()>,
    last: Arc<Mutex<String>>,
}

impl Lines {
    pub(super) fn follow(
        process: &mut tokio::process::Child,
        program: &Program,
        console: Console,
    ) -> Self {
        let mut lines = Self {
            tasks: JoinSet::new(),
            last: Arc::default(),
        };
        if let Some(stdout) = process.stdout.take() {
            lines.pass_on(stdout, program, console);
        }
        if let Some(stderr) = process.stderr.take() {
            lines.pass_on(stderr, program, console);
        }
        lines
    }

    fn pass_on(
        &mut self,
        output: impl AsyncRead + Unpin + Send + 'static,
        program: &Program,
        console: Console,
    ) {
        let name = program.name.clone();
        let unshown = program.unshown;
        let last = Arc::clone(&self.last);
        self.tasks.spawn(each_line(output, move |line| {
            if !unshown.is_some_and(|mark| line.contains(mark)) {
                console.line(&name, line);
            }
            if !line.trim().is_empty() {
                line.trim()
                    .clone_into(&mut last.lock().unwrap_or_else(PoisonError::into_inner));
            }
        }));
    }

    /// Awaits the last lines of a child that has ended.
    pub(super) async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_LINES, all).await.is_err() {
            self.tasks.abort_all();
        }
    }

    pub(super) fn last(&self) -> String {
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
