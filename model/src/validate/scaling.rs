//! `spec.scaling`: what changes the number of workers by load.

use wsgateway_crds::v1alpha1::{self, KedaScaling, MetricType, ScalingType};

use super::findings::Findings;
use crate::gateway::{Autoscaler, Metric, Scaling};

pub(super) fn scaling(spec: v1alpha1::Scaling, findings: &mut Findings<'_>) -> Option<Scaling> {
    let v1alpha1::Scaling {
        type_,
        min_replicas,
        max_replicas,
        metrics,
        keda,
    } = spec;
    let by = match (type_, keda) {
        (ScalingType::Hpa, _) => Some(Autoscaler::Hpa),
        (ScalingType::Keda, Some(KedaScaling { prometheus })) => {
            Some(Autoscaler::Keda { prometheus })
        }
        (ScalingType::Keda, None) => missing("spec.scaling.keda", findings),
    };
    let metrics: Vec<Option<Metric>> = metrics
        .into_iter()
        .enumerate()
        .map(|(index, spec)| metric(&format!("spec.scaling.metrics[{index}]"), spec, findings))
        .collect();
    let metrics: Option<Vec<_>> = metrics.into_iter().collect();
    Some(Scaling {
        by: by?,
        min_replicas,
        max_replicas,
        metrics: metrics?,
    })
}

fn metric(path: &str, spec: v1alpha1::Metric, findings: &mut Findings<'_>) -> Option<Metric> {
    let v1alpha1::Metric {
        type_,
        average_value,
        average_utilization,
    } = spec;
    match (type_, average_value, average_utilization) {
        (MetricType::Connections, Some(value), _) => {
            let path = format!("{path}.averageValue");
            let value = findings.parse(&path, &value, "InvalidNumber")?;
            Some(Metric::Connections(value))
        }
        (MetricType::Cpu, _, Some(percent)) => Some(Metric::Cpu(percent)),
        (MetricType::Connections, None, _) => missing(&format!("{path}.averageValue"), findings),
        (MetricType::Cpu, _, None) => missing(&format!("{path}.averageUtilization"), findings),
    }
}

/// No object that the CRD lets pass is known to end here.
fn missing<T>(path: &str, findings: &mut Findings<'_>) -> Option<T> {
    findings.refuse(path, "MemberMissing", "must be set for this type");
    None
}
