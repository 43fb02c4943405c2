//! A blocking client of the HTTP API.

use std::io::{self, BufRead as _, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use super::access::Access;
use super::error::Failure;
use super::login::{NOTHING, authorization, tls};

/// Bytes of one answer at most.
const LARGEST: u64 = 64 << 20;
/// Bytes of one event at most; more is not read.
const LARGEST_EVENT: usize = 4 << 20;
/// How long an answer may take to begin, beyond what the gateway was asked to wait.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take from then to its end.
const WHOLE: Duration = Duration::from_secs(120);
/// How long a stream of events may be silent; the gateway says something every 5 seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// Lines of a stream that are read ahead.
const AHEAD: usize = 16;
/// Pages of names that are looked through for a similar one.
const PAGES: usize = 10;

/// A client of one gateway.
pub(super) struct Client {
    agent: Agent,
    url: String,
    authorization: Option<Zeroizing<String>>,
    /// Answers are written as JSON.
    pub(super) json: bool,
}

impl Client {
    /// Reads the token, and the certificates of the system for a URL of `https`.
    pub(super) fn new(access: &Access) -> Result<Self, Failure> {
        let url = access.url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let text = format!("--url {url}: expected http:// or https:// and an address");
            return Err(Failure::Other(text));
        }
        let authorization = authorization(access)?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_send_request(Some(PATIENCE))
            .timeout_send_body(Some(PATIENCE));
        if url.starts_with("https://") {
            config = config.tls_config(tls(access.cacert.as_deref())?);
        }
        Ok(Self {
            agent: config.build().into(),
            url,
            authorization,
            json: access.json,
        })
    }

    /// `GET path` as JSON.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.ask(path, None, Some(WHOLE))?;
        if !response.status().is_success() {
            return Err(self.failure(response));
        }
        self.body(response)
    }

    /// `GET path` of one device: says which names are like the one that is not known.
    pub(super) fn get_device(&self, endpoint: &str) -> Result<Value, Failure> {
        let response = self.ask(&device_path(endpoint, ""), None, Some(WHOLE))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(self.unknown(endpoint));
        }
        if !response.status().is_success() {
            return Err(self.failure(response));
        }
        self.body(response)
    }

    /// Sends a command, in the JSON of MQTT; gives the answer, or that it is queued.
    pub(super) fn command(
        &self,
        endpoint: &str,
        command: &Value,
        wait: u64,
    ) -> Result<Value, Failure> {
        let path = device_path(endpoint, &format!("/commands?wait={wait}"));
        let response = self.ask(&path, Some((command, wait)), Some(WHOLE))?;
        let status = response.status();
        let refused = [401, 403, 429].contains(&status.as_u16());
        if refused {
            return Err(self.failure(response));
        }
        let body: Value = self.body(response)?;
        // What the gateway answers itself has the form of an answer too, with an error's status.
        if body.get("data").is_some() || body.get("status").is_some() {
            return Ok(body);
        }
        if body.get("error").and_then(Value::as_str) == Some("unknown_endpoint") {
            return Err(self.unknown(endpoint));
        }
        Err(Failure::Other(detail(&body, status)))
    }

    /// The events of `path`, one after the other, until `each` says that it is enough. Ends with an
    /// error when the stream does.
    pub(super) fn events(
        &self,
        path: &str,
        mut each: impl FnMut(&str, &Value) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let response = self.ask(path, None, None)?;
        if !response.status().is_success() {
            return Err(self.failure(response));
        }
        // What opened the stream counts as an event: whoever waits for it may begin.
        if !each("open", &Value::Null)? {
            return Ok(());
        }
        let lines = lines(response.into_body().into_reader())
            .map_err(|error| Failure::Other(error.to_string()))?;
        let (mut kind, mut data) = (String::new(), String::new());
        loop {
            let line = match lines.recv_timeout(SILENCE) {
                Ok(Ok(line)) => line,
                Ok(Err(error)) => return Err(self.lost(error.to_string())),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.lost("the gateway sends nothing any more".to_owned()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.lost("the gateway ended the stream".to_owned()));
                }
            };
            if line.len() + data.len() >= LARGEST_EVENT {
                return Err(Failure::Other("an event is too long".to_owned()));
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\r', '\n']);
            if let Some(value) = text.strip_prefix("event:") {
                value.trim().clone_into(&mut kind);
            } else if let Some(value) = text.strip_prefix("data:") {
                data.push_str(value.trim_start());
            } else if text.is_empty() && !data.is_empty() {
                if let Ok(value) = serde_json::from_str(&data)
                    && !each(&kind, &value)?
                {
                    return Ok(());
                }
                kind.clear();
                data.clear();
            }
        }
    }

    /// The head of an answer: of a command, if there is one, which the gateway waits for some seconds
    /// for. `whole` is how long the body may take.
    fn ask(
        &self,
        path: &str,
        command: Option<(&Value, u64)>,
        whole: Option<Duration>,
    ) -> Result<Response<Body>, Failure> {
        let url = format!("{}/{path}", self.url);
        let shown = self.authorization.as_ref().map(|it| it.as_str());
        let answer = match command {
            None => {
                let request = self.agent.get(&url).config();
                let mut request = request
                    .timeout_recv_response(Some(PATIENCE))
                    .timeout_recv_body(whole)
                    .build();
                if let Some(shown) = shown {
                    request = request.header("Authorization", shown);
                }
                request.call()
            }
            Some((command, wait)) => {
                let patience = PATIENCE.saturating_add(Duration::from_secs(wait));
                let request = self.agent.post(&url).config();
                let mut request = request
                    .timeout_recv_response(Some(patience))
                    .timeout_recv_body(whole)
                    .build()
                    .header("Content-Type", "application/json");
                if let Some(shown) = shown {
                    request = request.header("Authorization", shown);
                }
                request.send(command.to_string())
            }
        };
        answer.map_err(|error| self.lost(error.to_string()))
    }

    fn body<T: DeserializeOwned>(&self, response: Response<Body>) -> Result<T, Failure> {
        let status = response.status();
        let mut body = response.into_body();
        let text = body.with_config().limit(LARGEST).read_to_string();
        let text = text.map_err(|error| self.lost(error.to_string()))?;
        serde_json::from_str(&text).map_err(|_| {
            let text = format!(
                "{} answers {status}, but this is not the API of a gateway",
                self.url
            );
            Failure::Other(text)
        })
    }

    fn failure(&self, response: Response<Body>) -> Failure {
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED => Failure::Token(match self.authorization.as_deref() {
                None => NOTHING.to_owned(),
                Some(shown) if shown.starts_with("Basic ") => {
                    "the gateway rejects this user or password".to_owned()
                }
                Some(_) => "the gateway rejects this token".to_owned(),
            }),
            StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => {
                match self.body::<Value>(response) {
                    Ok(body) => Failure::Token(detail(&body, status)),
                    Err(_) => Failure::Token("the gateway does not allow this".to_owned()),
                }
            }
            _ => match self.body::<Value>(response) {
                Ok(body) => Failure::Other(detail(&body, status)),
                Err(failure) => failure,
            },
        }
    }

    fn lost(&self, why: String) -> Failure {
        Failure::Unreachable {
            url: self.url.clone(),
            why,
        }
    }

    /// The error for a name that no device has, with those that are most like it.
    fn unknown(&self, endpoint: &str) -> Failure {
        let mut near: Vec<(f64, String)> = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES {
            let mut path = "v1/devices?limit=1000".to_owned();
            if let Some(cursor) = &cursor {
                path.push_str("&cursor=");
                path.push_str(&encoded(cursor));
            }
            let Ok(page) = self.get::<Value>(&path) else {
                break;
            };
            let devices = page.get("devices").and_then(Value::as_array);
            for name in devices.into_iter().flatten() {
                let Some(name) = name.get("endpoint").and_then(Value::as_str) else {
                    continue;
                };
                let close = strsim::jaro_winkler(name, endpoint);
                if close > 0.8 || (!endpoint.is_empty() && name.contains(endpoint)) {
                    near.push((close, name.to_owned()));
                }
            }
            near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            near.truncate(3);
            match page.get("next").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => break,
            }
        }
        Failure::UnknownEndpoint {
            endpoint: endpoint.to_owned(),
            near: near.into_iter().map(|(_, name)| name).collect(),
        }
    }
}

