//! Which content format a request asks for and is written in.
//!
//! In this order: the format of the command, the default of the listener, the best of those the
//! device has declared. A device of LwM2M 1.0, or one that declares nothing, is asked for no
//! format and written to in TLV, which every such device knows. A format that is refused (4.06,
//! 4.15) makes room for the next one, unless the command asked for it.

use crate::bridge::code;
use crate::bridge::command::Command;
use crate::config::FormatDefault;
use crate::lwm2m::codec::ContentFormat;
use crate::lwm2m::model::Version;
use crate::lwm2m::{Operation, Value};

/// The formats of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatChoice {
    /// Accept; `None` leaves it to the device.
    pub accept: Option<ContentFormat>,
    /// Content-Format, where there is a payload of values or paths.
    pub write: ContentFormat,
}

impl Default for FormatChoice {
    /// What every device of LwM2M 1.0 knows.
    fn default() -> Self {
        Self {
            accept: None,
            write: ContentFormat::TLV,
        }
    }
}

/// What a device says of its formats.
#[derive(Debug, Clone, Copy)]
pub struct DeviceFormats<'a> {
    /// Its version of LwM2M.
    pub version: Version,
    /// `ct` of its root link (LwM2M Core 1.2 §6.2.1), empty when it states none.
    pub declared: &'a [u16],
    /// What it has refused.
    pub refused: Refused,
}

impl Default for DeviceFormats<'_> {
    /// A device of LwM2M 1.0.
    fn default() -> Self {
        Self {
            version: Version::V1_0,
            declared: &[],
            refused: Refused::default(),
        }
    }
}

impl DeviceFormats<'_> {
    fn declares(&self, format: ContentFormat) -> bool {
        self.declared.contains(&format.0)
    }
}

/// The formats a device has refused since its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// By 4.06, as Accept.
    accept: FormatSet,
    /// By 4.15, as Content-Format.
    write: FormatSet,
}

impl Refused {
    /// Learns from the answer `code` to a request of `choice`; false when there is nothing to
    /// learn, so that another try would be the same again.
    fn note(&mut self, command: &Command, choice: &FormatChoice, code: u8) -> bool {
        let need = Need::of(command);
        match (code, choice.accept) {
            (code::NOT_ACCEPTABLE, Some(format)) if need.reads() => self.accept.insert(format),
            // It cannot choose a format by itself.
            (code::NOT_ACCEPTABLE, None) if matches!(need, Need::Read { .. }) => {
                self.accept.insert_none()
            }
            // Accept is critical: who does not know it has to refuse it (RFC 7252 §5.4.1 and
            // §5.10.4), whatever its value.
            (code::BAD_OPTION, Some(_)) if need.reads() => self.accept.insert_all(),
            // Wakaama says 4.06 to payloads it cannot read as well.
            (code::NOT_ACCEPTABLE, _) if need.writes() && !need.reads() => {
                self.write.insert(choice.write)
            }
            (code::UNSUPPORTED_CONTENT_FORMAT, _) if need.writes() => {
                self.write.insert(choice.write)
            }
            _ => false,
        }
    }
}

/// In a [`FormatSet`], that a request without a format was refused.
const NO_FORMAT: u16 = 1 << 15;

/// A set of [`KNOWN`] formats, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct FormatSet(u16);

/// All that are ever chosen without being asked for.
const KNOWN: [ContentFormat; 11] = [
    ContentFormat::TEXT,
    ContentFormat::OPAQUE,
    ContentFormat::CBOR,
    ContentFormat::SENML_JSON,
    ContentFormat::SENML_CBOR,
    ContentFormat::SENML_ETCH_JSON,
    ContentFormat::SENML_ETCH_CBOR,
    ContentFormat::TLV,
    ContentFormat::OLD_TLV,
    ContentFormat::JSON,
    ContentFormat::LWM2M_CBOR,
];

impl FormatSet {
    fn bit(format: ContentFormat) -> u16 {
        let mut bits = (0..).zip(KNOWN).filter(|(_, known)| *known == format);
        bits.next().map_or(0, |(index, _): (u32, _)| 1 << index)
    }

    /// Whether the format is new here.
    fn insert(&mut self, format: ContentFormat) -> bool {
        let before = *self;
        self.0 |= Self::bit(format);
        *self != before
    }

    /// Every format, not the choice of none.
    fn insert_all(&mut self) -> bool {
        let before = *self;
        self.0 |= !NO_FORMAT;
        *self != before
    }

    /// The choice of none.
    fn insert_none(&mut self) -> bool {
        let before = *self;
        self.0 |= NO_FORMAT;
        *self != before
    }

    fn contains(self, format: ContentFormat) -> bool {
        self.0 & Self::bit(format) != 0
    }

