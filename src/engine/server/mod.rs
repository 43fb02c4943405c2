//! What devices ask of us: each request is answered, put together from blocks and given to whoever
//! answers it.

use std::str;

use tracing::debug;

use crate::coap::block::{BlockOption, szx_of};
use crate::coap::message::option;
use crate::coap::{Code, Message, MessageType};
use crate::engine::peer::Peer;

mod authorization;
mod blocks;
mod echo;
mod host;
mod pending;
mod rates;
mod refuse;
mod register;
mod request;
mod respond;
mod response;
mod update;
mod waiting;

use blocks::Progress;
use response::Response;

pub(in crate::engine) use blocks::Assemblies;
pub(in crate::engine) use request::{Request, Requests, Server, Stage};

/// Critical options that requests may carry; any other is answered 4.02 (RFC 7252 §5.4.1).
const KNOWN_CRITICAL: [u16; 9] = [
    option::URI_HOST,
    option::URI_PORT,
    option::URI_PATH,
    option::URI_QUERY,
    option::ACCEPT,
    option::BLOCK1,
    option::BLOCK2,
    option::PROXY_URI,
    option::PROXY_SCHEME,
];

/// What `GET /.well-known/core` says (RFC 6690 §4).
const WELL_KNOWN: &[u8] = b"</rd>;rt=\"core.rd oma.lwm2m\"";

/// What a path of ours names.
enum Resource<'a> {
    Register,
    Registration(&'a str),
    DataPush,
    WellKnown,
    Unknown,
}

