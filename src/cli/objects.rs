//! The command `objects`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lwm2m_gateway::config::{Config, Log};
use lwm2m_gateway::runtime::load_models;

use super::{logging, say};

/// Lists every known definition; what cannot be read is named in the log.
pub(crate) fn list(xml_dir: Option<&Path>) -> ExitCode {
    let log = Log {
        level: "warn".to_owned(),
        ..Log::default()
    };
    let logging = match logging::start(&log, Arc::default()) {
        Ok(logging) => logging,
        Err(error) => return say::failure(&[error]),
    };
    let models = match load_models(xml_dir, Config::default().limits.max_model_file) {
        Ok(models) => models,
        Err(error) => {
            let dir = xml_dir.unwrap_or_else(|| Path::new(""));
            return logging.end(Err(format!("{}: {error}", dir.display())));
        }
    };
    for object in models.objects() {
        say::out(format_args!(
            "{:>5}  {:<4} {:>3} resources  {}",
            object.id,
            object.version,
            object.resources().len(),
            object.name
        ));
    }
    logging.end(Ok(()))
}
