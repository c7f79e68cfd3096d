//! `wsgw top`: what the pods of a `WsGateway` do at this moment.
//!
//! [`sample`] is what one pod said at one moment; [`table`] is what two of them say together. Only this file asks.

#![allow(clippy::doc_markdown)] // These comments are what `--help` prints.

mod sample;
mod table;

use std::{
    io::{self, IsTerminal, Write},
    time::Instant,
};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use wsgateway_crds::value::Duration;

use self::{
    sample::{Counters, Reading, Sample},
    table::Table,
};
use crate::cluster::{ASKED_AT_ONCE, Cluster, ClusterArgs, ClusterError};

/// Moves a terminal's cursor home and clears what is below (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// Whose pods, and how often.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// The WsGateway. Default: all in the namespace.
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The time between two samples, over which rates are taken.
    #[arg(long, default_value = "1s")]
    interval: Duration,
    /// Go on, a table each interval, until interrupted.
    #[arg(short, long)]
    watch: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The cluster does not say.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// There is no such pod.
    #[error("namespace {namespace} has no pods of {whose}")]
    NoPods {
        /// Where.
        namespace: String,
        /// Of which `WsGateway`.
        whose: String,
    },
    /// Nobody takes the output any more.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

impl TopError {
    /// A stable word for the kind.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Cluster(error) => error.reason(),
            Self::NoPods { .. } => "NoPods",
            Self::Write(_) => "NotWritten",
        }
    }
}

/// Shows the pods, once or again and again.
pub async fn top(args: TopArgs) -> Result<(), TopError> {
    let TopArgs {
        name,
        cluster,
        interval,
        watch,
    } = args;
    let cluster = cluster.find().await?;
    let mut before = samples(&cluster, name.as_deref()).await?;
    let mut output = io::stdout();
    loop {
        tokio::time::sleep(interval.get()).await;
        match samples(&cluster, name.as_deref()).await {
            Ok(after) => {
                if watch && output.is_terminal() {
                    output.write_all(CLEAR.as_bytes())?;
                }
                writeln!(output, "{}", Table::new(&before, &after))?;
                before = after;
            }
            // Who watches wants to see it come back.
            Err(error) if watch => eprintln!("wsgw: {error}"),
            Err(error) => return Err(error),
        }
        if !watch {
            return Ok(());
        }
    }
}

/// What each pod says now, by name.
async fn samples(cluster: &Cluster, name: Option<&str>) -> Result<Vec<Sample>, TopError> {
    let pods = cluster.gateway_pods(name).await?;
    if pods.is_empty() {
        return Err(TopError::NoPods {
            namespace: cluster.namespace.clone(),
            whose: name.map_or("any WsGateway".to_owned(), |name| {
                format!("WsGateway {name}")
            }),
        });
    }
    let asked = stream::iter(pods).map(|pod| sample(cluster, pod));
    let mut samples: Vec<_> = asked.buffered(ASKED_AT_ONCE).collect().await;
    samples.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(samples)
}

async fn sample(cluster: &Cluster, pod: Pod) -> Sample {
    let status = pod.status.unwrap_or_default();
    let mut sample = Sample {
        pod: pod.metadata.name.unwrap_or_default(),
        phase: status.phase.unwrap_or_default(),
        is_ready: status
            .conditions
            .unwrap_or_default()
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        reading: None,
        problem: None,
    };
    if sample.phase == "Running" {
        match read(cluster, &sample.pod).await {
            Ok(reading) => sample.reading = Some(reading),
            Err(problem) => sample.problem = Some(problem),
        }
    }
    sample
}

async fn read(cluster: &Cluster, pod: &str) -> Result<Reading, String> {
    let report = cluster.report(pod).await?;
    let metrics = cluster.admin_page(pod, "/metrics").await;
    let metrics = metrics.map_err(|error| error.to_string())?;
    Ok(Reading {
        at: Instant::now(),
        report,
        counters: Counters::parse(&metrics),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::tests::cluster;

    #[tokio::test]
    async fn each_running_pod_is_read_and_one_that_does_not_answer_hides_no_other() {
        let cluster = cluster(|path| {
            let pod = |name, phase, ready| {
                format!(
                    r#"{{"metadata":{{"name":"{name}"}},"status":{{"phase":"{phase}",
                    "conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
                )
            };
            let list = [
                pod("news-2", "Running", "True"),
                pod("news-1", "Running", "False"),
                pod("news-3", "Pending", "False"),
            ]
            .join(",");
            match path.split("/proxy").collect::<Vec<_>>()[..] {
                [_] => (200, format!(r#"{{"metadata":{{}},"items":[{list}]}}"#)),
                [pod, _] if pod.ends_with("news-1:9000") => (503, "no route to host".to_owned()),
                [_, "/metrics"] => (200, "wsgateway_messages_sent_total{route=\"a\"} 7\n".to_owned()),
                _ => {
                    let report = r#"{"version":"0.1.0","bootHash":"b","liveHash":"l","connections":3,
                        "draining":false,"nats":{"connected":true}}"#;
                    (200, report.to_owned())
                }
            }
        })
        .await;
        let samples = samples(&cluster, None).await.unwrap();
        let names: Vec<_> = samples.iter().map(|sample| sample.pod.as_str()).collect();
        assert_eq!(names, ["news-1", "news-2", "news-3"]);
        let problem = samples[0].problem.as_deref().unwrap();
        assert_eq!(
            problem,
            "cannot get /status of pod news-1: no route to host"
        );
        let reading = samples[1].reading.as_ref().unwrap();
        assert_eq!(
            (reading.report.connections, reading.counters.sent),
            (3, 7.0)
        );
        assert!(
            samples[1].is_ready && samples[2].reading.is_none() && samples[2].problem.is_none()
        );
    }

    #[tokio::test]
    async fn a_gateway_without_pods_is_no_empty_table() {
        let cluster = cluster(|_| (200, r#"{"metadata":{},"items":[]}"#.to_owned())).await;
        let error = samples(&cluster, Some("news")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "namespace shop has no pods of WsGateway news"
        );
    }
}
