//! A tree as text.

use std::fmt;

/// A line, and what hangs below it.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// The line.
    pub(super) text: String,
    /// What is below.
    pub(super) children: Vec<Node>,
}

impl Node {
    /// One with nothing below.
    pub(super) fn leaf(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            children: Vec::new(),
        }
    }
}

/// Nodes side by side, each line after an indent.
pub(super) struct Tree<'a> {
    /// The nodes.
    pub(super) nodes: &'a [Node],
    /// What stands before each line.
    pub(super) indent: &'a str,
}

impl fmt::Display for Tree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, node) in self.nodes.iter().enumerate() {
            let is_last = index + 1 == self.nodes.len();
            let (branch, below) = if is_last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            writeln!(f, "{}{branch}{}", self.indent, node.text)?;
            let indent = format!("{}{below}", self.indent);
            let tree = Tree {
                nodes: &node.children,
                indent: &indent,
            };
            tree.fmt(f)?;
        }
        Ok(())
    }
}
