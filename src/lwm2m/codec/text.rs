//! codec/text
