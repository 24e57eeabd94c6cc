//! Logs in as a user with a password, says hello to another user and prints what comes in.
//!
//! ```sh
//! cargo run -p campanile-client --example hello -- wss://127.0.0.1:7411 ca.pem alice PASSWORD bob
//! ```

use std::error::Error;

use campanile_client::chat::ids::{AppId, DeviceId, UserId};
use campanile_client::chat::wire::{Credentials, Target};
use campanile_client::{Client, ClientEvent, ClientOptions, Tls};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "it is this program's output")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, ca, user, password, peer] = &arguments[..] else {
        return Err("usage: hello URL CA_FILE USER PASSWORD PEER".into());
    };
    let credentials =
        Credentials::Password { app: AppId::new("main")?, user: UserId::new(user)?, password: password.clone() };
    let tls = Tls::from_ca_pem(&std::fs::read(ca)?)?;
    let options = ClientOptions::new(vec![url.clone()], tls, credentials, DeviceId::new("hello")?);
    let (client, mut events) = Client::connect(options).await?;

    // Resolves once the message is on the disks of a majority; retries under one id until then.
    let sent = client.send_text(Target::User(UserId::new(peer)?), "hello").await?;
    println!("{} is event {}", sent.conversation, sent.seq);

    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Event(event) => println!("{} {}: {:?}", event.conversation, event.seq, event.content),
            other => println!("{other:?}"),
        }
    }
    Ok(())
}
