//! Simulated LwM2M devices, for people without hardware, for tests and for load.
//!
//! Everything a device says goes through code of its own: no codec and no protocol state is shared
//! with the gateway, only [`crate::lwm2m::Path`] and the reading of pre-shared keys. A mistake of
//! one side therefore shows on the other.

// The simulator is a program of its own: it owns sockets, a thread and a clock.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::credentials::{Key, KeyError};

use context::Profile;
use device::Device;
use dtls::Credentials;
use keys::Keys;
use say::say;
use swarm::{Security, Swarm};

mod asking;
mod cbor;
mod certificates;
mod cid;
mod content;
mod context;
mod device;
mod download;
mod dtls;
mod error;
mod firmware;
mod forms;
mod image;
mod keys;
mod objects;
mod observation;
mod observations;
mod resources;
mod say;
mod senml;
mod summary;
mod swarm;
mod wire;
mod writing;

pub use error::Error;
pub use summary::Summary;

/// Most devices of one process: each has a socket.
const MAX_DEVICES: u32 = 60_000;

/// What devices with certificates offer: the suites of LwM2M 1.1, and one for a server with RSA.
const CERTIFICATE_CIPHERS: &str =
    "ECDHE-ECDSA-AES128-CCM8:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";

/// What to simulate.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The LwM2M server: `coap://host:port`, or `coaps://host:port` for DTLS with a pre-shared key or
    /// a certificate; the default port is 5683, with DTLS 5684
    #[arg(long, value_name = "URL", default_value = "coap://127.0.0.1:5683")]
    pub server: String,
    /// Number of devices
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DEVICES)))]
    pub devices: u32,
    /// Objects of each device: 1, 3, 4, 5, 6, 3301, 3303, 3304, 3323
    #[arg(long, value_name = "IDS", value_delimiter = ',', default_value = "1,3,4,5,6,3303", value_parser = known_object)]
    pub objects: Vec<u16>,
    /// Lifetime of the registrations in seconds
    #[arg(long, value_name = "S", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub lifetime: u32,
    /// Seconds between the notifications of an observed path; 0 notifies only when the server
    /// changes a value
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    pub notify_every: f64,
    /// Endpoint names are this prefix and a number, starting at 0
    #[arg(long, value_name = "TEXT", default_value = "sim-")]
    pub endpoint_prefix: String,
    /// Devices sleep (queue mode) and listen only for a while after each message they send
    #[arg(long)]
    pub queue_mode: bool,
    /// Seconds that a device with `--queue-mode` listens after a message
    #[arg(long, value_name = "S", default_value_t = 20.0, value_parser = seconds)]
    pub awake: f64,
    /// LwM2M version the devices announce
    #[arg(long, value_name = "V", default_value = "1.1", value_parser = ["1.0", "1.1", "1.2"])]
    pub version_lwm2m: String,
    /// Confirmable notifications
    #[arg(long)]
    pub con_notify: bool,
    /// Seconds between two Sends (LwM2M 1.1) of each device, with its measurements as SenML CBOR; 0
    /// sends only on SIGUSR1
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds)]
    pub send_every: f64,
    /// SHA-256, in hexadecimal, that a firmware (object 5) must have; without it devices accept any
    #[arg(long, value_name = "HEX", value_parser = digest)]
    pub firmware_sha256: Option<String>,
    /// PSK identity of the devices; `{}` stands for the device number [default: the endpoint name]
    #[arg(long, value_name = "TEXT")]
    pub psk_identity: Option<String>,
    /// Pre-shared key of every device, in hexadecimal digits
    #[arg(long, value_name = "HEX", conflicts_with = "psk_file", value_parser = key)]
    pub psk_key: Option<Key>,
    /// File of pre-shared keys, with a line `identity:hexkey` for each device
    #[arg(long, value_name = "FILE")]
    pub psk_file: Option<PathBuf>,
    /// Certificate of the devices (PEM, with its chain); `{}` in the file name stands for the device
    /// number
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["psk_identity", "psk_key", "psk_file"])]
    pub cert: Option<PathBuf>,
    /// Private key of that certificate (PEM), also with `{}`
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// CAs for the certificate of the server (PEM); without it the certificate is not checked
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub ca: Option<PathBuf>,
    /// DTLS cipher suites the devices offer, as OpenSSL names separated by colons [default:
    /// PSK-AES128-CCM8; with --cert, LwM2M's suites for certificates]
    #[arg(long, value_name = "NAMES")]
    pub ciphers: Option<String>,
    /// Do not use DTLS connection ids (RFC 9146), even if the server supports them
    #[arg(long)]
    pub no_connection_ids: bool,
    /// Seconds after which each device changes its port, as if a NAT had forgotten it; 0: never
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds)]
    pub rebind_every: f64,
    /// Seconds after which a device with `--queue-mode` wakes up and sends an Update; 0: as its
    /// lifetime requires
    #[arg(long, value_name = "S", default_value_t = 0.0, value_parser = seconds, requires = "queue_mode")]
    pub sleep: f64,
    /// Stop after this many seconds [default: on SIGINT or SIGTERM]
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub duration: Option<f64>,
}

