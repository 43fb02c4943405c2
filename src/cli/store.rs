//! The command `store`: a look into a store, while no gateway uses it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::say;
use crate::engine::{CommandStage, Restored};
use crate::store::{Contents, Database, StoreError};

pub(crate) const AFTER_HELP: &str = "\
Stop the gateway first. `export` writes one JSON object per line, but leaves out the registration
locations, which are secrets of the devices.";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is in a store
    Info {
        /// Directory of the store
        dir: PathBuf,
    },
    /// Read the whole store; fails if something in it is damaged
    Check {
        /// Directory of the store
        dir: PathBuf,
    },
    /// Print every device with its observations and commands, as JSON lines
    Export {
        /// Directory of the store
        dir: PathBuf,
    },
    /// Shrink the file of the store
    Compact {
        /// Directory of the store
        dir: PathBuf,
    },
}

/// Runs one of them.
pub(crate) fn store(command: Command) -> ExitCode {
    let done = match command {
        Command::Info { dir } => info(&dir),
        Command::Check { dir } => check(&dir),
        Command::Export { dir } => export(&dir),
        Command::Compact { dir } => compact(&dir),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say::error(error);
            ExitCode::FAILURE
        }
    }
}

fn info(dir: &Path) -> Result<ExitCode, StoreError> {
    let (database, contents) = Database::inspect(dir)?;
    let file = database.file();
    let bytes = std::fs::metadata(&file).map_or(0, |about| about.len());
    let sum = |count: fn(&Restored) -> usize| contents.devices.iter().map(count).sum::<usize>();
    say::out(format_args!("file          {}", file.display()));
    say::out(format_args!("bytes         {bytes}"));
    say::out(format_args!(
        "devices       {}",
        contents.devices.iter().filter(|it| !it.ended).count()
    ));
    say::out(format_args!(
        "observations  {}",
        sum(|it| it.observations.len())
    ));
    say::out(format_args!(
        "commands      {}",
        sum(|it| it.commands.len())
    ));
    say::out(format_args!("unreadable    {}", contents.unreadable));
    Ok(ExitCode::SUCCESS)
}

fn check(dir: &Path) -> Result<ExitCode, StoreError> {
    let (_, contents) = Database::inspect(dir)?;
    if contents.unreadable > 0 {
        let count = contents.unreadable;
        say::error(format_args!("{count} records could not be read"));
        return Ok(ExitCode::FAILURE);
    }
    say::out("ok");
    Ok(ExitCode::SUCCESS)
}

fn export(dir: &Path) -> Result<ExitCode, StoreError> {
    let (_, Contents { devices, .. }) = Database::inspect(dir)?;
    for device in &devices {
        say::out(line(device));
    }
    Ok(ExitCode::SUCCESS)
}

/// A device as one line of JSON.
fn line(restored: &Restored) -> serde_json::Value {
    let device = &restored.device;
    let identity = device.identity.as_ref();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let commands = restored.commands.iter().map(|(command, stage)| {
        serde_json::json!({
            "received": command.received,
            "sent": *stage == CommandStage::Sent,
            "answered": matches!(stage, CommandStage::Refused(_)),
            "legacy": command.legacy,
            "command": text(&command.payload),
        })
    });
    let observations = restored.observations.iter().map(|observation| {
        serde_json::json!({
            "token": format!("{:016x}", observation.token),
            "target": observation.target,
        })
    });
    serde_json::json!({
        "endpoint": &*device.endpoint,
        "ended": restored.ended,
        "listener": &*device.listener,
        "address": device.address,
        "identity": identity.map(|identity| text(&identity.presented)),
        "mountpoint": device.mount,
        "lifetime": device.registration.lifetime().as_secs(),
        "registered_at": device.registered_at,
        "query": device.registration.query().collect::<Vec<_>>(),
        "objects": device.registration.objects().collect::<Vec<_>>(),
        "observations": observations.collect::<Vec<_>>(),
        "commands": commands.collect::<Vec<_>>(),
    })
}

fn compact(dir: &Path) -> Result<ExitCode, StoreError> {
    let (mut database, _) = Database::inspect(dir)?;
    let size = |database: &Database| std::fs::metadata(database.file()).map_or(0, |it| it.len());
    let before = size(&database);
    database.compact()?;
    let after = size(&database);
    say::out(format_args!("{before} bytes before, {after} bytes after"));
    Ok(ExitCode::SUCCESS)
}
