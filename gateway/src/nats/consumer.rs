//! A queue's durable consumer: made where it does not exist, never changed where it does.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, ErrorCode,
        consumer::{self, AckPolicy},
        context::RequestError,
        response::Response,
    },
};
use serde_json::json;
use wsgateway_crds::config::{self, JetStreamApi};

use crate::queue::PULL_BATCH_MAX;

/// How long JetStream may take to answer.
const API_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream's API where the configuration says it is.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) client: Client,
    pub(super) context: jetstream::Context,
    prefix: String,
}

/// An existing consumer with the right settings.
#[derive(Debug)]
pub(super) struct Consumer {
    /// The largest batch that it allows.
    pub(super) batch_max: u32,
    /// The longest time that it allows a pull to wait, where it says.
    pub(super) expires_max: Option<Duration>,
}

/// Why a queue's consumer cannot be pulled from.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("the stream {0} does not exist")]
    NoStream(String),
    #[error("the consumer {durable} exists with other settings: {differences}")]
    Conflict {
        durable: String,
        differences: String,
    },
    #[error("JetStream refuses the consumer")]
    Refused(#[source] jetstream::Error),
    #[error("JetStream does not answer")]
    Unavailable(#[source] RequestError),
}

impl Api {
    pub(super) fn new(client: Client, api: &JetStreamApi) -> Self {
        let prefix = match (api.domain.as_str(), api.api_prefix.as_str()) {
            ("", "") => "$JS.API".to_owned(),
            (domain, "") => format!("$JS.{domain}.API"),
            (_, prefix) => prefix.trim_end_matches('.').to_owned(),
        };
        let context = jetstream::ContextBuilder::new()
            .api_prefix(prefix.clone())
            .timeout(API_TIMEOUT)
            .build(client.clone());
        Self {
            client,
            context,
            prefix,
        }
    }

    /// Where a consumer's pulls go.
    pub(super) fn pull_subject(&self, queue: &config::Queue) -> String {
        format!(
            "{}.CONSUMER.MSG.NEXT.{}.{}",
            self.prefix, queue.stream, queue.durable
        )
    }

    /// The queue's consumer, which is made if there is none.
    pub(super) async fn open(&self, queue: &config::Queue) -> Result<Consumer, OpenError> {
        match self.look_up(queue).await {
            Err(OpenError::Refused(error))
                if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {}
            found => return found,
        }
        match self.create(queue).await {
            // Another gateway was faster.
            Err(OpenError::Refused(error))
                if [
                    ErrorCode::CONSUMER_ALREADY_EXISTS,
                    ErrorCode::CONSUMER_NAME_EXIST,
                ]
                .contains(&error.error_code()) =>
            {
                self.look_up(queue).await
            }
            created => created,
        }
    }

    async fn look_up(&self, queue: &config::Queue) -> Result<Consumer, OpenError> {
        let subject = format!("CONSUMER.INFO.{}.{}", queue.stream, queue.durable);
        let answer = self.context.request(subject, &json!({})).await;
        check(queue, answer.map_err(OpenError::Unavailable)?)
    }

    async fn create(&self, queue: &config::Queue) -> Result<Consumer, OpenError> {
        let subject = format!("CONSUMER.CREATE.{}.{}", queue.stream, queue.durable);
        let request = json!({
            "stream_name": queue.stream,
            "config": wanted(queue),
            "action": "create",
        });
        let answer = self.context.request(subject, &request).await;
        check(queue, answer.map_err(OpenError::Unavailable)?)
    }
}

fn check(queue: &config::Queue, answer: Response<consumer::Info>) -> Result<Consumer, OpenError> {
    match answer {
        Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
            Err(OpenError::NoStream(queue.stream.clone()))
        }
        Response::Err { error } => Err(OpenError::Refused(error)),
        Response::Ok(info) => {
            let differences = differences(&info.config, queue);
            if !differences.is_empty() {
                let durable = queue.durable.clone();
                return Err(OpenError::Conflict {
                    durable,
                    differences: differences.join("; "),
                });
            }
            let batch_max = u32::try_from(info.config.max_batch)
                .ok()
                .filter(|max| *max > 0);
            let expires_max = Some(info.config.max_expires).filter(|max| !max.is_zero());
            Ok(Consumer {
                batch_max: batch_max.unwrap_or(PULL_BATCH_MAX),
                expires_max,
            })
        }
    }
}

