//! What the controller in front says of an Ingress in Events: F5's names there what it refuses.

use k8s_openapi::{api::events::v1::Event, jiff::Timestamp};
use kube::{Api, Client, api::ListParams};

/// Of one object there are few: the API server forgets them after an hour.
const EVENTS_MAX: u32 = 100;

/// The longest note that is quoted.
const NOTE_CHARS_MAX: usize = 500;

/// By these F5's controller says that an Ingress is served as it is; what it said before is over.
const WELL: [&str; 2] = ["AddedOrUpdated", "Updated"];

/// By these it says that it does not serve an Ingress.
const REJECTIONS: [&str; 3] = ["Rejected", "AddedOrUpdatedWithError", "UpdatedWithError"];

/// An object of which Events tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regarding {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which of those that had the name.
    pub uid: String,
}

/// What a controller said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quote {
    /// The controller.
    pub by: String,
    /// Its word.
    pub reason: String,
    /// Its sentence.
    pub note: String,
    /// Whether the Ingress is not served.
    pub is_rejection: bool,
}

/// The last word on an Ingress, where it is a warning. None where Events cannot be read: they only add to what is known.
pub(super) async fn last_warning(client: &Client, ingress: &Regarding) -> Option<Quote> {
    let Regarding {
        namespace,
        name,
        uid,
    } = ingress;
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let fields = format!("regarding.kind=Ingress,regarding.name={name},regarding.uid={uid}");
    let params = ListParams::default().fields(&fields).limit(EVENTS_MAX);
    match api.list(&params).await {
        Ok(events) => last(&events.items),
        Err(error) => {
            tracing::debug!(%error, "cannot read the Events of an Ingress");
            None
        }
    }
}

fn last(events: &[Event]) -> Option<Quote> {
    let is_warning = |event: &Event| event.type_.as_deref() == Some("Warning");
    let is_well = |event: &Event| WELL.contains(&event.reason.as_deref().unwrap_or_default());
    let words = events
        .iter()
        .filter(|event| is_warning(event) || is_well(event));
    let last = words.max_by_key(|event| (when(event), written(event)))?;
    if !is_warning(last) {
        return None;
    }
    let reason = last.reason.clone().unwrap_or_default();
    let by = last.reporting_controller.clone();
    let source = || last.deprecated_source.as_ref()?.component.clone();
    let by = by.filter(|name| !name.is_empty()).or_else(source);
    let note = last.note.as_deref().unwrap_or_default();
    Some(Quote {
        by: by.unwrap_or_else(|| "the controller".to_owned()),
        is_rejection: REJECTIONS.contains(&reason.as_str()),
        reason,
        note: note.chars().take(NOTE_CHARS_MAX).collect(),
    })
}

/// When it was said last, of the places where a controller may have put it.
fn when(event: &Event) -> Timestamp {
    let series = event.series.as_ref();
    let series = series.map(|series| series.last_observed_time.0);
    let legacy = || Some(event.deprecated_last_timestamp.as_ref()?.0);
    let at = || Some(event.event_time.as_ref()?.0);
    let created = || Some(event.metadata.creation_timestamp.as_ref()?.0);
    let when = series.or_else(legacy).or_else(at).or_else(created);
    when.unwrap_or_default()
}

/// The order in which the API server was told, for what was said in the same second.
fn written(event: &Event) -> u64 {
    let version = event.metadata.resource_version.as_deref();
    version
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_word_counts() {
        let event = |version: usize, type_: &str, reason: &str, minute: u32| -> Event {
            let event = json!({
                "metadata": {
                    "name": "e", "resourceVersion": (version + 9).to_string(),
                    "creationTimestamp": "2026-11-22T12:00:00Z",
                },
                "type": type_, "reason": reason, "note": "why",
                "deprecatedSource": {"component": "nginx-ingress-controller"},
                "deprecatedLastTimestamp": format!("2026-11-22T10:{minute:02}:00Z"),
            });
            serde_json::from_value(event).unwrap()
        };
        let check = |events: &[(&str, &str, u32)], expected: Option<(&str, bool)>| {
            let events: Vec<_> = events
                .iter()
                .enumerate()
                .map(|(version, (type_, reason, minute))| event(version, type_, reason, *minute))
                .rev() // They are listed by their names.
                .collect();
            let quote = last(&events);
            if let Some(quote) = &quote {
                assert_eq!(quote.by, "nginx-ingress-controller");
                assert_eq!(quote.note, "why");
            }
            let quote = quote.map(|quote| (quote.reason, quote.is_rejection));
            let expected = expected.map(|(reason, is)| (reason.to_owned(), is));
            assert_eq!(quote, expected, "{events:?}");
        };
        check(&[], None);
        check(&[("Normal", "Sync", 1)], None);
        check(&[("Warning", "Rejected", 1)], Some(("Rejected", true)));
        check(
            &[("Normal", "AddedOrUpdated", 2), ("Warning", "Rejected", 1)],
            None,
        );
        check(
            &[("Normal", "AddedOrUpdated", 1), ("Warning", "Rejected", 2)],
            Some(("Rejected", true)),
        );
        // In the same second.
        check(
            &[("Warning", "Rejected", 1), ("Normal", "AddedOrUpdated", 1)],
            None,
        );
        check(
            &[("Normal", "AddedOrUpdated", 1), ("Warning", "Rejected", 1)],
            Some(("Rejected", true)),
        );
        check(
            &[
                ("Warning", "AddedOrUpdatedWithWarning", 1),
                ("Normal", "Sync", 2),
            ],
            Some(("AddedOrUpdatedWithWarning", false)),
        );
    }
}
