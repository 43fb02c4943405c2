//! What a listener says of its credentials.

/// How keys are written in a PSK file (`psk_file_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    /// `hex`: hexadecimal digits, as in Mosquitto's `psk_file`.
    Hex,
    /// `text`: the bytes of the text itself, as in EMQX's `psk_authentication.init_file`.
    Text,
}

/// Which endpoint a device may register, by the identity it has presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointRule {
    /// `owned`: what its credential covers by its identity, by its list or by a pattern of its
    /// list, and every endpoint that no credential covers.
    Owned,
    /// `any`: every endpoint.
    Any,
    /// `equal`: its identity, with or without its suffix.
    Equal,
    /// `listed`: the endpoints that its credential names.
    Listed,
}

/// Whether files may hold keys that everybody on the machine can read (`world_readable_keys`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorldReadable {
    /// `refuse`: the gateway does not start with such a file.
    Refuse,
    /// `allow`: where modes cannot be changed, as in a mounted volume.
    Allow,
}
