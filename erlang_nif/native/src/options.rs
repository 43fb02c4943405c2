//! Options and configurations, from Erlang terms.

use lwm2m_gateway::{Config, ConfigError, ConfigSource, ConfigWarning, Subscriptions};
use rustler::{
    Atom, Binary, Decoder, Env, Error, ListIterator, LocalPid, MapIterator, NifResult, Term,
};
use serde_json::{Map, Number, Value};
use tracing::level_filters::LevelFilter;

use crate::atoms;
use crate::event::text;

/// Deepest nesting of a configuration; the schema needs five levels.
const MAX_DEPTH: usize = 16;

/// How a gateway is started; see `lwm2m_gateway:options()`.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) owner: LocalPid,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) authorize: bool,
    pub(crate) psk: bool,
    pub(crate) device_events: bool,
    pub(crate) log: LevelFilter,
    pub(crate) credit: u32,
    pub(crate) max_queue: u32,
}

impl<'a> Decoder<'a> for Options {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let subscriptions = match get::<Atom>(term, atoms::subscriptions())? {
            it if it == atoms::shared() => Subscriptions::Shared,
            it if it == atoms::per_device() => Subscriptions::PerDevice,
            _ => return Err(Error::BadArg),
        };
        let log = match get::<Atom>(term, atoms::log())? {
            it if it == atoms::off() => LevelFilter::OFF,
            it if it == atoms::error() => LevelFilter::ERROR,
            it if it == atoms::warning() => LevelFilter::WARN,
            it if it == atoms::info() => LevelFilter::INFO,
            it if it == atoms::debug() => LevelFilter::DEBUG,
            _ => return Err(Error::BadArg),
        };
        let options = Self {
            owner: get(term, atoms::owner())?,
            subscriptions,
            authorize: get(term, atoms::authorize())?,
            psk: get(term, atoms::psk())?,
            device_events: get(term, atoms::device_events())?,
            log,
            credit: get(term, atoms::credit())?,
            max_queue: get(term, atoms::max_queue())?,
        };
        if options.credit == 0 || options.max_queue == 0 {
            return Err(Error::BadArg);
        }
        Ok(options)
    }
}

fn get<'a, T: Decoder<'a>>(map: Term<'a>, key: Atom) -> NifResult<T> {
    map.map_get(key)?.decode()
}

/// What comes of a configuration.
pub(crate) type Read = Result<(Config, Vec<ConfigWarning>), Vec<ConfigError>>;

/// Reads a configuration: a binary with text or a map.
///
/// # Errors
/// `badarg` when it is neither.
pub(crate) fn read_config(term: Term<'_>) -> NifResult<Read> {
    let source = if term.is_map() {
        match json(term, 0)? {
            Value::Object(root) => ConfigSource::from_object(root),
            _ => return Err(Error::BadArg),
        }
    } else {
        let binary: Binary<'_> = term.decode()?;
        match std::str::from_utf8(binary.as_slice()) {
            Ok(text) => ConfigSource::parse(text),
            Err(error) => {
                return Ok(Err(vec![ConfigError {
                    key: String::new(),
                    message: error.to_string(),
                }]));
            }
        }
    };
    Ok(source.read())
}

/// A term as JSON. Lists of characters are strings.
fn json(term: Term<'_>, depth: usize) -> NifResult<Value> {
    if depth > MAX_DEPTH {
        return Err(Error::BadArg);
    }
    let inner = depth + 1;
    if let Some(pairs) = MapIterator::new(term) {
        let pairs = pairs.map(|(key, value)| Ok((name(key)?, json(value, inner)?)));
        return Ok(Value::Object(pairs.collect::<NifResult<Map<_, _>>>()?));
    }
    if term.is_atom() {
        return Ok(match term.atom_to_string()?.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" | "undefined" => Value::Null,
            name => Value::String(name.to_owned()),
        });
    }
    if let Ok(items) = term.decode::<ListIterator<'_>>() {
        let items: Vec<_> = items.collect();
        if let Some(text) = characters(&items) {
            return Ok(Value::String(text));
        }
        let items = items.into_iter().map(|item| json(item, inner));
        return Ok(Value::Array(items.collect::<NifResult<_>>()?));
    }
    if let Ok(number) = term.decode::<i64>() {
        return Ok(Value::Number(number.into()));
    }
    if let Ok(number) = term.decode::<f64>() {
        return Ok(Number::from_f64(number).map_or(Value::Null, Value::Number));
    }
    name(term).map(Value::String)
}

fn characters(items: &[Term<'_>]) -> Option<String> {
    let character = |item: &Term<'_>| item.decode::<u32>().ok().and_then(char::from_u32);
    (!items.is_empty())
        .then(|| items.iter().map(character).collect())
        .flatten()
}

fn name(term: Term<'_>) -> NifResult<String> {
    if term.is_atom() {
        return term.atom_to_string();
    }
    let binary: Binary<'_> = term.decode()?;
    let text = std::str::from_utf8(binary.as_slice());
    text.map(str::to_owned).map_err(|_| Error::BadArg)
}

/// Errors as `config_error()`.
pub(crate) fn errors(env: Env<'_>, errors: Vec<ConfigError>) -> Vec<(Term<'_>, Term<'_>)> {
    (errors.iter())
        .map(|it| (text(env, &it.key), text(env, &it.message)))
        .collect()
}

/// Warnings as `config_error()`.
pub(crate) fn warnings(env: Env<'_>, warnings: Vec<ConfigWarning>) -> Vec<(Term<'_>, Term<'_>)> {
    (warnings.iter())
        .map(|it| (text(env, &it.key), text(env, &it.message)))
        .collect()
}
