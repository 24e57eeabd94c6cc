//! From a TOML document to a [`NodeConfig`]: one function per section, and the rules between keys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use chat::ids::AppId;
use chat::{level, limits};
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};
use super::reader::{Reader, Scalar, Section};
use super::{
    AdminSection, AppSection, ClusterSection, Compact, KeysSection, ListenerSection, LogFormat, LogSection,
    MemberSection, NodeConfig, NodeSection, PeerSection, RatesSection, RetentionSection, StorageSection, units,
};

/// Sections in the order of the manual; `apps` is a list.
const SECTIONS: [&str; 10] =
    ["node", "cluster", "client", "peer", "admin", "storage", "retention", "rates", "keys", "log"];

pub(super) fn parse(
    text: &str,
    environment: &BTreeMap<String, String>,
    base: &Path,
) -> Result<NodeConfig, Vec<Problem>> {
    let mut reader = Reader::new(text, base, environment);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let place = error.span().map_or(Place::File, |span| reader.place(&span));
        reader.problem(place, error.message().to_owned(), None);
    }
    let mut sections = Sections::of(&mut reader, document.get_ref());
    let default = NodeConfig::default();
    let config = NodeConfig {
        node: node(sections.open(&mut reader, "node"), &default.node),
        cluster: cluster(sections.open(&mut reader, "cluster"), &default.cluster),
        client: client(sections.open(&mut reader, "client"), &default.client),
        peer: peer(sections.open(&mut reader, "peer"), &default.peer),
        admin: admin(sections.open(&mut reader, "admin"), &default.admin),
        storage: storage(sections.open(&mut reader, "storage"), &default.storage),
        retention: retention(sections.open(&mut reader, "retention"), &default.retention),
        rates: rates(sections.open(&mut reader, "rates"), &default.rates),
        keys: keys(sections.open(&mut reader, "keys"), &default.keys),
        log: log(sections.open(&mut reader, "log"), &default.log),
        apps: sections.apps(&mut reader),
    };
    rules(&mut sections, &mut reader, &config);
    let problems = reader.finish();
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// The document's tables by name, checked to be tables.
struct Sections<'d> {
    tables: BTreeMap<&'static str, (&'d DeTable<'d>, Place)>,
    apps: Option<&'d toml::Spanned<DeValue<'d>>>,
}

impl<'d> Sections<'d> {
    fn of(reader: &mut Reader<'_>, document: &'d DeTable<'d>) -> Self {
        let mut tables = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut root = Section::new(reader, "", Some(document), Place::File, false);
        for name in SECTIONS {
            let Some(value) = root.value(name) else { continue };
            match value.get_ref().as_table() {
                Some(table) => drop(tables.insert(name, (table, value.span()))),
                None => wrong.push((name, value.get_ref().type_str())),
            }
        }
        let apps = root.value("apps");
        for (name, found) in wrong {
            root.problem_at(name, format!("expected a section [{name}], found {found}"), None);
        }
        root.finish();
        let tables = tables.into_iter().map(|(name, (table, span))| (name, (table, reader.place(&span)))).collect();
        Self { tables, apps }
    }

