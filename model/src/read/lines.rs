//! On which line of a file each field stands, so that what is wrong with it can be found.

use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser};

/// The lines of one document's fields, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lines(BTreeMap<String, usize>);

/// The lines of each document that is not empty. Of a text that is no YAML, as far as it can be read.
pub(super) fn lines(text: &str) -> Vec<Lines> {
    let mut walk = Walk::default();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        walk.take(&event, span.start.line());
    }
    walk.documents
}

impl Lines {
    /// The line of a field, or of the nearest one around it that stands in the file.
    pub(super) fn of(&self, path: &str) -> usize {
        let mut path = path;
        loop {
            match (self.0.get(path), path.rfind(['.', '['])) {
                (Some(line), _) => return *line,
                (None, Some(end)) => path = path.get(..end).unwrap_or_default(),
                (None, None) if path.is_empty() => return 1,
                (None, None) => path = "",
            }
        }
    }

    /// The lines below a path, as a document of their own.
    pub(super) fn below(&self, path: &str) -> Self {
        let below = |(field, line): (&String, &usize)| {
            let rest = field.strip_prefix(path)?;
            Some((rest.strip_prefix('.').unwrap_or(rest).to_owned(), *line))
        };
        Self(self.0.iter().filter_map(below).collect())
    }
}

/// A collection that has begun: where it stands, and what comes next in it.
enum Place {
    Mapping { path: String, key: Option<String> },
    Sequence { path: String, index: usize },
}

#[derive(Default)]
struct Walk {
    documents: Vec<Lines>,
    fields: BTreeMap<String, usize>,
    places: Vec<Place>,
}

impl Walk {
    fn take(&mut self, event: &Event<'_>, line: usize) {
        match event {
            Event::Scalar(text, ..) => match self.places.last_mut() {
                Some(Place::Mapping {
                    key: key @ None, ..
                }) => *key = Some(text.to_string()),
                // A document of one scalar: empty, or no object.
                None if text.is_empty() || text == "~" || text == "null" => {}
                _ => _ = self.value(line),
            },
            Event::Alias(..) => _ = self.value(line),
            Event::MappingStart(..) => {
                let path = self.value(line);
                self.places.push(Place::Mapping { path, key: None });
            }
            Event::SequenceStart(..) => {
                let path = self.value(line);
                self.places.push(Place::Sequence { path, index: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => _ = self.places.pop(),
            Event::DocumentEnd => {
                let fields = std::mem::take(&mut self.fields);
                self.places.clear();
                if !fields.is_empty() {
                    self.documents.push(Lines(fields));
                }
            }
            _ => {}
        }
    }

    /// Notes where a value stands, and says its path.
    fn value(&mut self, line: usize) -> String {
        let path = match self.places.last_mut() {
            None => String::new(),
            Some(Place::Mapping { path, key }) => match (path.as_str(), key.take()) {
                ("", key) => key.unwrap_or_default(),
                (path, key) => format!("{path}.{}", key.unwrap_or_default()),
            },
            Some(Place::Sequence { path, index }) => {
                let item = format!("{path}[{index}]");
                *index += 1;
                item
            }
        };
        self.fields.entry(path.clone()).or_insert(line);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
spec:
  replicas: 3
  routes:
    - name: a
      path: /a
    - {name: b,
       path: /b}
---

---
- 1
- [2,
   3]
";

    #[test]
    fn a_field_is_found_on_its_line() {
        let documents = lines(TEXT);
        assert_eq!(documents.len(), 2);
        for (document, path, line) in [
            (0, "", 2),
            (0, "spec.replicas", 3),
            (0, "spec.routes[0].name", 5),
            (0, "spec.routes[0].path", 6),
            (0, "spec.routes[1].path", 8),
            (0, "spec.routes[1].payload", 7),
            (0, "spec.nats.servers[0]", 3),
            (0, "metadata.name", 2),
            (1, "[0]", 12),
            (1, "[1][1]", 14),
        ] {
            assert_eq!(documents[document].of(path), line, "{path}");
        }
        assert_eq!(documents[0].below("spec.routes[1]").of("path"), 8);
        assert_eq!(Lines::default().of("spec.routes[0]"), 1);
    }

    #[test]
    fn a_text_that_is_no_yaml_has_the_lines_before_its_fault() {
        assert_eq!(
            lines("a: 1\n---\nb: [}"),
            [Lines([(String::new(), 1), ("a".into(), 1)].into())]
        );
    }
}
