//! `campanile user add`.

use std::path::Path;

use chat::ids::{AppId, UserId};
use serde_json::json;
use zeroize::Zeroizing;

use super::Failure;
use super::cluster_status::{admin_failure, from_config};
use super::output::{json, say};
use crate::admin::NewUser;

pub(super) async fn add(
    config: &Path,
    app: AppId,
    user: UserId,
    password: Zeroizing<String>,
    as_json: bool,
) -> Result<(), Failure> {
    let (_, admin) = from_config(config)?;
    let new = NewUser { app: app.clone(), user: user.clone(), password: Some(password.as_str().to_owned()) };
    admin.add_user(&new).await.map_err(|error| admin_failure(&error))?;
    if as_json {
        json(&json!({ "app": app, "user": user, "created": true }));
    } else {
        say(format_args!("user {user} of app {app} can log in"));
        say("next: log in on the chat page, or campanile tail --help");
    }
    Ok(())
}
