//! What the handlers of requests share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::timeout;

use super::access::{Access, Sources};
use super::backend::{Backend, Reply};
use super::error::{Answer, ApiError};
use super::hub::Hub;
use crate::config::Http;

/// How long a shard may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module. Clones are handles to the same.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) hub: Arc<Hub>,
    pub(super) access: Arc<Access>,
    /// Of the configuration in force when the connection began.
    pub(super) settings: Arc<Http>,
    pub(super) sources: Sources,
    /// `None`: without TLS.
    pub(super) tls: Arc<RwLock<Option<Arc<ServerConfig>>>>,
    pub(super) started: Instant,
    /// Places for those who follow the log.
    pub(super) log_followers: Arc<Semaphore>,
    /// Becomes true when the gateway stops.
    pub(super) stopping: watch::Receiver<bool>,
}

impl Shared {
    /// Milliseconds since 1970.
    pub(super) fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    }

    /// Asks the gateway; an error when no answer comes.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(Reply<T>),
    ) -> Answer<T> {
        let (to, answer) = oneshot::channel();
        question(Box::new(move |it| {
            // Whoever asked may have given up.
            let _ = to.send(it);
        }));
        match timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            _ => Err(ApiError::unavailable()),
        }
    }
}
