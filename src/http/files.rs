//! The files of the API as they change: tokens, users, certificates.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use super::access::{Known, Sources};
use super::state::Shared;
use super::tls;

/// How often they are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// What tells a file from the one before: device, number, size, and when it was changed.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamps {
    access: Vec<Stamp>,
    tls: Vec<Stamp>,
}

impl Stamps {
    fn of(sources: &Sources) -> Self {
        let http = &sources.http;
        Self {
            access: vec![stamp(&http.token_file), stamp(&http.users_file)],
            tls: vec![stamp(&http.certfile), stamp(&http.keyfile)],
        }
    }
}

fn stamp(file: &Option<PathBuf>) -> Stamp {
    let of = fs::metadata(file.as_ref()?).ok()?;
    Some((of.dev(), of.ino(), of.size(), of.ctime(), of.ctime_nsec()))
}

/// Reads them again when they change, for ever. What cannot be used changes nothing.
pub(super) async fn watch(shared: Shared) {
    let sources = shared.sources.clone();
    // Not those of now: a file may have changed since it was read for the start.
    let mut seen: Option<Stamps> = None;
    loop {
        let looked = {
            let sources = sources.clone();
            spawn_blocking(move || Stamps::of(&sources)).await
        };
        let Ok(now) = looked else {
            return;
        };
        let before = seen.replace(now.clone());
        if before.as_ref().is_none_or(|it| it.access != now.access) {
            read_access(&shared, &sources).await;
        }
        if before.as_ref().is_some_and(|it| it.tls != now.tls) {
            read_certificates(&shared, &sources).await;
        }
        sleep(INTERVAL).await;
    }
}

async fn read_access(shared: &Shared, sources: &Sources) {
    let sources = sources.clone();
    match spawn_blocking(move || Known::load(&sources)).await {
        Ok(Ok(known)) => {
            if shared.access.replace(known) {
                info!("tokens and users of the HTTP API reloaded");
            }
        }
        Ok(Err(error)) => {
            warn!(%error, "cannot reload the tokens and users of the HTTP API: the previous ones stay in use")
        }
        Err(_) => {}
    }
}

async fn read_certificates(shared: &Shared, sources: &Sources) {
    let sources = sources.clone();
    match spawn_blocking(move || tls::load(&sources)).await {
        Ok(Ok(tls)) => {
            *shared.tls.write() = tls;
            info!("certificates of the HTTP API reloaded");
        }
        Ok(Err(error)) => {
            warn!(%error, "cannot reload the certificates of the HTTP API: the previous ones stay in use")
        }
        Err(_) => {}
    }
}
