//! `campanile app`.

use serde::Serialize;
use serde_json::json;

use super::args_apps::{ApiKeyCommand, AppAt, AppCommand, AppKeyCommand};
use super::cluster_status::{admin_failure, from_config};
use super::output::{json, say, table};
use super::{Code, Exit, Failure};
use crate::admin::{AdminClient, AppInfo, WantedApiKey};

pub(super) async fn run(command: AppCommand) -> Result<(), Failure> {
    match command {
        AppCommand::Create { at, app, name } => {
            let name = name.unwrap_or_else(|| app.to_string());
            show(&at, admin(&at)?.create_app(app, name).await)
        }
        AppCommand::List { at } => {
            let apps = admin(&at)?.apps().await.map_err(|error| admin_failure(&error))?;
            if at.json {
                json(&apps);
                return Ok(());
            }
            say(overview(&apps));
            say("next: campanile app show --help");
            Ok(())
        }
        AppCommand::Show { at, app } => show(&at, admin(&at)?.app(&app).await),
        AppCommand::Set { at, app, what } => show(&at, admin(&at)?.set_app(&app, what.changes()).await),
        AppCommand::Key(command) => token_key(command).await,
        AppCommand::ApiKey(command) => api_key(command).await,
        AppCommand::Freeze { at, app } => show(&at, admin(&at)?.freeze_app(&app).await),
        AppCommand::Thaw { at, app } => show(&at, admin(&at)?.thaw_app(&app).await),
    }
}

async fn token_key(command: AppKeyCommand) -> Result<(), Failure> {
    match command {
        AppKeyCommand::Add { at, app, key, public_key } => {
            let pem = String::from_utf8(super::read_file(&public_key)?).map_err(|_| {
                Failure::new(Code::File, Exit::Configuration, format!("{} is not PEM", public_key.display()))
            })?;
            show(&at, admin(&at)?.add_token_key(&app, key, pem).await)
        }
        AppKeyCommand::Remove { at, app, key } => show(&at, admin(&at)?.remove_token_key(&app, &key).await),
    }
}

async fn api_key(command: ApiKeyCommand) -> Result<(), Failure> {
    match command {
        ApiKeyCommand::Create { at, app, name, scopes, all_scopes, valid } => {
            let scopes = if all_scopes { chat::app::Scope::ALL.to_vec() } else { scopes };
            let wanted = WantedApiKey { name, scopes, lifetime_ms: valid };
            let made = admin(&at)?.make_api_key(&app, &wanted).await.map_err(|error| admin_failure(&error))?;
            if at.json {
                json(&json!({ "id": made.id, "key": *made.key, "expires_ms": made.expires_ms }));
            } else {
                say(format_args!("{}", *made.key));
                say(format_args!("key {} of app {app}: it is shown this once, keep it on the app's servers", made.id));
                say("next: docs/SERVER_API.md");
            }
            Ok(())
        }
        ApiKeyCommand::List { at, app } => {
            let app = admin(&at)?.app(&app).await.map_err(|error| admin_failure(&error))?;
            if at.json {
                json(&app.api_keys);
            } else {
                say(api_keys(&app));
            }
            Ok(())
        }
        ApiKeyCommand::Revoke { at, app, key } => show(&at, admin(&at)?.revoke_api_key(&app, &key).await),
    }
}

fn admin(at: &AppAt) -> Result<AdminClient, Failure> {
    from_config(&at.config).map(|(_, admin)| admin)
}

fn show(at: &AppAt, app: Result<AppInfo, crate::admin::AdminError>) -> Result<(), Failure> {
    let app = app.map_err(|error| admin_failure(&error))?;
    if at.json {
        json(&app);
        return Ok(());
    }
    let settings = &app.settings;
    say(format_args!("app {} ({}){}", app.app, app.name, if app.frozen { ", frozen: nobody is let in" } else { "" }));
    say(table(&[
        vec!["users".into(), format!("{} of {}", app.users, settings.users_max)],
        vec!["groups".into(), format!("{} of {}", app.groups, settings.groups_max)],
        vec!["members of a group".into(), format!("{} at most", settings.group_members_max)],
        vec!["edit window".into(), format!("{} s", settings.edit_window_ms / 1_000)],
        vec!["recall window".into(), format!("{} s", settings.recall_window_ms / 1_000)],
        vec!["registration".into(), word(&settings.registration)],
        vec!["login policy".into(), word(&settings.login_policy)],
    ]));
    for key in &app.token_keys {
        say(format_args!("token key {}", key.id));
    }
    if !app.api_keys.is_empty() {
        say(api_keys(&app));
    }
    Ok(())
}

/// As JSON has it.
fn word(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

fn overview(apps: &[AppInfo]) -> String {
    let mut rows = vec![["APP", "NAME", "USERS", "GROUPS", "KEYS", "API KEYS", ""].map(str::to_owned).to_vec()];
    rows.extend(apps.iter().map(|app| {
        let frozen = if app.frozen { "frozen" } else { "" };
        let numbers = [app.users, app.groups, app.token_keys.len() as u64, app.api_keys.len() as u64];
        let first = [app.app.to_string(), app.name.clone()];
        first.into_iter().chain(numbers.map(|number| number.to_string())).chain([frozen.to_owned()]).collect()
    }));
    table(&rows)
}

fn api_keys(app: &AppInfo) -> String {
    let mut rows = vec![["API KEY", "ENDS IN", "NAME", "GOOD FOR"].map(str::to_owned).to_vec()];
    rows.extend(app.api_keys.iter().map(|key| {
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
        vec![key.id.to_string(), key.last4.clone(), key.name.clone(), scopes.join(" ")]
    }));
    table(&rows)
}
