//! codec/opaque
