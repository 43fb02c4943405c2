//! What a device of each version says in answer to a read, of one path or of several.

use super::cbor;
use super::content;
use super::objects::Objects;
use super::senml;
use super::wire::format;
use crate::lwm2m::Path;

/// Whether devices of this version know SenML, CBOR, composites and Send (LwM2M Core 1.1).
pub(super) fn is_modern(version: &str) -> bool {
    version != "1.0"
}

/// What the paths hold, in `accept` or the device's own choice; `Err` when it has no such form.
/// Several paths are what a composite asks for: what is not there is left out.
pub(super) fn read(
    version: &str,
    objects: &Objects,
    paths: &[Path],
    accept: Option<u16>,
) -> Result<(u16, Vec<u8>), ()> {
    let form = match (accept, paths) {
        (Some(form), _) => form,
        (None, [path]) => return content::read(objects, path, None),
        (None, _) => format::SENML_CBOR,
    };
    match (form, paths) {
        (format::SENML_JSON | format::SENML_CBOR, _) if is_modern(version) => {
            let found = paths.iter().flat_map(|path| senml::values(objects, path));
            let found: Vec<_> = found.collect();
            senml::write(form, &found)
                .map(|body| (form, body))
                .ok_or(())
        }
        (format::CBOR, [path]) if is_modern(version) => {
            let value = content::single(objects, path).ok_or(())?;
            let mut body = Vec::new();
            cbor::value(&mut body, value);
            Ok((form, body))
        }
        (_, [path]) => content::read(objects, path, accept),
        _ => Err(()),
    }
}
