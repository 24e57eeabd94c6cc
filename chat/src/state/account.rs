//! Accounts and devices, on the user's home shard.

use super::overlay::{Overlay, Step, Stop, require};
use super::record::{Account, Device, Record};
use super::{View, app, done, items, key, presence};
use uuid::Uuid;

use crate::app::{LoginPolicy, is_system};
use crate::command::{Outcome, Revoked, UserCommand};
use crate::errors::ErrorCode;
use crate::event::Committed;
use crate::ids::{AppId, DeviceId, UserId};
use crate::limits;
use crate::text;

pub(super) fn apply<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    command: &UserCommand,
) -> Step<Outcome, V> {
    match command {
        UserCommand::CreateAccount { password } => create(work, app, user, password.as_deref()),
        UserCommand::SetPassword { password } => set_password(work, app, user, password.as_deref()),
        UserCommand::SeeDevice { device, platform, name } => see_device(work, app, user, device, platform, name),
        UserCommand::RevokeLogins { which } => revoke(work, app, user, which),
        UserCommand::SeeUser { at_ms } => presence::see_user(work, app, user, *at_ms),
        UserCommand::SetPrivacy { privacy } => presence::set_privacy(work, app, user, *privacy),
        UserCommand::SetProfile { profile } => items::set_profile(work, app, user, profile),
        UserCommand::SetSettings { settings } => items::set_settings(work, app, user, *settings),
        UserCommand::DescribeContact { user: of, remark, tags } => {
            items::describe_contact(work, app, user, of, remark, tags)
        }
        UserCommand::Mark { conversation, change } => items::mark(work, app, user, conversation, change),
        UserCommand::SetActive { active } => app::set_active(work, app, user, *active),
        UserCommand::BeginSession { session, platform, policy } => {
            begin_session(work, app, user, *session, platform, *policy)
        }
    }
}

fn create<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId, password: Option<&str>) -> Step<Outcome, V> {
    let key = key::account(app, user);
    if let Some(present) = work.load::<Account>(&key)? {
        // Two password hashes of one password differ by their salt: a repetition cannot be told from a takeover.
        require(present.password.is_none() && password.is_none(), ErrorCode::AccountExists)?;
        return Ok(done(true));
    }
    require(!is_system(user), ErrorCode::Forbidden)?;
    let account = Account { created_ms: work.time_ms, password: password.map(str::to_owned), revoked_ms: 0 };
    work.store(key, &account);
    app::count(work, app, |counts| counts.users += 1)?;
    Ok(done(false))
}

/// Keeps nothing: which session is newer is the order of the log, and every node hears of it in that order.
fn begin_session<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    session: Uuid,
    platform: &str,
    policy: LoginPolicy,
) -> Step<Outcome, V> {
    require(text::check_label(platform).is_ok(), ErrorCode::InvalidField)?;
    require(work.load::<Account>(&key::account(app, user))?.is_some(), ErrorCode::UserNotFound)?;
    let (app, user, platform) = (app.clone(), user.clone(), platform.to_owned());
    work.emit(Committed::SessionBegan { app, user, session, platform, policy });
    Ok(done(false))
}

fn set_password<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    password: Option<&str>,
) -> Step<Outcome, V> {
    let key = key::account(app, user);
    let present: Account = work.load(&key)?.ok_or(Stop::Rejected(ErrorCode::UserNotFound))?;
    let wanted = Account { password: password.map(str::to_owned), ..present.clone() };
    if wanted == present {
        return Ok(done(true));
    }
    work.store(key, &wanted);
    Ok(done(false))
}

fn see_device<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    device: &DeviceId,
    platform: &str,
    name: &str,
) -> Step<Outcome, V> {
    require(text::check_label(platform).is_ok() && text::check_label(name).is_ok(), ErrorCode::InvalidField)?;
    let account: Option<Account> = work.load(&key::account(app, user))?;
    require(account.is_some(), ErrorCode::UserNotFound)?;
    let key = key::device(app, user, device);
    let known: Option<Device> = work.load(&key)?;
    if known.is_none() {
        make_room(work, app, user)?;
    }
    let first_seen_ms = known.as_ref().map_or(work.time_ms, |known| known.first_seen_ms);
    let revoked_ms = known.map_or(0, |known| known.revoked_ms);
    let (platform, name) = (platform.to_owned(), name.to_owned());
    work.store(key, &Device { platform, name, first_seen_ms, last_login_ms: work.time_ms, revoked_ms });
    Ok(done(false))
}

/// Also for a device that is not known (any more): its sessions may be there.
fn revoke<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId, which: &Revoked) -> Step<Outcome, V> {
    let account_key = key::account(app, user);
    let mut account: Account = work.load(&account_key)?.ok_or(Stop::Rejected(ErrorCode::UserNotFound))?;
    let device = match which {
        Revoked::Device(device) => work.load::<Device>(&key::device(app, user, device))?.map(|known| (device, known)),
        Revoked::All | Revoked::Others(_) => None,
    };
    match device {
        Some((device, mut known)) => {
            known.revoked_ms = work.time_ms;
            work.store(key::device(app, user, device), &known);
        }
        // Tokens name no device: that of another one is good for this one, unless it is too old for all.
        None => {
            account.revoked_ms = work.time_ms;
            work.store(account_key, &account);
        }
    }
    work.emit(Committed::LoginsRevoked { app: app.clone(), user: user.clone(), which: which.clone() });
    Ok(done(false))
}

