//! An answer of the admin listener that is too large to hold: frames, each with its length in front.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use chat::ids::ShardId;
use chat::limits::BACKUP_STALL_MS;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use storage::BACKUP_FRAME_BYTES;
use tokio::time::timeout;
use uuid::Uuid;

use super::client::{AdminClient, AdminError, Connection};

/// The first frame comes when the state is copied.
const PATIENCE: Duration = Duration::from_millis(BACKUP_STALL_MS);

/// Frames as they come.
pub struct FrameStream {
    admin: AdminClient,
    body: Incoming,
    waiting: BytesMut,
    _connection: Connection,
}

impl AdminClient {
    /// The frames of one shard for a backup: see [`storage::backup::StreamFrame`].
    pub async fn backup(&self, backup: Uuid, shard: ShardId) -> Result<FrameStream, AdminError> {
        let path = format!("/v1/backup/{backup}/{}", shard.0);
        let asked = timeout(PATIENCE, self.open(Method::POST, &path, Bytes::new())).await;
        let (response, connection) = asked.map_err(|_| self.silent(PATIENCE))??;
        let status = response.status();
        if !status.is_success() {
            let body = self.collect(response).await?;
            return Err(self.refusal(status, &body));
        }
        Ok(FrameStream {
            admin: self.clone(),
            body: response.into_body(),
            waiting: BytesMut::new(),
            _connection: connection,
        })
    }
}

impl FrameStream {
    /// The next frame; none at the end of the answer, which may have been cut short.
    pub async fn next(&mut self) -> Result<Option<Bytes>, AdminError> {
        loop {
            if let Some(length) = self.waiting.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > BACKUP_FRAME_BYTES {
                    return Err(self.admin.http(format!("a frame of {length} bytes")));
                }
                if self.waiting.len() >= 4 + length {
                    self.waiting.advance(4);
                    return Ok(Some(self.waiting.split_to(length).freeze()));
                }
            }
            let next = timeout(PATIENCE, self.body.frame()).await.map_err(|_| self.admin.silent(PATIENCE))?;
            let Some(next) = next else { return Ok(None) };
            if let Ok(data) = next.map_err(|error| self.admin.http(error))?.into_data() {
                self.waiting.extend_from_slice(&data);
            }
        }
    }
}
