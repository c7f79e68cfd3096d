//! What changes replicas by load. Both kinds write the count of the `WsGateway` through its scale subresource, so that
//! there is one count, and the operator removes gateways one by one.

use k8s_openapi::{
    api::autoscaling::v2::{
        CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
        MetricIdentifier, MetricSpec, MetricTarget, PodsMetricSource, ResourceMetricSource,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::{Value, json};
use wsgateway_model::{
    Gateway,
    gateway::{Autoscaler, Metric, Scaling},
};

use super::{Object, Site, monitor, names};
use crate::kinds::Kind;

/// The series of open connections.
const CONNECTIONS: &str = "wsgateway_connections";

pub(super) fn autoscaler(gateway: &Gateway, site: &Site, scaling: &Scaling) -> Object {
    match &scaling.by {
        Autoscaler::Hpa => hpa(gateway, site, scaling),
        Autoscaler::Keda { prometheus } => scaled_object(gateway, site, scaling, prometheus),
    }
}

fn hpa(gateway: &Gateway, site: &Site, scaling: &Scaling) -> Object {
    let count = |replicas: u32| i32::try_from(replicas).unwrap_or(i32::MAX);
    let object = HorizontalPodAutoscaler {
        metadata: names::metadata(gateway, site, gateway.name.as_str()),
        spec: HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some(Kind::WsGateway.resource().api_version),
                kind: Kind::WsGateway.name().to_owned(),
                name: gateway.name.to_string(),
            },
            min_replicas: Some(count(scaling.min_replicas)),
            max_replicas: count(scaling.max_replicas),
            metrics: Some(scaling.metrics.iter().copied().map(hpa_metric).collect()),
            ..HorizontalPodAutoscalerSpec::default()
        },
        ..HorizontalPodAutoscaler::default()
    };
    names::typed(Kind::HorizontalPodAutoscaler, &object.metadata, &object)
}

fn hpa_metric(metric: Metric) -> MetricSpec {
    match metric {
        Metric::Connections(average) => MetricSpec {
            type_: "Pods".to_owned(),
            pods: Some(PodsMetricSource {
                metric: MetricIdentifier {
                    name: CONNECTIONS.to_owned(),
                    ..MetricIdentifier::default()
                },
                target: MetricTarget {
                    type_: "AverageValue".to_owned(),
                    average_value: Some(Quantity(average.to_string())),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        },
        Metric::Cpu(percent) => MetricSpec {
            type_: "Resource".to_owned(),
            resource: Some(ResourceMetricSource {
                name: "cpu".to_owned(),
                target: MetricTarget {
                    type_: "Utilization".to_owned(),
                    average_utilization: Some(i32::try_from(percent).unwrap_or(i32::MAX)),
                    ..MetricTarget::default()
                },
            }),
            ..MetricSpec::default()
        },
    }
}

fn scaled_object(gateway: &Gateway, site: &Site, scaling: &Scaling, prometheus: &str) -> Object {
    let triggers: Vec<Value> = scaling
        .metrics
        .iter()
        .map(|metric| match metric {
            Metric::Connections(average) => json!({
                "type": "prometheus",
                "metadata": {
                    "serverAddress": prometheus,
                    "query": format!("sum({CONNECTIONS}{{{}}})", monitor::selector(gateway)),
                    "threshold": average.to_string(),
                    // Else a Prometheus that has lost its targets reads as nobody connected, and takes gateways away.
                    "ignoreNullValues": "false",
                },
            }),
            Metric::Cpu(percent) => json!({
                "type": "cpu",
                "metricType": "Utilization",
                "metadata": {"value": percent.to_string()},
            }),
        })
        .collect();
    let spec = json!({
        "scaleTargetRef": {
            "apiVersion": Kind::WsGateway.resource().api_version,
            "kind": Kind::WsGateway.name(),
            "name": gateway.name,
        },
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "triggers": triggers,
    });
    let metadata = names::metadata(gateway, site, gateway.name.as_str());
    names::untyped(Kind::ScaledObject, &metadata, &spec)
}