/// At the limit the device that logged in longest ago goes.
fn make_room<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId) -> Step<(), V> {
    let devices = work.scan(&key::devices(app, user), limits::USER_DEVICES)?;
    if devices.len() < limits::USER_DEVICES {
        return Ok(());
    }
    let last_login = |bytes: &[u8]| Device::from_bytes(bytes).last_login_ms;
    let oldest = devices.into_iter().min_by_key(|(key, value)| (last_login(value), key.clone()));
    if let Some((key, _)) = oldest {
        work.remove(key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::testing::{Shard, again, app, no, ok, user};
    use crate::command::{Command, Revoked, UserCommand};
    use crate::errors::ErrorCode;
    use crate::event::Committed;
    use crate::ids::DeviceId;
    use crate::limits;

    fn alice(command: UserCommand) -> Command {
        Command::User { app: app(), user: user("alice"), command }
    }

    fn create(password: Option<&str>) -> Command {
        alice(UserCommand::CreateAccount { password: password.map(str::to_owned) })
    }

    fn see(device: &str, name: &str) -> Command {
        let (device, platform, name) = (DeviceId::new(device).unwrap(), "web".to_owned(), name.to_owned());
        alice(UserCommand::SeeDevice { device, platform, name })
    }

    #[test]
    fn an_account_exists_once_and_only_without_passwords_a_repetition_is_one() {
        let mut home = Shard::default();
        assert_eq!(home.one(create(None)), ok(0));
        assert_eq!(home.one(create(None)), again(0));
        assert_eq!(home.one(create(Some("$argon2id$1"))), no(ErrorCode::AccountExists));
        let set = |hash: &str| alice(UserCommand::SetPassword { password: Some(hash.to_owned()) });
        assert_eq!(home.one(set("$argon2id$2")), ok(0));
        assert_eq!(home.one(set("$argon2id$2")), again(0));
        assert_eq!(home.one(create(None)), no(ErrorCode::AccountExists));
        let account = query::account(&home.state, &app(), &user("alice")).unwrap().unwrap();
        assert_eq!((account.created_ms, account.password.as_deref()), (1_000, Some("$argon2id$2")));
    }

    #[test]
    fn what_needs_an_account_says_so() {
        let mut home = Shard::default();
        assert_eq!(home.one(alice(UserCommand::SetPassword { password: None })), no(ErrorCode::UserNotFound));
        assert_eq!(home.one(see("phone", "")), no(ErrorCode::UserNotFound));
    }

    #[test]
    fn the_device_unused_for_longest_makes_room() {
        let mut home = Shard::default();
        home.one(create(None));
        for n in 0..limits::USER_DEVICES {
            home.one(see(&format!("d{n}"), "first"));
        }
        home.one(see("d0", "again"));
        // Two in one entry: the second sees the room that the first one made.
        home.entry(vec![see("new1", ""), see("new2", "")]);
        let devices = query::devices(&home.state, &app(), &user("alice")).unwrap();
        let ids: Vec<&str> = devices.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids.len(), limits::USER_DEVICES);
        assert!(ids.contains(&"d0") && ids.contains(&"new1") && ids.contains(&"new2"), "{ids:?}");
        assert!(!ids.contains(&"d1") && !ids.contains(&"d2"), "{ids:?}");
        let d0 = &devices[ids.iter().position(|id| *id == "d0").unwrap()].1;
        assert_eq!((d0.name.as_str(), d0.first_seen_ms), ("again", 2_000));
        assert_eq!(home.one(see("d0", "bad\u{1b}name")), no(ErrorCode::InvalidField));
    }

    #[test]
    fn revoking_notes_from_when_on_tokens_count_and_tells_every_node() {
        let mut home = Shard::default();
        let revoke = |which| alice(UserCommand::RevokeLogins { which });
        assert_eq!(home.one(revoke(Revoked::All)), no(ErrorCode::UserNotFound));
        home.one(create(None));
        home.one(see("phone", ""));
        let phone = DeviceId::new("phone").unwrap();
        let delta = home.entry(vec![revoke(Revoked::Device(phone.clone()))]);
        assert!(
            matches!(&delta.events[..], [Committed::LoginsRevoked { which: Revoked::Device(device), .. }] if *device == phone)
        );
        let revoked = |home: &Shard| {
            let account = query::account(&home.state, &app(), &user("alice")).unwrap().unwrap();
            let device = query::device(&home.state, &app(), &user("alice"), &phone).unwrap().unwrap();
            (account.revoked_ms, device.revoked_ms)
        };
        assert_eq!(revoked(&home), (0, 4_000));
        home.one(see("phone", "again"));
        assert_eq!(revoked(&home), (0, 4_000), "logging in again takes nothing back");
        home.one(revoke(Revoked::Others(phone.clone())));
        assert_eq!(revoked(&home), (6_000, 4_000));
        assert!(
            Revoked::Others(phone.clone()).ends(&DeviceId::new("tab").unwrap())
                && !Revoked::Others(phone.clone()).ends(&phone)
        );
    }
}
