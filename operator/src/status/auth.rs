//! Whether the gateways have the keys that tokens are verified with.

use k8s_openapi::jiff::Timestamp;
use wsgateway_crds::report::{FetchFailure, ProviderReport};

use super::{Found, Verdict, Wanted, verdicts::reports};

/// The reason where no token can be verified anywhere, and nobody comes in without one.
pub(super) const NOBODY: &str = "NoKeys";

/// What one pod says of one provider.
struct Said<'a> {
    pod: &'a str,
    provider: &'a ProviderReport,
}

/// The verdict of `AuthReady`. No sentence holds a time that passes, or it would be written again and again.
pub(super) fn verdict(found: &Found<'_>, wanted: &Wanted) -> Verdict {
    let issuers = &wanted.auth;
    if issuers.names.is_empty() {
        return Verdict::yes(
            "NotConfigured",
            "spec.auth is not set: tokens are not looked at",
        );
    }
    let reports = reports(found).filter_map(|(pod, report)| {
        let report = report?.as_ref().ok()?;
        Some((&*pod.metadata.name, &report.auth))
    });
    // A pod that does not run this configuration yet may not know an issuer of it.
    let said: Vec<Said<'_>> = reports
        .flat_map(|(pod, providers)| providers.iter().map(move |provider| Said { pod, provider }))
        .filter(|said| issuers.names.contains(&said.provider.name))
        .collect();
    if said.is_empty() {
        return Verdict::unknown("NoReport", "no gateway has told yet");
    }
    let missing: Vec<_> = said.iter().filter(|it| it.provider.keys == 0).collect();
    if let Some(first) = missing.first() {
        let is_all = missing.len() == said.len() && issuers.guard_all_routes;
        let reason = if is_all { NOBODY } else { "KeysUnavailable" };
        let (counts, why) = (counts(&missing, &said), why(first));
        return Verdict::no(reason, format!("{counts} without keys; {why}"));
    }
    let stale: Vec<_> = said.iter().filter(|it| it.provider.stale).collect();
    if let Some(first) = stale.first() {
        let (counts, why) = (counts(&stale, &said), why(first));
        let since = first.provider.loaded.and_then(date);
        let since = since.map_or_else(String::new, |date| format!(", had last at {date}"));
        return Verdict::no("KeysStale", format!("{counts} with old keys{since}; {why}"));
    }
    let keys = issuers.names.iter().filter_map(|name| {
        let of_it = said.iter().filter(|it| it.provider.name == *name);
        let keys = of_it.map(|it| it.provider.keys).min()?;
        Some(format!("{keys} of {name}"))
    });
    let keys: Vec<_> = keys.collect();
    let mut sentence = format!("keys are loaded and not old: {}", keys.join(", "));
    if let Some(failed) = said.iter().find(|it| it.provider.failure.is_some()) {
        sentence = format!("{sentence}; {}", why(failed));
    }
    Verdict::yes("KeysLoaded", sentence)
}

/// `2 of 3 gateways are`, of the first provider that is concerned.
fn counts(concerned: &[&Said<'_>], all: &[Said<'_>]) -> String {
    let name = concerned.first().map_or("", |it| &it.provider.name);
    let of_it = |it: &&Said<'_>| it.provider.name == name;
    let some = concerned.iter().filter(|it| of_it(it)).count();
    let all = all.iter().filter(of_it).count();
    format!("provider {name}: {some} of {all} gateways are")
}

fn why(said: &Said<'_>) -> String {
    let Said { pod, provider } = said;
    match &provider.failure {
        Some(FetchFailure { reason, message }) => {
            format!("pod {pod} could not fetch them ({reason}): {message}")
        }
        None => format!("pod {pod} is fetching them"),
    }
}

fn date(seconds: u64) -> Option<String> {
    let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
