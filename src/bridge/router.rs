//! From the topic of a command to the device it is for.

use std::borrow::Cow;

use super::dialect::Dialect;
use super::topic::{
    FIRMWARE_TOPIC, MAX_MOUNTPOINT, Part, Placeholder, TopicError, TopicTemplate, unescape_endpoint,
};
use crate::config::{Config, HostileEndpoint, Translator, matches_filter};

/// What a command's topic says of its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteKey<'t> {
    /// The endpoint name.
    Endpoint(Cow<'t, str>),
    /// The mountpoint does not name the endpoint: the device is to be looked up by its rendered
    /// mountpoint. Several devices may share one.
    Mountpoint(&'t str),
}

/// Where a command goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'t> {
    /// The device or devices.
    pub key: RouteKey<'t>,
    /// The rendered mountpoint, which also starts the topic of the answer. A mountpoint of
    /// several placeholders may name the endpoint and still be another device's: compare it with
    /// the device's own.
    pub mount: &'t str,
    /// Which topic pair the command came by.
    pub dialect: Dialect,
}

/// Matches command topics of all mountpoints of a configuration.
#[derive(Debug, Clone)]
pub struct CommandRouter {
    patterns: Vec<Pattern>,
    /// Command topics below a mountpoint.
    commands: Vec<(String, Dialect)>,
    /// What the gateway publishes to, in whole.
    uplinks: Vec<Pattern>,
    /// The same below a mountpoint.
    published: Vec<String>,
    policy: HostileEndpoint,
}

impl CommandRouter {
    /// Prepares the mountpoints of the gateway and of its listeners, the gateway's first.
    ///
    /// # Errors
    ///
    /// When a mountpoint and a command topic make no topic filter.
    pub fn new(config: &Config) -> Result<Self, TopicError> {
        let dtls = config.listeners.dtls.values();
        let listeners = config.listeners.udp.values();
        let listeners = listeners.chain(dtls.map(|listener| &listener.common));
        let mounts = std::iter::once(&config.mountpoint)
            .chain(listeners.filter_map(|listener| listener.mountpoint.as_ref()));
        let mut patterns: Vec<Pattern> = Vec::new();
        let mut uplinks: Vec<Pattern> = Vec::new();
        let published = published(config);
        for mount in mounts {
            let template = TopicTemplate::parse(mount);
            let translators = &config.translators;
            let legacy = &translators.legacy;
            let mut add = |translator, dialect| {
                let pattern = Pattern::new(&template, translator, dialect)?;
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
                Ok(())
            };
            for topic in &published {
                let uplink = Translator::new(topic);
                let pattern = Pattern::new(&template, &uplink, Dialect::Current)?;
                if !uplinks.contains(&pattern) {
                    uplinks.push(pattern);
                }
            }
            add(&translators.command, Dialect::Current)?;
            if legacy.enable {
                add(&legacy.command, Dialect::Legacy)?;
            }
        }
        let translators = &config.translators;
        let legacy = (translators.legacy.enable)
            .then(|| (translators.legacy.command.topic.clone(), Dialect::Legacy));
        let current = (translators.command.topic.clone(), Dialect::Current);
        Ok(Self {
            patterns,
            commands: std::iter::once(current).chain(legacy).collect(),
            uplinks,
            published,
            policy: config.hostile_endpoint,
        })
    }

    /// Filters and QoS of the subscriptions that together bring every command of every device.
    pub fn filters(&self) -> Vec<(String, u8)> {
        let mut filters: Vec<(String, u8)> = Vec::new();
        for pattern in &self.patterns {
            let filter = pattern.filter();
            match filters.iter_mut().find(|(known, _)| *known == filter) {
                Some((_, qos)) => *qos = pattern.qos.max(*qos),
                None => filters.push((filter, pattern.qos)),
            }
        }
        filters
    }