    /// Whether a choice, or the choice of none, is here.
    fn has(self, choice: Option<ContentFormat>) -> bool {
        match choice {
            Some(format) => self.contains(format),
            None => self.0 & NO_FORMAT != 0,
        }
    }
}

/// What a request needs formats for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// `single`: of one resource, or one of its instances.
    Read {
        single: bool,
    },
    Write {
        single: bool,
        opaque: bool,
    },
    ReadComposite,
    WriteComposite,
}

impl Need {
    fn of(command: &Command) -> Self {
        let target = command.target.path.as_ref();
        match &command.operation {
            Operation::Read | Operation::Observe | Operation::CancelObserve => Self::Read {
                single: target.is_some_and(|path| path.depth() >= 3),
            },
            Operation::Write { items, .. } | Operation::Create { items } => Self::Write {
                single: matches!(items.as_slice(), [item] if Some(&item.path) == target),
                opaque: writes_opaque(command),
            },
            Operation::ReadComposite { .. }
            | Operation::ObserveComposite { .. }
            | Operation::CancelObserveComposite { .. } => Self::ReadComposite,
            Operation::WriteComposite { .. } => Self::WriteComposite,
            Operation::Discover
            | Operation::Delete
            | Operation::Execute { .. }
            | Operation::WriteAttributes { .. } => Self::Nothing,
        }
    }

    const fn reads(self) -> bool {
        matches!(self, Self::Read { .. } | Self::ReadComposite)
    }

    const fn writes(self) -> bool {
        matches!(
            self,
            Self::Write { .. } | Self::ReadComposite | Self::WriteComposite
        )
    }

    /// Whether the format can carry what is needed.
    fn fits(self, format: ContentFormat) -> bool {
        match self {
            Self::Nothing => false,
            Self::Write { opaque: false, .. } if format == ContentFormat::OPAQUE => false,
            Self::Read { single } | Self::Write { single, .. } => match format {
                ContentFormat::TEXT | ContentFormat::OPAQUE | ContentFormat::CBOR => single,
                ContentFormat::SENML_ETCH_JSON | ContentFormat::SENML_ETCH_CBOR => false,
                _ => true,
            },
            Self::ReadComposite | Self::WriteComposite => COMPOSITE.contains(&format),
        }
    }
}

/// What a device of LwM2M 1.0 is asked for that would not choose a format by itself.
const TOLD: [ContentFormat; 2] = [ContentFormat::TLV, ContentFormat::OLD_TLV];

/// The best first: SenML has times and types, TLV is the oldest.
const PREFERRED: [ContentFormat; 7] = [
    ContentFormat::SENML_CBOR,
    ContentFormat::TLV,
    ContentFormat::SENML_JSON,
    ContentFormat::LWM2M_CBOR,
    ContentFormat::JSON,
    ContentFormat::CBOR,
    ContentFormat::TEXT,
];

/// What a device of LwM2M 1.1 that says nothing may be written to in.
const WRITES: [ContentFormat; 7] = [
    ContentFormat::TLV,
    ContentFormat::SENML_CBOR,
    ContentFormat::SENML_JSON,
    ContentFormat::LWM2M_CBOR,
    ContentFormat::JSON,
    ContentFormat::CBOR,
    ContentFormat::TEXT,
];

/// The same for LwM2M 1.0, some devices of which know TLV by its older number.
const WRITES_1_0: [ContentFormat; 5] = [
    ContentFormat::TLV,
    ContentFormat::OPAQUE,
    ContentFormat::OLD_TLV,
    ContentFormat::JSON,
    ContentFormat::TEXT,
];

/// Formats with full paths. The last two are for requests only.
const COMPOSITE: [ContentFormat; 5] = [
    ContentFormat::SENML_CBOR,
    ContentFormat::SENML_JSON,
    ContentFormat::LWM2M_CBOR,
    ContentFormat::SENML_ETCH_CBOR,
    ContentFormat::SENML_ETCH_JSON,
];

