//! Asks for a password: from a private file, from a terminal without showing it, or from a pipe.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;

use chat::limits;
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use zeroize::Zeroizing;

use super::{Code, Exit, Failure, read_secret};

pub(super) fn obtain(file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    let password = match file {
        Some(file) => read_secret(file)?,
        None => asked().map_err(|error| {
            Failure::new(Code::File, Exit::Failed, "no password was read")
                .because(&error)
                .next("name a file that holds it: --password-file FILE")
        })?,
    };
    let allowed = limits::PASSWORD_BYTES_MIN..=limits::PASSWORD_BYTES_MAX;
    if !allowed.contains(&password.len()) {
        let message = format!("a password has {} to {} bytes", allowed.start(), allowed.end());
        return Err(Failure::new(Code::Argument, Exit::Usage, message));
    }
    Ok(password)
}

fn asked() -> io::Result<Zeroizing<String>> {
    if !io::stdin().is_terminal() {
        let mut line = Zeroizing::new(String::new());
        io::stdin().lock().read_line(&mut line)?;
        return Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let mut screen = io::stderr();
    write!(screen, "password: ")?;
    screen.flush()?;
    enable_raw_mode()?;
    let typed = hidden();
    disable_raw_mode()?;
    writeln!(screen)?;
    typed
}

fn hidden() -> io::Result<Zeroizing<String>> {
    let mut password = Zeroizing::new(String::with_capacity(limits::PASSWORD_BYTES_MAX));
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(password),
            KeyCode::Backspace => drop(password.pop()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            KeyCode::Char(c) if password.len() < limits::PASSWORD_BYTES_MAX => password.push(c),
            _ => {}
        }
    }
}
