//! The password for the broker, from where no other user of the machine sees it.

use std::env;

use lwm2m_gateway::config::broker_url::BrokerUrl;
use lwm2m_gateway::config::file::{open_to_everyone, read_secret};
use lwm2m_gateway::config::{Config, WorldReadable};

/// The environment variable with the password.
const VARIABLE: &str = "LWM2M_GATEWAY_MQTT_PASSWORD";

/// Takes `mqtt.password` from the file that the configuration names, or else from the environment;
/// one that the configuration itself holds wins.
///
/// # Errors
/// One line: the file cannot be read, or everybody can read it; the variable is no text or has no
/// user to go with.
pub(super) fn complete(config: &mut Config) -> Result<(), String> {
    let world_readable = config.world_readable_keys;
    let mqtt = &mut config.mqtt;
    if let Some(file) = &mqtt.password_file {
        let shown = file.display();
        let (password, mode) =
            read_secret(file).map_err(|error| format!("mqtt.password_file: {shown}: {error}"))?;
        if let Some(why) = open_to_everyone(mode)
            && world_readable == WorldReadable::Refuse
        {
            return Err(format!(
                "mqtt.password_file: {shown}: {why}: chmod 640 {shown}, or set \
                 world_readable_keys = \"allow\""
            ));
        }
        mqtt.password = Some(password.as_str().to_owned());
        return Ok(());
    }
    let url = mqtt.broker.as_deref().map(str::parse::<BrokerUrl>);
    let url = url.and_then(Result::ok);
    let has_password = url.as_ref().is_some_and(|url| url.password.is_some());
    if mqtt.password.is_some() || has_password {
        return Ok(());
    }
    let Some(password) = env::var_os(VARIABLE).filter(|password| !password.is_empty()) else {
        return Ok(());
    };
    if mqtt.username.is_none() && url.is_none_or(|url| url.username.is_none()) {
        return Err(format!("{VARIABLE}: needs mqtt.username"));
    }
    match password.into_string() {
        Ok(password) => mqtt.password = Some(password),
        Err(_) => return Err(format!("{VARIABLE}: is not valid UTF-8")),
    }
    Ok(())
}
