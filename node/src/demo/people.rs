//! The demo's users, and the group that is filled from a real log. Everything has an id of its own made in advance,
//! so that a demo directory that is started again has each user, group and message once.

use std::collections::BTreeMap;

use campanile_client::{Auth, Client, ClientOptions, Events, Range, Tls};
use chat::errors::ErrorCode;
use chat::ids::{AppId, ClientMsgId, DeviceId, GroupId, UserId};
use chat::wire::Target;
use uuid::Uuid;

use super::excerpt::{Line, lines};
use crate::admin::{AdminClient, AdminError, NewUser};
use crate::auth::signer::TokenSigner;
use crate::init::MAIN_APP;
use crate::local::LocalCluster;

const NAMES: [&str; 12] =
    ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory", "peggy"];
/// Version and variant of a UUIDv7; the demo's ids count up from there.
const IDS: u128 = 0x0190_c0de_0000_7000_8000_0000_0000_0000;
const GROUP_NAME: &str = "#ubuntu, 25 December 2004";

pub(super) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The `number`th id of a `kind` of things.
pub(super) fn fixed_id(kind: u16, number: u32) -> Uuid {
    Uuid::from_u128(IDS | u128::from(kind) << 32 | u128::from(number))
}

/// A user with a password.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) user: UserId,
    pub(super) password: String,
}

pub(super) fn samples(count: u8) -> Vec<Sample> {
    let sample = |name: &&str| Sample {
        user: UserId::new(*name).expect("the names are user ids"),
        password: format!("{name}-rings"),
    };
    NAMES.iter().take(count.into()).map(sample).collect()
}

pub(super) fn main_app() -> AppId {
    AppId::new(MAIN_APP).expect("the literal is an app id")
}

/// Connects users by the app's word.
#[derive(Clone)]
pub(super) struct Connector {
    tls: Tls,
    signer: TokenSigner,
    urls: Vec<String>,
}

impl Connector {
    pub(super) fn new(cluster: &LocalCluster) -> Result<Self, AnyError> {
        Ok(Self {
            tls: Tls::from_ca_pem(cluster.ca_pem())?,
            signer: TokenSigner::new(main_app(), cluster.app_key_pem())?,
            urls: cluster.client_urls(),
        })
    }

    /// The same, but only to one node.
    pub(super) fn only(&self, url: String) -> Self {
        Self { urls: vec![url], ..self.clone() }
    }

    /// A client whose events are passed over.
    pub(super) async fn connect(&self, user: &UserId) -> Result<Client, AnyError> {
        let (client, mut events): (Client, Events) = Client::connect(self.options(user)?).await?;
        tokio::spawn(async move { while events.next().await.is_some() {} });
        Ok(client)
    }

    fn options(&self, user: &UserId) -> Result<ClientOptions, AnyError> {
        let device = DeviceId::new("campanile-demo").expect("the literal is a device id");
        Ok(ClientOptions::new(self.urls.clone(), self.tls.clone(), Auth::from(self.signer.credentials(user)?), device))
    }
}

/// Adds the sample users; those that are there already stay.
pub(super) async fn add_samples(admin: &AdminClient, samples: &[Sample]) -> Result<(), AdminError> {
    for Sample { user, password } in samples {
        let new = NewUser { app: main_app(), user: user.clone(), password: Some(password.clone()) };
        match admin.add_user(&new).await {
            Ok(()) => {}
            Err(AdminError::Refused { problem }) if problem.code == ErrorCode::AccountExists.number() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The group, its members and everything they said. Returns how many messages it has from the log.
pub(super) async fn fill_group(connector: &Connector, samples: &[Sample]) -> Result<usize, AnyError> {
    let said = lines();
    let speakers = connect_speakers(connector, &said).await?;
    let group = GroupId(fixed_id(1, 0));
    let (Some(first), Some(owner)) = (said.first(), said.first().and_then(|line| speakers.get(&line.nick))) else {
        return Ok(0);
    };
    let nicks = speakers.keys().filter(|nick| **nick != first.nick).cloned();
    let members: Vec<UserId> = nicks.chain(samples.iter().map(|sample| sample.user.clone())).collect();
    owner.create_group(group, GROUP_NAME, members.clone()).await?;
    // One after the other: this is a conversation.
    for (number, line) in (0..).zip(&said) {
        let Some(speaker) = speakers.get(&line.nick) else { continue };
        let id = ClientMsgId(fixed_id(2, number));
        speaker.send_with_id(Target::Group(group), id, line.body.clone()).await?;
    }
    let page = owner.history(group.into(), Range::After(0)).await?;
    Ok(page.events.len().min(said.len()))
}

async fn connect_speakers(connector: &Connector, said: &[Line]) -> Result<BTreeMap<UserId, Client>, AnyError> {
    let mut speakers = BTreeMap::new();
    for line in said {
        if !speakers.contains_key(&line.nick) {
            speakers.insert(line.nick.clone(), connector.connect(&line.nick).await?);
        }
    }
    Ok(speakers)
}

#[cfg(test)]
mod tests {
    use chat::limits;

    use super::*;

    #[test]
    fn fixed_ids_are_uuids_of_version_7_and_differ() {
        let id = fixed_id(2, 41);
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        assert_ne!(fixed_id(1, 0), fixed_id(2, 0));
        assert_ne!(fixed_id(2, 1), fixed_id(2, 0));
    }

    #[test]
    fn sample_passwords_are_long_enough() {
        assert!(samples(12).iter().all(|sample| sample.password.len() >= limits::PASSWORD_BYTES_MIN));
        assert_eq!(samples(2).len(), 2);
    }
}
