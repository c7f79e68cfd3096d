//! Measurements by scenario and server. Each may have been made several times, in rounds that went
//! from server to server, so that what disturbs the machine for a while disturbs all of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use load::measurement::Measurement;

/// The servers in the order of tables.
pub(crate) const SERVERS: [&str; 4] = ["gateway", "floor", "gorilla", "nats-server"];

/// All measurements of a run.
#[derive(Debug)]
pub(crate) struct Runs {
    all: Vec<Measurement>,
}

/// The median of a figure over its rounds, and what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Runs {
    /// From a line of JSON each.
    pub(crate) fn parse(lines: &str) -> Result<Self> {
        let parse =
            |line| serde_json::from_str(line).with_context(|| format!("not a measurement: {line}"));
        let all = lines.lines().map(parse).collect::<Result<Vec<_>>>()?;
        Ok(Self { all })
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Measurement] {
        &self.all
    }

    /// The scenarios, in the order in which they were begun.
    pub(crate) fn scenarios(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for measurement in &self.all {
            if !names.contains(&measurement.scenario.as_str()) {
                names.push(&measurement.scenario);
            }
        }
        names
    }

    /// The servers of a scenario: those that every table has in their order, and then others.
    pub(crate) fn servers<'a>(&'a self, scenario: &str) -> Vec<&'a str> {
        let mut names: Vec<&str> = Vec::new();
        for measurement in self.all.iter().filter(|it| it.scenario == scenario) {
            if !names.contains(&measurement.server.as_str()) {
                names.push(&measurement.server);
            }
        }
        names.sort_by_key(|name| {
            SERVERS
                .iter()
                .position(|it| it == name)
                .unwrap_or(SERVERS.len())
        });
        names
    }

    /// The rounds of a scenario with a server.
    pub(crate) fn of<'a>(
        &'a self,
        scenario: &'a str,
        server: &'a str,
    ) -> impl Iterator<Item = &'a Measurement> {
        self.all
            .iter()
            .filter(move |it| it.scenario == scenario && it.server == server)
    }

    /// A figure in each round that has it.
    fn values(&self, scenario: &str, server: &str, figure: &str) -> Vec<f64> {
        self.of(scenario, server)
            .filter_map(|it| it.figures.get(figure).copied())
            .collect()
    }

    /// A figure over its rounds.
    pub(crate) fn spread(&self, scenario: &str, server: &str, figure: &str) -> Option<Spread> {
        spread(self.values(scenario, server, figure))
    }

    /// A figure of one server in units of another's: the median over the rounds of the ratio within
    /// the round, which a disturbance of both leaves alone.
    pub(crate) fn ratio(
        &self,
        scenario: &str,
        figure: &str,
        server: &str,
        to: &str,
    ) -> Option<Spread> {
        let (ours, theirs) = (
            self.values(scenario, server, figure),
            self.values(scenario, to, figure),
        );
        if ours.len() == theirs.len() {
            spread(
                ours.iter()
                    .zip(&theirs)
                    .map(|(ours, theirs)| ours / theirs)
                    .collect(),
            )
        } else {
            let ratio = spread(ours)?.median / spread(theirs)?.median;
            spread(vec![ratio])
        }
    }

    /// The medians of all figures, by scenario and server.
    pub(crate) fn medians(&self) -> BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, f64>>> {
        let mut medians: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, f64>>> = BTreeMap::new();
        for it in &self.all {
            let server = medians
                .entry(&it.scenario)
                .or_default()
                .entry(&it.server)
                .or_default();
            for figure in it.figures.keys() {
                if let Some(spread) = self.spread(&it.scenario, &it.server, figure) {
                    server.insert(figure, spread.median);
                }
            }
        }
        medians
    }
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let median = if values.len() % 2 == 1 {
        *values.get(middle)?
    } else {
        f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
    };
    Some(Spread {
        median,
        least: *values.first()?,
        most: *values.last()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_taken_within_the_round() {
        let row = |server, cpu| {
            format!(r#"{{"scenario":"s","server":"{server}","figures":{{"cpu":{cpu}}}}}"#)
        };
        // The machine was twice as slow in the second round, and in the third only for the floor.
        let rows = [
            row("gateway", 1.0),
            row("floor", 2.0),
            row("gateway", 2.0),
            row("floor", 4.0),
        ];
        let rows = rows.join("\n") + "\n" + &row("gateway", 1.0) + "\n" + &row("floor", 3.0);
        let runs = Runs::parse(&rows).unwrap();
        let ratio = runs.ratio("s", "cpu", "gateway", "floor").unwrap();
        assert_eq!((ratio.median, ratio.most), (0.5, 0.5));
        let expected = Spread {
            median: 3.0,
            least: 2.0,
            most: 4.0,
        };
        assert_eq!(runs.spread("s", "floor", "cpu"), Some(expected));
        assert_eq!(runs.spread("s", "floor", "other"), None);
    }
}
