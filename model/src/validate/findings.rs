//! What has been found so far, and the checks that every part of the spec uses.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use wsgateway_crds::{
    v1alpha1::SizeText,
    value::{Duration, Size},
};

use super::{Contents, Reason, Referenced};
use crate::{
    gateway::{Content, KeyOf, ReferenceKind, SecretBytes},
    lint::one_line,
};

/// The reasons so far, and what may be referred to.
pub(super) struct Findings<'a> {
    referenced: &'a Referenced,
    reasons: Vec<Reason>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(referenced: &'a Referenced) -> Self {
        Self {
            referenced,
            reasons: Vec::new(),
        }
    }

    pub(super) fn into_reasons(self) -> Vec<Reason> {
        self.reasons
    }

    /// Whether nothing was wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Notes a reason.
    pub(super) fn refuse(&mut self, path: &str, reason: &'static str, message: impl AsRef<str>) {
        let message = one_line(message.as_ref());
        self.reasons.push(Reason {
            path: path.to_owned(),
            reason,
            message,
        });
    }

    /// What came of a constructor, its error being the message.
    pub(super) fn take<T, E: Display>(
        &mut self,
        path: &str,
        result: Result<T, E>,
        reason: &'static str,
    ) -> Option<T> {
        result
            .map_err(|error| self.refuse(path, reason, error.to_string()))
            .ok()
    }

    /// Parses a text into its type.
    pub(super) fn parse<T>(&mut self, path: &str, text: &str, reason: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.take(path, text.parse(), reason)
    }

    /// Parses each text of a list. `None` where one of them is wrong; all of those are noted.
    pub(super) fn parse_all<T>(
        &mut self,
        path: &str,
        texts: &[String],
        reason: &'static str,
    ) -> Option<Vec<T>>
    where
        T: FromStr,
        T::Err: Display,
    {
        let parsed: Vec<Option<T>> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| self.parse(&format!("{path}[{index}]"), text, reason))
            .collect();
        parsed.into_iter().collect()
    }

    /// A duration within its bounds.
    pub(super) fn duration(
        &mut self,
        path: &str,
        text: &str,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let duration = self.parse(path, text, "InvalidDuration")?;
        self.within(path, duration, bounds, "DurationOutOfBounds")
    }

    /// A size within its bounds.
    pub(super) fn size(
        &mut self,
        path: &str,
        text: &SizeText,
        bounds: &RangeInclusive<Size>,
    ) -> Option<Size> {
        let size = self.take(path, text.parse(), "InvalidSize")?;
        self.within(path, size, bounds, "SizeOutOfBounds")
    }

    fn within<T: PartialOrd + Display>(
        &mut self,
        path: &str,
        value: T,
        bounds: &RangeInclusive<T>,
        reason: &'static str,
    ) -> Option<T> {
        if bounds.contains(&value) {
            return Some(value);
        }
        let (least, most) = (bounds.start(), bounds.end());
        self.refuse(
            path,
            reason,
            format!("must be {least} to {most}, but is {value}"),
        );
        None
    }

    /// Whether contents are the kubelet's to mount and nobody's to look at here.
    pub(super) fn is_mounted(&self) -> bool {
        self.referenced.contents == Contents::Mounted
    }

    /// The NATS servers of who names none.
    pub(super) fn nats_servers(&self) -> &'a [String] {
        &self.referenced.nats_servers
    }

    /// What a key of a Secret or `ConfigMap` holds.
    pub(super) fn content(&mut self, path: &str, at: KeyOf) -> Option<Content> {
        let bytes = match at.kind {
            _ if self.is_mounted() => SecretBytes::new(Vec::new()),
            ReferenceKind::Secret => self.secret(path, &at.name, &at.key)?,
            ReferenceKind::ConfigMap => self.config_map(path, &at.name, &at.key)?,
        };
        Some(Content { at, bytes })
    }

    /// The bytes of a key of a Secret.
    fn secret(&mut self, path: &str, name: &str, key: &str) -> Option<SecretBytes> {
        let Some(secret) = self.referenced.secrets.get(name) else {
            self.refuse(path, "SecretNotFound", format!("there is no Secret {name}"));
            return None;
        };
        match secret.get(key) {
            Some(bytes) if bytes.expose().trim_ascii().is_empty() => {
                let message = format!("key {key} of Secret {name} is empty");
                self.refuse(path, "SecretKeyEmpty", message);
                None
            }
            Some(bytes) => Some(bytes.clone()),
            None => {
                let message = format!(
                    "Secret {name} has no key {key}; it has {}",
                    list(secret.keys())
                );
                self.refuse(path, "SecretKeyNotFound", message);
                None
            }
        }
    }

    /// The bytes of a key of a `ConfigMap`.
    fn config_map(&mut self, path: &str, name: &str, key: &str) -> Option<SecretBytes> {
        let Some(map) = self.referenced.config_maps.get(name) else {
            self.refuse(
                path,
                "ConfigMapNotFound",
                format!("there is no ConfigMap {name}"),
            );
            return None;
        };
        let Some(bytes) = map.get(key) else {
            let message = format!(
                "ConfigMap {name} has no key {key}; it has {}",
                list(map.keys())
            );
            self.refuse(path, "ConfigMapKeyNotFound", message);
            return None;
        };
        Some(SecretBytes::new(bytes.clone()))
    }
}

fn list<'a>(keys: impl Iterator<Item = &'a String>) -> String {
    let keys: Vec<_> = keys.map(String::as_str).collect();
    if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    }
}
