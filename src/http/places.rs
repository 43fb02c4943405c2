//! Places for connections: a bounded number, of which the idle ones give way. A connection is idle
//! unless a request is under way that was let in: strangers keep nobody out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// See the module. Clones are handles to the same.
#[derive(Clone)]
pub(super) struct Places(Arc<Mutex<Table>>);

struct Table {
    most: usize,
    taken: usize,
    /// The idle ones, those first that have been idle longest. Each is told when it has to end.
    idle: BTreeMap<u64, Arc<Notify>>,
    next: u64,
}

impl Table {
    fn rest(&mut self, end: Arc<Notify>) -> u64 {
        let turn = self.next;
        self.next += 1;
        self.idle.insert(turn, end);
        turn
    }
}

/// The place of one connection, which is idle at first.
pub(super) struct Place {
    places: Places,
    end: Arc<Notify>,
    state: Mutex<State>,
}

enum State {
    /// With its key in the table.
    Idle(u64),
    /// With the number of requests that are not through.
    Busy(usize),
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Table {
            most,
            taken: 0,
            idle: BTreeMap::new(),
            next: 0,
        })))
    }

    /// Another bound, for connections to come.
    pub(super) fn resize(&self, most: usize) {
        self.0.lock().most = most;
    }

    /// A place, if need be that of the connection that has been idle longest. `None`: all work.
    /// Counts the connections that are closed for want of room.
    pub(super) fn take(&self, closed: &AtomicU64) -> Option<Arc<Place>> {
        let mut table = self.0.lock();
        while table.taken >= table.most {
            closed.fetch_add(1, Ordering::Relaxed);
            let (_, longest) = table.idle.pop_first()?;
            longest.notify_one();
            table.taken -= 1;
        }
        table.taken += 1;
        let end = Arc::new(Notify::new());
        let turn = table.rest(end.clone());
        Some(Arc::new(Place {
            places: self.clone(),
            end,
            state: Mutex::new(State::Idle(turn)),
        }))
    }
}

impl Place {
    /// Until the place is needed for another connection.
    pub(super) async fn ended(&self) {
        self.end.notified().await;
    }

    /// Keeps the place until the value is dropped, with a request that was let in.
    pub(super) fn work(self: &Arc<Self>) -> Work {
        let mut state = self.state.lock();
        *state = match *state {
            State::Busy(others) => State::Busy(others + 1),
            State::Idle(turn) => {
                let mut table = self.places.0.lock();
                // Another connection may have been given the place just before.
                if table.idle.remove(&turn).is_none() {
                    table.taken += 1;
                }
                State::Busy(1)
            }
        };
        Work(self.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.0.lock();
        let held = match *self.state.get_mut() {
            State::Idle(turn) => table.idle.remove(&turn).is_some(),
            State::Busy(_) => true,
        };
        if held {
            table.taken -= 1;
        }
    }
}

/// A request, until its answer is through.
pub(super) struct Work(Arc<Place>);

impl Drop for Work {
    fn drop(&mut self) {
        let place = &self.0;
        let mut state = place.state.lock();
        *state = match *state {
            State::Busy(1) => State::Idle(place.places.0.lock().rest(place.end.clone())),
            State::Busy(several) => State::Busy(several.saturating_sub(1)),
            State::Idle(turn) => State::Idle(turn),
        };
    }
}

/// The body of an answer, with the work that it is part of.
pub(super) struct Working<B> {
    body: B,
    _work: Option<Work>,
}

impl<B> Working<B> {
    pub(super) fn new(body: B, work: Option<Work>) -> Self {
        Self { body, _work: work }
    }
}

impl<B: Body + Unpin> Body for Working<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Places) -> Option<Arc<Place>> {
        places.take(&AtomicU64::new(0))
    }

    fn ends(place: &Place) -> bool {
        let mut end = std::pin::pin!(place.ended());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        end.as_mut().poll(&mut cx).is_ready()
    }

    #[test]
    fn the_longest_idle_gives_way() {
        let places = Places::new(2);
        let (first, second) = (take(&places).unwrap(), take(&places).unwrap());
        // It has worked meanwhile: the other has been idle for longer.
        drop(first.work());
        let third = take(&places).unwrap();
        assert!(ends(&second) && !ends(&first) && !ends(&third));
        // Its end changes nothing for the others.
        drop(second);
        let fourth = take(&places);
        assert!(fourth.is_some() && ends(&first) && !ends(&third));
    }

    #[test]
    fn those_who_work_keep_their_places() {
        let places = Places::new(2);
        let taken = [take(&places).unwrap(), take(&places).unwrap()];
        let work = [taken[0].work(), taken[0].work(), taken[1].work()];
        let closed = AtomicU64::new(0);
        assert!(places.take(&closed).is_none());
        assert_eq!(closed.into_inner(), 1);
        let [one, other, third] = work;
        drop(one);
        assert!(take(&places).is_none(), "its second request goes on");
        drop(other);
        assert!(take(&places).is_some());
        assert!(ends(&taken[0]) && !ends(&taken[1]));
        drop(third);
    }

    #[test]
    fn places_are_given_back() {
        let places = Places::new(3);
        for _ in 0..20 {
            let place = take(&places).unwrap();
            let work = place.work();
            drop(place);
            drop(work);
        }
        let table = places.0.lock();
        assert_eq!((table.taken, table.idle.len()), (0, 0));
    }

    #[test]
    fn a_smaller_bound_holds_from_the_next_on() {
        let places = Places::new(3);
        let taken: Vec<_> = (0..3).map(|_| take(&places).unwrap()).collect();
        places.resize(1);
        let closed = AtomicU64::new(0);
        assert!(places.take(&closed).is_some());
        assert!(taken.iter().all(|it| ends(it)));
        assert_eq!(closed.into_inner(), 3);
    }
}