/// The formats of the request of `command`. Where the device has refused all there are, the first
/// of them.
pub fn choose(
    command: &Command,
    default: FormatDefault,
    device: &DeviceFormats<'_>,
) -> FormatChoice {
    let need = Need::of(command);
    if let Some(format) = command.format {
        return FormatChoice {
            accept: need.reads().then(|| answered(format)),
            write: format,
        };
    }
    let fixed = match default {
        FormatDefault::Fixed(format) if need.fits(format) => Some(format),
        _ => None,
    };
    let modern = device.version >= Version::V1_1 && !device.declared.is_empty();
    let declared = |all: &'static [ContentFormat]| {
        let fitting = all.iter().copied().filter(move |format| need.fits(*format));
        fitting.filter(|format| modern && device.declares(*format))
    };
    let accept = match need {
        Need::Read { .. } => {
            let wanted = fixed.into_iter().chain(declared(&PREFERRED)).map(Some);
            let old = device.version < Version::V1_1;
            let told = TOLD.into_iter().filter(move |_| old).map(Some);
            let wanted = wanted.chain([None]).chain(told);
            first(wanted, |format| device.refused.accept.has(format))
        }
        Need::ReadComposite => {
            let others = COMPOSITE.into_iter().take(3);
            let wanted = fixed.map(answered).into_iter();
            let wanted = wanted
                .chain(declared(&COMPOSITE).map(answered))
                .chain(others);
            first(wanted.map(Some).chain([None]), |format| {
                device.refused.accept.has(format)
            })
        }
        _ => None,
    };
    let others: &'static [ContentFormat] = match need {
        Need::ReadComposite | Need::WriteComposite => &COMPOSITE,
        _ if device.version < Version::V1_1 => &WRITES_1_0,
        _ => &WRITES,
    };
    let preferred: &'static [ContentFormat] = match need {
        Need::ReadComposite | Need::WriteComposite => &COMPOSITE,
        _ => &PREFERRED,
    };
    let others = others.iter().copied().filter(|format| need.fits(*format));
    // Base64 makes bytes a third longer, and not every device reads it.
    let opaque = writes_opaque(command);
    let binary_first = |formats: Vec<ContentFormat>| {
        let (text, binary): (Vec<_>, Vec<_>) = formats
            .into_iter()
            .partition(|format| opaque && is_text(*format));
        binary.into_iter().chain(text)
    };
    let declared = binary_first(declared(preferred).collect());
    let others = binary_first(others.collect());
    // Every client of LwM2M 1.1 takes the bytes of one resource as they are (LwM2M Core 1.1 §7.4),
    // whatever it declares: TLV around a firmware only makes it longer.
    let bytes = device.version >= Version::V1_1 && need.fits(ContentFormat::OPAQUE);
    let bytes = bytes && matches!(need, Need::Write { .. });
    let bytes = bytes.then_some(ContentFormat::OPAQUE);
    let wanted = fixed.into_iter().chain(bytes).chain(declared).chain(others);
    let write = first(wanted.map(Some), |format| device.refused.write.has(format));
    FormatChoice {
        accept,
        write: write.unwrap_or(ContentFormat::TLV),
    }
}

/// After the device has answered a request of `choice` with the error `code`: the formats to try
/// next, `None` when that is no question of formats or nothing is left, so that the error is the
/// answer. `refused` of the device learns from it. Each choice differs from all before, so the
/// tries come to an end.
pub fn next(
    command: &Command,
    default: FormatDefault,
    device: &DeviceFormats<'_>,
    refused: &mut Refused,
    choice: &FormatChoice,
    code: u8,
) -> Option<FormatChoice> {
    // What was asked for is what is wanted.
    if command.format.is_some() || !refused.note(command, choice, code) {
        return None;
    }
    let device = DeviceFormats {
        refused: *refused,
        ..*device
    };
    let next = choose(command, default, &device);
    let need = Need::of(command);
    let refused_again = (need.reads() && refused.accept.has(next.accept))
        || (need.writes() && refused.write.contains(next.write));
    (!refused_again).then_some(next)
}

fn writes_opaque(command: &Command) -> bool {
    let items = match &command.operation {
        Operation::Write { items, .. }
        | Operation::Create { items }
        | Operation::WriteComposite { items } => items.as_slice(),
        _ => &[],
    };
    items
        .iter()
        .any(|item| matches!(item.value, Value::Opaque(_)))
}

/// Whether the format writes bytes as base64.
const fn is_text(format: ContentFormat) -> bool {
    matches!(
        format,
        ContentFormat::TEXT
            | ContentFormat::JSON
            | ContentFormat::SENML_JSON
            | ContentFormat::SENML_ETCH_JSON
    )
}

/// What the answer to a request in `format` is in.
const fn answered(format: ContentFormat) -> ContentFormat {
    match format {
        ContentFormat::SENML_ETCH_JSON => ContentFormat::SENML_JSON,
        ContentFormat::SENML_ETCH_CBOR => ContentFormat::SENML_CBOR,
        other => other,
    }
}

/// The first that is not refused, or the very first.
fn first(
    mut wanted: impl Iterator<Item = Option<ContentFormat>> + Clone,
    is_refused: impl Fn(Option<ContentFormat>) -> bool,
) -> Option<ContentFormat> {
    let mut open = wanted.clone();
    open.find(|format| !is_refused(*format))
        .unwrap_or_else(|| wanted.next().flatten())
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
