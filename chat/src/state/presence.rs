//! What is kept of a user's presence, on the home shard: when the user was last there, and who may know. Who is there
//! now is kept nowhere.

use super::overlay::{Overlay, Step, require};
use super::record::{Account, LastSeen, Privacy};
use super::{View, done, key};
use crate::command::Outcome;
use crate::errors::ErrorCode;
use crate::event::Committed;
use crate::ids::{AppId, UserId};

/// Only ever moves forward: of two leaders the later one may know less.
pub(super) fn see_user<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId, at_ms: u64) -> Step<Outcome, V> {
    require_account(work, app, user)?;
    let key = key::last_seen(app, user);
    let present: Option<LastSeen> = work.load(&key)?;
    if present.is_some_and(|present| present.at_ms >= at_ms) {
        return Ok(done(true));
    }
    work.store(key, &LastSeen { at_ms });
    Ok(done(false))
}

pub(super) fn set_privacy<V: View>(
    work: &mut Overlay<'_, V>,
    app: &AppId,
    user: &UserId,
    privacy: Privacy,
) -> Step<Outcome, V> {
    require_account(work, app, user)?;
    let key = key::privacy(app, user);
    let present: Option<Privacy> = work.load(&key)?;
    if present.unwrap_or_default() == privacy {
        return Ok(done(true));
    }
    work.store(key, &privacy);
    work.emit(Committed::PrivacySet { app: app.clone(), user: user.clone() });
    Ok(done(false))
}

fn require_account<V: View>(work: &mut Overlay<'_, V>, app: &AppId, user: &UserId) -> Step<(), V> {
    let account: Option<Account> = work.load(&key::account(app, user))?;
    require(account.is_some(), ErrorCode::UserNotFound)
}

#[cfg(test)]
mod tests {
    use super::super::query;
    use super::super::record::Privacy;
    use super::super::testing::{Shard, again, app, no, ok, user};
    use crate::command::{Command, UserCommand};
    use crate::errors::ErrorCode;
    use crate::event::Committed;
    use crate::wire::Audience;

    fn alice(command: UserCommand) -> Command {
        Command::User { app: app(), user: user("alice"), command }
    }

    fn home() -> Shard {
        let mut home = Shard::default();
        home.one(alice(UserCommand::CreateAccount { password: None }));
        home
    }

    #[test]
    fn the_last_time_somebody_was_seen_only_moves_forward() {
        let mut home = home();
        let see = |at_ms| alice(UserCommand::SeeUser { at_ms });
        assert_eq!(home.one(see(500)), ok(0));
        assert_eq!((home.one(see(500)), home.one(see(400))), (again(0), again(0)));
        assert_eq!(query::last_seen(&home.state, &app(), &user("alice")).unwrap(), Some(500));
        assert_eq!(home.one(see(600)), ok(0));
        assert_eq!(query::last_seen(&home.state, &app(), &user("alice")).unwrap(), Some(600));
    }

    #[test]
    fn a_wish_for_privacy_is_kept_and_a_change_of_it_is_told() {
        let mut home = home();
        let hidden = Privacy { last_seen: Audience::Everyone, online: Audience::Nobody };
        let shown = Privacy::default();
        assert_eq!(
            home.one(alice(UserCommand::SetPrivacy { privacy: shown })),
            again(0),
            "nothing hidden is the default"
        );
        let delta = home.entry(vec![alice(UserCommand::SetPrivacy { privacy: hidden })]);
        assert_eq!(delta.events, [Committed::PrivacySet { app: app(), user: user("alice") }]);
        assert_eq!(query::privacy(&home.state, &app(), &user("alice")).unwrap(), hidden);
        assert_eq!(home.one(alice(UserCommand::SetPrivacy { privacy: hidden })), again(0));
        assert_eq!(home.one(alice(UserCommand::SetPrivacy { privacy: shown })), ok(0));
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_no_account() {
        let mut home = Shard::default();
        let privacy = Privacy { last_seen: Audience::Nobody, online: Audience::Nobody };
        for command in [UserCommand::SeeUser { at_ms: 1 }, UserCommand::SetPrivacy { privacy }] {
            assert_eq!(home.one(alice(command)), no(ErrorCode::UserNotFound));
        }
    }
}
