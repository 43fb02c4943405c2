//! One connection after another with the same client identifier, in the order in which they came: the
//! last one has the session in the end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmqtt::types::ClientId;
use tokio::sync::OwnedMutexGuard;

/// How long a connection waits for those before it. One that does not read delays the next for five seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ClientId, Arc<tokio::sync::Mutex<()>>>>);

/// Nobody else with this client identifier has its turn.
pub(super) struct Turn {
    turns: Arc<Turns>,
    client: ClientId,
    /// `None` while it waits.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for its turn; `None`: that takes too long.
    pub(super) async fn take(self: &Arc<Self>, client: &ClientId) -> Option<Turn> {
        // Cleans up when the connection is given up meanwhile, too.
        let mut turn = Turn {
            turns: Arc::clone(self),
            client: client.clone(),
            guard: None,
        };
        let mutex = Arc::clone(self.0.lock().entry(client.clone()).or_default());
        let guard = tokio::time::timeout(PATIENCE, mutex.lock_owned()).await;
        turn.guard = Some(guard.ok()?);
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut all = self.turns.0.lock();
        self.guard = None;
        // Whoever waits holds it as well.
        if all
            .get(&self.client)
            .is_some_and(|it| Arc::strong_count(it) == 1)
        {
            all.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn they_come_in_order_and_leave_nothing() {
        let turns = Arc::new(Turns::default());
        let client: ClientId = "a".into();
        let first = turns.take(&client).await;
        assert!(first.is_some());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..5 {
            let (turns, client, order) = (Arc::clone(&turns), client.clone(), Arc::clone(&order));
            tasks.push(tokio::spawn(async move {
                let turn = turns.take(&client).await;
                order.lock().push((number, turn.is_some()));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }));
            tokio::task::yield_now().await;
        }
        // One of them is given up, and another client does not wait.
        tasks.remove(2).abort();
        assert!(turns.take(&"b".into()).await.is_some());
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.lock(), [0, 1, 3, 4].map(|number| (number, true)));
        let held = turns.take(&client).await;
        assert!(turns.take(&client).await.is_none(), "too long");
        drop(held);
        assert!(turns.0.lock().is_empty());
    }
}
