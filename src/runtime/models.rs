//! Object definitions from the file system.

use std::fs;
use std::io;
use std::path::Path;

use tracing::{error, info};

use crate::lwm2m::model::ObjectModels;

/// The built-in definitions and every `*.xml` of `dir`, in order of file name. A file that cannot
/// be read is named in one log line; the rest still load.
///
/// # Errors
/// When the directory itself cannot be read.
pub fn load(dir: Option<&Path>, max_file: usize) -> io::Result<ObjectModels> {
    let builtin = ObjectModels::builtin();
    let Some(dir) = dir else { return Ok(builtin) };
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
            return None;
        }
        match fs::read(path) {
            Ok(bytes) => Some((name, bytes)),
            Err(error) => {
                error!(file = %name, %error, "object definition not read");
                None
            }
        }
    });
    let (models, errors) = builtin.load(files, max_file);
    for error in &errors {
        error!(%error, "object definition not loaded");
    }
    info!(dir = %dir.display(), objects = models.objects().len(), failed = errors.len(), "object definitions loaded");
    Ok(models)
}
