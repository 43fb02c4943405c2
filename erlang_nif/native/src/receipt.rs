//! Tells a process what became of a command: whether it is safe.

use std::sync::Arc;
use std::thread;

use lwm2m_gateway::{NotDurable, Receipt};
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::thread::is_scheduler_thread;
use rustler::{Atom, Encoder, Env, LocalPid, OwnedEnv, Term};

use crate::atoms;

type Outcome = Result<(), NotDurable>;

/// A call of the process that waits for the outcome.
pub(crate) struct Call {
    caller: LocalPid,
    state: Arc<Mutex<State>>,
}

enum State {
    /// The call has not returned: its environment sends.
    Calling(Option<Outcome>),
    Returned,
}

impl Call {
    /// For the calling process; messages to it carry `reference`.
    pub(crate) fn new(env: Env<'_>, reference: Term<'_>) -> (Self, Receipt) {
        let state = Arc::new(Mutex::new(State::Calling(None)));
        let caller = env.pid();
        let kept = OwnedEnv::new();
        let saved = kept.save(reference);
        let shared = state.clone();
        let receipt = Receipt::new(move |outcome| {
            if let State::Calling(told) = &mut *shared.lock()
                && is_scheduler_thread()
            {
                *told = Some(outcome);
                return;
            }
            tell(caller, kept, saved, outcome);
        });
        (Self { caller, state }, receipt)
    }

    /// The call returns: sends what is known already.
    pub(crate) fn end<'a>(self, env: Env<'a>, reference: Term<'a>) {
        let state = std::mem::replace(&mut *self.state.lock(), State::Returned);
        if let State::Calling(Some(outcome)) = state {
            // A process that is gone wants no answer.
            let _ = env.send(&self.caller, message(env, reference, outcome));
        }
    }
}

/// Only threads that are not the VM's may send from an environment of their own.
fn tell(caller: LocalPid, mut kept: OwnedEnv, saved: SavedTerm, outcome: Outcome) {
    let mut send = move || {
        // A process that is gone wants no answer.
        let _ = kept.send_and_clear(&caller, |env| message(env, saved.load(env), outcome));
    };
    if is_scheduler_thread() {
        let thread = thread::Builder::new().name("lwm2m-receipt".to_owned());
        // Without a thread the caller is not told, and its time runs out.
        drop(thread.spawn(send));
    } else {
        send();
    }
}

/// `{lwm2m_gateway_receipt, Reference, ok | {error, Reason}}`.
fn message<'a>(env: Env<'a>, reference: Term<'a>, outcome: Outcome) -> Term<'a> {
    let reason = |reason: Atom| (atoms::error(), reason).encode(env);
    let outcome = match outcome {
        Ok(()) => atoms::ok().encode(env),
        Err(NotDurable::NoStore) => reason(atoms::no_store()),
        Err(NotDurable::Failed) => reason(atoms::failed()),
        Err(NotDurable::Refused) => reason(atoms::refused()),
    };
    (atoms::lwm2m_gateway_receipt(), reference, outcome).encode(env)
}
