//! Lines, blocks and indentation.

use std::fmt::{Display, Write};

/// Collects the text of a configuration.
#[derive(Default)]
pub(super) struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    /// A directive; the semicolon is added.
    pub(super) fn line(&mut self, directive: impl Display) {
        self.push(format_args!("{directive};"));
    }

    /// A comment: fixed text, so that no value can end it.
    pub(super) fn comment(&mut self, text: &'static str) {
        self.push(format_args!("# {text}"));
    }

    /// A block with what `inside` writes.
    pub(super) fn block(&mut self, head: impl Display, inside: impl FnOnce(&mut Self)) {
        self.push(format_args!("{head} {{"));
        self.depth += 1;
        inside(self);
        self.depth -= 1;
        self.push("}");
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn push(&mut self, line: impl Display) {
        let indent = self.depth * 4;
        writeln!(self.text, "{:indent$}{line}", "").expect("a String should take any text");
    }
}
