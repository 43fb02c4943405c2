//! The bytes of a command, in whichever dialect.

use super::current;
use super::legacy;
use super::options::{MAX_REPEATED, Options};
use super::own;
use super::parsed::Command;
use super::unreadable::unreadable;
use crate::bridge::dialect::Dialect;
use crate::bridge::echo::Echo;
use crate::bridge::json::{Members, too_deep};
use crate::bridge::refusal::{CommandError, Fault, Reason};

/// Reads one command. `dialect` is that of the topic it came by: the legacy topic takes both.
/// Bytes that are no UTF-8 become U+FFFD, as in EMQX.
///
/// # Errors
///
/// Everything that keeps the command from being sent; each error can be answered.
pub fn parse(payload: &[u8], dialect: Dialect, options: &Options) -> Result<Command, CommandError> {
    let mut parsed = parse_either(payload, dialect, options).and_then(check_repeated);
    match &mut parsed {
        Ok(command) => command.echo.set_pair(dialect),
        Err(error) => error.echo.set_pair(dialect),
    }
    parsed
}

/// Each notification repeats the members of its command and the paths.
fn check_repeated(command: Command) -> Result<Command, CommandError> {
    let repeated = command.echo.members_len() + command.target.text.len();
    if !command.kind.observes() || repeated <= MAX_REPEATED {
        return Ok(command);
    }
    let detail = format!(
        "each notification would repeat {repeated} bytes of the command, at most {MAX_REPEATED}"
    );
    let fault = Fault::new(Reason::TooLarge, detail);
    Err(fault.into_error(command.echo, Some(command.target.text)))
}

fn parse_either(
    payload: &[u8],
    dialect: Dialect,
    options: &Options,
) -> Result<Command, CommandError> {
    let max_size = options.max_size;
    if payload.len() > max_size {
        let detail = format!(
            "{} bytes, at most {max_size} (limits.max_command_size)",
            payload.len()
        );
        // Without a copy: what is no UTF-8 ends it.
        let text = payload.utf8_chunks().next();
        let text = text.map_or("", |chunk| chunk.valid());
        let fault = Fault::new(Reason::TooLarge, detail);
        return Err(unreadable(text, dialect, fault));
    }
    let text = String::from_utf8_lossy(payload);
    if too_deep(&text) {
        let fault = Fault::new(Reason::TooDeep, "nested too deeply");
        return Err(unreadable(&text, dialect, fault));
    }
    let command = Members::parse(&text).map_err(|error| {
        let reason = match text.trim_start().starts_with('{') {
            _ if !error.is_data() => Reason::MalformedJson,
            true => Reason::TooLarge,
            false => Reason::NotAnObject,
        };
        unreadable(&text, dialect, Fault::new(reason, error.to_string()))
    })?;
    if own::is_message(&command) {
        let fault = Fault::new(
            Reason::OwnMessage,
            "this is a message of the gateway, not a command",
        );
        return Err(fault.into_error(Echo::nothing(), None));
    }
    if legacy::is_old_form(&command, dialect) {
        return legacy::parse(&command, options);
    }
    current::parse(&command, options)
}
