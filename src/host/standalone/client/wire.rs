//! The packets that a client sends and gets, as bytes. The codecs are `rmqtt`'s, which the embedded
//! broker brings along; what depends on the version of MQTT is here and below.

mod packet;
mod v311;
mod v5;

use bytes::BytesMut;
use rmqtt::codec::error::{DecodeError, EncodeError};
use rmqtt::codec::{v3 as codec_v311, v5 as codec_v5};
use tokio_util::codec::{Decoder as _, Encoder as _};

pub(super) use self::packet::{
    Connect, Delivery, Incoming, Message, Outgoing, PacketId, Version, Welcome,
};

/// Why a packet cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// Larger than the broker takes, in bytes.
    #[error("the packet is larger than the broker's limit of {0} bytes")]
    TooLarge(u32),
    /// It cannot be written at all: a topic that is no UTF-8, for example.
    #[error("cannot encode the packet: {0:?}")]
    Malformed(EncodeError),
}

/// Bytes that are no MQTT.
#[derive(Debug, thiserror::Error)]
#[error("the broker sent invalid MQTT: {0}")]
pub(super) struct ReadError(DecodeError);

/// Reads and writes packets of one version of MQTT.
pub(super) enum Codec {
    V5(codec_v5::Codec),
    V311(codec_v311::Codec),
}

impl Codec {
    /// For packets of up to `max_in` bytes from the broker.
    pub(super) fn new(version: Version, max_in: u32) -> Self {
        match version {
            Version::V5 => Self::V5(codec_v5::Codec::new(max_in, 0)),
            Version::V311 => Self::V311(codec_v311::Codec::new(max_in)),
        }
    }

    /// What is spoken.
    pub(super) fn version(&self) -> Version {
        match self {
            Self::V5(_) => Version::V5,
            Self::V311(_) => Version::V311,
        }
    }

    /// Bounds what is written to what the broker takes; it says so in MQTT 5 only.
    pub(super) fn set_max_out(&mut self, bytes: Option<u32>) {
        if let Self::V5(codec) = self {
            codec.set_max_outbound_size(bytes.unwrap_or(0));
        }
    }

    /// Takes the next whole packet out of `input`.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Incoming>, ReadError> {
        match self {
            Self::V5(codec) => {
                let packet = codec.decode(input).map_err(ReadError)?;
                Ok(packet.map(|(packet, _)| v5::incoming(packet)))
            }
            Self::V311(codec) => {
                let packet = codec.decode(input).map_err(ReadError)?;
                Ok(packet.map(|(packet, _)| v311::incoming(packet)))
            }
        }
    }

    /// Appends a packet to `output`; in case of an error nothing is appended.
    pub(super) fn write(
        &mut self,
        packet: Outgoing,
        output: &mut BytesMut,
    ) -> Result<(), WriteError> {
        let before = output.len();
        let malformed = EncodeError::MalformedPacket;
        let written = match self {
            Self::V5(codec) => match v5::outgoing(packet) {
                Some(packet) => codec.encode(packet, output),
                None => Err(malformed),
            },
            Self::V311(codec) => match v311::outgoing(packet) {
                Some(packet) => codec.encode(packet, output),
                None => Err(malformed),
            },
        };
        written.map_err(|error| {
            output.truncate(before);
            match error {
                EncodeError::OverMaxPacketSize { max, .. } => WriteError::TooLarge(max),
                error => WriteError::Malformed(error),
            }
        })
    }
}