impl Server<'_> {
    /// Handles a request that is not a repetition.
    pub(in crate::engine) fn handle_request(
        &mut self,
        from: Peer,
        message: &Message,
        datagram: &[u8],
    ) {
        if let Some(number) = message.unknown_critical(&KNOWN_CRITICAL) {
            debug!(peer = %from.address, number, "unknown critical option");
            let text = format!("unknown critical option {number}");
            return match message.kind() {
                MessageType::Confirmable => {
                    self.respond(from, message, Response::error(Code::BAD_OPTION, &text));
                }
                // RFC 7252 §5.4.1: a Non-confirmable request is rejected silently.
                _ => self.core.env.counters.datagrams_unexpected.inc(),
            };
        }
        if message
            .first_option(option::PROXY_URI)
            .or_else(|| message.first_option(option::PROXY_SCHEME))
            .is_some()
        {
            return self.respond(from, message, Response::new(Code::PROXYING_NOT_SUPPORTED));
        }
        if self.challenge(from, message) {
            return;
        }
        if let Some(body) = self.request_body(from, message) {
            let request = Request {
                message,
                datagram,
                stage: Stage::New,
            };
            self.dispatch(from, &request, &body);
        }
    }

    /// Handles a request whose body is complete.
    pub(in crate::engine) fn dispatch(&mut self, from: Peer, request: &Request<'_>, body: &[u8]) {
        let message = request.message;
        let path: Option<Vec<&str>> = message
            .option_values(option::URI_PATH)
            .map(|part| str::from_utf8(part).ok())
            .collect();
        let joined;
        let resource = match path.as_deref() {
            Some(["rd"]) => Resource::Register,
            Some(["rd", location]) => Resource::Registration(location),
            // `compat.location = "endpoint"` with a slash in the name.
            Some(["rd", rest @ ..]) => {
                joined = rest.join("/");
                Resource::Registration(&joined)
            }
            Some(["dp"]) => Resource::DataPush,
            Some([".well-known", "core"]) => Resource::WellKnown,
            _ => Resource::Unknown,
        };
        match (message.code(), resource) {
            (Code::POST, Resource::Register) => {
                if request.stage == Stage::New && self.is_one_too_many(from, message) {
                    return;
                }
                if let Err(error) = self.register(from, request, body) {
                    self.refuse_register(from, message, &error);
                }
            }
            (Code::POST, Resource::Registration(at)) => {
                self.update(from, request, at, body);
            }
            (Code::DELETE, Resource::Registration(at)) => self.deregister(from, request, at),
            (Code::POST, Resource::DataPush) => self.data_push(from, message, body),
            (Code::GET, Resource::WellKnown) => self.respond_sliced(from, message, WELL_KNOWN),
            (_, Resource::Unknown) => self.respond(from, message, Response::new(Code::NOT_FOUND)),
            _ => self.respond(from, message, Response::new(Code::METHOD_NOT_ALLOWED)),
        }
    }

    /// The request's body, put together from blocks; `None` when the answer is given already.
    fn request_body(&mut self, from: Peer, message: &Message) -> Option<Vec<u8>> {
        if message.first_option(option::BLOCK1).is_none() {
            return Some(message.payload().to_vec());
        }
        let limit = self.body_limit(message);
        let bounds = self.core.env.config().blockwise;
        let block = message
            .uint_option(option::BLOCK1, 3)
            .and_then(BlockOption::from_uint);
        let Some(block) = block.filter(|_| bounds.enable) else {
            self.respond(from, message, Response::new(Code::BAD_OPTION));
            return None;
        };
        // A smaller block size than the device chose is announced with the first answer
        // (RFC 7959 §2.3); numbers of later blocks count in that size.
        let answer = BlockOption {
            szx: block.szx.min(szx_of(bounds.max_block_size)),
            ..block
        };
        let lifetime = bounds.exchange_lifetime;
        match self.requests.assemblies.push(
            self.core.now.mono,
            from,
            message,
            block,
            limit,
            lifetime,
        ) {
            Progress::Complete(body) => Some(body),
            Progress::Continue => {
                let response = Response::new(Code::CONTINUE).uint(option::BLOCK1, answer.to_uint());
                self.respond(from, message, response);
                None
            }
            Progress::Refused(code) => {
                self.core.env.counters.transfers_failed.inc();
                let response = Response::new(code).uint(option::BLOCK1, answer.to_uint());
                let response = match code {
                    Code::REQUEST_ENTITY_TOO_LARGE => {
                        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
                        response.uint(option::SIZE1, limit)
                    }
                    Code::SERVICE_UNAVAILABLE => response.uint(option::MAX_AGE, self.retry_after()),
                    _ => response,
                };
                self.respond(from, message, response);
                None
            }
        }
    }

    /// The most bytes that the body of a request in blocks may have. That of a Register or Update is
    /// an object list.
    fn body_limit(&self, message: &Message) -> usize {
        let config = &self.core.env.config();
        let max_body = config.blockwise.max_body_size;
        match message.first_option(option::URI_PATH) {
            Some(b"rd") => max_body.min(config.limits.max_object_list),
            _ => max_body,
        }
    }

    /// A link-format document of ours, cut to the block that is asked for (RFC 7959 §2.4).
    fn respond_sliced(&mut self, to: Peer, request: &Message, body: &[u8]) {
        let response = Response::new(Code::CONTENT).uint(option::CONTENT_FORMAT, 40);
        let asked = request
            .uint_option(option::BLOCK2, 3)
            .and_then(BlockOption::from_uint);
        let Some(block) = asked else {
            return self.respond(
                to,
                request,
                Response {
                    payload: body.to_vec(),
                    ..response
                },
            );
        };
        let Some(rest) = body.get(block.offset()..).filter(|rest| !rest.is_empty()) else {
            return self.respond(to, request, Response::new(Code::BAD_REQUEST));
        };
        let payload = rest.get(..block.size()).unwrap_or(rest);
        let option_value = BlockOption {
            more: payload.len() < rest.len(),
            ..block
        }
        .to_uint();
        let response = response.uint(option::BLOCK2, option_value);
        self.respond(
            to,
            request,
            Response {
                payload: payload.to_vec(),
                ..response
            },
        );
    }

    /// Send (LwM2M Core 1.2 §6.4.6): a device reports by itself, and is awake. Over plain UDP there
    /// is nothing in a Send but its address that shows whose it is, so that its lifetime goes on.
    fn data_push(&mut self, from: Peer, message: &Message, body: &[u8]) {
        let Some(key) = self.core.registry.at(from) else {
            return self.respond(from, message, Response::new(Code::NOT_FOUND));
        };
        self.core.env.counters.sends.inc();
        let taken = self.core.with(key, |device, cx| {
            device.saw_send(cx);
            device.wake(cx);
            device.handle_send(cx, message, body)
        });
        if let Some(Err(error)) = taken {
            self.core.env.counters.decode_errors.inc();
            debug!(peer = %from.address, %error, "Send refused");
            let response = Response::error(Code(error.code()), &error.to_string());
            self.respond(from, message, response);
        } else {
            self.respond(from, message, Response::new(Code::CHANGED));
        }
        self.core.with(key, |device, cx| {
            device.send_again(cx);
            device.pump(cx);
        });
    }
}
