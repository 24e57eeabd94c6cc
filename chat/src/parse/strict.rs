//! JSON with what serde_json does not refuse by itself: deep nesting and repeated keys.
//!
//! Two parsers that take different ones of a repeated key's values read different requests; so there is to be one.

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Problem;
use crate::limits;

/// The object that `text` is.
pub(super) fn object(text: &str) -> Result<Map<String, Value>, Problem> {
    let problem = RefCell::new(None);
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: 1, problem: &problem }.deserialize(&mut json);
    match value.and_then(|value| json.end().map(|()| value)) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Problem::NotAnObject),
        Err(error) => Err(problem.take().unwrap_or_else(|| Problem::NotJson { message: error.to_string() })),
    }
}

/// The `id` of a frame that is otherwise refused.
pub(super) fn id(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        id: u64,
    }
    // serde takes a list for a struct, too.
    let object = text.trim_start().starts_with('{');
    serde_json::from_str::<Numbered>(text).ok().filter(|_| object).map(|frame| frame.id)
}

struct Strict<'a> {
    depth: usize,
    /// serde's errors are texts; what is found here is kept beside them.
    problem: &'a RefCell<Option<Problem>>,
}

impl Strict<'_> {
    fn deeper<E: Error>(&self) -> Result<Strict<'_>, E> {
        if self.depth > limits::FRAME_DEPTH {
            return Err(self.stop(Problem::TooDeep { max: limits::FRAME_DEPTH }));
        }
        Ok(Strict { depth: self.depth + 1, problem: self.problem })
    }

    fn stop<E: Error>(&self, problem: Problem) -> E {
        let error = E::custom(&problem);
        *self.problem.borrow_mut() = Some(problem);
        error
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(self.deeper()?)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(self.stop(Problem::RepeatedKey { key }));
            }
            let value = entries.next_value_seed(self.deeper()?)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}