/// The lines of a stream, read by a thread of its own: a read from the gateway cannot be given up, but
/// waiting for one can. The thread ends with the stream, or with the program.
fn lines(stream: impl Read + Send + 'static) -> io::Result<Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let read = move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            let room = LARGEST_EVENT as u64;
            let line = match reader.by_ref().take(room).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => Ok(line),
                Err(error) => Err(error),
            };
            let is_last = line.is_err();
            if sender.send(line).is_err() || is_last {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("events".to_owned())
        .spawn(read)?;
    Ok(receiver)
}

/// The path of a device, or of something below it.
pub(super) fn device_path(endpoint: &str, rest: &str) -> String {
    format!("v1/devices/{}{rest}", encoded(endpoint))
}

/// A text as a segment of a path or a value of a query (RFC 3986 §2.3).
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn detail(body: &Value, status: StatusCode) -> String {
    match body.get("detail").and_then(Value::as_str) {
        Some(detail) => detail.to_owned(),
        None => format!("the gateway answers {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_a_url() {
        assert_eq!(encoded("urn:imei:1"), "urn%3Aimei%3A1");
        assert_eq!(encoded("a b/c?é"), "a%20b%2Fc%3F%C3%A9");
        assert_eq!(encoded("plain-._~9"), "plain-._~9");
    }
}
