//! The gateway as an Erlang NIF: the module `lwm2m_gateway_nif`.
//!
//! No call blocks a scheduler: what may take longer than a few microseconds runs on a dirty one.
//! Events go to the owner from the gateway's own threads. Panics become `error:nif_panicked`.

#![deny(unsafe_code)]
#![allow(clippy::disallowed_methods)] // a shell: it owns clocks
#![allow(clippy::needless_pass_by_value)] // rustler decodes arguments by value

mod event;
mod handle;
mod host;
mod log;
mod options;
mod outbox;
mod pin;
mod receipt;

use std::time::Duration;

use lwm2m_gateway::{AuthorizationRequest, Decision, Gateway, Message, PskRequest, ReplyTo};
use rustler::{Binary, Decoder, Encoder, Env, Error, NifResult, ResourceArc, Term};

use crate::event::Question;
use crate::handle::Handle;
use crate::options::{Options, read_config};
use crate::receipt::Call;

mod atoms {
    rustler::atoms! {
        // Messages and events.
        lwm2m_gateway, publish, subscribe, unsubscribe, authorize, psk, device, log, lost, stopped,
        normal,
        // What a publish is about.
        register, update, response, notify, send, series,
        // What happened to a device.
        registered, updated, gone,
        // Keys of maps.
        endpoint, peer, listener, identity, mountpoint, correlation_data, lifetime, version, queue_mode,
        registered_at, idle_ms, alternate_path, objects, query, observations, queued, reason,
        restored, note,
        // Options.
        owner, subscriptions, shared, per_device, device_events, credit, max_queue, off, warning,
        info, debug,
        // What became of a command.
        lwm2m_gateway_receipt, no_store, failed, refused,
        // Results.
        ok, error, undefined, allow, deny, unavailable, answered, not_found, timeout, owner_dead,
        invalid_config, bind, credentials, dtls, http, models, store, topic, system,
    }
}

rustler::init!("lwm2m_gateway_nif", load = load);

fn load(_env: Env<'_>, _info: Term<'_>) -> bool {
    pin::pin_library();
    pin::keep_type(Handle::keeper());
    pin::keep_type(Question::<AuthorizationRequest>::keeper());
    pin::keep_type(Question::<PskRequest>::keeper());
    true
}

/// `ok`, or `{error, Reason}`.
fn result<'a>(env: Env<'a>, result: Result<(), impl Encoder>) -> Term<'a> {
    match result {
        Ok(()) => atoms::ok().encode(env),
        Err(reason) => (atoms::error(), reason).encode(env),
    }
}

fn text<'a>(binary: &Binary<'a>) -> NifResult<&'a str> {
    std::str::from_utf8(binary.as_slice()).map_err(|_| Error::BadArg)
}

#[rustler::nif(schedule = "DirtyIo")]
fn start<'a>(env: Env<'a>, id: u64, config: Term<'a>, options: Options) -> NifResult<Term<'a>> {
    let config = match read_config(config)? {
        Ok((config, _)) => config,
        Err(errors) => {
            return Ok(result(
                env,
                Err((atoms::invalid_config(), options::errors(env, errors))),
            ));
        }
    };
    Ok(match Handle::start(env, id, config, options) {
        Ok(handle) => (atoms::ok(), handle).encode(env),
        Err(reason) => (atoms::error(), reason).encode(env),
    })
}

#[rustler::nif(schedule = "DirtyIo")]
fn stop(env: Env<'_>, handle: ResourceArc<Handle>, milliseconds: u64) -> Term<'_> {
    let stopped = handle.stop(env, Duration::from_millis(milliseconds));
    result(env, stopped.then_some(()).ok_or_else(atoms::timeout))
}

#[rustler::nif(schedule = "DirtyIo")]
fn stop_all(env: Env<'_>, milliseconds: u64) -> Term<'_> {
    let stopped = handle::stop_all(env, Duration::from_millis(milliseconds));
    result(env, stopped.then_some(()).ok_or_else(atoms::timeout))
}

#[rustler::nif]
fn ack(env: Env<'_>, handle: ResourceArc<Handle>, batch: u64) -> NifResult<Term<'_>> {
    let acknowledged = (handle.outbox()).is_some_and(|outbox| outbox.acknowledge(batch, env));
    if acknowledged {
        Ok(atoms::ok().encode(env))
    } else {
        Err(Error::BadArg)
    }
}

/// Takes a message from the broker: for the device that its topic names, or for the one of `to`, with the
/// mountpoint that it is subscribed below. With a `reference` the caller is told by a message what becomes
/// of it.
#[rustler::nif]
fn deliver<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    to: Term<'a>,
    parts: (Binary<'a>, Binary<'a>, Term<'a>),
    reference: Term<'a>,
) -> NifResult<Term<'a>> {
    let (topic, payload, properties) = parts;
    let message = message(&topic, &payload, properties)?;
    let to: Option<(Binary<'_>, Binary<'_>)> = given(to)?;
    let to = match &to {
        Some((endpoint, mountpoint)) => Some((text(endpoint)?, text(mountpoint)?)),
        None => None,
    };
    let (call, receipt) = if atoms::undefined() == reference {
        (None, None)
    } else {
        let (call, receipt) = Call::new(env, reference);
        (Some(call), Some(receipt))
    };
    let delivered = delivered(env, &handle, |gateway| match (to, receipt) {
        (None, None) => gateway.deliver(message),
        (None, Some(receipt)) => gateway.deliver_durably(message, receipt),
        (Some((endpoint, mountpoint)), None) => gateway.deliver_to(endpoint, mountpoint, message),
        (Some((endpoint, mountpoint)), Some(receipt)) => {
            gateway.deliver_to_durably(endpoint, mountpoint, message, receipt);
        }
    });
    if let Some(call) = call {
        call.end(env, reference);
    }
    Ok(delivered)
}

/// Answers a command that nobody has taken.
#[rustler::nif]
fn refuse_absent<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    topic: Binary<'a>,
    payload: Binary<'a>,
    properties: Term<'a>,
) -> NifResult<Term<'a>> {
    let message = message(&topic, &payload, properties)?;
    Ok(delivered(env, &handle, |gateway| {
        gateway.refuse_absent(&message);
    }))
}