    fn open<'r, 'a>(&self, reader: &'r mut Reader<'a>, name: &'static str) -> Section<'r, 'a, 'd> {
        match self.tables.get(name) {
            Some((table, place)) => Section::new(reader, name, Some(table), place.clone(), true),
            None => Section::new(reader, name, None, Place::File, true),
        }
    }

    fn apps(&self, reader: &mut Reader<'_>) -> Vec<AppSection> {
        let mut apps = Vec::new();
        for (table, place) in tables(reader, "apps", self.apps) {
            let mut section = Section::new(reader, "apps", Some(table), place, false);
            let id =
                section.read_optional("id", |value| AppId::new(value.as_text()?).map_err(|error| error.to_string()));
            let has_key = section.value("token_public_key").is_some();
            let token_public_key = section.path("token_public_key", Path::new(""));
            if id.is_none() || !has_key {
                section.problem_at("id", "an app needs `id` and `token_public_key`", None);
            }
            section.finish();
            apps.extend(id.map(|id| AppSection { id, token_public_key }));
        }
        apps
    }
}

/// The tables of a list of tables, with their places.
fn tables<'d>(
    reader: &mut Reader<'_>,
    name: &str,
    value: Option<&'d toml::Spanned<DeValue<'d>>>,
) -> Vec<(&'d DeTable<'d>, Place)> {
    let Some(value) = value else { return Vec::new() };
    let place = reader.place(&value.span());
    let Some(list) = value.get_ref().as_array() else {
        reader.problem(place, format!("{name}: expected a list of tables"), None);
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in list.iter() {
        let place = reader.place(&item.span());
        match item.get_ref().as_table() {
            Some(table) => found.push((table, place)),
            None => reader.problem(place, format!("{name}: expected a table"), None),
        }
    }
    found
}

fn text(value: &Scalar) -> Result<String, String> {
    value.as_text().map(str::to_owned)
}

fn duration(value: &Scalar) -> Result<Duration, String> {
    units::duration(value.as_text()?)
}

fn address(value: &Scalar) -> Result<SocketAddr, String> {
    let text = value.as_text()?;
    text.parse().map_err(|_| format!("{text:?} is not an address such as \"127.0.0.1:7411\" or \"[::]:7411\""))
}

fn node_id(value: &Scalar) -> Result<u64, String> {
    match value.as_number()? {
        0 => Err("node ids start at 1".to_owned()),
        id => Ok(id),
    }
}

fn node(mut section: Section<'_, '_, '_>, default: &NodeSection) -> NodeSection {
    let id = section.read("id", default.id, node_id);
    let config = NodeSection {
        id,
        name: section.read("name", format!("node-{id}"), text),
        data_dir: section.path("data_dir", &default.data_dir),
        zone: section.read("zone", default.zone.clone(), |value| match value.as_text()? {
            long if long.len() > limits::NAME_BYTES => Err(format!("a zone has at most {} bytes", limits::NAME_BYTES)),
            zone => Ok(zone.to_owned()),
        }),
    };
    section.finish();
    config
}

fn cluster(mut section: Section<'_, '_, '_>, default: &ClusterSection) -> ClusterSection {
    let mut config = ClusterSection {
        id: section.read("id", default.id.clone(), |value| match value.as_text()? {
            "" => Ok(String::new()),
            text => uuid::Uuid::parse_str(text).map(|id| id.to_string()).map_err(|_| format!("{text:?} is not a UUID")),
        }),
        shards: section.read("shards", default.shards, |value| match value.as_number()? {
            shards @ 1..=limits::SHARDS_MAX => Ok(shards),
            other => Err(format!("{other} shards; 1 to {} are possible", limits::SHARDS_MAX)),
        }),
        heartbeat: section.read("heartbeat", default.heartbeat, duration),
        election_min: section.read("election_min", default.election_min, duration),
        election_max: section.read("election_max", default.election_max, duration),
        members: Vec::new(),
        level: section.read("level", default.level, |value| match value.as_number()? {
            level @ level::OLDEST..=level::NEWEST => Ok(level),
            other => Err(format!("feature level {other}; this release knows {} to {}", level::OLDEST, level::NEWEST)),
        }),
        joined: section.read("joined", default.joined, Scalar::as_bool),
    };
    let members = section.value("members");
    for (table, place) in tables(section.reader(), "cluster.members", members) {
        config.members.extend(member(section.reader(), table, place));
    }
    section.finish();
    config
}

fn member(reader: &mut Reader<'_>, table: &DeTable<'_>, place: Place) -> Option<MemberSection> {
    let mut section = Section::new(reader, "cluster.members", Some(table), place, false);
    let id = section.read_optional("id", node_id);
    let peer = section.read_optional("peer", address);
    let client = section.read_optional("client", text);
    if id.is_none() || peer.is_none() {
        section.problem_at(
            "id",
            "a member needs `id` and `peer`",
            Some("{ id = 1, peer = \"127.0.0.1:7412\" }".into()),
        );
    }
    section.finish();
    Some(MemberSection { id: id?, peer: peer?, client })
}

fn client(mut section: Section<'_, '_, '_>, default: &ListenerSection) -> ListenerSection {
    let config = ListenerSection {
        listen: section.read("listen", default.listen, address),
        tls: section.read("tls", default.tls, Scalar::as_bool),
        certificate: section.path("certificate", &default.certificate),
        private_key: section.path("private_key", &default.private_key),
    };
    section.finish();
    config
}

fn peer(mut section: Section<'_, '_, '_>, default: &PeerSection) -> PeerSection {
    let config = PeerSection {
        listen: section.read("listen", default.listen, address),
        certificate: section.path("certificate", &default.certificate),
        private_key: section.path("private_key", &default.private_key),
        ca: section.path("ca", &default.ca),
    };
    section.finish();
    config
}

fn admin(mut section: Section<'_, '_, '_>, default: &AdminSection) -> AdminSection {
    let config = AdminSection {
        listen: section.read("listen", default.listen, address),
        token_file: section.path("token_file", &default.token_file),
    };
    section.finish();
    config
}

fn storage(mut section: Section<'_, '_, '_>, default: &StorageSection) -> StorageSection {
    let cache_bytes = section.read("cache", default.cache_bytes, |value| match units::size(value.as_text()?)? {
        small if small < 1 << 20 => Err("the cache needs at least 1 MiB".to_owned()),
        bytes => Ok(bytes),
    });
    let scrub_every = section.read("scrub_every", default.scrub_every, duration);
    let scrub_bytes_per_s =
        section.read("scrub_rate", default.scrub_bytes_per_s, |value| match units::size(value.as_text()?)? {
            small if small < 64 << 10 => Err("at least 64 KiB a second, or it never ends".to_owned()),
            bytes => Ok(bytes),
        });
    let compact_dead_percent =
        section.read("compact_dead_percent", default.compact_dead_percent, |value| match value.as_number()? {
            percent @ 60..=99 => Ok(percent),
            other => Err(format!("{other} percent; 60 to 99 are possible: half to three quarters is usual")),
        });
    let compact = section.read("compact", default.compact, |value| match value.as_text()? {
        "auto" => Ok(Compact::Auto),
        "start" => Ok(Compact::Start),
        "never" => Ok(Compact::Never),
        other => Err(format!("{other:?} is not one of \"auto\", \"start\", \"never\"")),
    });
    let compact_min_bytes =
        section.read("compact_min_size", default.compact_min_bytes, |value| match units::size(value.as_text()?)? {
            small if small < 16 << 20 => Err("at least 16 MiB: a fresh database has that".to_owned()),
            bytes => Ok(bytes),
        });
    let compact_pause = section.read("compact_pause", default.compact_pause, |value| match duration(value)? {
        short if short < Duration::from_secs(1) => Err("at least a second".to_owned()),
        pause => Ok(pause),
    });
    let size = |value: &Scalar| units::size(value.as_text()?);
    let warn_below_bytes = section.read("warn_below", default.warn_below_bytes, size);
    let least = 4 * storage::DISK_OPEN_BYTES;
    let stop_below_bytes = section.read("stop_below", default.stop_below_bytes, |value| match size(value)? {
        small if small < least => Err(format!("at least {} MiB: closing and opening need room", least >> 20)),
        bytes => Ok(bytes),
    });
    if warn_below_bytes < stop_below_bytes {
        section.problem_at("warn_below", "must not be below stop_below", None);
    }
    section.finish();
    StorageSection {
        cache_bytes,
        scrub_every,
        scrub_bytes_per_s,
        compact,
        compact_dead_percent,
        compact_min_bytes,
        compact_pause,
        warn_below_bytes,
        stop_below_bytes,
    }
}

fn retention(mut section: Section<'_, '_, '_>, default: &RetentionSection) -> RetentionSection {
    let mut every = |key, default| {
        section.read(key, default, |value| match units::duration(value.as_text()?)? {
            short if short < Duration::from_millis(100) => Err("not more often than every 100 ms".to_owned()),
            every => Ok(every),
        })
    };
    let (sweep_every, purge_every) =
        (every("sweep_every", default.sweep_every), every("purge_every", default.purge_every));
    let collect_every = every("collect_every", default.collect_every);
    let log_keep_entries = section.read("log_keep_entries", default.log_keep_entries, |value| value.as_number());
    section.finish();
    RetentionSection { sweep_every, purge_every, collect_every, log_keep_entries }
}

fn rates(mut section: Section<'_, '_, '_>, default: &RatesSection) -> RatesSection {
    let mut rate = |key, default| section.read(key, default, |value| value.as_number());
    let config = RatesSection {
        connections_per_ip: rate("connections_per_ip", default.connections_per_ip),
        logins_per_ip: rate("logins_per_ip", default.logins_per_ip),
        requests_per_user: rate("requests_per_user", default.requests_per_user),
        requests_per_device: rate("requests_per_device", default.requests_per_device),
        messages_per_conversation: rate("messages_per_conversation", default.messages_per_conversation),
        messages_per_app: rate("messages_per_app", default.messages_per_app),
    };
    section.finish();
    config
}

fn keys(mut section: Section<'_, '_, '_>, default: &KeysSection) -> KeysSection {
    let config = KeysSection {
        node_key: section.path("node_key", &default.node_key),
        cluster_key: section.path("cluster_key", &default.cluster_key),
        ca_key: section.path("ca_key", &default.ca_key),
    };
    section.finish();
    config
}

fn log(mut section: Section<'_, '_, '_>, default: &LogSection) -> LogSection {
    let config = LogSection {
        level: section.read("level", default.level.clone(), |value| {
            let text = value.as_text()?;
            tracing_subscriber::EnvFilter::try_new(text)
                .map(|_| text.to_owned())
                .map_err(|error| format!("{text:?} is not a level or filter: {error}"))
        }),
        format: section.read("format", default.format, |value| match value.as_text()? {
            "auto" => Ok(LogFormat::Auto),
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("{other:?} is not one of \"auto\", \"text\", \"json\"")),
        }),
    };
    section.finish();
    config
}

