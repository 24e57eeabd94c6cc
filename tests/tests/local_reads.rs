//! A node that is left alone shows what it has to those who ask for just that, and says as of when it is.

use std::time::Duration;

use anyhow::Result;
use campanile_client::{Client, Range};
use chat::wire::{ReadMode, Target};
use tests::{Stage, user};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cut_off_from_the_others_answers_local_reads_and_no_others() -> Result<()> {
    let mut stage = Stage::start(3, 4).await?;
    let mut options = stage.options("alice", &[1])?;
    // What cannot be answered is tried again until then.
    options.request_timeout = Duration::from_secs(5);
    let (alice, _events) = Client::connect(options).await?;
    let (_bob, _bobs) = stage.connect("bob", &[2]).await?;
    let mut sent = alice.send_text(Target::User(user("bob")), "one").await?;
    sent = alice.send_text(Target::User(user("bob")), format!("after {}", sent.seq)).await?;
    let conversation = sent.conversation;
    let page = alice.history(conversation.clone(), Range::After(0)).await?;
    assert_eq!((page.read, page.as_of_seq), (ReadMode::Linearizable, 2));

    stage.cluster.kill(2)?;
    stage.cluster.kill(3)?;
    let page = alice.history_as(conversation.clone(), Range::After(0), ReadMode::Local).await?;
    assert_eq!((page.read, page.as_of_seq, page.events.len()), (ReadMode::Local, 2, 2));
    assert!(alice.history(conversation, Range::After(0)).await.is_err(), "it cannot know whether there is more");
    Ok(())
}
