//! The password for the broker, from where no other user of the machine sees it.

use std::env;

use crate::config::file::read_secret;
use crate::config::read::Source;
use crate::config::{Config, WorldReadable};
use crate::system::open_to_everyone;

/// The environment variable with the password.
const VARIABLE: &str = "LWM2M_GATEWAY_MQTT_PASSWORD";

/// The password from the environment.
///
/// # Errors
/// One line: it is no text.
pub(super) fn from_environment(source: &mut Source) -> Result<(), String> {
    let Some(password) = env::var_os(VARIABLE).filter(|password| !password.is_empty()) else {
        return Ok(());
    };
    let password = password.into_string();
    let password = password.map_err(|_| format!("{VARIABLE}: is not valid UTF-8"))?;
    source.offer_password(VARIABLE, password);
    Ok(())
}

/// The password from the file that the configuration names.
///
/// # Errors
/// One line: the file cannot be read, or everybody can read it.
pub(super) fn from_file(config: &mut Config) -> Result<(), String> {
    let mqtt = &mut config.mqtt;
    let Some(file) = &mqtt.password_file else {
        return Ok(());
    };
    let shown = file.display();
    let (password, mode) =
        read_secret(file).map_err(|error| format!("mqtt.password_file: {shown}: {error}"))?;
    if let Some(why) = open_to_everyone(mode)
        && config.world_readable_keys == WorldReadable::Refuse
    {
        return Err(format!(
            "mqtt.password_file: {shown}: {why}: run chmod 640 {shown}, or set \
             world_readable_keys = \"allow\""
        ));
    }
    mqtt.password = Some(password.as_str().to_owned());
    Ok(())
}
