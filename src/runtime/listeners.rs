//! The open listeners: what a configuration wants is compared with what is there, and only the
//! difference is done.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tracing::warn;

use super::error::StartError;
use super::mail::{Change, SecureSettings};
use super::{certificates, secure};
use crate::config::{Config, DtlsListener, DtlsOptions, UdpListener};
use crate::credentials::{CertificateFiles, Coverage, CredentialStore};
use crate::dtls::Certificates;
use crate::engine::ListenerIds;
use crate::memory::Memory;
use crate::network::LocalAddresses;
use crate::transport::udp::{BindOptions, UdpSocket};

/// An open listener.
#[derive(Debug)]
struct Open {
    id: u16,
    asked: UdpListener,
    bound: SocketAddr,
    secure: Option<OpenSecure>,
}

#[derive(Debug)]
struct OpenSecure {
    asked: DtlsListener,
    settings: Arc<SecureSettings>,
    files: Option<CertificateFiles>,
    /// Certificates that a plan brings to a context that is in use.
    renewed: Option<Certificates>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Listeners {
    shards: usize,
    /// What connection ids are enciphered with, where sessions are kept.
    id_key: Option<[u8; 16]>,
    memory: Arc<Memory>,
    pub(super) ids: ListenerIds,
    locals: Arc<LocalAddresses>,
    open: BTreeMap<String, Open>,
}

/// A difference that is ready to be put in force.
#[derive(Debug)]
pub(super) struct Plan {
    open: BTreeMap<String, Open>,
    /// For each shard.
    pub(super) changes: Vec<Vec<Change>>,
}

impl Plan {
    /// The credentials of all DTLS listeners.
    pub(super) fn coverage(&self) -> Arc<Coverage> {
        let secure = self.open.values().filter_map(|open| open.secure.as_ref());
        let stores = secure.map(|secure| secure.settings.credentials.clone());
        Arc::new(Coverage::new(stores))
    }
}

impl Listeners {
    pub(super) fn new(
        shards: usize,
        memory: Arc<Memory>,
        locals: Arc<LocalAddresses>,
        id_key: Option<[u8; 16]>,
    ) -> Self {
        Self {
            id_key,
            shards,
            memory,
            ids: ListenerIds::default(),
            locals,
            open: BTreeMap::new(),
        }
    }

    /// What the servers of a DTLS listener share.
    pub(super) fn context(&self, name: &str) -> Option<&crate::dtls::Context> {
        let secure = self.open.get(name)?.secure.as_ref()?;
        Some(&secure.settings.context)
    }

    /// Binds what is new and reads its credentials; what is open goes on meanwhile.
    pub(super) fn plan(&mut self, config: &Config) -> Result<Plan, StartError> {
        let mut plan = Plan {
            open: BTreeMap::new(),
            changes: Vec::new(),
        };
        plan.changes.resize_with(self.shards, Vec::new);
        let udp = config.listeners.udp.iter();
        let udp = udp.map(|(name, listener)| ("udp", name, listener, None));
        let dtls = config.listeners.dtls.iter();
        let dtls = dtls.map(|(name, listener)| ("dtls", name, &listener.common, Some(listener)));
        for (kind, name, common, secure) in udp.chain(dtls).filter(|(_, _, it, _)| it.enable) {
            let full = format!("{kind}:{name}");
            let id = self.ids.id(&full);
            let old = self.open.get(&full);
            let bound = match old {
                Some(old) if old.asked.bind == common.bind => {
                    if (old.asked.recbuf, old.asked.sndbuf) != (common.recbuf, common.sndbuf) {
                        warn!(
                            listener = full,
                            "a change of socket buffers takes effect when the listener is opened next"
                        );
                    }
                    old.bound
                }
                _ => {
                    let bind = |source| StartError::Bind {
                        key: format!("listeners.{kind}.{name}.bind"),
                        bind: common.bind,
                        source,
                    };
                    let (bound, sockets) =
                        bind_all(common, self.shards, &self.locals).map_err(bind)?;
                    for (changes, socket) in plan.changes.iter_mut().zip(sockets) {
                        changes.push(Change::Open {
                            listener: id,
                            socket,
                        });
                    }
                    bound
                }
            };
            let secure = match secure {
                Some(listener) => Some(self.plan_secure(&full, id, name, listener, &mut plan)?),
                None => None,
            };
            let open = Open {
                id,
                asked: common.clone(),
                bound,
                secure,
            };
            plan.open.insert(full, open);
        }
        for (name, old) in &self.open {
            if !plan.open.contains_key(name) {
                for changes in &mut plan.changes {
                    changes.push(Change::Close { listener: old.id });
                }
            }
        }
        Ok(plan)
    }

