//! What becomes of messages stays so: on every node, while nodes die, and after all of them have started anew.

use anyhow::{Context, Result, bail};
use campanile_client::{Client, Range};
use chat::event::{Mentions, Relations};
use chat::ids::{ClientMsgId, ConversationId};
use chat::wire::{Body, EventContent, Reaction, ReadMode, Target, WireEvent};
use tests::{DEADLINE, Stage, user};
use uuid::Uuid;

fn text(text: &str) -> Body {
    Body::Text { text: text.to_owned() }
}

/// What is shown of a message.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    body: Option<Body>,
    edited_seq: Option<u64>,
    recalled: bool,
    reactions: Vec<Reaction>,
    pinned: bool,
}

fn shown(event: &WireEvent) -> Result<Shown> {
    let EventContent::Message { body, edited_seq, recalled, reactions, pinned, .. } = event.content.clone() else {
        bail!("no message: {event:?}");
    };
    Ok(Shown { body, edited_seq, recalled: recalled.is_some(), reactions, pinned })
}

/// Events 1 to 3 as the node has them itself.
async fn first_three(client: &Client, conversation: &ConversationId) -> Result<Vec<WireEvent>> {
    let page = client.history(conversation.clone(), Range::Before(4)).await?;
    let local = client.history_as(conversation.clone(), Range::Before(4), ReadMode::Local).await?;
    assert_eq!(page.events, local.events);
    Ok(page.events)
}

async fn as_left(stage: &Stage, conversation: &ConversationId) -> Result<()> {
    for node in 1..=3 {
        let (bob, _events) = stage.connect("bob", &[node]).await?;
        let events = first_three(&bob, conversation).await?;
        let gone = Shown { body: None, edited_seq: None, recalled: true, reactions: vec![], pinned: false };
        assert_eq!(shown(&events[0])?, gone, "on node {node}");
        let reactions = vec![Reaction { reaction: "+1".into(), count: 1, users: vec![user("bob")], mine: true }];
        let kept =
            Shown { body: Some(text("two, better")), edited_seq: Some(4), recalled: false, reactions, pinned: true };
        assert_eq!(shown(&events[1])?, kept, "on node {node}");
        let EventContent::Message { reply_to, mentions, .. } = &events[2].content else { bail!("{events:?}") };
        assert_eq!((*reply_to, mentions.users.as_slice()), (Some(2), [user("bob")].as_slice()));
        let pins = bob.pins(conversation.clone()).await?;
        assert_eq!(pins.iter().map(|event| event.seq).collect::<Vec<_>>(), [2]);
        let all = bob.history(conversation.clone(), Range::After(0)).await?.events;
        assert!(!format!("{all:?}").contains("secret"), "on node {node}: {all:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_and_recalls_outlive_leaders_and_restarts() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let (alice, _alices) = stage.connect("alice", &[1, 2, 3]).await?;
    let (bob, _bobs) = stage.connect("bob", &[2, 3]).await?;
    let to = Target::User(user("bob"));
    let conversation = alice.send(to.clone(), text("a secret")).await?.conversation;
    alice.send(to.clone(), text("two")).await?;
    let mentions = Mentions { users: vec![user("bob")], all: false };
    let relations = Relations { reply_to: Some(2), mentions, ..Relations::default() };
    assert_eq!(alice.send_related(to, ClientMsgId(Uuid::now_v7()), text("three"), relations).await?.seq, 3);
    assert_eq!(alice.edit(conversation.clone(), 2, text("two, better")).await?.seq, 4);
    assert_eq!(alice.edit(conversation.clone(), 1, text("still secret")).await?.seq, 5);

    // Whoever led before: what was asked before and is asked again behind a new leader has one effect.
    stage.cluster.kill(1)?;
    assert_eq!(bob.react(conversation.clone(), 2, "+1", true).await?.seq, Some(6));
    assert_eq!(bob.pin(conversation.clone(), 2, true).await?.seq, Some(7));
    let recalled = alice.recall(conversation.clone(), 1).await?;
    assert_eq!(recalled.seq, Some(8));
    let again = alice.recall(conversation.clone(), 1).await?;
    assert_eq!((again.seq, again.duplicate), (Some(8), true));
    assert!(alice.edit(conversation.clone(), 1, text("secret again")).await.is_err());

    stage.cluster.start(1)?;
    stage.cluster.wait_ready(1, DEADLINE).await?;
    as_left(&stage, &conversation).await.context("after a leader's death")?;
    for node in 1..=3 {
        stage.cluster.kill(node)?;
    }
    stage.cluster.start_all()?;
    stage.cluster.wait_all_ready(DEADLINE).await?;
    as_left(&stage, &conversation).await.context("after a restart of all")?;
    stage.equal_digests().await
}