/// The consumer as it should be.
///
/// Its deliveries are unlimited, since the gateway counts them: see `queue`. So are those that are not
/// acknowledged, since clients' credit limits them.
fn wanted(queue: &config::Queue) -> consumer::Config {
    consumer::Config {
        durable_name: Some(queue.durable.clone()),
        name: Some(queue.durable.clone()),
        description: Some("Work for the clients of a WsGateway".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: queue.ack_wait.get(),
        max_deliver: -1,
        max_ack_pending: -1,
        filter_subjects: queue
            .filter_subjects
            .iter()
            .map(ToString::to_string)
            .collect(),
        ..consumer::Config::default()
    }
}

/// In what an existing consumer differs from what the queue needs.
fn differences(found: &consumer::Config, queue: &config::Queue) -> Vec<String> {
    let mut differences = Vec::new();
    let mut differs = |is_so: bool, what: String| {
        if is_so {
            differences.push(what);
        }
    };
    differs(
        found.deliver_subject.is_some(),
        "it is a push consumer".to_owned(),
    );
    differs(
        found.ack_policy != AckPolicy::Explicit,
        format!(
            "its ack policy is {:?} instead of Explicit",
            found.ack_policy
        ),
    );
    let ack_wait = queue.ack_wait.get();
    differs(
        found.ack_wait != ack_wait,
        format!(
            "its ack wait is {:?} instead of {ack_wait:?}",
            found.ack_wait
        ),
    );
    differs(
        found.max_deliver != -1,
        format!(
            "its max deliver is {} instead of unlimited (-1): the gateway counts deliveries itself",
            found.max_deliver
        ),
    );
    let single = Some(found.filter_subject.as_str()).filter(|filter| !filter.is_empty());
    let found_filters: BTreeSet<&str> = found
        .filter_subjects
        .iter()
        .map(String::as_str)
        .chain(single)
        .collect();
    let filters: BTreeSet<String> = queue
        .filter_subjects
        .iter()
        .map(ToString::to_string)
        .collect();
    differs(
        !found_filters
            .iter()
            .copied()
            .eq(filters.iter().map(String::as_str)),
        format!("its filter subjects are {found_filters:?} instead of {filters:?}"),
    );
    differs(found.headers_only, "it delivers headers only".to_owned());
    differs(
        !found.backoff.is_empty(),
        "it has a backoff, which overrides its ack wait".to_owned(),
    );
    differs(
        !found.priority_groups.is_empty(),
        "it has priority groups".to_owned(),
    );
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> config::Queue {
        config::Queue {
            stream: "JOBS".into(),
            durable: "d".into(),
            filter_subjects: vec!["jobs.a".parse().unwrap(), "jobs.b".parse().unwrap()],
            ack_wait: wsgateway_crds::value::Duration::from_secs(30),
            max_deliver: 5,
            max_in_flight_per_client: 16,
            dead_letter: None,
        }
    }

    #[test]
    fn a_consumer_that_we_made_has_no_differences() {
        let mut found = wanted(&queue());
        assert!(differences(&found, &queue()).is_empty());
        found.filter_subjects.reverse();
        found.max_ack_pending = 1_000;
        found.description = None;
        assert!(
            differences(&found, &queue()).is_empty(),
            "order and limits do not matter"
        );
        let one = config::Queue {
            filter_subjects: vec!["jobs.a".parse().unwrap()],
            ..queue()
        };
        let mut found = wanted(&one);
        (found.filter_subject, found.filter_subjects) = ("jobs.a".into(), vec![]);
        assert!(
            differences(&found, &one).is_empty(),
            "one filter may stand in either field"
        );
    }

    #[test]
    fn each_difference_is_named() {
        let check = |change: fn(&mut consumer::Config), expected: &str| {
            let mut found = wanted(&queue());
            change(&mut found);
            let differences = differences(&found, &queue()).join("; ");
            assert!(differences.contains(expected), "{differences}");
        };
        check(|found| found.deliver_subject = Some("x".into()), "push");
        check(
            |found| found.ack_policy = AckPolicy::All,
            "is All instead of Explicit",
        );
        check(
            |found| found.ack_wait = Duration::from_secs(5),
            "is 5s instead of 30s",
        );
        check(|found| found.max_deliver = 7, "is 7 instead of unlimited");
        check(
            |found| found.filter_subjects.truncate(1),
            r#"{"jobs.a"} instead of {"jobs.a", "jobs.b"}"#,
        );
        check(|found| found.headers_only = true, "headers only");
        check(
            |found| found.backoff = vec![Duration::from_secs(1)],
            "backoff",
        );
    }
}
