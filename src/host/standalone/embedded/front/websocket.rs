//! MQTT over WebSocket (MQTT 5 §6): binary messages, whose borders mean nothing.

use std::net::IpAddr;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::SemaphorePermit;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use super::relay::{Entrance, in_time};
use super::shared::Ended;

/// Bytes sent in one message.
const PIECE: usize = 64 << 10;

/// The subprotocols of MQTT; the older name is that of MQTT 3.1.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}

/// Serves a client that begins with an upgrade of HTTP.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    mut entrance: Entrance<'_>,
    stranger: SemaphorePermit<'_>,
) -> Result<(), Ended> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(entrance.shared.max_packet))
        .max_frame_size(Some(entrance.shared.max_packet))
        .max_write_buffer_size(4 * PIECE)
        .write_buffer_size(0);
    let origins = &entrance.shared.origins;
    // The signature is the library's.
    #[allow(clippy::result_large_err)]
    let judge = |request: &Request, response| answer(request, response, origins);
    let upgrade = accept_hdr_async_with_config(stream, judge, Some(limits));
    let upgraded = tokio::time::timeout_at(entrance.until, upgrade).await;
    let stream = upgraded.map_err(|_| Ended::TooSlow)??;
    let (inside, ticket) = entrance.connect().await?;
    in_time(relay(stream, inside), entrance.until, &ticket, stranger).await
}

async fn relay<S: AsyncRead + AsyncWrite + Unpin>(
    stream: WebSocketStream<S>,
    inside: tokio::net::TcpStream,
) -> Result<(), Ended> {
    let (mut to_client, mut from_client) = stream.split();
    let (mut from_broker, mut to_broker) = inside.into_split();
    let inwards = async {
        while let Some(message) = from_client.next().await {
            match message? {
                Message::Binary(bytes) => to_broker.write_all(&bytes).await?,
                Message::Text(_) => return Err(Ended::Unfit("MQTT needs binary frames, not text")),
                Message::Close(_) => break,
                // The library answers pings.
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        // The broker sees the end, and what it still says comes out.
        to_broker.shutdown().await?;
        Ok(())
    };
    let outwards = async {
        let mut piece = vec![0; PIECE];
        loop {
            let read = from_broker.read(&mut piece).await?;
            if read == 0 {
                return close(&mut to_client).await;
            }
            let bytes = piece.get(..read).unwrap_or_default().to_vec();
            to_client.send(Message::Binary(bytes.into())).await?;
        }
    };
    tokio::pin!(inwards, outwards);
    tokio::select! {
        done = &mut outwards => return done,
        done = &mut inwards => done?,
    }
    outwards.await
}

async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    to_client: &mut SplitSink<WebSocketStream<S>, Message>,
) -> Result<(), Ended> {
    to_client.close().await?;
    Ok(())
}

/// Whether an upgrade is one to MQTT, from a page that may do that.
#[allow(clippy::result_large_err)] // the library's
fn answer(
    request: &Request,
    mut response: Response,
    origins: &[String],
) -> Result<Response, ErrorResponse> {
    let headers = request.headers();
    if !may_come(headers, origins) {
        return Err(refused(
            StatusCode::FORBIDDEN,
            "this origin is not among mqtt.websocket.origins\n",
        ));
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered = offered.filter_map(|value| value.to_str().ok());
    let offered: Vec<&str> = offered
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let protocol = PROTOCOLS.into_iter().find(|known| offered.contains(known));
    let Some(protocol) = protocol else {
        let reason = "the header Sec-WebSocket-Protocol: mqtt is missing\n";
        return Err(refused(StatusCode::BAD_REQUEST, reason));
    };
    let protocol = HeaderValue::from_static(protocol);
    let headers = response.headers_mut();
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}

/// A page in somebody's browser may open a WebSocket to any host that the browser can reach: only
/// those of the same address and port may, and those that are named (RFC 6455 §10.2). The same name is
/// not enough: the name of a stranger's page may lead here meanwhile (DNS rebinding). What is not a
/// browser sends no origin.
fn may_come(headers: &HeaderMap, origins: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return true;
    };
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let same = authority.is_some() && authority == host;
    same && host.is_some_and(is_address) || origins.iter().any(|allowed| allowed == origin)
}

/// Whether a `Host` is an address or `localhost`, with a port or without.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || bare.unwrap_or(name).parse::<IpAddr>().is_ok()
}

fn refused(status: StatusCode, reason: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(reason.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let name = header::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn pages_of_others_stay_out() {
        let allowed = ["https://console.example".to_owned()];
        for (pairs, may) in [
            (&[][..], true),
            (
                &[("host", "10.0.0.1:1"), ("origin", "http://10.0.0.1:1")][..],
                true,
            ),
            (
                &[("host", "[::1]:1"), ("origin", "http://[::1]:1")][..],
                true,
            ),
            (
                &[("host", "localhost"), ("origin", "https://localhost")][..],
                true,
            ),
            (
                &[("host", "10.0.0.1:1"), ("origin", "http://10.0.0.1")][..],
                false,
            ),
            // A name that leads here, whoever gave it.
            (&[("host", "h:1"), ("origin", "http://h:1")][..], false),
            (
                &[("host", "h:1"), ("origin", "https://evil.example")][..],
                false,
            ),
            (&[("host", "h:1"), ("origin", "null")][..], false),
            (&[("origin", "null")][..], false),
            (
                &[("host", "h"), ("origin", "https://console.example")][..],
                true,
            ),
        ] {
            assert_eq!(may_come(&headers(pairs), &allowed), may, "{pairs:?}");
        }
    }
}
