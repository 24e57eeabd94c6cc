//! What clients see of a group's settings, and of who wants to be in it or must not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::group::{GroupKind, JoinMode, Rights, Visibility};
use crate::ids::{GroupId, UserId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    pub group: GroupId,
    pub name: String,
    pub kind: GroupKind,
    pub members: u64,
    pub members_max: u64,
    pub created_by: UserId,
    pub created_ms: u64,
    /// The owner and the admins.
    pub admins: Vec<UserId>,
    pub join: JoinMode,
    pub history: Visibility,
    pub rights: Rights,
    pub mute_all: bool,
    pub slow_mode_ms: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub announcement: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dissolved: bool,
    /// Until then you may not speak here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until_ms: Option<u64>,
}

/// Somebody who asks to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    pub user: UserId,
    pub time_ms: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    pub user: UserId,
    /// Missing: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    pub by: UserId,
}
