//! `docs/bench-summary.schema.json` says what is written, no more and no less.

use serde_json::{Map, Value};

use super::{Summary, sample};

const SCHEMA: &str = include_str!("../../../docs/bench-summary.schema.json");

/// As much of JSON Schema as the document uses; stricter in that unlisted fields are wrong.
struct Validator {
    root: Value,
    wrong: Vec<String>,
    /// Every `properties` entry that a value was seen for.
    seen: std::collections::BTreeSet<String>,
}

impl Validator {
    fn check(&mut self, value: &Value, schema: &Value, path: &str) {
        if let Some(name) = schema["$ref"].as_str().and_then(|link| link.strip_prefix("#/$defs/")) {
            let definition = self.root["$defs"][name].clone();
            assert!(definition.is_object(), "{path}: no definition of {name}");
            return self.check(value, &definition, path);
        }
        let constant = schema.get("const").is_none_or(|constant| constant == value);
        let one_of = schema["enum"].as_array().is_none_or(|values| values.contains(value));
        let least = schema["minimum"].as_f64().is_none_or(|least| value.as_f64().is_none_or(|number| number >= least));
        if !(constant && one_of && least && has_type(value, &schema["type"])) {
            self.wrong.push(format!("{path}: {value} is not {schema}"));
        }
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.check(value, &schema["items"], path)),
            Value::Object(fields) => self.fields(fields, schema, path),
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, schema: &Value, path: &str) {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.wrong.push(format!("{path}.{name} is missing"));
            }
        }
        for (name, value) in fields {
            let path = format!("{path}.{name}");
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => {
                    self.seen.insert(format!("{name} {schema}"));
                    self.check(value, schema, &path);
                }
                (None, Some(schema)) => self.check(value, schema, &path),
                (None, None) => self.wrong.push(format!("{path} is not in the schema")),
            }
        }
    }
}

fn has_type(value: &Value, wanted: &Value) -> bool {
    let is = |name: &str| match name {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    };
    match wanted {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    }
}

fn check(summary: &Summary) -> Validator {
    let root: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut validator = Validator { root: root.clone(), wrong: Vec::new(), seen: Default::default() };
    validator.check(&serde_json::to_value(summary).unwrap(), &root, "");
    validator
}

#[test]
fn the_schema_is_what_is_written() {
    let run = sample::summary();
    assert_eq!(check(&run).wrong, Vec::<String>::new());
    let several = Summary::of_runs(vec![run.clone(), run.clone()]).unwrap();
    let validator = check(&several);
    assert_eq!(validator.wrong, Vec::<String>::new());
    let definitions = validator.root["$defs"].as_object().unwrap().values().chain([&validator.root]);
    let listed = definitions.filter_map(|definition| definition["properties"].as_object()).flatten();
    let stale: Vec<_> = listed.filter(|(name, schema)| !validator.seen.contains(&format!("{name} {schema}"))).collect();
    assert!(stale.is_empty(), "in the schema, and never written: {stale:?}");
    let mut bare = run;
    bare.cost = Default::default();
    bare.rates.intended_per_s = None;
    bare.checks.digests_equal = None;
    assert_eq!(check(&bare).wrong, Vec::<String>::new());
}

#[test]
fn what_is_not_a_summary_is_told_apart() {
    let mut text = sample::summary();
    text.schema_version = 2;
    assert!(check(&text).wrong[0].starts_with(".schema_version: 2 is not "));
}
