//! Frames on a peer connection: `[length u32 big-endian][chat::codec envelope]`, the length checked before anything is read.

use std::io;

use chat::codec::{self, Kind};
use chat::limits::PEER_FRAME_BYTES;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Writes one frame and flushes it.
pub(crate) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    // The codec's limit is far below 4 GiB.
    let framed = |payload: &[u8]| [&(payload.len() as u32).to_be_bytes(), payload].concat();
    let frame = codec::encode_with(Kind::Peer, value, framed).map_err(io::Error::other)?;
    // One write: one TLS record where it fits, one segment.
    to.write_all(&frame).await?;
    to.flush().await
}

/// Reads one frame. `None` at the end of the stream between frames.
pub(crate) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<T>> {
    let Some(payload) = read_bytes(from, PEER_FRAME_BYTES).await? else { return Ok(None) };
    codec::decode(Kind::Peer, &payload).map(Some).map_err(|error| invalid(error.to_string()))
}

/// Writes one frame of bytes that are a form of their own.
pub(crate) async fn write_bytes(to: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> io::Result<()> {
    to.write_all(&[&(payload.len() as u32).to_be_bytes(), payload].concat()).await?;
    to.flush().await
}

/// The bytes of one frame, at most `max`.
pub(crate) async fn read_bytes(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > max {
        return Err(invalid(format!("a frame of {length} bytes, 1 to {max} are allowed")));
    }
    let mut payload = Vec::with_capacity(length);
    let mut rest = from.take(length as u64);
    while payload.len() < length {
        if rest.read_buf(&mut payload).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(payload))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_round_trip_and_bad_lengths_are_refused_before_they_are_read() {
        let mut bytes = Vec::new();
        write(&mut bytes, &("hello", 5u32)).await.unwrap();
        write(&mut bytes, &("x".repeat(40_000), 6u32)).await.unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(read::<(String, u32)>(&mut reader).await.unwrap(), Some(("hello".to_owned(), 5)));
        assert_eq!(read::<(String, u32)>(&mut reader).await.unwrap().map(|v| v.1), Some(6));
        assert_eq!(read::<(String, u32)>(&mut reader).await.unwrap(), None);

        for length in [0u32, PEER_FRAME_BYTES as u32 + 1, u32::MAX] {
            let error = read::<()>(&mut length.to_be_bytes().as_slice()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let truncated = [&[0, 0, 0, 9][..], &[1, 3]].concat();
        assert!(read::<()>(&mut truncated.as_slice()).await.is_err());
    }
}
