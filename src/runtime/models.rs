//! Object definitions from the file system.

use std::fs;
use std::io;

use tracing::{error, info};

use crate::config::Config;
use crate::lwm2m::model::ObjectModels;

/// The built-in definitions that `config` asks for and every `*.xml` of its `xml_dir`, in order of
/// file name. A file that cannot be read is named in one log line; the rest still load.
///
/// # Errors
/// When the directory itself cannot be read.
pub(super) fn load(config: &Config) -> io::Result<ObjectModels> {
    load_counted(config).map(|(models, _)| models)
}

/// [`load`], and how many files could not be read.
pub(crate) fn load_counted(config: &Config) -> io::Result<(ObjectModels, usize)> {
    let mut unread = 0usize;
    let max_file = config.limits.max_model_file;
    let builtin = if config.oma_registry {
        ObjectModels::builtin().with_registry()
    } else {
        ObjectModels::builtin()
    };
    let Some(dir) = &config.xml_dir else {
        return Ok((builtin, 0));
    };
    let mut paths: Vec<_> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|ext| ext.eq_ignore_ascii_case("xml"))
        })
        .collect();
    paths.sort();
    let files = paths.iter().filter_map(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let size = fs::metadata(path).map_or(0, |meta| meta.len());
        if size > max_file as u64 {
            error!(file = %name, size, limit = max_file, "object definition too large");
            unread = unread.saturating_add(1);
            return None;
        }
        match fs::read(path) {
            Ok(bytes) => Some((name, bytes)),
            Err(error) => {
                error!(file = %name, %error, "object definition not read");
                unread = unread.saturating_add(1);
                None
            }
        }
    });
    let (models, errors) = builtin.load(files, max_file);
    for error in &errors {
        error!(%error, "object definition not loaded");
    }
    info!(dir = %dir.display(), objects = models.objects().len(), failed = errors.len(), "object definitions loaded");
    Ok((models, unread.saturating_add(errors.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_known_unless_it_is_turned_off() {
        let mut config = Config::default();
        assert!(load(&config).unwrap().lookup(3303, None).is_some());
        config.oma_registry = false;
        let models = load(&config).unwrap();
        assert!(models.lookup(3303, None).is_none());
        assert_eq!(models.objects().len(), 8);
    }
}
