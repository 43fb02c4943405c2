//! An operation as the parts of a CoAP request (LwM2M Core 1.2 §6.3 and §6.4, Transport 1.2
//! §6.4).

use thiserror::Error;

use super::format::FormatChoice;
use crate::bridge::command::{Command, Reason};
use crate::bridge::typed::coerce;
use crate::lwm2m::Operation;
use crate::lwm2m::Path;
use crate::lwm2m::codec::{ContentFormat, EncodeError, Schema, encode, encode_paths};
use crate::lwm2m::operation::{WriteItem, WriteMode};
use crate::memory::Heap;

/// The CoAP methods of LwM2M servers (RFC 7252 §5.8, RFC 8132).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// GET
    Get,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// FETCH (RFC 8132)
    Fetch,
    /// iPATCH (RFC 8132)
    Ipatch,
}

impl Heap for RequestParts {
    fn heap(&self) -> usize {
        self.path.heap() + self.queries.heap() + self.payload.heap()
    }
}

impl Method {
    /// The CoAP code byte.
    pub const fn code(self) -> u8 {
        match self {
            Self::Get => 1,
            Self::Post => 2,
            Self::Put => 3,
            Self::Delete => 4,
            Self::Fetch => 5,
            Self::Ipatch => 7,
        }
    }
}

/// A request without what the exchange adds: type, message id, token, blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestParts {
    /// Method.
    pub method: Method,
    /// Uri-Path options, the alternate path of the device first.
    pub path: Vec<String>,
    /// Uri-Query options.
    pub queries: Vec<String>,
    /// Accept option.
    pub accept: Option<ContentFormat>,
    /// Content-Format option.
    pub content_format: Option<ContentFormat>,
    /// Observe option: 0 to observe, 1 to cancel (RFC 7641 §2).
    pub observe: Option<u32>,
    /// Payload, to be sent in blocks where it is long.
    pub payload: Vec<u8>,
}

/// Why a command cannot be sent to this device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}: {detail}")]
pub struct BuildError {
    /// The stable code for the answer, which is 4.00.
    pub reason: Reason,
    /// For people.
    pub detail: String,
}

/// The request of `command` for a device whose objects live below `alternate_path` (`/` for
/// most), in the formats of `choice`. `schema` gives values without a `type` theirs.
///
/// # Errors
///
/// A value that does not fit its resource, or values that no payload can carry.
pub fn build(
    command: &Command,
    alternate_path: &str,
    schema: &dyn Schema,
    choice: &FormatChoice,
) -> Result<RequestParts, BuildError> {
    let target = &command.target;
    let root = alternate_path.split('/').filter(|level| !level.is_empty());
    let mut request = RequestParts {
        method: Method::Get,
        path: root
            .map(str::to_owned)
            .chain(target.segments().map(str::to_owned))
            .collect(),
        queries: target.queries.clone(),
        accept: None,
        content_format: None,
        observe: None,
        payload: Vec::new(),
    };
    match &command.operation {
        Operation::Read => request.accept = choice.accept,
        Operation::Discover => request.accept = Some(ContentFormat::LINK),
        Operation::Observe => {
            request.accept = choice.accept;
            request.observe = Some(0);
        }
        Operation::CancelObserve => {
            request.accept = choice.accept;
            request.observe = Some(1);
        }
        Operation::ReadComposite { paths } => fetch(&mut request, paths, None, choice)?,
        Operation::ObserveComposite { paths } => fetch(&mut request, paths, Some(0), choice)?,
        Operation::CancelObserveComposite { paths } => {
            fetch(&mut request, paths, Some(1), choice)?;
        }
        Operation::Delete => request.method = Method::Delete,
        Operation::Execute { arguments } => {
            request.method = Method::Post;
            // A Content-Format describes a payload (RFC 7252 §5.10.3); coap-node takes a POST with
            // one for a Create.
            request.content_format = (!arguments.is_empty()).then_some(ContentFormat::TEXT);
            request.payload = arguments.clone().into_bytes();
        }
        Operation::WriteAttributes { attributes } => {
            request.method = Method::Put;
            if !attributes.is_empty() {
                let item = |(name, value): &(String, Option<String>)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => name.clone(),
                };
                request.queries = attributes.iter().map(item).collect();
            }
        }
        Operation::Write { mode, items } => {
            request.method = match mode {
                WriteMode::Replace => Method::Put,
                WriteMode::Update => Method::Post,
            };
            let base = target.path.as_ref().unwrap_or(&Path::ROOT);
            write(&mut request, command, base, items, schema, choice.write)?;
        }
        Operation::Create { items } => {
            request.method = Method::Post;
            let base = target.path.as_ref().unwrap_or(&Path::ROOT);
            write(&mut request, command, base, items, schema, choice.write)?;
        }
        Operation::WriteComposite { items } => {
            request.method = Method::Ipatch;
            // All of them lie behind one gateway object, or none: encoding finds out.
            let prefix = items.first().and_then(|item| item.path.prefix());
            let base = Path::ROOT.with_prefix(prefix.map(Into::into));
            write(&mut request, command, &base, items, schema, choice.write)?;
        }
    }
    Ok(request)
}

/// Read-Composite and Observe-Composite: the paths in the payload.
fn fetch(
    request: &mut RequestParts,
    paths: &[Path],
    observe: Option<u32>,
    choice: &FormatChoice,
) -> Result<(), BuildError> {
    request.method = Method::Fetch;
    request.accept = choice.accept;
    request.content_format = Some(choice.write);
    request.observe = observe;
    request.payload = encode_paths(choice.write, paths).map_err(|e| unsuitable(&e))?;
    Ok(())
}

fn unsuitable(error: &EncodeError) -> BuildError {
    let reason = match error {
        EncodeError::Unsupported(_) => Reason::BadFormat,
        _ => Reason::BadContent,
    };
    BuildError {
        reason,
        detail: error.to_string(),
    }
}

fn write(
    request: &mut RequestParts,
    command: &Command,
    base: &Path,
    items: &[WriteItem],
    schema: &dyn Schema,
    format: ContentFormat,
) -> Result<(), BuildError> {
    request.content_format = Some(format);
    // Nothing is an empty payload in TLV, but a pack without records in other formats.
    if items.is_empty() && format == ContentFormat::TLV {
        return Ok(());
    }
    let encoded = if command.untyped.is_empty() {
        encode(format, base, items)
    } else {
        encode(format, base, &typed_items(items, &command.untyped, schema)?)
    };
    request.payload = encoded.map_err(|e| unsuitable(&e))?;
    Ok(())
}

/// The items with the types of their definitions where the command gave none.
fn typed_items(
    items: &[WriteItem],
    untyped: &[usize],
    schema: &dyn Schema,
) -> Result<Vec<WriteItem>, BuildError> {
    let mut items = items.to_vec();
    for index in untyped {
        let Some(item) = items.get_mut(*index) else {
            continue;
        };
        let (Some(object), Some(resource)) = (item.path.object(), item.path.resource()) else {
            continue;
        };
        let Some(kind) = schema
            .resource(object, resource)
            .and_then(|known| known.kind)
        else {
            continue;
        };
        item.value = coerce(&item.value, kind).ok_or_else(|| BuildError {
            reason: Reason::BadValue,
            detail: format!("the value for {} is not of type {kind}", item.path),
        })?;
    }
    Ok(items)
}