    /// The first mountpoint that `topic` fits.
    pub fn route<'t>(&self, topic: &'t str) -> Option<Route<'t>> {
        self.routes(topic).next()
    }

    /// All mountpoints that `topic` fits, for configurations whose mountpoints overlap.
    pub fn routes<'t>(&self, topic: &'t str) -> impl Iterator<Item = Route<'t>> {
        self.patterns
            .iter()
            .filter_map(move |pattern| pattern.route(topic, self.policy))
    }

    /// Whether the gateway publishes to `topic` in the name of some device.
    pub fn is_uplink(&self, topic: &str) -> bool {
        let mut uplinks = self.uplinks.iter();
        uplinks.any(|pattern| pattern.route(topic, self.policy).is_some())
    }

    /// All mountpoints below which the gateway publishes to `topic`, if they are some device's.
    pub fn uplinks_below_any_mountpoint<'t>(
        &self,
        topic: &'t str,
    ) -> impl Iterator<Item = &'t str> {
        let mounts = self.published.iter();
        mounts.filter_map(move |below| topic.strip_suffix(below.as_str()))
    }

    /// All ways to read `topic` as a command below some mountpoint, for devices that a host has
    /// given a mountpoint of its own.
    pub fn below_any_mountpoint<'t>(&self, topic: &'t str) -> impl Iterator<Item = Route<'t>> {
        // No mountpoint is longer.
        let ends = topic
            .char_indices()
            .take_while(|(at, _)| *at <= MAX_MOUNTPOINT);
        ends.flat_map(move |(at, _)| {
            let (mount, command) = topic.split_at(at);
            let fitting = self
                .commands
                .iter()
                .filter(move |(filter, _)| matches_filter(filter, command));
            fitting.map(move |(_, dialect)| Route {
                key: RouteKey::Mountpoint(mount),
                mount,
                dialect: *dialect,
            })
        })
    }
}

/// Where messages about devices go, below a mountpoint.
fn published(config: &Config) -> Vec<String> {
    let translators = &config.translators;
    let (legacy, series) = (&translators.legacy, &translators.series);
    let state = &translators.state;
    let always = [
        &translators.response,
        &translators.notify,
        &translators.send,
        &translators.register,
        &translators.update,
    ];
    let mut topics: Vec<String> = always
        .into_iter()
        .chain(legacy.enable.then_some(&legacy.response))
        .chain(series.enable.then_some(&series.messages))
        .chain(state.enable.then_some(&state.messages))
        .map(|translator| translator.topic.clone())
        .chain((config.compat.firmware_topic).then(|| FIRMWARE_TOPIC.to_owned()))
        .collect();
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// A mountpoint from which the endpoint name can be read back: two endpoints never have the same
/// one. That is so when the name stands in a level without other placeholders, since no value holds
/// a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedMountpoint(Pattern);

impl NamedMountpoint {
    /// `None` when the endpoint name cannot be told for sure.
    pub fn new(template: &TopicTemplate) -> Option<Self> {
        let nothing = Translator::new("");
        let pattern = Pattern::new(template, &nothing, Dialect::Current).ok()?;
        let mut levels = pattern.levels.iter();
        levels
            .any(|level| matches!(level, Level::Variable { endpoint: true, .. }))
            .then_some(Self(pattern))
    }

    /// The endpoint whose mountpoint `mount` would be.
    pub fn endpoint_at<'m>(&self, mount: &'m str, policy: HostileEndpoint) -> Option<Cow<'m, str>> {
        match self.0.route(mount, policy)?.key {
            RouteKey::Endpoint(name) => Some(name),
            RouteKey::Mountpoint(_) => None,
        }
    }
}

/// A topic filter that remembers where the endpoint name stands and where the mountpoint ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    levels: Vec<Level>,
    /// The level in which the mountpoint ends.
    mount_level: usize,
    /// How many bytes of that level, counted from its end, are not the mountpoint's; `None`
    /// when that level is a wildcard of the command topic and the mountpoint ends before it.
    mount_tail: Option<usize>,
    dialect: Dialect,
    qos: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(String),
    /// A level with one or more placeholders between `prefix` and `suffix`.
    Variable {
        prefix: String,
        suffix: String,
        endpoint: bool,
    },
    /// `+`
    Any,
    /// `#`
    Rest,
}

