//! The limit that every system is measured against: one thread, one process, a frame in is the frame out to all members
//! of the group (`protocol::bare` has the frames). It stores nothing and promises nothing.

mod wire;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use wire::Refused;

use crate::protocol::bare::{JOIN, MESSAGE, NOBODY, kind_and_group};

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 256 * 1024;
/// A member that does not read is cut off; a closed loop never has so much on its way.
const OUTPUT_MAX: usize = 256 << 20;
/// Larger buffers of connections that have nothing to send are given back.
const OUTPUT_KEPT: usize = 64 * 1024;

struct Connection {
    stream: TcpStream,
    upgraded: bool,
    /// The beginning of a frame whose end was not read yet.
    partial: Vec<u8>,
    output: Vec<u8>,
    /// In the list of those to write to.
    queued: bool,
    groups: Vec<u32>,
}

struct Server {
    listener: TcpListener,
    registry: Registry,
    /// By token.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    groups: HashMap<u32, Vec<usize>>,
    queued: Vec<usize>,
    /// The frame that goes to all members, written once.
    frame: Vec<u8>,
}

/// Serves until the process is ended.
pub fn serve(address: SocketAddr) -> std::io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server = Server {
        listener,
        registry: poll.registry().try_clone()?,
        connections: Vec::new(),
        free: Vec::new(),
        groups: HashMap::new(),
        queued: Vec::new(),
        frame: Vec::new(),
    };
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => server.accept()?,
                Token(place) => {
                    if event.is_writable() {
                        server.queue(place);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        server.read(place, &mut buffer);
                    }
                }
            }
        }
        server.write_queued();
    }
}

impl Server {
    fn accept(&mut self) -> std::io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client is gone already, or there are no descriptors left: the others go on.
                Err(_) => return Ok(()),
            };
            stream.set_nodelay(true)?;
            let place = self.free.pop().unwrap_or(self.connections.len());
            self.registry.register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
            let connection = Connection {
                stream,
                upgraded: false,
                partial: Vec::new(),
                output: Vec::new(),
                queued: false,
                groups: Vec::new(),
            };
            if place == self.connections.len() {
                self.connections.push(Some(connection));
            } else {
                self.connections[place] = Some(connection);
            }
        }
    }

    fn connection(&mut self, place: usize) -> Option<&mut Connection> {
        self.connections.get_mut(place)?.as_mut()
    }

    /// Reads until nothing is left and acts on whole frames.
    fn read(&mut self, place: usize, buffer: &mut [u8]) {
        while let Some(connection) = self.connection(place) {
            let read = match connection.stream.read(buffer) {
                Ok(0) => return self.close(place),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return self.close(place),
            };
            let mut partial = std::mem::take(&mut connection.partial);
            let used = if partial.is_empty() {
                self.take(place, &mut buffer[..read]).map(|used| {
                    partial.extend_from_slice(&buffer[used..read]);
                })
            } else {
                partial.extend_from_slice(&buffer[..read]);
                self.take(place, &mut partial).map(|used| drop(partial.drain(..used)))
            };
            match (used, self.connection(place)) {
                (Ok(()), Some(connection)) => connection.partial = partial,
                (Ok(()), None) => return,
                (Err(Refused), _) => return self.close(place),
            }
            if read < buffer.len() {
                return;
            }
        }
    }

    /// Acts on every whole frame; how many bytes they were.
    fn take(&mut self, place: usize, bytes: &mut [u8]) -> Result<usize, Refused> {
        let Some(connection) = self.connection(place) else { return Ok(bytes.len()) };
        let mut used = 0;
        if !connection.upgraded {
            let Some((answer, end)) = wire::upgrade(bytes)? else { return Ok(0) };
            connection.upgraded = true;
            connection.output.extend_from_slice(answer.as_bytes());
            self.queue(place);
            used = end;
        }
        while let Some(frame) = wire::frame(&mut bytes[used..])? {
            used += frame.end;
            match frame.opcode {
                wire::CLOSE => return Err(Refused),
                wire::PING => self.answer(place, wire::PONG, frame.payload),
                wire::PONG => {}
                _ => self.act(place, frame.payload)?,
            }
        }
        Ok(used)
    }

    fn act(&mut self, place: usize, payload: &[u8]) -> Result<(), Refused> {
        match kind_and_group(payload).ok_or(Refused)? {
            (MESSAGE, group) => self.broadcast(group, payload),
            (JOIN, group) => {
                if group != NOBODY {
                    self.groups.entry(group).or_default().push(place);
                    if let Some(connection) = self.connection(place) {
                        connection.groups.push(group);
                    }
                }
                self.answer(place, wire::BINARY, payload);
            }
            _ => return Err(Refused),
        }
        Ok(())
    }

    fn broadcast(&mut self, group: u32, payload: &[u8]) {
        self.frame.clear();
        wire::push_frame(&mut self.frame, wire::BINARY, payload);
        for member in self.groups.get(&group).into_iter().flatten() {
            let Some(connection) = &mut self.connections[*member] else { continue };
            connection.output.extend_from_slice(&self.frame);
            if !connection.queued {
                connection.queued = true;
                self.queued.push(*member);
            }
        }
    }

    fn answer(&mut self, place: usize, opcode: u8, payload: &[u8]) {
        if let Some(connection) = self.connection(place) {
            wire::push_frame(&mut connection.output, opcode, payload);
            self.queue(place);
        }
    }

    fn queue(&mut self, place: usize) {
        let Some(connection) = self.connection(place) else { return };
        if !connection.queued && !connection.output.is_empty() {
            connection.queued = true;
            self.queued.push(place);
        }
    }

    /// One write per connection for all that came together. What a socket does not take waits until it is writable.
    fn write_queued(&mut self) {
        let mut queued = std::mem::take(&mut self.queued);
        for place in queued.drain(..) {
            let Some(connection) = self.connection(place) else { continue };
            connection.queued = false;
            if !connection.write() {
                self.close(place);
            }
        }
        self.queued = queued;
    }

    fn close(&mut self, place: usize) {
        let Some(mut connection) = self.connections.get_mut(place).and_then(Option::take) else { return };
        // A descriptor that is closed leaves epoll by itself; this only keeps the registry's own books.
        let _ = self.registry.deregister(&mut connection.stream);
        for group in connection.groups {
            if let Some(members) = self.groups.get_mut(&group) {
                members.retain(|member| *member != place);
            }
        }
        self.free.push(place);
    }
}

impl Connection {
    /// False if the connection is lost.
    fn write(&mut self) -> bool {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(0) => return false,
                Ok(more) => written += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.output.drain(..written);
        if self.output.is_empty() && self.output.capacity() > OUTPUT_KEPT {
            self.output = Vec::new();
        }
        self.output.len() <= OUTPUT_MAX
    }
}
