//! The command `objects`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{Config, Log};
use crate::lwm2m::model::{ObjectDefinition, ResourceDefinition};
use crate::runtime::load_models_counted;

use super::{logging, say};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Objects to show with their resources [default: list all objects]
    #[arg(value_name = "OBJECT")]
    objects: Vec<u16>,
    /// Directory of additional definitions (*.xml)
    #[arg(long, value_name = "DIR")]
    xml_dir: Option<PathBuf>,
    /// Leave out OMA's registry, as with oma_registry = false
    #[arg(long)]
    no_oma_registry: bool,
}

/// Lists known definitions; what cannot be read is named in the log, and makes the command fail.
pub(crate) fn list(options: Options) -> ExitCode {
    let config = Config {
        oma_registry: !options.no_oma_registry,
        xml_dir: options.xml_dir,
        log: Log {
            level: "warn".to_owned(),
            ..Log::default()
        },
        ..Config::default()
    };
    let logging = match logging::start(&config.log, Arc::default()) {
        Ok(logging) => logging,
        Err(error) => return say::failure(&[error]),
    };
    let (models, failed) = match load_models_counted(&config) {
        Ok(loaded) => loaded,
        Err(error) => {
            let dir = config.xml_dir.unwrap_or_default();
            return logging.end(Err(format!("{}: {error}", dir.display())));
        }
    };
    if options.objects.is_empty() {
        models.objects().for_each(object);
    }
    for id in options.objects {
        if models.versions(id).len() == 0 {
            return logging.end(Err(format!("there is no definition of object {id}")));
        }
        for definition in models.versions(id) {
            object(definition);
            definition.resources().iter().for_each(resource);
        }
    }
    match failed {
        0 => logging.end(Ok(())),
        failed => logging.end(Err(format!(
            "{failed} of the files cannot be read, see above"
        ))),
    }
}

fn object(object: &ObjectDefinition) {
    say::out(format_args!(
        "{:>5}  {:<4} {:>3} resources  {}",
        object.id,
        object.version,
        object.resources().len(),
        object.name
    ));
}

fn resource(resource: &ResourceDefinition) {
    let can = resource.operations;
    let letter = |can, letter| if can { letter } else { '-' };
    let (read, write) = (letter(can.read, 'R'), letter(can.write, 'W'));
    let execute = letter(can.execute, 'E');
    let many = letter(resource.multiple, '*');
    let kind = resource.kind.map_or("", |kind| kind.name());
    let unit = match resource.units.as_str() {
        "" => String::new(),
        unit => format!(" ({unit})"),
    };
    let (id, name) = (resource.id, &resource.name);
    say::out(format_args!(
        "{id:>11}  {read}{write}{execute}{many}  {kind:<16}  {name}{unit}"
    ));
}
