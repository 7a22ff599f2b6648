//! Values that JSON can only carry as text.

use std::{
    fmt,
    marker::PhantomData,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment: milliseconds since 1970 in UTC, written as RFC 3339 (`2026-11-21T10:00:00.123Z`).
///
/// Reading takes a fraction of any length and rounds down. Moments before 1970 do not exist here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp {
    unix_ms: u64,
}

/// 9999-12-31T23:59:59.999Z: beyond it the text form has no fixed width.
const LAST_UNIX_MS: u64 = 253_402_300_799_999;

impl Timestamp {
    /// The moment that many milliseconds after 1970; the year 9999 is the last.
    #[must_use]
    pub fn from_unix_ms(unix_ms: u64) -> Self {
        Self { unix_ms: unix_ms.min(LAST_UNIX_MS) }
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub const fn unix_ms(self) -> u64 {
        self.unix_ms
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_unix_ms(u64::try_from(since.as_millis()).unwrap_or(LAST_UNIX_MS))
    }
}

impl From<Timestamp> for SystemTime {
    fn from(time: Timestamp) -> Self {
        UNIX_EPOCH + Duration::from_millis(time.unix_ms)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis((*self).into()).fmt(f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        humantime::parse_rfc3339(text)
            .map(Into::into)
            .map_err(|_unreadable| InvalidText { expected: "a time such as 2026-11-21T10:00:00Z" })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// Bytes, written as standard base64 with padding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

impl From<Vec<u8>> for Base64 {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl FromStr for Base64 {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        STANDARD
            .decode(text)
            .map(Self)
            .map_err(|_unreadable| InvalidText { expected: "standard base64 with padding" })
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// Both are text in a schema.
#[cfg(feature = "openapi")]
mod openapi {
    use utoipa::{
        PartialSchema, ToSchema,
        openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, schema::Type},
    };

    use super::{Base64, Timestamp};

    impl PartialSchema for Timestamp {
        fn schema() -> RefOr<Schema> {
            text(KnownFormat::DateTime, "RFC 3339 in UTC with milliseconds")
        }
    }

    impl ToSchema for Timestamp {}

    impl PartialSchema for Base64 {
        fn schema() -> RefOr<Schema> {
            text(KnownFormat::Byte, "Standard base64 with padding")
        }
    }

    impl ToSchema for Base64 {}

    fn text(format: KnownFormat, description: &str) -> RefOr<Schema> {
        let format = Some(SchemaFormat::KnownFormat(format));
        let text = ObjectBuilder::new().schema_type(Type::String).format(format);
        text.description(Some(description)).into()
    }
}

/// A text is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct InvalidText {
    expected: &'static str,
}

/// Reads any `FromStr` without copying the text first.
struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = InvalidText>> de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_utc_with_milliseconds() {
        let time = Timestamp::from_unix_ms(1_795_255_200_123);
        assert_eq!(time.to_string(), "2026-11-21T10:00:00.123Z");
        assert_eq!(time.to_string().parse(), Ok(time));
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-21T10:00:00.123Z\"");
    }

    #[test]
    fn a_timestamp_that_is_none_is_refused() {
        assert!(serde_json::from_str::<Timestamp>("\"yesterday\"").is_err());
        assert!(serde_json::from_str::<Timestamp>("12").is_err());
    }

    #[test]
    fn any_moment_can_be_written() {
        assert_eq!(Timestamp::from_unix_ms(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn bytes_survive_as_base64() {
        let bytes = Base64(vec![0, 255, 10]);
        let json = serde_json::to_string(&bytes).unwrap();
        assert_eq!(json, "\"AP8K\"");
        assert_eq!(serde_json::from_str::<Base64>(&json).unwrap(), bytes);
        assert!(serde_json::from_str::<Base64>("\"AP8\"").is_err());
    }
}
