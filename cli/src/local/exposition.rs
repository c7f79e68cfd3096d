//! Several `OpenMetrics` pages as one: families are joined, and each sample says whose it is.

use std::fmt;

/// The joined page. The format wants all samples of a family in one place, after its description.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: Vec<Family>,
}

#[derive(Debug)]
struct Family {
    name: String,
    /// `# TYPE`, `# UNIT` and `# HELP` of whoever came first.
    description: Vec<String>,
    samples: Vec<String>,
}

impl Exposition {
    /// Adds a page. With a name, each of its samples gets a label `worker` with it.
    pub(super) fn add(&mut self, page: &str, worker: Option<&str>) {
        let mut current = None;
        for line in page
            .lines()
            .filter(|line| !line.is_empty() && *line != "# EOF")
        {
            let Some(comment) = line.strip_prefix("# ") else {
                let sample = worker.map_or_else(|| line.to_owned(), |name| labelled(line, name));
                let (index, _) = current.unwrap_or_else(|| self.family(name_of(line)));
                if let Some(family) = self.families.get_mut(index) {
                    family.samples.push(sample);
                }
                continue;
            };
            let Some(name) = comment.split(' ').nth(1) else {
                continue;
            };
            let (index, is_new) = match current {
                Some((index, is_new)) if self.is_named(index, name) => (index, is_new),
                _ => self.family(name),
            };
            current = Some((index, is_new));
            if let Some(family) = self.families.get_mut(index).filter(|_| is_new) {
                family.description.push(line.to_owned());
            }
        }
    }

    fn is_named(&self, index: usize, name: &str) -> bool {
        self.families
            .get(index)
            .is_some_and(|family| family.name == name)
    }

    /// The place of a family, and whether it is new.
    fn family(&mut self, name: &str) -> (usize, bool) {
        if let Some(index) = self.families.iter().position(|family| family.name == name) {
            return (index, false);
        }
        let name = name.to_owned();
        self.families.push(Family {
            name,
            description: Vec::new(),
            samples: Vec::new(),
        });
        (self.families.len() - 1, true)
    }
}

impl fmt::Display for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in &self.families {
            for line in family.description.iter().chain(&family.samples) {
                writeln!(f, "{line}")?;
            }
        }
        f.write_str("# EOF\n")
    }
}

fn name_of(sample: &str) -> &str {
    sample.split(['{', ' ']).next().unwrap_or(sample)
}

fn labelled(sample: &str, worker: &str) -> String {
    let (name, rest) = sample.split_at(name_of(sample).len());
    match rest.strip_prefix('{') {
        Some(rest) if rest.starts_with('}') => format!("{name}{{worker=\"{worker}\"{rest}"),
        Some(rest) => format!("{name}{{worker=\"{worker}\",{rest}"),
        None => format!("{name}{{worker=\"{worker}\"}}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_joined_and_samples_say_whose_they_are() {
        let page = |value| {
            format!(
                "# HELP a First.\n# TYPE a counter\na_total {value}\n# HELP b Second.\n# TYPE b gauge\n\
                 b{{route=\"x y\"}} {value}\nb{{}} 0\n# EOF\n"
            )
        };
        let mut all = Exposition::default();
        all.add("# TYPE own gauge\nown 1\n# EOF\n", None);
        all.add(&page(1), Some("worker-1"));
        all.add(&page(2), Some("worker-2"));
        let expected = "# TYPE own gauge\nown 1\n# HELP a First.\n# TYPE a counter\n\
            a_total{worker=\"worker-1\"} 1\na_total{worker=\"worker-2\"} 2\n\
            # HELP b Second.\n# TYPE b gauge\n\
            b{worker=\"worker-1\",route=\"x y\"} 1\nb{worker=\"worker-1\"} 0\n\
            b{worker=\"worker-2\",route=\"x y\"} 2\nb{worker=\"worker-2\"} 0\n# EOF\n";
        assert_eq!(all.to_string(), expected);
    }
}
