//! A configuration as a tree, for people: every key with its value, secrets as stars.

use serde_json::{Map, Value};

use super::keys::{DTLS_KEYS, KEYS, Keys, UDP_KEYS};
use super::schema::Config;

/// What stands for a secret.
const STARS: &str = "******";

/// Keys whose values are secrets, or may hold one.
const SECRETS: &[&str] = &["mqtt.password", "mqtt.broker", "psk"];

/// Every key with its value: `null` where there is none, and [`STARS`] where it is a secret.
pub(crate) fn effective(config: &Config) -> Map<String, Value> {
    let mut tree = Map::new();
    add(&mut tree, &KEYS, config);
    let mut kinds = Map::new();
    let mut udp = Map::new();
    for (name, listener) in &config.listeners.udp {
        let mut one = Map::new();
        add(&mut one, &UDP_KEYS, listener);
        udp.insert(name.clone(), Value::Object(one));
    }
    kinds.insert("udp".to_owned(), Value::Object(udp));
    let mut dtls = Map::new();
    for (name, listener) in &config.listeners.dtls {
        let mut one = Map::new();
        add(&mut one, &DTLS_KEYS, listener);
        dtls.insert(name.clone(), Value::Object(one));
    }
    kinds.insert("dtls".to_owned(), Value::Object(dtls));
    tree.insert("listeners".to_owned(), Value::Object(kinds));
    tree
}

fn add<T>(tree: &mut Map<String, Value>, keys: &Keys<T>, of: &T) {
    for key in keys.iter() {
        let shown = (key.show)(of);
        let value = match SECRETS.contains(&key.name) && shown != "none" {
            true => Value::from(STARS),
            false => value_of(&shown),
        };
        put(tree, key.name, value);
    }
}

/// What is written like TOML, as JSON.
fn value_of(shown: &str) -> Value {
    if shown == "none" {
        return Value::Null;
    }
    let table = format!("x = {shown}").parse::<toml::Table>();
    let value = table.ok().and_then(|mut table| table.remove("x"));
    let value = value.and_then(|value| serde_json::to_value(value).ok());
    value.unwrap_or_else(|| shown.into())
}

/// Puts a value below a dotted name.
fn put(tree: &mut Map<String, Value>, name: &str, value: Value) {
    let Some((first, rest)) = name.split_once('.') else {
        tree.insert(name.to_owned(), value);
        return;
    };
    let below = tree
        .entry(first)
        .or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(below) = below {
        put(below, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read::Source;

    #[test]
    fn no_secret_is_shown() {
        let (config, _) = Source::from_toml(
            r#"
            lifetime_max = "1h"
            store.path = "/var/lib/x"
            mqtt.broker = "mqtt://user:hunter2@example.org"
            mqtt.password = "hunter3"
            listeners.udp.default.bind = 5683
            [listeners.dtls.default]
            bind = 5684
            psk_file = "/etc/psk"
            psk = { one = "00112233445566778899aabbccddeeff" }
            "#,
        )
        .read()
        .unwrap();
        let tree = Value::Object(effective(&config));
        assert_eq!(tree["lifetime_max"], "1h");
        assert_eq!(tree["store"]["path"], "/var/lib/x");
        assert_eq!(tree["mqtt"]["password"], STARS);
        assert_eq!(tree["mqtt"]["username"], Value::Null);
        assert_eq!(tree["coap"]["nstart"], 1);
        assert_eq!(tree["listeners"]["dtls"]["default"]["psk_file"], "/etc/psk");
        let text = tree.to_string();
        for secret in ["hunter2", "hunter3", "00112233"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}
