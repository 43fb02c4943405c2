//! The command `http-user`: users of the HTTP API.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::say;
use crate::credentials;
use crate::http::user_line;

pub(crate) const AFTER_HELP: &str = "\
A running gateway reloads the file within seconds; all users of the console must then log in again.

Examples:
  lwm2m-gateway http-user ann --role read                         prints the line for the file
  lwm2m-gateway http-user bob --role admin --file /etc/lwm2m/users
  lwm2m-gateway http-user bob --remove --file /etc/lwm2m/users";

/// Bytes of a password that are read.
const MOST: u64 = 4096;

/// A user and what becomes of the line.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name by which the user logs in
    name: String,
    /// What the user may do
    #[arg(long, value_name = "ROLE", required_unless_present = "remove")]
    role: Option<Role>,
    /// Write the line to this file, replacing the user's previous line [default: print the line]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Remove the user from the file
    #[arg(long, requires = "file", conflicts_with = "role")]
    remove: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// See everything except secrets
    Read,
    /// Also send commands to devices
    Command,
    /// Also change keys, end registrations, read the log
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Command => "command",
            Self::Admin => "admin",
        }
    }
}

pub(crate) fn http_user(options: &Options) -> ExitCode {
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(error);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let line = match options.role {
        Some(role) if !options.remove => {
            let password = password()?;
            let line = user_line(&options.name, role.name(), &password);
            Some(line.map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    match (&options.file, line) {
        (None, line) => {
            say::out(line.unwrap_or_default());
            Ok(())
        }
        (Some(file), line) => change(file, &options.name, line.as_deref()),
    }
}

/// From the terminal, twice, without showing it; else the first line of standard input.
fn password() -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("password: {error}");
    if io::stdin().is_terminal() {
        let ask = |what: &str| rpassword::prompt_password(what).map(Zeroizing::new);
        let first = ask("Password: ").map_err(failed)?;
        let again = ask("Again: ").map_err(failed)?;
        if first != again {
            return Err("the two passwords differ".to_owned());
        }
        return Ok(first);
    }
    let mut line = Zeroizing::new(String::new());
    let stdin = io::stdin().lock().take(MOST);
    io::BufReader::new(stdin)
        .read_line(&mut line)
        .map_err(failed)?;
    let text = line.strip_suffix('\n').unwrap_or(&line);
    let text = text.strip_suffix('\r').unwrap_or(text);
    Ok(Zeroizing::new(text.to_owned()))
}

fn change(file: &Path, name: &str, line: Option<&str>) -> Result<(), String> {
    let changed = credentials::change(file, line.is_some(), |text| with(text, name, line));
    changed.map_err(|error| format!("{}: {error}", file.display()))
}

/// The file with this line for the user; all others stay.
fn with(text: &[u8], name: &str, line: Option<&str>) -> Result<Zeroizing<Vec<u8>>, String> {
    let text = str::from_utf8(text).map_err(|error| error.to_string())?;
    let prefix = format!("{name}:");
    let mut out = Zeroizing::new(String::new());
    let mut line = line.map(|line| format!("{line}\n"));
    let mut found = false;
    for old in text.lines() {
        if old.trim_start().starts_with(&prefix) {
            found = true;
            out.push_str(&line.take().unwrap_or_default());
        } else {
            out.push_str(old);
            out.push('\n');
        }
    }
    match line {
        Some(line) => out.push_str(&line),
        None if !found => return Err(format!("there is no user {name:?}")),
        None => {}
    }
    Ok(Zeroizing::new(out.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_changes() {
        let text = b"# ours\nann:read:x\nanna:read:y\n";
        let with = |name: &str, line| {
            let done = with(text, name, line);
            done.map(|it| String::from_utf8(it.to_vec()).unwrap())
        };
        assert_eq!(
            with("ann", Some("ann:admin:z")).unwrap(),
            "# ours\nann:admin:z\nanna:read:y\n"
        );
        assert_eq!(
            with("bob", Some("bob:admin:z")).unwrap(),
            "# ours\nann:read:x\nanna:read:y\nbob:admin:z\n"
        );
        assert_eq!(with("ann", None).unwrap(), "# ours\nanna:read:y\n");
        assert!(with("cat", None).is_err());
    }
}