fn known_object(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(id) if objects::KNOWN.contains(&id) => Ok(id),
        _ => Err(format!(
            "objects that can be simulated: {:?}",
            objects::KNOWN
        )),
    }
}

fn key(text: &str) -> Result<Key, KeyError> {
    Key::from_hex(text.as_bytes())
}

fn digest(text: &str) -> Result<String, String> {
    let digest = text.to_ascii_lowercase();
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(digest)
    } else {
        Err("expected 64 hexadecimal digits".to_owned())
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1e9).contains(&number) => Ok(number),
        _ => Err("expected a number of seconds".to_owned()),
    }
}

impl Options {
    fn profile(&self) -> Profile {
        Profile {
            prefix: self.endpoint_prefix.clone(),
            version: self.version_lwm2m.clone(),
            objects: self.objects.clone(),
            lifetime: self.lifetime,
            notify_every: Duration::from_secs_f64(self.notify_every),
            confirmable: self.con_notify,
            queue_mode: self.queue_mode,
            awake: Duration::from_secs_f64(self.awake),
            send_every: Duration::from_secs_f64(self.send_every),
            rebind_every: Duration::from_secs_f64(self.rebind_every),
            sleep: Duration::from_secs_f64(self.sleep),
            firmware_sha256: self.firmware_sha256.clone(),
        }
    }

    /// The address of the server, and whether DTLS is spoken with it.
    fn address(&self) -> Result<(SocketAddr, bool), Error> {
        let wrong = || Error::Server(self.server.clone());
        let (secure, rest) = match self.server.split_once("://") {
            Some(("coap", rest)) => (false, rest),
            Some(("coaps", rest)) => (true, rest),
            Some(_) => return Err(wrong()),
            None => (false, self.server.as_str()),
        };
        let rest = rest.trim_end_matches('/');
        let has_port = rest.parse::<SocketAddr>().is_ok()
            || rest
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
        let with_port = match (has_port, secure) {
            (true, _) => rest.to_owned(),
            (false, false) => format!("{rest}:5683"),
            (false, true) => format!("{rest}:5684"),
        };
        let address = with_port
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .ok_or_else(wrong)?;
        Ok((address, secure))
    }