/// What must hold between keys.
fn rules(sections: &mut Sections<'_>, reader: &mut Reader<'_>, config: &NodeConfig) {
    let mut cluster = sections.open(reader, "cluster");
    let timing = &config.cluster;
    if timing.heartbeat.is_zero() || timing.election_min < 3 * timing.heartbeat {
        cluster.problem_at(
            "election_min",
            "must be at least three heartbeats, or followers give up a live leader",
            Some(format!("heartbeat is {:?}", timing.heartbeat)),
        );
    }
    if timing.election_max <= timing.election_min {
        cluster.problem_at("election_max", "must be longer than election_min", None);
    }
    membership(&mut cluster, config);
    if !config.client.tls && !config.client.listen.ip().is_loopback() {
        let message = "clients are served without TLS on loopback addresses only";
        let help = Some(format!("{} is reached from other machines", config.client.listen));
        sections.open(reader, "client").problem_at("tls", message, help);
    }
    let listeners = [config.client.listen, config.peer.listen, config.admin.listen];
    let distinct: BTreeSet<_> = listeners.iter().filter(|a| a.port() != 0).collect();
    if distinct.len() < listeners.iter().filter(|a| a.port() != 0).count() {
        let message = "the client, peer and admin listeners need three different addresses";
        sections.open(reader, "admin").problem_at("listen", message, None);
    }
    let apps: BTreeSet<_> = config.apps.iter().map(|app| &app.id).collect();
    if apps.len() < config.apps.len() {
        reader.problem(Place::File, "two [[apps]] have the same id", None);
    }
}

fn membership(cluster: &mut Section<'_, '_, '_>, config: &NodeConfig) {
    let members = &config.cluster.members;
    if members.is_empty() {
        return;
    }
    let ids: BTreeSet<_> = members.iter().map(|m| m.id).collect();
    let addresses: BTreeSet<_> = members.iter().map(|m| m.peer).collect();
    if ids.len() < members.len() || addresses.len() < members.len() {
        cluster.problem_at("members", "two members have the same id or the same peer address", None);
    }
    if !ids.contains(&config.node.id) {
        cluster.problem_at("members", format!("this node ({}) is not among them", config.node.id), None);
    }
    if members.len() > limits::NODES_MAX {
        let message = format!("{} members; at most {} are possible", members.len(), limits::NODES_MAX);
        cluster.problem_at("members", message, None);
    }
}
