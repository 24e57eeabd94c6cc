//! Bytes between a socket and the WebSocket actor. The connection owns its socket from the handshake on, so an idle one
//! holds no buffers: bytes are read into one buffer of the thread, and what the actor writes leaves at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::error::PayloadError;
use bytes::{Buf, Bytes};
use chat::limits;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Pipe;

const LINGER: Duration = Duration::from_millis(limits::LINGER_MS);

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; limits::READ_BYTES].into());
}

struct Socket<Io> {
    io: Io,
    /// Came with the handshake.
    early: Bytes,
    /// How often bytes may still be read before what they ask for is looked at.
    reads: u32,
}

/// One socket, in two halves on one thread: what comes in is a stream for the actor, what goes out is [`Outgoing`].
pub(super) fn split<Io>(io: Io, early: Bytes) -> (Incoming<Io>, Outgoing<Io>) {
    let socket = Rc::new(RefCell::new(Socket { io, early, reads: 0 }));
    (Incoming(socket.clone()), Outgoing { socket, unwritten: Bytes::new(), unflushed: false })
}

pub(super) struct Incoming<Io>(Rc<RefCell<Socket<Io>>>);

impl<Io: AsyncRead + Unpin> Stream for Incoming<Io> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut socket = self.0.borrow_mut();
        if !socket.early.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut socket.early))));
        }
        if socket.reads == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        READ.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let end = ready!(Pin::new(&mut socket.io).poll_read(cx, &mut read)).is_err() || read.filled().is_empty();
            socket.reads -= 1;
            Poll::Ready((!end).then(|| Ok(Bytes::copy_from_slice(read.filled()))))
        })
    }
}

pub(super) struct Outgoing<Io> {
    socket: Rc<RefCell<Socket<Io>>>,
    unwritten: Bytes,
    unflushed: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Outgoing<Io> {
    /// Runs the actor behind `frames` until it ends, the connection breaks, or the session cuts it. While the client
    /// takes nothing the actor stands still, and so does what the client sends.
    pub(super) async fn carry<E>(mut self, mut frames: Pin<Box<impl Stream<Item = Result<Bytes, E>>>>, pipe: Pipe) {
        if poll_fn(|cx| self.poll_carry(cx, frames.as_mut(), &pipe)).await.is_err() {
            return;
        }
        drop(frames);
        // The actor and its stream are gone. A socket closed with bytes unread would be reset, and the client might
        // never see why: so its end is waited for.
        let _ = Box::pin(tokio::time::timeout(LINGER, self.linger())).await;
    }

    fn poll_carry<E>(
        &mut self,
        cx: &mut Context<'_>,
        mut frames: Pin<&mut impl Stream<Item = Result<Bytes, E>>>,
        pipe: &Pipe,
    ) -> Poll<io::Result<()>> {
        if pipe.is_cut() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.socket.borrow_mut().reads = limits::READS_AT_ONCE;
        loop {
            ready!(self.poll_write(cx))?;
            match ready!(frames.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => self.unwritten = bytes,
                Some(Err(_)) | None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = &mut self.socket.borrow_mut().io;
        while !self.unwritten.is_empty() {
            let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.unwritten))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unwritten.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
            self.unwritten = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }

    async fn linger(self) -> io::Result<()> {
        let Some(socket) = Rc::into_inner(self.socket) else { return Ok(()) };
        let mut io = socket.into_inner().io;
        io.shutdown().await?;
        // Into the thread's buffer: one of its own would be part of every connection's memory.
        poll_fn(|cx| {
            READ.with_borrow_mut(|buffer| {
                loop {
                    let mut read = ReadBuf::new(buffer);
                    ready!(Pin::new(&mut io).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                }
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    type Frame = Result<Bytes, Infallible>;

    #[actix_web::test]
    async fn bytes_go_both_ways_and_the_peers_end_is_waited_for() {
        let (mut client, server) = duplex(64);
        let (incoming, outgoing) = split(server, Bytes::from_static(b"early "));
        let echo = incoming.map(|chunk| -> Frame { Ok(chunk.unwrap()) }).take(2);
        let pipe = Pipe::new(0);
        let carried = outgoing.carry(Box::pin(echo), pipe);
        let talk = async {
            client.write_all(b"late").await.unwrap();
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            client.write_all(b"what the server no longer wants").await.unwrap();
            drop(client);
            said
        };
        let ((), said) = tokio::join!(carried, talk);
        assert_eq!(said, b"early late");
    }

    #[actix_web::test]
    async fn a_connection_whose_client_takes_nothing_can_be_cut() {
        let (mut client, server) = duplex(16);
        let (incoming, outgoing) = split(server, Bytes::new());
        let pipe = Pipe::new(0);
        let carried = actix_web::rt::spawn({
            let pipe = pipe.clone();
            async move {
                let taken = pipe.clone();
                // As the pump does: the pipe learns whom to wake.
                let first = stream::poll_fn(move |cx| {
                    taken.take(0, cx.waker());
                    Poll::Ready(Some(Frame::Ok(Bytes::from(vec![7; 1000]))))
                });
                outgoing.carry(Box::pin(first.take(1).chain(stream::pending())), pipe).await;
            }
        });
        tokio::task::yield_now().await;
        // What the session says meanwhile wakes the connection once, and nobody takes it.
        pipe.push("unheard".into(), 0);
        tokio::task::yield_now().await;
        pipe.cut();
        tokio::time::timeout(LINGER * 4, carried).await.unwrap().unwrap();
        let mut said = Vec::new();
        drop(incoming);
        client.read_to_end(&mut said).await.unwrap();
        assert!(said.len() <= 16, "{}", said.len());
    }

    #[actix_web::test]
    async fn a_flood_is_read_in_portions() {
        let portion = limits::READ_BYTES * limits::READS_AT_ONCE as usize;
        let (mut client, server) = duplex(portion * 8);
        client.write_all(&vec![1; portion * 4]).await.unwrap();
        let (incoming, outgoing) = split(server, Bytes::new());
        let mut incoming = incoming;
        outgoing.socket.borrow_mut().reads = limits::READS_AT_ONCE;
        let mut read = 0;
        let first = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(bytes))) = Pin::new(&mut incoming).poll_next(cx) {
                read += bytes.len();
            }
            Poll::Ready(read)
        });
        assert_eq!(first.await, portion);
    }
}
