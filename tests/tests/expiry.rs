//! A message that is for a while is shown to nobody once that is over, and then taken away on every node.

use anyhow::{Result, bail};
use campanile_client::{ClientEvent, Range};
use chat::event::{Life, Relations};
use chat::ids::ClientMsgId;
use chat::wire::{Body, EventContent, Recalled, Target};
use tests::{DEADLINE, Stage, until, user};
use uuid::Uuid;

const OFTEN: &str = "\n[retention]\nsweep_every = \"300ms\"\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_ends_at_its_time_on_every_node() -> Result<()> {
    let stage = Stage::configured(3, 4, OFTEN).await?;
    let (alice, _events) = stage.connect("alice", &[1]).await?;
    let (_bob, mut heard) = stage.connect("bob", &[2]).await?;
    let life = Life { expires_in_ms: Some(1_500), burn: false };
    let (id, body) = (ClientMsgId(Uuid::now_v7()), Body::Text { text: "for a moment".to_owned() });
    let relations = Relations { life, ..Relations::default() };
    let sent = alice.send_related(Target::User(user("bob")), id, body, relations).await?;
    alice.send_text(Target::User(user("bob")), "for ever").await?;

    let mut seen = Vec::new();
    loop {
        match tokio::time::timeout(DEADLINE, heard.next()).await? {
            Some(ClientEvent::Event(event)) => match event.content {
                EventContent::Message { body, expires_ms, .. } => {
                    seen.push((event.seq, body.is_some(), expires_ms.map(|at_ms| at_ms - event.time_ms)));
                }
                EventContent::Expired { target } => {
                    assert_eq!(target, sent.seq);
                    break;
                }
                other => bail!("{other:?}"),
            },
            Some(_) => {}
            None => bail!("bob's client ended"),
        }
    }
    assert_eq!(seen, [(1, true, Some(1_500)), (2, true, None)]);

    for node in 1..=3 {
        let (again, _events) = stage.connect("bob", &[node]).await?;
        until("the node has taken it away", async || {
            let page = again.history(sent.conversation.clone(), Range::After(0)).await?;
            let [first, second, expired] = &page.events[..] else { return Ok(false) };
            let EventContent::Message { body, recalled, .. } = &first.content else { bail!("{first:?}") };
            assert_eq!((body, recalled), (&None, &Some(Recalled { by: None, expired: true })));
            assert!(matches!(&second.content, EventContent::Message { body: Some(_), .. }));
            Ok(matches!(expired.content, EventContent::Expired { target: 1 }))
        })
        .await?;
    }
    Ok(())
}
