//! What a message holds, and what is shown with it.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::ids::UserId;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    Text {
        text: String,
    },
    Action {
        text: String,
    },
    /// Whatever the app makes of it: any JSON value. Bytes go in as a base64 string.
    Custom {
        data: Value,
    },
    Location {
        latitude: Degrees,
        longitude: Degrees,
        #[serde(default)]
        label: String,
    },
    Contact {
        user: UserId,
        name: String,
    },
    /// Messages of another conversation, as whoever sends them shows them.
    Merged {
        title: String,
        items: Vec<MergedItem>,
    },
}

/// One of the messages of a [`Body::Merged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedItem {
    pub from: UserId,
    pub time_ms: u64,
    pub body: Body,
}

/// Degrees of a circle in whole ten-millionths, a centimetre on the ground: bodies compare exactly, which floats do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Degrees(i32);

impl Degrees {
    const PER_DEGREE: f64 = 1e7;
    /// A quarter of a circle: as far as a latitude goes.
    pub const QUARTER: Self = Self(900_000_000);

    /// None beyond half a circle in either direction.
    pub fn new(degrees: f64) -> Option<Self> {
        // Within these bounds the product fits.
        (degrees.abs() <= 180.0).then(|| Self((degrees * Self::PER_DEGREE).round() as i32))
    }

    pub fn is_latitude(self) -> bool {
        self.0.abs() <= Self::QUARTER.0
    }
}

impl Serialize for Degrees {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / Self::PER_DEGREE)
    }
}

impl<'de> Deserialize<'de> for Degrees {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let degrees = f64::deserialize(deserializer)?;
        Self::new(degrees).ok_or_else(|| D::Error::custom("degrees are between -180 and 180"))
    }
}

/// A message that was taken back, or was for a while. Nobody is told what it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// The author, or whoever runs the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<UserId>,
    /// It was for a while, and that is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

/// One of the reactions to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    pub reaction: String,
    pub count: u64,
    /// The first of those who reacted so.
    pub users: Vec<UserId>,
    /// Whoever asks is among them.
    pub mine: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_are_read_and_written_as_numbers_to_seven_places() {
        for text in ["52.5163", "-179.9999999", "0.0000001", "180.0", "0.0"] {
            let degrees: Degrees = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&degrees).unwrap().parse::<f64>(), text.parse::<f64>());
        }
        assert_eq!(serde_json::from_str::<Degrees>("13").unwrap(), Degrees::new(13.0).unwrap());
        assert!(serde_json::from_str::<Degrees>("180.1").is_err());
        assert!(Degrees::new(f64::NAN).is_none());
        assert!(Degrees::new(-90.0).unwrap().is_latitude() && !Degrees::new(90.000001).unwrap().is_latitude());
    }
}
