//! Groups as their users know them, on three real nodes: how one comes in, who may speak, who is out, what a newcomer sees.

use anyhow::{Context, Result, bail};
use bench::barrier;
use bench::target::{Target, TargetOptions};
use campanile_client::{Client, ClientEvent, Events, Range, RequestError, SendError};
use chat::errors::ErrorCode;
use chat::event::Role;
use chat::group::{GroupChange, GroupKind, JoinMode};
use chat::ids::{ConversationId, GroupId};
use chat::wire::{EventContent, Target as To};
use tests::{DEADLINE, Stage, app, until, user};
use uuid::Uuid;

/// Bans that race sends: `campanile-bench bans --spawn 3` has ten thousand.
const BANS: u64 = 100;

fn group() -> GroupId {
    GroupId(Uuid::now_v7())
}

fn code<T: std::fmt::Debug>(refused: Result<T, RequestError>) -> Result<u16> {
    match refused {
        Err(RequestError::Rejected { error, .. }) => Ok(error.code),
        other => bail!("not refused: {other:?}"),
    }
}

async fn say(client: &Client, group: GroupId, text: &str) -> Result<u16> {
    match client.send_text(To::Group(group), text).await {
        Ok(_) => Ok(0),
        Err(SendError::Rejected { error, .. }) => Ok(error.code),
        Err(error) => Err(error.into()),
    }
}

/// The next event of this kind.
async fn next<T>(events: &mut Events, mut wanted: impl FnMut(ClientEvent) -> Option<T>) -> Result<T> {
    let found = async {
        while let Some(event) = events.next().await {
            if let Some(found) = wanted(event) {
                return Ok(found);
            }
        }
        bail!("the client ended")
    };
    tokio::time::timeout(DEADLINE, found).await.context("not in time")?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_in_who_speaks_and_who_is_out() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let (owner, mut owners) = stage.connect("olga", &[1]).await?;
    let (bob, mut bobs) = stage.connect("bob", &[2]).await?;
    let (eve, mut eves) = stage.connect("eve", &[3]).await?;
    asking_and_invites(&owner, &mut owners, &bob, &eve, &mut eves).await?;
    speaking(&owner, &bob, &eve).await?;
    what_newcomers_see(&owner, &bob, &mut bobs).await?;
    the_end(&owner, &bob, &eve).await
}

async fn asking_and_invites(
    owner: &Client,
    owners: &mut Events,
    bob: &Client,
    eve: &Client,
    eves: &mut Events,
) -> Result<()> {
    let g = group();
    owner.create_group_of(GroupKind::Work, g, "Work", vec![user("bob")]).await?;
    // Whether it exists is not said.
    assert_eq!(code(eve.join(g).await)?, ErrorCode::NotAMember.number());
    let secret = "q7Xz0bN4tGm2Vw9KcR1s5A";
    assert_eq!(code(eve.add_invite(g, secret, 60_000, 1).await)?, ErrorCode::NotAMember.number());
    bob.add_invite(g, secret, 60_000, 1).await?;
    assert_eq!(code(eve.join_with(g, "0000000000000000000000").await)?, ErrorCode::InviteInvalid.number());
    assert!(eve.join_with(g, secret).await?.seq.is_some());
    next(eves, |event| matches!(event, ClientEvent::ConversationAdded { .. }).then_some(())).await?;
    eve.leave(g).await?;
    assert_eq!(code(eve.join_with(g, secret).await)?, ErrorCode::InviteInvalid.number(), "it was for one");
    // Where admins are asked they hear of it on another node, and their answer lets the user in.
    owner.change_group(g, GroupChange::Join(JoinMode::Approval)).await?;
    assert_eq!(eve.ask_to_join(g, "please").await?.seq, None);
    let asked = |event| match event {
        ClientEvent::JoinAsked { group, user, text } if group == g => Some((user, text)),
        _ => None,
    };
    assert_eq!(next(owners, asked).await?, (user("eve"), "please".to_owned()));
    assert_eq!(code(bob.join_requests(g, None).await)?, ErrorCode::Forbidden.number());
    let (waiting, _) = owner.join_requests(g, None).await?;
    assert_eq!(waiting.iter().map(|request| request.user.clone()).collect::<Vec<_>>(), [user("eve")]);
    owner.answer_join(g, user("eve"), true).await?;
    next(eves, |event| matches!(event, ClientEvent::ConversationAdded { .. }).then_some(())).await?;
    assert_eq!(say(eve, g, "hello").await?, 0);
    Ok(())
}

