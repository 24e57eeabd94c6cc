//! The rules for texts that people write and other people read.

use crate::limits;

/// Why a text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("it is empty")]
    Empty,
    #[error("it has {len} bytes, at most {max} are allowed")]
    TooLong { len: usize, max: usize },
    #[error("it has the control character {found:?}, which is not allowed there")]
    Control { found: char },
}

/// A message's text: not empty, at most [`limits::TEXT_BYTES`], of the control characters only newline and tab.
///
/// The others (C0 and DEL) have no meaning in a chat and can do harm in terminals and logs. Anything else that is
/// UTF-8 is the author's business, right-to-left marks and joiners included: real scripts and emoji need them.
pub fn check_message(text: &str) -> Result<(), TextError> {
    check(text, limits::TEXT_BYTES, |c| c == '\n' || c == '\t')
}

/// A longer text that is no message: lines and tabs, not empty, at most `max` bytes.
pub fn check_long(text: &str, max: usize) -> Result<(), TextError> {
    check(text, max, |c| c == '\n' || c == '\t')
}

/// A group's name: one line, not blank, at most [`limits::NAME_BYTES`].
pub fn check_name(name: &str) -> Result<(), TextError> {
    if name.trim().is_empty() {
        return Err(TextError::Empty);
    }
    check(name, limits::NAME_BYTES, |_| false)
}

/// A device's name or platform: as a group's name, but it may be missing.
pub fn check_label(label: &str) -> Result<(), TextError> {
    if label.is_empty() { Ok(()) } else { check_name(label) }
}

/// A reaction: an emoji or a short word.
pub fn check_reaction(reaction: &str) -> Result<(), TextError> {
    if reaction.trim().is_empty() {
        return Err(TextError::Empty);
    }
    check(reaction, limits::REACTION_BYTES, |_| false)
}

fn check(text: &str, max: usize, allowed: fn(char) -> bool) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > max {
        return Err(TextError::TooLong { len: text.len(), max });
    }
    match text.chars().find(|c| c.is_ascii_control() && !allowed(*c)) {
        Some(found) => Err(TextError::Control { found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_have_lines_and_tabs_and_nothing_else_that_controls() {
        assert_eq!(check_message("one\n\ttwo \u{200f}\u{1f468}\u{200d}\u{1f469}"), Ok(()));
        assert_eq!(check_message(""), Err(TextError::Empty));
        for bad in ['\0', '\r', '\u{1b}', '\u{7f}'] {
            assert_eq!(check_message(&format!("a{bad}")), Err(TextError::Control { found: bad }));
        }
        assert_eq!(check_message(&"x".repeat(limits::TEXT_BYTES)), Ok(()));
        assert!(matches!(check_message(&"x".repeat(limits::TEXT_BYTES + 1)), Err(TextError::TooLong { .. })));
    }

    #[test]
    fn a_name_is_one_visible_line() {
        assert_eq!(check_name("#ubuntu"), Ok(()));
        assert_eq!(check_name(" \u{3000}"), Err(TextError::Empty));
        assert_eq!(check_name("a\nb"), Err(TextError::Control { found: '\n' }));
        assert!(matches!(check_name(&"x".repeat(limits::NAME_BYTES + 1)), Err(TextError::TooLong { .. })));
        assert_eq!(check_label(""), Ok(()));
        assert_eq!(check_reaction("\u{1f44d}\u{1f3fd}"), Ok(()));
        assert_eq!(check_reaction(" "), Err(TextError::Empty));
        assert!(check_reaction(&"x".repeat(limits::REACTION_BYTES + 1)).is_err());
    }
}
