//! codec/tlv