    /// What the devices need for DTLS; `None` for plain UDP.
    fn security(&self, secure: bool, endpoints: &[String]) -> Result<Option<Security>, Error> {
        let given =
            self.psk_identity.is_some() || self.psk_key.is_some() || self.psk_file.is_some();
        let given = given || self.cert.is_some();
        if !secure {
            return if given {
                Err(Error::NotSecure)
            } else {
                Ok(None)
            };
        }
        let credentials = match (&self.cert, &self.key) {
            (Some(certificates), Some(keys)) => self.certificates(certificates, keys, endpoints)?,
            _ => self.keys(endpoints)?,
        };
        let default = match self.cert {
            Some(_) => CERTIFICATE_CIPHERS,
            None => "PSK-AES128-CCM8",
        };
        let ciphers = self.ciphers.as_deref().unwrap_or(default);
        if let Some(file) = &self.ca {
            certificates::check_authorities(file)?;
        }
        let client = dtls::Client::new(ciphers, !self.no_connection_ids, self.ca.as_deref());
        let client = client.map_err(|error| Error::Dtls {
            ciphers: ciphers.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(Security {
            client,
            credentials,
        }))
    }

    /// What devices with certificates have.
    fn certificates(
        &self,
        certificates: &Path,
        keys: &Path,
        endpoints: &[String],
    ) -> Result<Vec<Credentials>, Error> {
        let all = certificates::read_all(certificates, keys, endpoints.len())?;
        let each = endpoints.iter().zip(all);
        let credentials = each.map(|(endpoint, certificate)| Credentials {
            identity: endpoint.clone(),
            key: Key::new(Vec::new()),
            certificate: Some(certificate),
        });
        Ok(credentials.collect())
    }

    /// What devices with keys have.
    fn keys(&self, endpoints: &[String]) -> Result<Vec<Credentials>, Error> {
        let keys = match (&self.psk_file, &self.psk_key) {
            (Some(file), _) => Keys::read(file)?,
            (None, Some(key)) => Keys::Same(key.clone()),
            (None, None) => return Err(Error::NoKey),
        };
        let identities = (0..).zip(endpoints).map(|(number, endpoint): (usize, _)| {
            self.psk_identity.as_ref().map_or_else(
                || endpoint.clone(),
                |text| text.replace("{}", &number.to_string()),
            )
        });
        identities
            .map(|identity| keys.credentials(identity))
            .collect()
    }
}

/// Devices that run on a thread of their own.
#[derive(Debug)]
pub struct Handle {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Summary>>,
    #[cfg(feature = "internals")]
    endpoints: Vec<String>,
}

impl Handle {
    /// The endpoint names of the devices.
    #[cfg(feature = "internals")]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// De-registers the devices and waits for their end; `None` when their thread failed.
    #[cfg(feature = "internals")]
    pub fn stop(mut self) -> Option<Summary> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take()?.join().ok()
    }

    /// Waits until the devices end by themselves (`duration`) or by `stop`'s flag.
    fn wait(mut self) -> Option<Summary> {
        self.thread.take()?.join().ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Starts the devices of `options` on one new thread.
///
/// # Errors
///
/// When the server has no address or the sockets cannot be opened.
pub fn spawn(options: Options) -> Result<Handle, Error> {
    start(&options, Flags::default(), false)
}

/// What the devices are told from outside.
#[derive(Debug, Default, Clone)]
struct Flags {
    stop: Arc<AtomicBool>,
    send: Arc<AtomicBool>,
}

fn start(options: &Options, flags: Flags, announce: bool) -> Result<Handle, Error> {
    if options.send_every > 0.0 && !forms::is_modern(&options.version_lwm2m) {
        return Err(Error::NoSend);
    }
    let profile = options.profile();
    let count = usize::try_from(options.devices).unwrap_or(usize::MAX);
    let endpoints: Vec<_> = (0..count)
        .map(|index| Device::endpoint(index, &profile))
        .collect();
    let (address, secure) = options.address()?;
    let security = options.security(secure, &endpoints)?;
    let swarm = Swarm::new(profile, address, count, security).map_err(|source| Error::Sockets {
        wanted: options.devices,
        source,
    })?;
    let duration = options.duration.map(Duration::from_secs_f64);
    let stop = Arc::clone(&flags.stop);
    let thread = std::thread::Builder::new()
        .name("simulate".to_owned())
        .spawn(move || swarm.run(&flags.stop, &flags.send, duration, announce))
        .map_err(|source| Error::Sockets {
            wanted: options.devices,
            source,
        })?;
    Ok(Handle {
        stop,
        thread: Some(thread),
        #[cfg(feature = "internals")]
        endpoints,
    })
}

/// The command `simulate`: runs the devices until SIGINT, SIGTERM or the end of `duration`; SIGUSR1
/// makes them Send. It says on standard output when they are registered, why one is not, which
/// firmware arrives and, at the end, what they did. Fails when a
/// device could not be registered.
pub fn run(options: Options) -> ExitCode {
    let flags = Flags::default();
    for (signal, flag) in [
        (signal_hook::consts::SIGINT, &flags.stop),
        (signal_hook::consts::SIGTERM, &flags.stop),
        (signal_hook::consts::SIGUSR1, &flags.send),
    ] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(flag)) {
            say(&mut io::stderr(), &format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    }
    match start(&options, flags, true).map(Handle::wait) {
        Ok(Some(summary)) => {
            say(&mut io::stdout(), &summary.to_string());
            if summary.registered == summary.devices {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Ok(None) => ExitCode::FAILURE,
        Err(error) => {
            say(&mut io::stderr(), &format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests;
