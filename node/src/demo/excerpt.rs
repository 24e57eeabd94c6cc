//! A real conversation that the demo's group is filled with.

use chat::ids::UserId;
use chat::wire::Body;

const TEXT: &str = include_str!("excerpt.txt");

/// What somebody once said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) nick: UserId,
    pub(super) body: Body,
}

/// The excerpt, in order. Lines that are not messages are passed over.
pub(super) fn lines() -> Vec<Line> {
    TEXT.lines().filter_map(parse).collect()
}

/// `[09:15] <will> text`, or `[09:15]  * will text` for an action.
fn parse(line: &str) -> Option<Line> {
    let (_, said) = line.strip_prefix('[')?.split_once("] ")?;
    if let Some(action) = said.strip_prefix(" * ") {
        let (nick, text) = action.split_once(' ')?;
        return Some(Line { nick: UserId::new(nick).ok()?, body: Body::Action { text: text.to_owned() } });
    }
    let (nick, text) = said.strip_prefix('<')?.split_once("> ")?;
    Some(Line { nick: UserId::new(nick).ok()?, body: Body::Text { text: text.to_owned() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_excerpt_is_somebodys_and_the_attribution_is_not() {
        let written = TEXT.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines().len(), written);
        assert!(written > 40);
        assert!(TEXT.contains("public domain"));
    }

    #[test]
    fn actions_and_messages_are_told_apart() {
        let action = parse("[09:15]  * will waves").unwrap();
        assert_eq!(action.body, Body::Action { text: "waves".into() });
        let message = parse("[09:15] <|QuaD-> totem > xine").unwrap();
        assert_eq!((message.nick.as_str(), message.body), ("|QuaD-", Body::Text { text: "totem > xine".into() }));
        assert_eq!(parse("=== L0sT has joined #ubuntu"), None);
    }
}
