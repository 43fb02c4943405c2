//! The identifier of this gateway at its broker. It has to be the same after a restart, so that
//! what waits there is found, and another one for each gateway, or they throw each other out.

use std::fs;

use sha2::{Digest as _, Sha256};

use crate::config::{Config, MQTT_CLIENT_ID};

/// `mqtt.client_id`; by default made of the name of the machine and the addresses of the listeners.
pub(super) fn identifier(config: &Config) -> String {
    match &*config.mqtt.client_id {
        MQTT_CLIENT_ID => made(&host_name(), config),
        given => given.to_owned(),
    }
}

/// As proc_sys_kernel(5) has it; empty where there is none.
fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

fn made(host: &str, config: &Config) -> String {
    let mut hash = Sha256::new();
    hash.update(host.trim());
    let listeners = &config.listeners;
    let udp = listeners.udp.values().map(|udp| udp.bind);
    let dtls = listeners.dtls.values().map(|dtls| dtls.common.bind);
    for address in udp.chain(dtls) {
        hash.update("\n");
        hash.update(address.to_string());
    }
    let mut identifier = "lwm2m-gateway-".to_owned();
    // In all 22 characters: 23 are what every broker of MQTT 3.1.1 takes (section 3.1.3.1).
    for byte in hash.finalize().iter().take(4) {
        identifier.push_str(&format!("{byte:02x}"));
    }
    identifier
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UdpListener;

    fn at(port: u16) -> Config {
        let mut config = Config::default();
        let listener = UdpListener {
            bind: ([0, 0, 0, 0], port).into(),
            ..UdpListener::default()
        };
        config.listeners.udp.insert("default".to_owned(), listener);
        config
    }

    #[test]
    fn b13_each_gateway_has_its_own() {
        let one = made("a\n", &at(5683));
        assert_eq!(one, made("a", &at(5683)), "the same after a restart");
        assert_ne!(one, made("b", &at(5683)), "another machine");
        assert_ne!(one, made("a", &at(5685)), "another gateway of the machine");
        assert!(
            one.len() <= 23 && one.starts_with("lwm2m-gateway-"),
            "{one}"
        );
    }

    #[test]
    fn a_given_one_is_taken() {
        let mut config = at(5683);
        config.mqtt.client_id = "c".to_owned();
        assert_eq!(identifier(&config), "c");
        config.mqtt.client_id = MQTT_CLIENT_ID.to_owned();
        assert_ne!(identifier(&config), MQTT_CLIENT_ID);
    }
}
