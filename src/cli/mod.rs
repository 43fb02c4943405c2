//! The program `lwm2m-gateway`: its commands and options are those of `lwm2m-gateway --help`.

// A program of its own: it reads files, waits for signals and speaks to people.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod demo;
mod logging;
mod objects;
mod options;
mod password;
mod psk;
mod run;
mod say;
mod service;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::simulate;
use clap::{Parser, Subcommand};

use options::GatewayOptions;

const AFTER_HELP: &str = "\
Examples:
  lwm2m-gateway demo                          gateway, broker and a device in one terminal
  lwm2m-gateway run                           devices on UDP 5683, MQTT on 127.0.0.1:1883
  lwm2m-gateway run --config lwm2m.toml --broker mqtts://broker.example
  lwm2m-gateway simulate --devices 10         devices without hardware
  mosquitto_sub -v -t 'lwm2m/#'               what the devices say
  mosquitto_pub -t lwm2m/sim-0/dn -m '{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}'";

/// LwM2M devices on one side, MQTT applications on the other
#[derive(Debug, Parser)]
#[command(name = "lwm2m-gateway", version, after_help = AFTER_HELP, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway, with an embedded MQTT broker or as a client of another one
    #[command(after_help = run::AFTER_HELP)]
    Run(GatewayOptions),
    /// Run gateway, broker and one simulated device, and talk to the device
    #[command(after_help = demo::AFTER_HELP)]
    Demo(GatewayOptions),
    /// Simulate devices
    Simulate(simulate::Options),
    /// Check a configuration file: every mistake with its key, on standard error
    CheckConfig {
        /// TOML or JSON file
        file: PathBuf,
    },
    /// List the object definitions that are known, or the resources of some
    Objects(objects::Options),
    /// Edit a file of pre-shared keys for DTLS
    #[command(subcommand, after_help = psk::AFTER_HELP)]
    Psk(psk::Command),
    /// Look into a store of registrations, observations and commands
    #[command(subcommand, after_help = store::AFTER_HELP)]
    Store(store::Command),
}

/// Runs the command that the arguments of the process name; returns what the process is to end
/// with.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Demo(options) => demo::demo(options),
        Command::Simulate(options) => simulate::run(options),
        Command::CheckConfig { file } => options::check(&file),
        Command::Objects(options) => objects::list(options),
        Command::Psk(command) => psk::psk(command),
        Command::Store(command) => store::store(command),
    }
}
