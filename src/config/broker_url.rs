//! The address of a broker to connect to.

use std::fmt;
use std::str::FromStr;

/// A broker to connect to: `mqtt://[user[:password]@]host[:port]`, or `mqtts://` for TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// Default 1883, with TLS 8883.
    pub port: u16,
    /// From the URL, percent-decoded.
    pub username: Option<String>,
    /// From the URL, percent-decoded.
    pub password: Option<String>,
}

/// What may be logged: never the password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BrokerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected mqtt://host:port or mqtts://host:port";
        let (tls, rest) = match text.split_once("://") {
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl" | "tls", rest)) => (true, rest),
            _ => return Err(FORM.to_owned()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let default_port = if tls { 8883 } else { 1883 };
        let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
            let (host, after) = bracketed.split_once(']').ok_or(FORM)?;
            (host, after.strip_prefix(':'))
        } else {
            match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            }
        };
        let port = match port {
            Some(port) => {
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or_else(|| match port {
                        // What else stands there may be a password whose host is missing.
                        port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                            format!("{port:?} is not a port")
                        }
                        _ => "the port is not a number".to_owned(),
                    })?
            }
            None => default_port,
        };
        if host.is_empty() || host.contains(['/', '?', '#', ' ', '\0']) {
            return Err(FORM.to_owned());
        }
        let (username, password) = match user {
            Some(user) => match user.split_once(':') {
                Some((name, password)) => (Some(name), Some(password)),
                None => (Some(user), None),
            },
            None => (None, None),
        };
        let decode = |part: Option<&str>| part.map(percent_decode).transpose();
        Ok(Self {
            tls,
            host: host.to_owned(),
            port,
            username: decode(username)?,
            password: decode(password)?,
        })
    }
}

fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err("a % in the user or password must be written as %25".to_owned());
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn broker_urls() {
        let url: BrokerUrl = "mqtt://a%40b:p%3Aw@broker.example:1884/".parse().unwrap();
        assert_eq!(
            (url.host.as_str(), url.port, url.tls),
            ("broker.example", 1884, false)
        );
        assert_eq!(url.username.as_deref(), Some("a@b"));
        assert_eq!(url.password.as_deref(), Some("p:w"));
        assert_eq!(
            format!("{url} {url:?}"),
            "mqtt://broker.example:1884 mqtt://broker.example:1884"
        );
        assert_eq!("mqtts://h".parse::<BrokerUrl>().unwrap().port, 8883);
        let url: BrokerUrl = "mqtt://[::1]:1885".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("::1", 1885));
        for wrong in [
            "",
            "host",
            "http://host",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://h:x",
            "mqtt://h:0",
            "mqtt://h:70000",
            "mqtt://u%4@h",
            "mqtt://u%ff@h",
            "mqtt://h/path",
            "mqtt://[::1",
        ] {
            assert!(wrong.parse::<BrokerUrl>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(mqtts?://)?\\PC{0,24}") {
            let _ = text.parse::<BrokerUrl>();
        }
    }
}