async fn speaking(owner: &Client, bob: &Client, eve: &Client) -> Result<()> {
    let g = group();
    owner.create_group(g, "Speaking", vec![user("bob"), user("eve")]).await?;
    owner.set_role(g, user("bob"), Role::Admin).await?;
    bob.mute(g, user("eve"), None).await?;
    assert_eq!(say(eve, g, "mm").await?, ErrorCode::Muted.number());
    assert_eq!(code(eve.unmute(g, user("eve")).await)?, ErrorCode::Forbidden.number());
    bob.unmute(g, user("eve")).await?;
    assert_eq!(say(eve, g, "at last").await?, 0);
    bob.change_group(g, GroupChange::MuteAll(true)).await?;
    assert_eq!((say(eve, g, "mm").await?, say(bob, g, "order!").await?), (ErrorCode::Muted.number(), 0));
    bob.change_group(g, GroupChange::MuteAll(false)).await?;
    bob.change_group(g, GroupChange::SlowModeMs(3_600_000)).await?;
    assert_eq!((say(eve, g, "one").await?, say(eve, g, "two").await?), (0, ErrorCode::SlowMode.number()));
    eve.set_nickname(g, Some("Evita".into())).await?;
    let members = owner.members(g, None).await?.members;
    assert_eq!(
        members.iter().find(|member| member.user == user("eve")).and_then(|m| m.nickname.clone()).as_deref(),
        Some("Evita")
    );
    let info = eve.group(g).await?;
    assert_eq!((info.slow_mode_ms, info.admins, info.members), (3_600_000, vec![user("bob"), user("olga")], 3));
    // What is over is not shown.
    bob.mute(g, user("eve"), Some(1)).await?;
    bob.ban(g, user("stranger"), Some(1)).await.err().context("nobody of that name")?;
    owner.ban(g, user("eve"), Some(1)).await?;
    until("the ban is over", async || Ok(owner.bans(g, None).await?.0.is_empty())).await?;
    eve.join(g).await?;
    until("the mute is over", async || Ok(eve.group(g).await?.muted_until_ms.is_none())).await?;
    // In a channel only admins speak.
    let channel = group();
    owner.create_group_of(GroupKind::Channel, channel, "News", vec![user("eve")]).await?;
    assert_eq!(
        (say(owner, channel, "news").await?, say(eve, channel, "what?").await?),
        (0, ErrorCode::Forbidden.number())
    );
    Ok(())
}

async fn what_newcomers_see(owner: &Client, bob: &Client, bobs: &mut Events) -> Result<()> {
    let g = group();
    owner.create_group_of(GroupKind::Meeting, g, "Meeting", vec![]).await?;
    for text in ["one", "two"] {
        owner.send_text(To::Group(g), text).await?;
    }
    let joined = bob.join(g).await?.seq.context("an open group lets in at once")?;
    owner.send_text(To::Group(g), "three").await?;
    let at = |event| match event {
        ClientEvent::Event(event) if event.conversation == ConversationId::Group(g) => match event.content {
            EventContent::Message { .. } => Some(event.seq),
            _ => None,
        },
        _ => None,
    };
    assert_eq!(next(bobs, at).await?, joined + 1);
    for range in [Range::After(0), Range::Before(u64::MAX)] {
        let page = bob.history(g.into(), range).await?;
        let seqs: Vec<u64> = page.events.iter().map(|event| event.seq).collect();
        assert_eq!((seqs, page.oldest_seq, page.more), (vec![joined, joined + 1], joined, false));
    }
    let item = bob.conversations(None).await?.items.into_iter().find(|item| item.conversation == g.into());
    assert_eq!(item.context("it is listed")?.unread, 1);
    assert_eq!(owner.history(g.into(), Range::After(0)).await?.events.len() as u64, joined + 1);
    Ok(())
}

async fn the_end(owner: &Client, bob: &Client, eve: &Client) -> Result<()> {
    let g = group();
    owner.create_group(g, "Done", vec![user("bob")]).await?;
    assert_eq!(code(bob.dissolve(g).await)?, ErrorCode::Forbidden.number());
    owner.dissolve(g).await?;
    assert_eq!(say(bob, g, "still there?").await?, ErrorCode::GroupDissolved.number());
    assert_eq!(code(eve.join(g).await)?, ErrorCode::GroupDissolved.number());
    assert!(bob.group(g).await?.dissolved);
    bob.leave(g).await?;
    owner.leave(g).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_later_than_a_ban_reaches_the_banned() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let cluster = &stage.cluster;
    let target = Target::new(TargetOptions {
        urls: cluster.client_urls(),
        ca_pem: cluster.ca_pem().to_vec(),
        app_key_pem: cluster.app_key_pem().to_owned(),
        app: app(),
        admins: Vec::new(),
    })?;
    let bans = barrier::run(&target, BANS).await?;
    println!("{bans:?}");
    assert_eq!((bans.rounds, bans.leaked, bans.early), (BANS, 0, 0));
    assert!(bans.sent > bans.received && bans.received >= BANS, "{bans:?}");
    Ok(())
}
