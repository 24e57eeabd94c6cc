//! Channel logs as the public IRC archives have them: one line an event. Pure.

mod nick;

pub use nick::user_id;

/// What one line of a log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// `[08:36] <nick> text`, or `[08:36]  * nick text` for an action.
    Said { minute: u32, nick: &'a str, action: bool, text: &'a str },
    /// `=== nick [user@host]  has joined #channel`
    Joined { nick: &'a str },
}

/// None for lines that nobody says: other system events, and messages without text.
pub fn parse_line(line: &str) -> Option<Line<'_>> {
    let line = line.trim_end_matches(['\r', '\n']);
    if let Some(event) = line.strip_prefix("=== ") {
        let (nick, rest) = event.split_once(' ')?;
        return (rest.starts_with('[') && rest.contains("] ") && rest.contains(" has joined #"))
            .then_some(Line::Joined { nick });
    }
    let (clock, said) = line.strip_prefix('[')?.split_once(']')?;
    let minute = parse_clock(clock)?;
    let (nick, text, action) = match said.strip_prefix("  * ") {
        Some(action) => action.split_once(' ').map(|(nick, text)| (nick, text, true))?,
        None => said.strip_prefix(" <")?.split_once('>').map(|(nick, text)| (nick, text, false))?,
    };
    let (nick, text) = (nick.trim(), text.strip_prefix(' ').unwrap_or(text));
    (!nick.is_empty() && !text.trim().is_empty()).then_some(Line::Said { minute, nick, action, text })
}

/// Minutes since midnight of `HH:MM`.
fn parse_clock(clock: &str) -> Option<u32> {
    let (hour, minute) = clock.split_once(':')?;
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some(hour * 60 + minute)
}

/// A message of a log, with its time since the log's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub offset_ms: u64,
    pub nick: String,
    pub action: bool,
    pub text: String,
}

/// One channel log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChannelLog {
    pub name: String,
    pub messages: Vec<Said>,
    /// Everybody who joined, whether they said anything or not.
    pub joined: Vec<String>,
}

/// Reads a whole log. Bytes that are not UTF-8 become U+FFFD.
pub fn parse_log(name: &str, bytes: &[u8]) -> ChannelLog {
    let text = String::from_utf8_lossy(bytes);
    let mut log = ChannelLog { name: name.to_owned(), ..ChannelLog::default() };
    let mut minutes = Vec::new();
    for line in text.lines().filter_map(parse_line) {
        match line {
            Line::Said { minute, nick, action, text } => {
                let text = plain(text);
                if !text.trim().is_empty() {
                    minutes.push(minute);
                    log.messages.push(Said { offset_ms: 0, nick: nick.to_owned(), action, text });
                }
            }
            Line::Joined { nick } => log.joined.push(nick.to_owned()),
        }
    }
    for (message, offset_ms) in log.messages.iter_mut().zip(offsets(&minutes)) {
        message.offset_ms = offset_ms;
    }
    log
}

/// A text without IRC's colour and style codes, which are control characters and refused in messages.
fn plain(text: &str) -> String {
    text.chars().filter(|c| *c == '\t' || !c.is_ascii_control()).collect()
}

/// The log's clock shows minutes and no day: messages of one minute are spread evenly over it, and a
/// clock that goes back has passed midnight.
fn offsets(minutes: &[u32]) -> Vec<u64> {
    const MINUTE_MS: u64 = 60_000;
    const DAY_MINUTES: u64 = 24 * 60;
    let first = minutes.first().map_or(0, |minute| u64::from(*minute));
    let mut offsets = Vec::with_capacity(minutes.len());
    let (mut day, mut before) = (0, 0);
    for same in minutes.chunk_by(|a, b| a == b) {
        let minute = same.first().map_or(0, |minute| u64::from(*minute));
        day += u64::from(minute < before);
        before = minute;
        let start_ms = (day * DAY_MINUTES + minute - first) * MINUTE_MS;
        let count = same.len() as u64;
        offsets.extend((0..count).map(|place| start_ms + place * MINUTE_MS / count));
    }
    offsets
}

#[cfg(test)]
mod tests;
