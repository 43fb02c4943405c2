//! The program `lwm2m-gateway`: its commands and options are those of `lwm2m-gateway --help`.

// A program of its own: it reads files, waits for signals and speaks to people.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod demo;
mod healthcheck;
#[cfg(feature = "http")]
mod http_user;
mod logging;
mod man;
mod notify;
mod objects;
mod options;
mod password;
mod psk;
mod remote;
mod run;
mod say;
mod service;
mod state;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::simulate;
use clap::{CommandFactory as _, Parser, Subcommand};

use options::GatewayOptions;

const AFTER_HELP: &str = "\
Examples:
  lwm2m-gateway demo                          gateway, broker and a device in one terminal
  lwm2m-gateway run                           devices on UDP 5683, MQTT on 127.0.0.1:1883
  lwm2m-gateway run --config lwm2m.toml --broker mqtts://broker.example
  lwm2m-gateway simulate --devices 10         devices without hardware
  mosquitto_sub -v -t 'lwm2m/#'               show the messages of the devices
  mosquitto_pub -t lwm2m/sim-0/dn -m '{\"reqID\":1,\"msgType\":\"read\",\"data\":{\"path\":\"/3/0/0\"}}'";

/// Gateway between LwM2M devices and MQTT applications
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
    /// Check a configuration file; prints every mistake with its key to standard error
    CheckConfig {
        /// Configuration file (TOML, JSON or HOCON)
        file: PathBuf,
    },
    /// Check that each listener of the gateway on this machine answers
    Healthcheck(healthcheck::Options),
    /// List the known object definitions, or the resources of some objects
    Objects(objects::Options),
    /// Edit a file of pre-shared keys for DTLS
    #[command(subcommand, after_help = psk::AFTER_HELP)]
    Psk(psk::Command),
    /// Create a line of http.users_file for a user of the HTTP API; asks for the password, or reads it
    /// from the first line of standard input
    #[cfg(feature = "http")]
    #[command(after_help = http_user::AFTER_HELP)]
    HttpUser(http_user::Options),
    /// Inspect a store of registrations, observations and commands
    #[command(subcommand, after_help = store::AFTER_HELP)]
    Store(store::Command),
    /// List the devices of a running gateway
    #[command(after_help = remote::AFTER_HELP)]
    Devices(remote::DevicesOptions),
    /// Show one device: registration, observations, waiting commands
    #[command(after_help = remote::AFTER_HELP)]
    Show(remote::ShowOptions),
    /// Read from a device
    #[command(after_help = remote::AFTER_HELP)]
    Read(remote::ReadOptions),
    /// Write a value to a device
    #[command(after_help = remote::AFTER_HELP)]
    Write(remote::WriteOptions),
    /// Execute a resource of a device
    #[command(after_help = remote::AFTER_HELP)]
    Execute(remote::ExecuteOptions),
    /// Observe a path of a device and show its notifications
    #[command(after_help = remote::AFTER_HELP)]
    Observe(remote::ObserveOptions),
    /// Show events as they happen: registrations, notifications, answers
    #[command(after_help = remote::AFTER_HELP)]
    Watch(remote::WatchOptions),
    /// Show the CoAP messages of a device
    #[command(after_help = remote::AFTER_HELP)]
    Trace(remote::TraceOptions),
    /// Show the commands that wait for a device, or cancel them
    #[command(after_help = remote::AFTER_HELP)]
    Queue(remote::QueueOptions),
    /// Write completions for a shell to standard output
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for each command
    Man {
        /// Folder for the pages; created if missing
        folder: PathBuf,
    },
}

/// Runs the command that the arguments of the process name; returns what the process is to end
/// with.
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Demo(options) => demo::demo(options),
        Command::Simulate(options) => simulate::run(options),
        Command::CheckConfig { file } => options::check(&file),
        Command::Healthcheck(options) => healthcheck::healthcheck(&options),
        Command::Objects(options) => objects::list(options),
        Command::Psk(command) => psk::psk(command),
        #[cfg(feature = "http")]
        Command::HttpUser(options) => http_user::http_user(&options),
        Command::Store(command) => store::store(command),
        Command::Devices(options) => remote::run(remote::Request::Devices(options)),
        Command::Show(options) => remote::run(remote::Request::Show(options)),
        Command::Read(options) => remote::run(remote::Request::Read(options)),
        Command::Write(options) => remote::run(remote::Request::Write(options)),
        Command::Execute(options) => remote::run(remote::Request::Execute(options)),
        Command::Observe(options) => remote::run(remote::Request::Observe(options)),
        Command::Watch(options) => remote::run(remote::Request::Watch(options)),
        Command::Trace(options) => remote::run(remote::Request::Trace(options)),
        Command::Queue(options) => remote::run(remote::Request::Queue(options)),
        Command::Completions { shell } => completions(shell),
        Command::Man { folder } => man::pages(Arguments::command(), &folder),
    }
}

fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "lwm2m-gateway",
        &mut script,
    );
    // Its tabs and line feeds are ours, so that they go out as they are.
    say::out(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}
