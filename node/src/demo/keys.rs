//! Single keys from a terminal.

use std::io::{self, IsTerminal};
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, poll, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use tokio::sync::mpsc;

/// How often the reader looks whether anybody still listens.
const POLL: Duration = Duration::from_millis(100);
const QUEUE: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Kill,
    Revive,
    Quit,
    /// Not one of ours: the keys are shown again.
    Other,
}

/// Keys while this lives; the terminal is as before afterwards.
pub(super) struct Keys {
    receiver: mpsc::Receiver<Key>,
}

impl Keys {
    /// None where there is no terminal to read from.
    pub(super) fn open() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
            return Ok(None);
        }
        enable_raw_mode()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("keys".to_owned()).spawn(move || watch(&sender))?;
        Ok(Some(Self { receiver }))
    }

    /// The next key; `Quit` if there can be none.
    pub(super) async fn next(&mut self) -> Key {
        self.receiver.recv().await.unwrap_or(Key::Quit)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Err(error) = disable_raw_mode() {
            crate::cli::output::complain(format_args!("the terminal is not as before ({error}); run: reset"));
        }
    }
}

fn watch(sender: &mpsc::Sender<Key>) {
    while !sender.is_closed() {
        match poll(POLL).and_then(|ready| if ready { read().map(Some) } else { Ok(None) }) {
            Ok(Some(event)) => {
                // A full queue means that keys are hit faster than nodes can die: the surplus is dropped.
                if let Some(key) = key(&event) {
                    sender.try_send(key).ok();
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

fn key(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Key::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
        KeyCode::Char('k') => Key::Kill,
        KeyCode::Char('r') => Key::Revive,
        _ => Key::Other,
    })
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyEvent;

    use super::*;

    #[test]
    fn keys_are_understood() {
        let press = |code, modifiers| key(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(press(KeyCode::Char('k'), KeyModifiers::NONE), Some(Key::Kill));
        assert_eq!(press(KeyCode::Char('r'), KeyModifiers::NONE), Some(Key::Revive));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), Some(Key::Other));
        assert_eq!(key(&Event::FocusGained), None);
    }
}