/// Answers a command for a device of a node that does not.
#[rustler::nif]
fn refuse_unreachable<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    topic: Binary<'a>,
    payload: Binary<'a>,
    properties: Term<'a>,
) -> NifResult<Term<'a>> {
    let message = message(&topic, &payload, properties)?;
    Ok(delivered(env, &handle, |gateway| {
        gateway.refuse_unreachable(&message);
    }))
}

/// Keeps something with a device in the store.
#[rustler::nif(name = "note")]
fn keep_note(handle: ResourceArc<Handle>, endpoint: Binary<'_>, note: Binary<'_>) -> bool {
    let Ok(endpoint) = text(&endpoint) else {
        return false;
    };
    (handle.gateway()).is_some_and(|gateway| gateway.note(endpoint, note.as_slice()))
}

/// Gives a message to the gateway, and what it says at once to the owner.
fn delivered<'a>(env: Env<'a>, handle: &Handle, deliver: impl FnOnce(&Gateway)) -> Term<'a> {
    let delivered = handle.gateway().map(deliver);
    if let Some(outbox) = handle.outbox() {
        outbox.flush(env);
    }
    result(env, delivered.ok_or_else(atoms::stopped))
}

/// `properties` are what is left of the expiry, the response topic and the correlation data.
fn message(topic: &Binary<'_>, payload: &Binary<'_>, properties: Term<'_>) -> NifResult<Message> {
    let (expiry, response_topic, correlation): (Term<'_>, Term<'_>, Term<'_>) =
        properties.decode()?;
    let response_topic: Option<Binary<'_>> = given(response_topic)?;
    let correlation: Option<Binary<'_>> = given(correlation)?;
    let reply = match response_topic {
        Some(topic) => {
            let correlation = correlation.as_ref().map(|it| it.as_slice());
            Some(Box::new(ReplyTo::new(text(&topic)?, correlation)))
        }
        None => None,
    };
    Ok(Message {
        topic: text(topic)?.to_owned(),
        payload: payload.as_slice().to_vec(),
        expiry: given(expiry)?,
        reply,
    })
}

fn given<'a, T: Decoder<'a>>(term: Term<'a>) -> NifResult<Option<T>> {
    if atoms::undefined() == term {
        return Ok(None);
    }
    term.decode().map(Some)
}

#[rustler::nif]
fn is_command(handle: ResourceArc<Handle>, topic: Binary<'_>) -> bool {
    let Ok(topic) = text(&topic) else {
        return false;
    };
    (handle.gateway()).is_some_and(|gateway| gateway.is_command(topic))
}

#[rustler::nif]
fn authorized<'a>(
    env: Env<'a>,
    question: ResourceArc<Question<AuthorizationRequest>>,
    decision: Term<'a>,
) -> NifResult<Term<'a>> {
    let decision = if atoms::allow() == decision {
        Decision::Allow { mountpoint: None }
    } else if atoms::unavailable() == decision {
        Decision::Unavailable
    } else {
        let (word, argument): (Term<'_>, Binary<'_>) = decision.decode()?;
        let argument = text(&argument)?;
        if atoms::allow() == word {
            Decision::allow_below(argument).map_err(|_| Error::BadArg)?
        } else if atoms::deny() == word {
            Decision::Deny {
                reason: argument.to_owned(),
            }
        } else {
            return Err(Error::BadArg);
        }
    };
    let request = question.take().map(|request| request.answer(decision));
    Ok(result(env, request.ok_or_else(atoms::answered)))
}

