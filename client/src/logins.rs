//! A user's logins: the token of this one, and the devices of all.

use chat::command::Revoked;
use chat::wire::{DeviceItem, Request, ServerFrame, Token};

use crate::client::Client;
use crate::error::RequestError;

impl Client {
    /// Has the present session last as long as a newer token of the same user: Unix milliseconds of the service's clock.
    /// For later connections give [`crate::Auth::Refreshed`].
    pub async fn refresh(&self, token: impl Into<String>) -> Result<u64, RequestError> {
        match *self.ask(&Request::Refresh { token: Token(token.into()) }).await? {
            ServerFrame::Refreshed { expires_ms, .. } => Ok(expires_ms),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    pub async fn devices(&self) -> Result<Vec<DeviceItem>, RequestError> {
        match *self.ask(&Request::Devices).await? {
            ServerFrame::Devices { devices, .. } => Ok(devices),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }

    /// Ends sessions on every node, and makes tokens useless that were issued before.
    pub async fn revoke_logins(&self, which: Revoked) -> Result<(), RequestError> {
        match *self.ask(&Request::RevokeLogins { which }).await? {
            ServerFrame::Done { .. } => Ok(()),
            _ => Err(RequestError::UnexpectedAnswer),
        }
    }
}