impl Pattern {
    fn new(
        template: &TopicTemplate,
        translator: &Translator,
        dialect: Dialect,
    ) -> Result<Self, TopicError> {
        let mut levels = vec![Vec::new()];
        for part in &template.parts {
            push_part(&mut levels, part);
        }
        let mount_level = levels.len() - 1;
        let mount_open = levels.last().is_some_and(|level| !level.is_empty());
        push_part(&mut levels, &Part::Literal(translator.topic.clone()));

        let bad = || {
            let shown: Vec<String> = levels.iter().map(|level| show_level(level)).collect();
            TopicError::BadFilter(shown.join("/"))
        };
        let first = translator.topic.split('/').next().unwrap_or_default();
        let mount_tail = match first {
            "+" | "#" if mount_open => return Err(bad()),
            "+" | "#" => None,
            _ => Some(first.len()),
        };
        let compiled = levels
            .iter()
            .enumerate()
            .map(|(index, parts)| {
                // Wildcards are the command topic's to use, not the mountpoint's.
                let own = index > mount_level || (index == mount_level && mount_tail.is_none());
                compile_level(parts, own)
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(bad)?;
        let last = compiled.len().saturating_sub(1);
        if compiled
            .iter()
            .take(last)
            .any(|level| *level == Level::Rest)
        {
            return Err(bad());
        }
        Ok(Self {
            levels: compiled,
            mount_level,
            mount_tail,
            dialect,
            qos: translator.qos,
        })
    }

    fn filter(&self) -> String {
        let levels: Vec<&str> = self
            .levels
            .iter()
            .map(|level| match level {
                Level::Literal(text) => text.as_str(),
                Level::Variable { .. } | Level::Any => "+",
                Level::Rest => "#",
            })
            .collect();
        levels.join("/")
    }

    fn route<'t>(&self, topic: &'t str, policy: HostileEndpoint) -> Option<Route<'t>> {
        let mut names = topic.split('/');
        let mut endpoint = None;
        let mut mount_end = None;
        let mut start = 0;
        for (index, level) in self.levels.iter().enumerate() {
            // `a/#` matches `a` too (MQTT 5.0 §4.7.1.2).
            if *level == Level::Rest && start > topic.len() {
                break;
            }
            let name = names.next()?;
            match level {
                Level::Literal(text) if name != text => return None,
                Level::Literal(_) | Level::Any | Level::Rest => {}
                Level::Variable {
                    prefix,
                    suffix,
                    endpoint: names_endpoint,
                } => {
                    let value = name.strip_prefix(prefix.as_str())?;
                    let value = value.strip_suffix(suffix.as_str())?;
                    if value.is_empty() {
                        return None;
                    }
                    if *names_endpoint && endpoint.is_none() {
                        endpoint = Some(value);
                    }
                }
            }
            let end = start + name.len();
            if index == self.mount_level {
                mount_end = match self.mount_tail {
                    Some(tail) => end.checked_sub(tail),
                    None => Some(start),
                };
            }
            start = end + 1;
        }
        if self.levels.last() != Some(&Level::Rest) && names.next().is_some() {
            return None;
        }
        let mount = topic.get(..mount_end?)?;
        Some(Route {
            key: match endpoint {
                Some(name) => RouteKey::Endpoint(unescape_endpoint(name, policy)),
                None => RouteKey::Mountpoint(mount),
            },
            mount,
            dialect: self.dialect,
        })
    }
}

/// Appends a part, starting a new level at each slash.
fn push_part(levels: &mut Vec<Vec<Part>>, part: &Part) {
    let Part::Literal(text) = part else {
        if let Some(level) = levels.last_mut() {
            level.push(part.clone());
        }
        return;
    };
    for (index, piece) in text.split('/').enumerate() {
        if index > 0 {
            levels.push(Vec::new());
        }
        if let (Some(level), false) = (levels.last_mut(), piece.is_empty()) {
            level.push(Part::Literal(piece.to_owned()));
        }
    }
}

/// `None` when wildcards stand where they may not.
fn compile_level(parts: &[Part], wildcards: bool) -> Option<Level> {
    let mut prefix = String::new();
    let mut suffix = String::new();
    let mut placeholders = 0;
    let mut endpoint = false;
    for part in parts {
        match part {
            Part::Literal(text) if placeholders == 0 => prefix.push_str(text),
            Part::Literal(text) => suffix.push_str(text),
            Part::Placeholder(placeholder) => {
                placeholders += 1;
                endpoint = *placeholder == Placeholder::EndpointName;
                // Only what follows the last placeholder is sure to end the level.
                suffix.clear();
            }
        }
    }
    match prefix.as_str() {
        "+" if wildcards && placeholders == 0 => return Some(Level::Any),
        "#" if wildcards && placeholders == 0 => return Some(Level::Rest),
        _ => {}
    }
    if prefix.contains(['+', '#']) || suffix.contains(['+', '#']) {
        return None;
    }
    Some(if placeholders == 0 {
        Level::Literal(prefix)
    } else {
        Level::Variable {
            prefix,
            suffix,
            endpoint: endpoint && placeholders == 1,
        }
    })
}

fn show_level(parts: &[Part]) -> String {
    let show = |part: &Part| match part {
        Part::Literal(text) => text.clone(),
        Part::Placeholder(placeholder) => format!("${{{placeholder:?}}}"),
    };
    parts.iter().map(show).collect()
}

#[cfg(test)]
#[path = "router_tests.rs"]
mod tests;