    fn plan_secure(
        &self,
        full: &str,
        id: u16,
        name: &str,
        listener: &DtlsListener,
        plan: &mut Plan,
    ) -> Result<OpenSecure, StartError> {
        let (credentials, warnings) =
            CredentialStore::open(listener).map_err(|error| StartError::Credentials {
                key: format!("listeners.dtls.{name}.psk_file"),
                source: error,
            })?;
        for warning in warnings {
            warn!(listener = full, "{warning}");
        }
        let (files, certificates) = match certificates::open(name, listener)? {
            Some((files, certificates, warnings)) => {
                for warning in warnings {
                    warn!(listener = full, "{warning}");
                }
                (Some(files), Some(certificates))
            }
            None => (None, None),
        };
        let old = self.open.get(full).and_then(|open| open.secure.as_ref());
        let kept = old.filter(|old| same_handshakes(&old.asked, listener));
        let context = match kept {
            Some(old) => old.settings.context.clone(),
            None => {
                let certificates = certificates.as_ref();
                let context = secure::context(
                    listener,
                    self.shards,
                    &self.memory,
                    (certificates, self.id_key),
                );
                Arc::new(context.map_err(|source| StartError::Dtls {
                    key: format!("listeners.dtls.{name}.dtls_options"),
                    source,
                })?)
            }
        };
        let settings = Arc::new(SecureSettings {
            name: full.into(),
            context,
            credentials: Arc::new(credentials),
        });
        for changes in &mut plan.changes {
            let settings = settings.clone();
            changes.push(match kept {
                Some(_) => Change::Credentials {
                    listener: id,
                    settings,
                },
                None => Change::Secure {
                    listener: id,
                    settings,
                },
            });
        }
        Ok(OpenSecure {
            asked: listener.clone(),
            settings,
            files,
            renewed: certificates.filter(|_| kept.is_some()),
        })
    }

    /// Puts a plan in force, as far as it concerns this side.
    pub(super) fn commit(&mut self, mut plan: Plan) -> Vec<Vec<Change>> {
        for (name, open) in &mut plan.open {
            if let Some(secure) = &mut open.secure {
                if let Some(certificates) = secure.renewed.take() {
                    take_up(name, secure, &certificates);
                }
                // Resumption does not look at keys, which may have changed.
                secure.settings.context.flush_sessions();
            }
        }
        self.open = plan.open;
        plan.changes
    }

    /// Name and address of each, in order of kind and name.
    pub(super) fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let udp_first = |name: &&String| !name.starts_with("udp:");
        let mut names: Vec<_> = self.open.iter().collect();
        names.sort_by_key(|(name, _)| udp_first(name));
        names
            .into_iter()
            .map(|(name, open)| (name.clone(), open.bound))
            .collect()
    }

    /// Reads PSK files and certificates that have changed; returns the listeners with devices that have to be looked
    /// at again.
    pub(super) fn read_files(&self) -> Vec<u16> {
        let mut changed = Vec::new();
        for (name, open) in &self.open {
            let Some(secure) = &open.secure else {
                continue;
            };
            let mut is_changed = false;
            match secure.settings.credentials.poll() {
                Ok(Some(report)) => {
                    for warning in report.warnings() {
                        warn!(listener = name, "{warning}");
                    }
                    tracing::info!(listener = name, "PSK file reloaded");
                    is_changed = secure.settings.credentials.affects_devices(&report);
                }
                Ok(None) => {}
                Err(error) => {
                    warn!(listener = name, %error, "cannot reload the PSK file: the previous keys stay in use")
                }
            }
            match secure.files.as_ref().map(certificates::poll).transpose() {
                Ok(read) => {
                    if let Some((certificates, warnings)) = read.flatten() {
                        for warning in warnings {
                            warn!(listener = name, "{warning}");
                        }
                        is_changed |= take_up(name, secure, &certificates);
                    }
                }
                Err(error) => {
                    warn!(listener = name, %error, "cannot reload the certificates: the previous ones stay in use");
                }
            }
            if is_changed {
                changed.push(open.id);
            }
        }
        changed
    }
}

/// Puts other certificates in force; sessions go on. Whether it could be done.
fn take_up(name: &str, secure: &OpenSecure, certificates: &Certificates) -> bool {
    match secure.settings.context.set_certificates(Some(certificates)) {
        Ok(()) => {
            tracing::info!(listener = name, "certificates reloaded");
            true
        }
        Err(error) => {
            warn!(listener = name, %error, "cannot reload the certificates: the previous ones stay in use");
            false
        }
    }
}

/// Whether handshakes and sessions may go on as they are.
fn same_handshakes(old: &DtlsListener, new: &DtlsListener) -> bool {
    let of = |listener: &DtlsListener| -> (DtlsOptions, bool, [usize; 5]) {
        let limits = [
            listener.common.max_connections,
            listener.max_sessions_per_credential,
            listener.max_sessions_per_source,
            listener.connection_id_length.into(),
            listener.connection_id_padding,
        ];
        (
            listener.options.clone(),
            listener.certificates.is_on(),
            limits,
        )
    };
    of(old) == of(new)
}

/// One socket a shard. The first binds alone, so that an address somebody else uses is noticed:
/// with `SO_REUSEPORT` on both sides the kernel would share it silently.
fn bind_all(
    listener: &UdpListener,
    shards: usize,
    locals: &Arc<LocalAddresses>,
) -> io::Result<(SocketAddr, Vec<UdpSocket>)> {
    let open = |address, share| {
        let options = BindOptions {
            share,
            recbuf: listener.recbuf,
            sndbuf: listener.sndbuf,
            locals: locals.clone(),
        };
        UdpSocket::bind(address, &options)
    };
    let probe = open(listener.bind, false)?;
    let address = probe.local_addr()?;
    if let Some(bytes) = probe
        .receive_buffer()
        .filter(|got| *got < listener.recbuf / 2)
    {
        let wanted = listener.recbuf;
        warn!(
            %address,
            bytes,
            wanted,
            "the kernel grants only a small receive buffer and drops datagrams when many arrive at once: raise net.core.rmem_max, or lower udp_options.recbuf"
        );
    }
    if shards == 1 {
        return Ok((address, vec![probe]));
    }
    drop(probe);
    let sockets = (0..shards)
        .map(|_| open(address, true))
        .collect::<io::Result<_>>()?;
    Ok((address, sockets))
}
