//! CoAP codes as answers name them.

/// 2.04 Changed.
pub const CHANGED: u8 = 0x44;
/// 2.05 Content.
pub const CONTENT: u8 = 0x45;
/// 4.00 Bad Request.
pub const BAD_REQUEST: u8 = 0x80;
/// 4.02 Bad Option.
pub const BAD_OPTION: u8 = 0x82;
/// 4.04 Not Found.
#[cfg(feature = "internals")]
pub const NOT_FOUND: u8 = 0x84;
/// 4.05 Method Not Allowed.
pub const METHOD_NOT_ALLOWED: u8 = 0x85;
/// 4.06 Not Acceptable.
pub const NOT_ACCEPTABLE: u8 = 0x86;
/// 4.15 Unsupported Content-Format.
pub const UNSUPPORTED_CONTENT_FORMAT: u8 = 0x8F;

/// Whether the code is a client or server error, or none of a response at all.
pub const fn is_error(code: u8) -> bool {
    code >> 5 != 2
}

/// `codeMsg`: EMQX's names, then the registered names of RFC 7252 §12.1.2 and its successors in
/// the same style, then the name of the class.
pub const fn name(code: u8) -> &'static str {
    match (code >> 5, code & 0x1f) {
        (0, 1) => "get",
        (0, 2) => "post",
        (0, 3) => "put",
        (0, 4) => "delete",
        (2, 1) => "created",
        (2, 2) => "deleted",
        (2, 3) => "valid",
        (2, 4) => "changed",
        (2, 5) => "content",
        (2, 31) => "continue",
        (4, 0) => "bad_request",
        (4, 1) => "unauthorized",
        (4, 2) => "bad_option",
        (4, 3) => "forbidden",
        (4, 4) => "not_found",
        (4, 5) => "method_not_allowed",
        (4, 6) => "not_acceptable",
        (4, 8) => "request_entity_incomplete",
        // RFC 8132 §4
        (4, 9) => "conflict",
        (4, 12) => "precondition_failed",
        (4, 13) => "request_entity_too_large",
        (4, 15) => "unsupported_content_format",
        (4, 22) => "unprocessable_entity",
        // RFC 8516 §3
        (4, 29) => "too_many_requests",
        (5, 0) => "internal_server_error",
        (5, 1) => "not_implemented",
        (5, 2) => "bad_gateway",
        (5, 3) => "service_unavailable",
        (5, 4) => "gateway_timeout",
        (5, 5) => "proxying_not_supported",
        // RFC 8768 §3
        (5, 8) => "hop_limit_reached",
        (2, _) => "success",
        (4, _) => "client_error",
        (5, _) => "server_error",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, called) in [
            (0x41, "created"),
            (0x5f, "continue"),
            (BAD_REQUEST, "bad_request"),
            (0x89, "conflict"),
            (0x96, "unprocessable_entity"),
            (0x9d, "too_many_requests"),
            (0x9e, "client_error"),
            (0xa5, "proxying_not_supported"),
            (0xff, "unknown"),
        ] {
            assert_eq!(name(code), called);
        }
        assert!(is_error(NOT_FOUND) && is_error(0x01) && !is_error(CHANGED));
    }
}
