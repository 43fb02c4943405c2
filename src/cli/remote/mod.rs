//! The commands that ask a running gateway, over its HTTP API: `devices`, `show`, `read`, `write`,
//! `execute`, `observe`, `watch`, `trace`, `queue`.

mod access;
mod client;
mod command;
mod devices;
mod error;
mod login;
mod queue;
mod show;
mod stream;
mod table;

use std::process::ExitCode;

use super::say;

pub(crate) const AFTER_HELP: &str = "\
This command uses the HTTP API of the gateway (http.bind). Give its token with --token-file
or in the environment variable LWM2M_GATEWAY_HTTP_TOKEN.

Exit codes:
  0  done
  1  any other error
  2  wrong options
  3  no gateway answers at this URL
  4  token or password is missing or rejected
  5  no such device
  6  the device or the gateway answered with an error or too late
  7  the command waits for a sleeping device";

/// What is asked of the gateway.
#[derive(Debug)]
pub(crate) enum Request {
    Devices(devices::Options),
    Show(show::Options),
    Read(ReadOptions),
    Write(WriteOptions),
    Execute(ExecuteOptions),
    Observe(ObserveOptions),
    Watch(WatchOptions),
    Trace(TraceOptions),
    Queue(queue::Options),
}

pub(crate) use command::{ExecuteOptions, ReadOptions, WriteOptions};
pub(crate) use devices::Options as DevicesOptions;
pub(crate) use queue::Options as QueueOptions;
pub(crate) use show::Options as ShowOptions;
pub(crate) use stream::{ObserveOptions, TraceOptions, WatchOptions};

/// Asks the gateway and shows what it says.
pub(crate) fn run(request: Request) -> ExitCode {
    let done = match request {
        Request::Devices(options) => devices::list(&options),
        Request::Show(options) => show::show(&options),
        Request::Read(options) => command::read(&options),
        Request::Write(options) => command::write(&options),
        Request::Execute(options) => command::execute(&options),
        Request::Observe(options) => stream::observe(&options),
        Request::Watch(options) => stream::watch(&options),
        Request::Trace(options) => stream::trace(&options),
        Request::Queue(options) => queue::queue(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                say::error(text);
            }
            failure.code()
        }
    }
}
