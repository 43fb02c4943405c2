//! The command `run`.

use std::process::ExitCode;

use super::options::GatewayOptions;
use super::service::Service;
use super::{logging, say};

pub(crate) const AFTER_HELP: &str = "\
Signals: SIGTERM and SIGINT drain and end, SIGHUP reads the configuration and the object
definitions again, SIGUSR1 logs the counters. The log goes to standard error; a line
`listening udp=ADDR` or `listening mqtt=ADDR` tells each address.

Examples:
  lwm2m-gateway run --udp :5683 --mqtt :1883 --xml-dir /etc/lwm2m/objects
  lwm2m-gateway run --broker mqtt://user:secret@broker.example --log debug --log json
  lwm2m-gateway run --set lifetime_max=1h --set translators.notify.qos=1";

pub(crate) fn run(options: &GatewayOptions) -> ExitCode {
    let started = options.load().and_then(|(config, warnings)| {
        logging::start(&config.log).map_err(|error| vec![error.to_string()])?;
        Service::start(options.clone(), config, &warnings, |broker| broker)
            .and_then(|service| service.serve(std::future::pending()))
            .map_err(|error| vec![error])
    });
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(errors) => {
            errors.iter().for_each(say::error);
            ExitCode::FAILURE
        }
    }
}
