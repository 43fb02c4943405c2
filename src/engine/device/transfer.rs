//! Bodies in blocks to and from devices (RFC 7959): what one response adds, and what the next
//! request asks for.

use super::job::{Body, Job};
use super::request::{Method, RequestParts};
use crate::coap::block::{BlockError, BlockOption, Receiver, Sender, Taken, szx_of};
use crate::coap::message::{Builder, option};
use crate::coap::{Code, Message, MessageType, Token};
use crate::config::Blockwise;
use crate::lwm2m::codec::ContentFormat;

/// Exponent of the smallest block tried unasked: 64 bytes.
const SMALLEST_BLOCK: u8 = 2;

/// How often a representation may change while its blocks are fetched (RFC 7959 §2.4).
const MAX_BLOCK_RESTARTS: u8 = 3;

/// How often a block may be asked for again because one that is here already came instead. Servers
/// answer with block 0 now and then (RIOT pull request 20952); some do nothing else.
const MAX_STRAYS: u8 = 3;

/// What [`collect`] made of a response.
#[derive(Debug)]
pub(in crate::engine) enum Collected {
    /// Not in blocks.
    Whole,
    /// The last block: the whole body.
    Last(Vec<u8>),
    /// Ask for the next one.
    More,
    /// Given up, with the reason for the application.
    Failed(&'static str),
}

/// What [`Collected::Failed`] says of blocks that make no body.
const BAD_BLOCK: Collected = Collected::Failed("bad_block");

/// Adds a block of a response (Block2, RFC 7959 §2.4).
pub(in crate::engine) fn collect(
    bounds: &Blockwise,
    slot: &mut Option<Body>,
    message: &Message,
) -> Collected {
    if !message.code().is_success() || message.first_option(option::BLOCK2).is_none() {
        return Collected::Whole;
    }
    let block = message.uint_option(option::BLOCK2, 3);
    // The option is critical: a value that is none makes the response unusable (RFC 7252 §5.4.1,
    // §5.4.3), and what is part of a body is not the whole.
    let Some(block) = block.and_then(BlockOption::from_uint) else {
        return BAD_BLOCK;
    };
    let alone = block.number == 0 && !block.more;
    if !bounds.enable {
        return if alone { Collected::Whole } else { BAD_BLOCK };
    }
    if slot.is_none() && alone {
        return Collected::Whole;
    }
    let etag: Option<Box<[u8]>> = message.first_option(option::ETAG).map(Into::into);
    let fresh = |restarts| Body {
        receiver: Receiver::default(),
        code: message.code(),
        content_format: message.content_format(),
        observe: message.observe(),
        etag: etag.clone(),
        next: BlockOption {
            number: 0,
            more: false,
            szx: block.szx,
        },
        restarts,
        strays: 0,
    };
    let body = slot.get_or_insert_with(|| fresh(0));
    let format = message.content_format();
    let other_format = format.is_some() && format != body.content_format;
    if body.etag != etag || other_format {
        // The representation changed: begin anew (RFC 7959 §2.4).
        if body.restarts >= MAX_BLOCK_RESTARTS {
            return Collected::Failed("representation_changes");
        }
        let observe = body.observe;
        *body = Body {
            observe,
            ..fresh(body.restarts + 1)
        };
        if block.number != 0 {
            return Collected::More;
        }
    }
    if block.offset() < body.receiver.len() && body.strays < MAX_STRAYS {
        // One that was not asked for and is here already: the right one may come when it is asked
        // for again.
        body.strays += 1;
        return Collected::More;
    }
    if block.offset() != body.receiver.len() {
        return BAD_BLOCK;
    }
    match body
        .receiver
        .push(block, message.payload(), bounds.max_body_size)
    {
        Ok(Taken::Last) => Collected::Last(std::mem::take(&mut body.receiver).into_body()),
        Ok(Taken::More | Taken::Again) => {
            body.strays = 0;
            let szx = block.szx.min(szx_of(bounds.max_block_size));
            let number = body.receiver.len() >> (szx + 4);
            let Some(next) = BlockOption::next(number, szx) else {
                return Collected::Failed("body_too_large");
            };
            body.next = next;
            Collected::More
        }
        Err(BlockError::TooLarge) => Collected::Failed("body_too_large"),
        Err(BlockError::OutOfOrder | BlockError::Short) => BAD_BLOCK,
    }
}

/// After 4.13, smaller blocks may do (RFC 7959 §2.9.3): of the size the device names, else of half
/// the size, down to [`SMALLEST_BLOCK`]. False when there is nothing left to try, or when the
/// device says that it is the body which is too large: `limit` is its Size1.
pub(in crate::engine) fn send_smaller(
    job: &mut Job,
    hint: Option<BlockOption>,
    limit: Option<u32>,
) -> bool {
    let length = match &job.sender {
        Some(sender) => sender.len(),
        None => job.request.payload.len(),
    };
    if limit.is_some_and(|limit| (limit as usize) < length) {
        return false;
    }
    let named = hint.map(|hint| hint.szx);
    if let Some(sender) = &mut job.sender {
        let half = sender.current().0.szx.checked_sub(1);
        let szx = named.or_else(|| half.filter(|szx| *szx >= SMALLEST_BLOCK));
        return szx.is_some_and(|szx| sender.restart_smaller(szx));
    }
    let szx = named.unwrap_or_else(|| szx_of(length.saturating_sub(1)).min(5));
    let shrinks = length > 1 << (szx + 4);
    if shrinks {
        let body = std::mem::take(&mut job.request.payload);
        job.sender = Some(Sender::new(body, 1 << (szx + 4)));
    }
    shrinks
}

/// The requests of a transfer are alike but for Block2 (RFC 7959 §2.4). A device that was not told
/// a format may choose one for each request (Wakaama does so), or find no such block in the other
/// format: then the format of the first block is to be asked for.
pub(in crate::engine) fn unpinned(job: &Job, message: &Message) -> Option<ContentFormat> {
    let first = job.body.as_ref()?.content_format?;
    let other = message
        .content_format()
        .is_some_and(|format| format != first);
    let changed = other && message.code().is_success();
    let refused = message.code().class() == 4;
    (job.request.accept.is_none() && (changed || refused)).then_some(ContentFormat(first))
}

/// The datagram of a job's next request.
pub(in crate::engine) fn request_datagram(
    job: &Job,
    mid: u16,
    token: Token,
    block_size: usize,
) -> Vec<u8> {
    let RequestParts {
        method,
        path,
        queries,
        accept,
        content_format,
        observe,
        payload,
    } = &job.request;
    let mut builder = Builder::new(
        MessageType::Confirmable,
        Code(method.code()),
        mid,
        &token.0.to_be_bytes(),
    );
    for segment in path {
        builder = builder.option(option::URI_PATH, segment.as_bytes());
    }
    for query in queries {
        builder = builder.option(option::URI_QUERY, query.as_bytes());
    }
    if let Some(accept) = accept {
        builder = builder.uint(option::ACCEPT, u32::from(accept.0));
    }
    let continues = job.body.is_some();
    if let Some(observe) = observe.filter(|_| !continues) {
        builder = builder.uint(option::OBSERVE, observe);
    }
    if let Some(body) = &job.body {
        builder = builder.uint(option::BLOCK2, body.next.to_uint());
    } else if block_size < 1024 && matches!(method, Method::Get | Method::Fetch) {
        // Early negotiation of a smaller block size (RFC 7959 §2.4).
        let wish = BlockOption {
            number: 0,
            more: false,
            szx: szx_of(block_size),
        };
        builder = builder.uint(option::BLOCK2, wish.to_uint());
    }
    // The body of a FETCH is part of what is asked for (RFC 8132 §2.2): it stands in each request,
    // unless it was sent in blocks itself (RFC 7959 §3.3).
    let repeats = *method == Method::Fetch && payload.len() <= block_size;
    if continues && !repeats {
        return builder.build();
    }
    if let Some(format) = content_format {
        builder = builder.uint(option::CONTENT_FORMAT, u32::from(format.0));
    }
    match &job.sender {
        Some(sender) => {
            let (block, payload) = sender.current();
            if block.number == 0 {
                let size = u32::try_from(sender.len()).unwrap_or(u32::MAX);
                builder = builder.uint(option::SIZE1, size);
            }
            builder
                .uint(option::BLOCK1, block.to_uint())
                .payload(payload)
                .build()
        }
        None => builder.payload(payload.clone()).build(),
    }
}
