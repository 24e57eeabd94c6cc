//! One connection: socket, TLS, upgrade, frames in and out. Buffers exist only while something waits in them.

use std::io::{self, ErrorKind, Read, Write};

use mio::net::TcpStream;

use super::websocket::{self, CLOSE, PING, PONG};
use crate::protocol::{Handshake, Outbox};

/// A read asks for at least this much room.
const READ_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Upgrading,
    Open,
}

/// Buffers of a worker that all its connections read through.
pub(super) struct Buffers {
    /// From the socket.
    raw: Vec<u8>,
    /// Without TLS.
    plain: Vec<u8>,
}

impl Buffers {
    pub(super) fn new() -> Self {
        Self { raw: vec![0; 256 * 1024], plain: vec![0; 256 * 1024] }
    }
}

/// What a look at a connection came to.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// The WebSocket is open.
    Opened,
    Message(&'a [u8]),
}

pub(super) struct Connection {
    socket: TcpStream,
    tls: Option<Box<rustls::ClientConnection>>,
    phase: Phase,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    /// The beginning of a message whose other frames have not come.
    fragments: Option<Vec<u8>>,
    /// Messages to be sent.
    out: Vec<u8>,
    /// Bytes for the socket, if they differ from `out`.
    sealed: Vec<u8>,
    written: usize,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, tls: Option<rustls::ClientConnection>) -> Self {
        Self {
            socket,
            tls: tls.map(|mut tls| {
                tls.set_buffer_limit(None);
                Box::new(tls)
            }),
            phase: Phase::Connecting,
            partial: Vec::new(),
            fragments: None,
            out: Vec::new(),
            sealed: Vec::new(),
            written: 0,
        }
    }

    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(super) fn outbox(&mut self) -> Outbox<'_> {
        Outbox::new(&mut self.out)
    }

    /// The socket became writable: the connection may be there.
    pub(super) fn connected(&mut self, host: &str, handshake: &Handshake) -> io::Result<()> {
        if self.phase != Phase::Connecting {
            return Ok(());
        }
        if let Some(error) = self.socket.take_error()? {
            return Err(error);
        }
        match self.socket.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(error),
        }
        self.socket.set_nodelay(true)?;
        self.phase = Phase::Upgrading;
        self.out.extend_from_slice(websocket::upgrade(host, handshake).as_bytes());
        Ok(())
    }

    /// Reads everything that is there. `take` is called for each step, and may write into the outbox.
    pub(super) fn read(
        &mut self,
        buffers: &mut Buffers,
        mut take: impl FnMut(Step<'_>, &mut Outbox<'_>),
    ) -> io::Result<()> {
        if self.phase == Phase::Connecting {
            return Ok(());
        }
        loop {
            let kept = self.partial.len();
            let room = if self.tls.is_some() { &mut buffers.raw } else { &mut buffers.plain };
            let from = if self.tls.is_some() { 0 } else { kept };
            if room.len() < from + READ_BYTES {
                room.resize((from + READ_BYTES) * 2, 0);
            }
            let asked = room.len() - from;
            let read = match self.socket.read(&mut room[from..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.tls.is_some() {
                self.unseal(read, buffers, &mut take)?;
            } else {
                let mut plain = std::mem::take(&mut buffers.plain);
                plain[..kept].copy_from_slice(&self.partial);
                let parsed = self.parse(&plain[..kept + read], &mut take);
                buffers.plain = plain;
                parsed?;
            }
            // A short read means that the socket is empty; the next readiness is told (epoll(7), edge-triggered).
            if read < asked {
                return Ok(());
            }
        }
    }

    /// Takes `read` bytes of TLS out of the raw buffer.
    fn unseal(
        &mut self,
        read: usize,
        buffers: &mut Buffers,
        take: &mut impl FnMut(Step<'_>, &mut Outbox<'_>),
    ) -> io::Result<()> {
        let Buffers { raw, plain } = buffers;
        let mut sealed = &raw[..read];
        while !sealed.is_empty() {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            tls.read_tls(&mut sealed)?;
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let (kept, mut fresh) = (self.partial.len(), state.plaintext_bytes_to_read());
            if fresh == 0 {
                continue;
            }
            if plain.len() < kept + fresh {
                plain.resize(kept + fresh, 0);
            }
            plain[..kept].copy_from_slice(&self.partial);
            let mut at = kept;
            while fresh > 0 {
                let got = tls.reader().read(&mut plain[at..at + fresh])?;
                (at, fresh) = (at + got, fresh - got);
            }
            self.parse(&plain[..at], take)?;
        }
        Ok(())
    }

    /// Steps through everything that is complete and keeps the rest.
    fn parse(&mut self, bytes: &[u8], take: &mut impl FnMut(Step<'_>, &mut Outbox<'_>)) -> io::Result<()> {
        let mut at = 0;
        if self.phase == Phase::Upgrading {
            match websocket::upgraded(bytes).map_err(io::Error::other)? {
                None => return self.keep(bytes),
                Some(end) => at = end,
            }
            self.phase = Phase::Open;
            take(Step::Opened, &mut Outbox::new(&mut self.out));
        }
        while let Some(frame) = websocket::frame(&bytes[at..]).map_err(io::Error::other)? {
            let payload = &bytes[at + frame.header..at + frame.end()];
            at += frame.end();
            match frame.opcode {
                1 | 2 if frame.last => take(Step::Message(payload), &mut Outbox::new(&mut self.out)),
                1 | 2 => self.fragments = Some(payload.to_vec()),
                0 => self.fragment(payload, frame.last, take),
                PING => Outbox::new(&mut self.out).frame(PONG, |out| out.extend_from_slice(payload)),
                CLOSE => return Err(io::Error::other(closed(payload))),
                _ => {}
            }
        }
        self.keep(&bytes[at..])
    }

    fn fragment(&mut self, payload: &[u8], last: bool, take: &mut impl FnMut(Step<'_>, &mut Outbox<'_>)) {
        let Some(mut message) = self.fragments.take() else { return };
        message.extend_from_slice(payload);
        if last {
            take(Step::Message(&message), &mut Outbox::new(&mut self.out));
        } else {
            self.fragments = Some(message);
        }
    }

    fn keep(&mut self, rest: &[u8]) -> io::Result<()> {
        self.partial.clear();
        if rest.is_empty() {
            self.partial.shrink_to(READ_BYTES);
        } else {
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Writes what waits, as far as the socket takes it. True if everything is out.
    pub(super) fn write(&mut self) -> io::Result<bool> {
        if self.phase == Phase::Connecting {
            return Ok(false);
        }
        let bytes = match &mut self.tls {
            None => &mut self.out,
            Some(tls) => {
                if !self.out.is_empty() {
                    tls.writer().write_all(&self.out)?;
                    self.out.clear();
                }
                while tls.wants_write() {
                    tls.write_tls(&mut self.sealed)?;
                }
                &mut self.sealed
            }
        };
        while self.written < bytes.len() {
            match self.socket.write(&bytes[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.clear();
        self.written = 0;
        Ok(true)
    }

    /// Gives back buffers that hold nothing.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.partial, &mut self.out, &mut self.sealed] {
            if buffer.is_empty() {
                *buffer = Vec::new();
            }
        }
    }
}

fn closed(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("closed with {code} {}", String::from_utf8_lossy(reason)).trim_end().to_owned()
        }
        _ => "closed".to_owned(),
    }
}