#[rustler::nif]
fn psk_found<'a>(
    env: Env<'a>,
    question: ResourceArc<Question<PskRequest>>,
    key: Term<'a>,
) -> NifResult<Term<'a>> {
    let key = if atoms::undefined() == key {
        None
    } else {
        let bytes: Binary<'_> = key.decode()?;
        Some(event::key(&bytes).ok_or(Error::BadArg)?)
    };
    let request = question.take().map(|request| request.answer(key));
    Ok(result(env, request.ok_or_else(atoms::answered)))
}

#[rustler::nif(schedule = "DirtyIo")]
fn reload<'a>(env: Env<'a>, handle: ResourceArc<Handle>, config: Term<'a>) -> NifResult<Term<'a>> {
    let config = match read_config(config)? {
        Ok((config, _)) => config,
        Err(errors) => {
            let errors = (atoms::invalid_config(), options::errors(env, errors));
            return Ok(result(env, Err(errors)));
        }
    };
    Ok(result(env, handle.reload(env, config)))
}

#[rustler::nif(schedule = "DirtyIo")]
fn check_config<'a>(env: Env<'a>, config: Term<'a>) -> NifResult<Term<'a>> {
    Ok(match read_config(config)? {
        Ok((_, warnings)) => (atoms::ok(), options::warnings(env, warnings)).encode(env),
        Err(errors) => {
            let errors = (atoms::invalid_config(), options::errors(env, errors));
            (atoms::error(), errors).encode(env)
        }
    })
}

#[rustler::nif]
fn statistics(env: Env<'_>, handle: ResourceArc<Handle>) -> NifResult<Term<'_>> {
    handle.statistics(env)
}

#[rustler::nif]
fn listeners(env: Env<'_>, handle: ResourceArc<Handle>) -> Vec<(Term<'_>, Term<'_>)> {
    let listeners = handle.gateway().map(|gateway| gateway.listeners());
    (listeners.unwrap_or_default().into_iter())
        .map(|(name, address)| (event::text(env, &name), event::address(env, address)))
        .collect()
}

#[rustler::nif]
fn registrations(handle: ResourceArc<Handle>) -> usize {
    handle
        .gateway()
        .map_or(0, |gateway| gateway.registrations())
}

#[rustler::nif(schedule = "DirtyIo")]
fn devices(env: Env<'_>, handle: ResourceArc<Handle>) -> Vec<Term<'_>> {
    let devices = handle.gateway().map(|gateway| gateway.devices());
    (devices.unwrap_or_default().iter())
        .map(|info| event::device_info(env, info))
        .collect()
}

/// What the gateway has of an endpoint. Names that are no UTF-8 are nobody's.
fn of_endpoint<T>(
    handle: &Handle,
    endpoint: &Binary<'_>,
    ask: impl FnOnce(&Gateway, &str) -> Option<T>,
) -> Option<T> {
    ask(handle.gateway()?, text(endpoint).ok()?)
}

#[rustler::nif(schedule = "DirtyIo")]
fn device<'a>(env: Env<'a>, handle: ResourceArc<Handle>, endpoint: Binary<'a>) -> Term<'a> {
    match of_endpoint(&handle, &endpoint, Gateway::device) {
        Some(info) => (atoms::ok(), event::device_info(env, &info)).encode(env),
        None => (atoms::error(), atoms::not_found()).encode(env),
    }
}

#[rustler::nif]
fn kick(handle: ResourceArc<Handle>, endpoint: Binary<'_>) -> bool {
    let Ok(endpoint) = text(&endpoint) else {
        return false;
    };
    (handle.gateway()).is_some_and(|gateway| gateway.kick(endpoint))
}

#[rustler::nif(schedule = "DirtyIo")]
fn export<'a>(
    env: Env<'a>,
    handle: ResourceArc<Handle>,
    endpoint: Binary<'a>,
) -> NifResult<Term<'a>> {
    match of_endpoint(&handle, &endpoint, Gateway::export) {
        Some(session) => {
            let session = serde_json::to_string(&session).map_err(|_| Error::BadArg)?;
            Ok((atoms::ok(), event::text(env, &session)).encode(env))
        }
        None => Ok((atoms::error(), atoms::not_found()).encode(env)),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn import(
    handle: ResourceArc<Handle>,
    endpoint: Binary<'_>,
    session: Binary<'_>,
) -> NifResult<bool> {
    let session = serde_json::from_slice(session.as_slice()).map_err(|_| Error::BadArg)?;
    let Ok(endpoint) = text(&endpoint) else {
        return Ok(false);
    };
    Ok((handle.gateway()).is_some_and(|gateway| gateway.import(endpoint, session)))
}

#[rustler::nif]
fn version(env: Env<'_>) -> Term<'_> {
    event::text(env, env!("CARGO_PKG_VERSION"))
}
