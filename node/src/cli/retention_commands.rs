//! `campanile retention show` and `set`.

use std::io::IsTerminal;

use serde_json::json;

use super::args::{RetentionIdsArgs, RetentionSetArgs, RetentionTarget};
use super::cluster_status::{admin_failure, from_config};
use super::output::{json, say};
use super::{Code, Exit, Failure};
use crate::admin::{IdWindowChange, Policy, RetentionChange, RetentionOf, RetentionStatus};

pub(super) async fn show(target: RetentionTarget, as_json: bool) -> Result<(), Failure> {
    let (_, admin) = from_config(&target.config)?;
    let status = admin.retention(&of(&target)).await.map_err(|error| admin_failure(&error))?;
    print(&status, as_json);
    Ok(())
}

pub(super) async fn set(args: RetentionSetArgs) -> Result<(), Failure> {
    let policy = match args.inherit {
        true => None,
        false => Some(Policy { max_age_ms: args.max_age, max_count: args.max_count }),
    };
    if policy.is_none() && args.target.conversation.is_none() {
        return Err(Failure::new(
            Code::Argument,
            Exit::Usage,
            "--inherit is for a --conversation: an app inherits nothing",
        ));
    }
    let (_, admin) = from_config(&args.target.config)?;
    let before = admin.retention(&of(&args.target)).await.map_err(|error| admin_failure(&error))?;
    let holds = policy.unwrap_or(before.app_policy);
    if args.dry_run {
        say(format_args!("it is kept {} now, and would be kept {}", words(&before.holds()), words(&holds)));
        return Ok(());
    }
    if !args.yes && (holds.max_age_ms.is_some() || holds.max_count.is_some()) {
        confirm(&before.of, &holds)?;
    }
    let RetentionOf { app, conversation } = of(&args.target);
    let change = RetentionChange { app, conversation, policy };
    let status = admin.set_retention(&change).await.map_err(|error| admin_failure(&error))?;
    print(&status, args.json);
    Ok(())
}

pub(super) async fn ids(args: RetentionIdsArgs) -> Result<(), Failure> {
    let (_, admin) = from_config(&args.config)?;
    let RetentionIdsArgs { app, remember, json: as_json, .. } = args;
    let status = match remember {
        Some(window_ms) => admin.set_id_window(&IdWindowChange { app, window_ms }).await,
        None => admin.retention(&RetentionOf { app, conversation: None }).await,
    };
    let status = status.map_err(|error| admin_failure(&error))?;
    if as_json {
        json(&json!(status));
    } else {
        say(ids_line(&status));
        say("next: campanile retention show --help");
    }
    Ok(())
}

fn ids_line(status: &RetentionStatus) -> String {
    let window = age(status.id_window_ms);
    format!("app {}: ids of messages are remembered for {window} after their message is deleted", status.of.app)
}

/// What is deleted is gone: whoever asks for it says so a second time.
fn confirm(of: &RetentionOf, policy: &Policy) -> Result<(), Failure> {
    let name = of.conversation.as_ref().map_or_else(|| of.app.to_string(), ToString::to_string);
    let refused = |what: String| {
        Failure::new(Code::Argument, Exit::Usage, what).next("--yes confirms, --dry-run only says what would change")
    };
    if !std::io::stdin().is_terminal() {
        return Err(refused("messages are deleted for good: this needs --yes".to_owned()));
    }
    say(format_args!(
        "{name} will be kept {}; what is older is deleted for good. Type {name} to confirm:",
        words(policy)
    ));
    let mut typed = String::new();
    let read = std::io::stdin().read_line(&mut typed);
    if read.is_ok() && typed.trim() == name {
        Ok(())
    } else {
        Err(refused("not confirmed, nothing was changed".to_owned()))
    }
}

fn of(target: &RetentionTarget) -> RetentionOf {
    RetentionOf { app: target.app.clone(), conversation: target.conversation.clone() }
}

fn print(status: &RetentionStatus, as_json: bool) {
    if as_json {
        return json(&json!(status));
    }
    say(format_args!("app {}: kept {}", status.of.app, words(&status.app_policy)));
    say(ids_line(status));
    if let Some(conversation) = &status.of.conversation {
        match &status.own_policy {
            Some(own) => say(format_args!("{conversation}: kept {}, by its own policy", words(own))),
            None => say(format_args!("{conversation}: as the app says")),
        }
    }
    if let (Some(oldest), Some(head)) = (status.oldest_seq, status.head) {
        match oldest <= head {
            true => say(format_args!("events {oldest} to {head} are kept")),
            false => say("no event is kept"),
        }
    }
    say("next: campanile retention set --help");
}

/// `for 30 d, at most 1000 messages`.
fn words(policy: &Policy) -> String {
    let age = policy.max_age_ms.map(|ms| format!("for {}", age(ms)));
    let count = policy.max_count.map(|count| format!("at most {count} events of a conversation"));
    let parts: Vec<String> = age.into_iter().chain(count).collect();
    if parts.is_empty() { "for ever".to_owned() } else { parts.join(", ") }
}

/// `30 d`.
fn age(ms: u64) -> String {
    match ms {
        ms if ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 1_000 == 0 => format!("{} s", ms / 1_000),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_said_in_words() {
        let said = |max_age_ms, max_count| words(&Policy { max_age_ms, max_count });
        assert_eq!(said(None, None), "for ever");
        assert_eq!(said(Some(30 * 86_400_000), None), "for 30 d");
        assert_eq!(said(Some(5_400_000), Some(9)), "for 5400 s, at most 9 events of a conversation");
    }
}
