//! What operators ask about apps.

use chat::app::AppChange;
use chat::ids::{AppId, KeyId};
use hyper::Method;

use super::apps::{AppChanges, AppInfo, MadeApiKey, NewApp, NewTokenKey, WantedApiKey};
use super::client::{AdminClient, AdminError};

impl AdminClient {
    pub async fn apps(&self) -> Result<Vec<AppInfo>, AdminError> {
        self.get("/v1/apps").await
    }

    pub async fn app(&self, app: &AppId) -> Result<AppInfo, AdminError> {
        self.get(&format!("/v1/apps/{app}")).await
    }

    pub async fn create_app(&self, app: AppId, name: String) -> Result<AppInfo, AdminError> {
        self.exact(Method::POST, "/v1/apps", &NewApp { app, name }).await
    }

    pub async fn set_app(&self, app: &AppId, changes: Vec<AppChange>) -> Result<AppInfo, AdminError> {
        self.exact(Method::PATCH, &format!("/v1/apps/{app}"), &AppChanges { changes }).await
    }

    /// Tokens that this key signed are good from now on, too.
    pub async fn add_token_key(&self, app: &AppId, id: KeyId, pem: String) -> Result<AppInfo, AdminError> {
        self.exact(Method::POST, &format!("/v1/apps/{app}/keys"), &NewTokenKey { id, pem }).await
    }

    pub async fn remove_token_key(&self, app: &AppId, id: &KeyId) -> Result<AppInfo, AdminError> {
        self.exact(Method::DELETE, &format!("/v1/apps/{app}/keys/{id}"), &()).await
    }

    /// A key of the app's backend; its secret is in the answer and nowhere else.
    pub async fn make_api_key(&self, app: &AppId, wanted: &WantedApiKey) -> Result<MadeApiKey, AdminError> {
        self.exact(Method::POST, &format!("/v1/apps/{app}/api-keys"), wanted).await
    }

    pub async fn revoke_api_key(&self, app: &AppId, id: &KeyId) -> Result<AppInfo, AdminError> {
        self.exact(Method::DELETE, &format!("/v1/apps/{app}/api-keys/{id}"), &()).await
    }

    /// Nobody of the app is let in any more, and its sessions end.
    pub async fn freeze_app(&self, app: &AppId) -> Result<AppInfo, AdminError> {
        self.exact(Method::POST, &format!("/v1/apps/{app}/freeze"), &()).await
    }

    pub async fn thaw_app(&self, app: &AppId) -> Result<AppInfo, AdminError> {
        self.exact(Method::DELETE, &format!("/v1/apps/{app}/freeze"), &()).await
    }
}
