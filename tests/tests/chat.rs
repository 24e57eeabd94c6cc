//! People chat on three nodes: each on another one, in private and in a group, with devices that come and go.

use anyhow::{Context, Result, bail};
use campanile_client::{Client, ClientEvent, Events, Range, RequestError};
use chat::errors::ErrorCode;
use chat::event::Role;
use chat::ids::{ClientMsgId, ConversationId, GroupId};
use chat::wire::{Body, EventContent, Target, WireEvent};
use tests::{DEADLINE, Stage, user};
use tokio::time::timeout;
use uuid::Uuid;

/// The next event of a conversation; what else is heard meanwhile is not asked for.
async fn next_event(events: &mut Events) -> Result<WireEvent> {
    loop {
        match timeout(DEADLINE, events.next()).await.context("an event")?.context("a client that goes on")? {
            ClientEvent::Event(event) => return Ok(event),
            ClientEvent::Closed { code, why } => bail!("closed with {code}: {why}"),
            _ => {}
        }
    }
}

async fn expect_text(events: &mut Events, seq: u64, text: &str) -> Result<()> {
    let event = next_event(events).await?;
    match &event.content {
        EventContent::Message { body: Some(Body::Text { text: said }), .. } if said == text && event.seq == seq => {
            Ok(())
        }
        _ => bail!("expected {seq} {text:?}, got {event:?}"),
    }
}

fn refused(result: Result<impl std::fmt::Debug, RequestError>) -> Option<u16> {
    match result {
        Err(RequestError::Rejected { error, .. }) => Some(error.code),
        _ => None,
    }
}

async fn private_chat(stage: &Stage, alice: &Client, bob_events: &mut Events) -> Result<()> {
    let sent = alice.send_text(Target::User(user("bob")), "hello bob").await?;
    assert_eq!((sent.seq, sent.conversation.to_string()), (1, "p:alice:bob".to_owned()));
    expect_text(bob_events, 1, "hello bob").await?;

    // Bob's second device, on the third node, has it in its list as unread, and reads it.
    let (second, _events) = stage.connect("bob", &[3]).await?;
    let page = second.conversations(None).await?;
    let item = page.items.iter().find(|item| item.conversation == sent.conversation).context("listed")?;
    assert_eq!((item.head, item.unread), (1, 1));
    second.read(sent.conversation.clone(), 1).await?;
    let page = second.conversations(None).await?;
    assert_eq!(page.items[0].unread, 0);
    assert_eq!(refused(second.read(sent.conversation, 9).await), Some(ErrorCode::SeqBeyondHead.number()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_on_three_nodes_see_one_order_and_removal_is_a_barrier() -> Result<()> {
    let stage = Stage::start(3, 4).await?;
    let (alice, mut alice_events) = stage.connect("alice", &[1]).await?;
    let (bob, mut bob_events) = stage.connect("bob", &[2]).await?;
    let (carol, mut carol_events) = stage.connect("carol", &[3]).await?;
    private_chat(&stage, &alice, &mut bob_events).await?;
    expect_text(&mut alice_events, 1, "hello bob").await?;

    // A group: created with bob, carol joins by herself; everyone sees the same order from where they came in.
    let group = GroupId(Uuid::now_v7());
    let created = alice.create_group(group, "bells", vec![user("bob")]).await?;
    assert_eq!(created.seq, Some(1));
    let again = alice.create_group(group, "bells", vec![user("bob")]).await?;
    assert_eq!((again.seq, again.duplicate), (Some(1), true));
    assert_eq!(refused(carol.create_group(group, "mine", vec![]).await), Some(ErrorCode::GroupExists.number()));
    assert_eq!(refused(carol.history(group.into(), Range::After(0)).await), Some(ErrorCode::NotAMember.number()));
    assert_eq!(carol.join(group).await?.seq, Some(2));
    assert_eq!(refused(carol.kick(group, user("bob")).await), Some(ErrorCode::Forbidden.number()));
    let id = ClientMsgId(Uuid::now_v7());
    let one = || Body::Text { text: "one".to_owned() };
    assert_eq!(bob.send_with_id(Target::Group(group), id, one()).await?.seq, 3);
    assert_eq!(carol.send_text(Target::Group(group), "two").await?.seq, 4);
    for events in [&mut alice_events, &mut bob_events] {
        while next_event(events).await?.seq != 2 {}
        expect_text(events, 3, "one").await?;
        expect_text(events, 4, "two").await?;
    }
    while next_event(&mut carol_events).await?.seq != 4 {}

    // Carol is made admin and removes bob: he hears of it, and of nothing after it, on any node.
    assert_eq!(alice.set_role(group, user("carol"), Role::Admin).await?.seq, Some(5));
    assert_eq!(carol.kick(group, user("bob")).await?.seq, Some(6));
    assert_eq!(alice.send_text(Target::Group(group), "without bob").await?.seq, 7);
    // His message is where it was when he repeats it; a new one is not taken.
    let repeated = bob.send_with_id(Target::Group(group), id, one()).await?;
    assert_eq!((repeated.seq, repeated.duplicate), (3, true));
    assert!(bob.send_text(Target::Group(group), "still here").await.is_err());
    assert_eq!(bob.send_text(Target::User(user("bob")), "alone").await?.seq, 1);
    let mut heard = Vec::new();
    loop {
        let event = next_event(&mut bob_events).await?;
        if event.conversation == ConversationId::private(user("bob"), user("bob")) {
            break;
        }
        heard.push(event.seq);
    }
    assert_eq!(heard, [5, 6]);
    let (bob_again, _) = stage.connect("bob", &[1]).await?;
    assert_eq!(refused(bob_again.history(group.into(), Range::After(0)).await), Some(ErrorCode::NotAMember.number()));

    // Every node tells the same history.
    let mut histories = Vec::new();
    for node in 1..=3 {
        let (reader, _events) = stage.connect("alice", &[node]).await?;
        histories.push(reader.history(group.into(), Range::After(0)).await?.events);
    }
    assert!(histories[0].len() == 7 && histories.windows(2).all(|pair| pair[0] == pair[1]), "{histories:?}");
    let members = alice.members(group, None).await?.members;
    let names: Vec<_> = members.iter().map(|member| (member.user.as_str(), member.role)).collect();
    assert_eq!(names, [("alice", Role::Owner), ("carol", Role::Admin)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_node_dies_goes_on_elsewhere_and_misses_nothing() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let (listener, mut events) = stage.connect("listener", &[1, 2, 3]).await?;
    let (speaker, _speaker_events) = stage.connect("speaker", &[2, 3]).await?;
    let to = Target::User(user("listener"));
    for number in 1..=10 {
        speaker.send_text(to.clone(), format!("line {number}")).await?;
    }
    for number in 1..=10 {
        expect_text(&mut events, number, &format!("line {number}")).await?;
    }
    stage.cluster.kill(1)?;
    for number in 11..=40 {
        assert_eq!(speaker.send_text(to.clone(), format!("line {number}")).await?.seq, number);
    }
    for number in 11..=40 {
        expect_text(&mut events, number, &format!("line {number}")).await?;
    }
    assert!(listener.session().context("a session")?.node != 1);

    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    stage.equal_digests().await
}
