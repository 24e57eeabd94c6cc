//! Every stored layout as a file in `storage/golden`: what was written must open, what is written must not change.
//! With `CAMPANILE_WRITE_GOLDEN=1` missing files are written; existing ones never are.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{self, Space, meta};
use crate::record::{self, IdentityRecord, Installing, StateMarker};
use crate::seal::{Place, Sealer};
use crate::{Applied, LogPayload, LogPosition, LogRecord, SnapshotChunk};
use chat::ids::ShardId;

fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("CAMPANILE_WRITE_GOLDEN").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sealer() -> Sealer {
    Sealer::with_fixed_nonce(&[9; 32], *b"a fixed nonce for tests!")
}

/// The plain layout and its sealed form at `key`.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, key: &[u8], value: &T) {
    let plain = record::encode(value);
    let old_plain = golden(&format!("{name}.plain.bin"), &plain);
    assert_eq!(record::decode::<T>(&old_plain).unwrap(), *value, "{name}: what was written must open");
    assert_eq!(plain, old_plain, "{name}: the layout must not change under the same format number");

    let place = Place::record(key::space_of(key).unwrap(), key);
    let old_sealed = golden(&format!("{name}.sealed.bin"), &sealer().seal(&place, &plain));
    assert_eq!(sealer().open(&place, &old_sealed).unwrap(), old_plain, "{name}: an old seal must open");
    assert_eq!(sealer().seal(&place, &plain), old_sealed, "{name}");
}

fn position() -> LogPosition {
    LogPosition { term: 3, node: 2, index: 70_000 }
}

fn applied() -> Applied {
    Applied { position: Some(position()), membership: Bytes::from_static(b"members") }
}

#[test]
fn every_stored_record_keeps_its_layout() {
    let shard = ShardId(5);
    let log = |payload| LogRecord { position: position(), payload };
    let log_key = key::log(shard, position().index);
    check("log-blank", &log_key, &log(LogPayload::Blank));
    check("log-batch", &log_key, &log(LogPayload::Batch(Bytes::from_static(b"a batch"))));
    check("log-membership", &log_key, &log(LogPayload::Membership(Bytes::from_static(b"members"))));
    check("vote", &key::named(shard, meta::VOTE), &Bytes::from_static(b"a vote"));
    check("committed", &key::named(shard, meta::COMMITTED), &Some(position()));
    check("purged", &key::named(shard, meta::PURGED), &position());
    check("applied", &key::named(shard, meta::APPLIED), &StateMarker { generation: 7, applied: applied() });
    check("installing", &key::named(shard, meta::INSTALLING), &Installing { last: Some(position()) });
    let identity = IdentityRecord { cluster: "0190d6a0-0000-7000-8000-000000000001".to_owned(), node: 4 };
    check("identity", &key::named(key::ENGINE, meta::IDENTITY), &identity);
    check("fresh", &key::named(key::ENGINE, meta::FRESH), &53_u8);
    check("live", &key::named(key::ENGINE, meta::LIVE), &12_345_678_901_i64);
    let pairs = vec![(Bytes::from_static(b"main/a"), Bytes::from_static(b"1"))];
    check("snapshot-chunk", &key::chunk(shard, 300, 11), &pairs);
    // Between nodes, not on disk: the same rule.
    check("stream-state", &key::chunk(shard, 0, 0), &SnapshotChunk::State(pairs));
    check("stream-records", &key::chunk(shard, 0, 1), &SnapshotChunk::Records(vec![log(LogPayload::Blank)]));
}

#[test]
fn a_state_value_is_sealed_as_it_is() {
    let key = key::state(ShardId(5), 7, b"main/key");
    let place = Place::record(Space::State, &key);
    let old = golden("state.sealed.bin", &sealer().seal(&place, b"value"));
    assert_eq!(sealer().open(&place, &old).unwrap(), b"value");
    assert_eq!(sealer().seal(&place, b"value"), old);
}
