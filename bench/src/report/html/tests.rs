use serde_json::Value;

use super::page;
use crate::compare::compare;
use crate::summary::{Summary, sample};

const HOSTILE: &str = "</title><script>alert('1')</script>\"&<!--";

/// Every text of the summary is hostile, but for those that have a form.
fn hostile() -> Summary {
    fn poison(value: &mut Value, key: &str) {
        match value {
            Value::String(text) if !["histogram", "kind"].contains(&key) => *text = HOSTILE.to_owned(),
            Value::Array(values) => values.iter_mut().for_each(|value| poison(value, key)),
            Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| poison(value, key)),
            _ => {}
        }
    }
    let mut summary = sample::summary();
    summary.checks.notes.push("a note".to_owned());
    summary.generator.bottleneck = true;
    summary.scenario.parameters.insert(HOSTILE.to_owned(), HOSTILE.into());
    summary.counts.errors.insert(HOSTILE.to_owned(), 1);
    summary.latencies.insert(HOSTILE.to_owned(), summary.latencies["ack"].clone());
    let mut value = serde_json::to_value(Summary::of_runs(vec![summary.clone(), summary]).unwrap()).unwrap();
    poison(&mut value, "");
    serde_json::from_value(value).unwrap()
}

/// Fails unless every element is closed where it should be.
fn assert_well_formed(page: &str) {
    const VOID: [&str; 2] = ["!doctype", "meta"];
    let mut open: Vec<&str> = Vec::new();
    for part in page.split('<').skip(1) {
        let (tag, rest) = part.split_once('>').unwrap_or_else(|| panic!("not closed: <{part}"));
        assert!(!rest.contains('>'), "a bare > after <{tag}>");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "near {rest}");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "<{tag}>");
    }
    assert!(open.is_empty(), "{open:?}");
}

fn assert_self_contained(page: &str) {
    for word in ["<script", "http:", "https:", "src=", "url(", "@import", "<link", "<iframe", "<!--", "onload"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn pages_are_whole_and_load_nothing() {
    let summary = sample::summary();
    let pages = [page(&summary), compare(&summary, &summary, false).unwrap().html()];
    for page in &pages {
        assert_well_formed(page);
        assert_self_contained(page);
        assert_eq!(
            page.matches("role=\"img\"").count(),
            page.matches("</desc>").count(),
            "each picture is told in words"
        );
    }
    assert!(pages[0].contains("ack: half within 1.61 ms, 99 % within 7.66 ms, all within 61.4 ms"));
    assert!(pages[0].contains("kill -9 of node 2 at 15.2 s"));
}

#[test]
fn no_text_becomes_markup() {
    let summary = hostile();
    for page in [page(&summary), compare(&summary, &summary, false).unwrap().html()] {
        assert_well_formed(&page);
        assert_self_contained(&page);
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)"));
    }
}

#[test]
fn ids_are_unique() {
    let page = page(&sample::summary());
    let ids: Vec<&str> = page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let mut once = ids.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), ids.len());
}
