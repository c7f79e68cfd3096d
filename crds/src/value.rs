//! Values with a grammar. Each is parsed once, by its `FromStr`, and is right from then on.

mod duration;
mod network;
mod origin;
mod path;
mod role;
mod size;
mod subject;

pub use duration::{Duration, DurationError};
pub use network::{Network, NetworkError};
pub use origin::{OriginPattern, OriginPatternError};
pub use path::{PathError, PathMatch, PathTemplate, query_value};
pub use role::{Role, RoleError};
pub use size::{Size, SizeError};
pub use subject::{
    Pattern, Subject, SubjectError, Template, TemplateError, TemplateValues, ValueError,
    patterns_overlap, subject_matches,
};

/// Implements serde through `FromStr` and `Display`, so that a parsed value is the only one there is.
macro_rules! serde_as_string {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
use serde_as_string;
