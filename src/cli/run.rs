//! The command `run`.

use std::process::ExitCode;
use std::sync::Arc;

use crate::telemetry::Counters;

use super::options::GatewayOptions;
use super::service::Service;
use super::{logging, say};

pub(crate) const AFTER_HELP: &str = "\
Signals: SIGTERM and SIGINT stop the gateway cleanly, SIGHUP reloads the configuration and the
object definitions, SIGUSR1 logs the counters. The log goes to standard error; lines such as
`listening udp=ADDR` and `listening mqtt=ADDR` show each address.

Examples:
  lwm2m-gateway run --udp :5683 --mqtt :1883 --xml-dir /etc/lwm2m/objects
  LWM2M_GATEWAY_MQTT_PASSWORD=… lwm2m-gateway run --broker mqtts://user@broker.example
  lwm2m-gateway run --broker mqtts://user@broker.example --set mqtt.password_file=/etc/lwm2m/mqtt
  lwm2m-gateway run --set lifetime_max=1h --set translators.notify.qos=1";

pub(crate) fn run(options: &GatewayOptions) -> ExitCode {
    options.protect();
    let (config, warnings) = match options.load_service() {
        Ok(loaded) => loaded,
        Err(errors) => return say::failure(&errors),
    };
    let counters = Arc::new(Counters::default());
    let logging = match logging::start(&config.log, counters.clone()) {
        Ok(logging) => logging,
        Err(error) => return say::failure(&[error]),
    };
    let served = Service::start(options.clone(), config, &warnings, counters, |broker| {
        broker
    })
    .map(|service| service.serve(std::future::pending()));
    logging.end(served)
}
