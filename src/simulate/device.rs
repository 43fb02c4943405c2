//! One simulated device: the client's side of registration and its timers. It reads no clock and
//! owns no socket; the swarm feeds it datagrams and time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::context::{Context, Profile};
use super::download::Failure;
use super::forms::is_modern;
use super::objects::Objects;
use super::resources::Resources;
use super::wire::{Kind, Message, code, format, option};

/// RFC 7252 §4.8: ACK_TIMEOUT and MAX_RETRANSMIT.
pub(super) const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;

/// How many replies are remembered for repeated requests, and how long (EXCHANGE_LIFETIME).
const REMEMBERED: usize = 8;
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Register,
    Update,
    Deregister,
    Send,
}

/// A request of the device that waits for its answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) purpose: Purpose,
    pub(super) mid: u16,
    pub(super) token: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) first_sent: Instant,
    pub(super) deadline: Instant,
    pub(super) retransmissions: u32,
}

/// What the device does next on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    RegisterAt(Instant),
    UpdateAt(Instant),
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) index: usize,
    random: u64,
    pub(super) mid: u16,
    pub(super) plan: Plan,
    /// Segments of the Location-Path while registered.
    pub(super) location: Option<Vec<Vec<u8>>>,
    pub(super) pending: Option<Pending>,
    pub(super) resources: Resources,
    replies: VecDeque<(u16, Instant, Vec<u8>)>,
    awake_until: Option<Instant>,
    settled: bool,
    pub(super) leaving: bool,
    unheard: bool,
    /// The operating system says that nothing listens where the server should be.
    pub(super) refused: bool,
    /// Whether this has been said of it.
    said_refused: bool,
    /// Failures since the device was registered.
    pub(super) failures: u32,
    /// When the device sends something by itself.
    send_at: Option<Instant>,
}

impl Device {
    pub(super) fn new(index: usize, seed: u64, profile: &Profile) -> Self {
        let random = seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut device = Self {
            index,
            random: random | 1,
            mid: 0,
            plan: Plan::Nothing,
            location: None,
            pending: None,
            resources: Resources::new(new_objects(index, profile), profile.lifetime),
            replies: VecDeque::new(),
            awake_until: None,
            settled: false,
            leaving: false,
            unheard: false,
            refused: false,
            said_refused: false,
            failures: 0,
            send_at: None,
        };
        device.mid = device.random().to_be_bytes()[..2]
            .iter()
            .fold(0, |sum, byte| (sum << 8) | u16::from(*byte));
        device
    }

    pub(super) fn endpoint(index: usize, profile: &Profile) -> String {
        format!("{}{index}", profile.prefix)
    }

    /// xorshift64*; good enough for tokens that only have to differ.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn is_registered(&self) -> bool {
        self.location.is_some()
    }

    /// Whether nothing more is to come from a device that was told to leave.
    pub(super) fn is_gone(&self) -> bool {
        self.leaving && self.pending.is_none()
    }

    /// Starts to register.
    pub(super) fn start(&mut self, ctx: &mut Context<'_>) {
        self.plan = Plan::RegisterAt(ctx.clock.mono);
        self.on_timeout(ctx);
    }

    /// De-registers, if registered, and does nothing more after that.
    pub(super) fn leave(&mut self, ctx: &mut Context<'_>) {
        self.leaving = true;
        self.plan = Plan::Nothing;
        self.pending = None;
        self.resources.forget_observations();
        if self.is_registered() {
            self.request(ctx, Purpose::Deregister, None);
        }
    }

    /// When [`Device::on_timeout`] is to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let plan = match self.plan {
            Plan::RegisterAt(at) | Plan::UpdateAt(at) if self.pending.is_none() => Some(at),
            _ => None,
        };
        let pending = self.pending.as_ref().map(|pending| pending.deadline);
        let send = self.send_at.filter(|_| self.may_send());
        let installed = self.resources.installed_at();
        [plan, pending, send, installed, self.resources.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn on_timeout(&mut self, ctx: &mut Context<'_>) {
        self.retransmit(ctx);
        if self.resources.installed_at().is_some() {
            let endpoint = Self::endpoint(self.index, ctx.profile);
            if self.resources.run_new_firmware(ctx, &endpoint) {
                self.start_anew(ctx.clock.mono);
            }
        }
        if self.pending.is_none() {
            match self.plan {
                Plan::RegisterAt(at) if at <= ctx.clock.mono => {
                    let list = self.object_list(ctx);
                    self.request(ctx, Purpose::Register, Some(list));
                }
                Plan::UpdateAt(at) if at <= ctx.clock.mono => {
                    let changed = self.resources.take_list_changed();
                    let list = changed.then(|| self.object_list(ctx));
                    self.request(ctx, Purpose::Update, list);
                }
                _ => {}
            }
        }
        if self.may_send() && self.send_at.is_some_and(|at| at <= ctx.clock.mono) {
            self.send(ctx);
        }
        let sent = ctx.out.len();
        self.resources.notify(ctx, &mut self.mid);
        if ctx.out.len() > sent {
            self.stay_awake(ctx);
        }
    }

    fn retransmit(&mut self, ctx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        if pending.deadline > ctx.clock.mono {
            return;
        }
        if pending.retransmissions < MAX_RETRANSMIT {
            pending.retransmissions += 1;
            pending.deadline = ctx.clock.mono + ACK_TIMEOUT * (1 << pending.retransmissions);
            ctx.out.push(pending.bytes.clone());
        } else {
            self.unheard = true;
            let reason = if self.refused {
                "no answer: nothing listens there"
            } else {
                "no answer"
            };
            self.fail(ctx, reason, None);
        }
    }

    /// The operating system says that nothing listens; what is repeated may still be heard.
    pub(super) fn on_refused(&mut self, ctx: &mut Context<'_>) {
        self.refused = true;
        if !std::mem::replace(&mut self.said_refused, true) {
            let endpoint = Self::endpoint(self.index, ctx.profile);
            ctx.said.push(format!(
                "{endpoint}: nothing listens there (port unreachable): is the server running, and is \
                 --server right? Tries again"
            ));
        }
    }

    const fn may_send(&self) -> bool {
        self.location.is_some() && self.pending.is_none() && !self.leaving
    }

    /// The device sends something by itself as soon as it can.
    pub(super) fn send_soon(&mut self, ctx: &mut Context<'_>) {
        self.send_at = Some(ctx.clock.mono);
        self.on_timeout(ctx);
    }

    /// Send (LwM2M Core 1.1 §6.4.6).
    fn send(&mut self, ctx: &mut Context<'_>) {
        let every = ctx.profile.send_every;
        self.send_at = (!every.is_zero()).then(|| ctx.clock.mono + every);
        let pack = self.resources.pack_to_send(ctx.clock);
        if let Some(pack) = pack.filter(|_| is_modern(&ctx.profile.version)) {
            self.request(ctx, Purpose::Send, Some((format::SENML_CBOR, pack)));
        }
    }

    /// What the device wanted fetched is here, or will not come.
    pub(super) fn on_download(&mut self, ctx: &mut Context<'_>, result: Result<Vec<u8>, Failure>) {
        let endpoint = Self::endpoint(self.index, ctx.profile);
        self.resources.fetched(ctx, &endpoint, result);
    }

    /// Whether a request had no answer since this was last asked: the server may have forgotten
    /// the connection.
    pub(super) const fn take_unheard(&mut self) -> bool {
        std::mem::replace(&mut self.unheard, false)
    }

    /// There is no connection (any more): the request under way will have no answer.
    pub(super) fn on_connection_lost(&mut self, ctx: &mut Context<'_>, reason: &str) {
        if self.pending.is_some() {
            self.fail(ctx, reason, None);
        }
    }

    pub(super) fn settle(&mut self, ctx: &mut Context<'_>) {
        if !self.settled {
            self.settled = true;
            ctx.counters.settled += 1;
        }
    }

    pub(super) fn stay_awake(&mut self, ctx: &Context<'_>) {
        self.awake_until = Some(ctx.clock.mono + ctx.profile.awake);
    }

    fn is_asleep(&self, ctx: &Context<'_>) -> bool {
        ctx.profile.queue_mode
            && self.pending.is_none()
            && self.awake_until.is_none_or(|until| until < ctx.clock.mono)
    }

    pub(super) fn on_datagram(&mut self, ctx: &mut Context<'_>, bytes: &[u8]) {
        // A sleeping radio hears nothing.
        if self.is_asleep(ctx) {
            return;
        }
        let Some(message) = Message::read(bytes) else {
            ctx.counters.errors += 1;
            return;
        };
        self.stay_awake(ctx);
        match (message.kind, message.code) {
            (Kind::Reset, _) => self.on_reset(ctx, message.mid),
            (Kind::Acknowledgement, code::EMPTY) => self.on_empty_ack(ctx, message.mid),
            (_, code::EMPTY) => {
                ctx.out
                    .push(Message::empty(Kind::Reset, message.mid).write());
            }
            (_, class) if class < 0x20 => self.on_request(ctx, message),
            _ => self.on_response(ctx, &message),
        }
    }

    fn on_reset(&mut self, ctx: &mut Context<'_>, mid: u16) {
        if self.pending.as_ref().is_some_and(|p| p.mid == mid) {
            self.fail(ctx, "a reset", None);
        } else {
            self.resources.on_reset(mid);
        }
    }

    fn on_empty_ack(&mut self, ctx: &Context<'_>, mid: u16) {
        match &mut self.pending {
            // The answer comes on its own; no more retransmission until it is overdue.
            Some(pending) if pending.mid == mid => {
                pending.retransmissions = MAX_RETRANSMIT;
                pending.deadline = ctx.clock.mono + ACK_TIMEOUT * 30;
            }
            _ => self.resources.on_ack(mid),
        }
    }

    fn on_response(&mut self, ctx: &mut Context<'_>, message: &Message) {
        let expected = self
            .pending
            .take_if(|pending| pending.token == message.token);
        if message.kind == Kind::Confirmable {
            let kind = if expected.is_some() {
                Kind::Acknowledgement
            } else {
                Kind::Reset
            };
            ctx.out.push(Message::empty(kind, message.mid).write());
        }
        let Some(pending) = expected else { return };
        match (pending.purpose, message.code) {
            (Purpose::Register, code::CREATED) => {
                let location: Vec<_> = message
                    .all(option::LOCATION_PATH)
                    .map(<[u8]>::to_vec)
                    .collect();
                self.location = Some(location);
                self.failures = 0;
                let every = ctx.profile.send_every;
                let sends = (!every.is_zero()).then(|| ctx.clock.mono + every);
                self.send_at = self.send_at.or(sends);
                if !self.settled {
                    let took = ctx
                        .clock
                        .mono
                        .duration_since(pending.first_sent)
                        .as_micros();
                    let took = u32::try_from(took).unwrap_or(u32::MAX);
                    ctx.counters.latencies.push(took);
                    ctx.counters.registered += 1;
                    self.settle(ctx);
                }
                self.plan_update(ctx);
            }
            (Purpose::Update, code::CHANGED) => {
                ctx.counters.updates += 1;
                self.plan_update(ctx);
            }
            (Purpose::Deregister, code::DELETED) => self.location = None,
            (Purpose::Update, code::NOT_FOUND) => {
                self.location = None;
                self.resources.forget_observations();
                self.plan = Plan::RegisterAt(ctx.clock.mono);
            }
            (Purpose::Send, code::CHANGED) => ctx.counters.sends += 1,
            // It is of no use to the server, and registering again would not change that.
            (Purpose::Send, _) => {
                ctx.counters.errors += 1;
                let endpoint = Self::endpoint(self.index, ctx.profile);
                ctx.said
                    .push(format!("{endpoint}: send failed: {}", message.reason()));
            }
            _ => {
                let later = message.uint(option::MAX_AGE).map(u64::from);
                let later = later.filter(|_| message.code == code::SERVICE_UNAVAILABLE);
                // A day at most, whatever the server says.
                let later = later.map(|seconds| Duration::from_secs(seconds.min(86_400)));
                self.pending = Some(pending);
                self.fail(ctx, &message.reason(), later);
            }
        }
    }

    /// Three quarters into the lifetime, spread by a tenth so that devices do not come in step.
    fn plan_update(&mut self, ctx: &Context<'_>) {
        let spread = 0.7 + f64::from(self.random().to_be_bytes()[0]) / 2550.0;
        let wait = f64::from(self.resources.lifetime()) * spread;
        let wait = Duration::from_secs_f64(wait);
        let wait = match ctx.profile.sleep {
            Duration::ZERO => wait,
            sleep => wait.min(sleep),
        };
        self.plan = Plan::UpdateAt(ctx.clock.mono + wait);
    }

    fn on_request(&mut self, ctx: &mut Context<'_>, message: Message) {
        let now = ctx.clock.mono;
        self.replies
            .retain(|(_, at, _)| now.duration_since(*at) < EXCHANGE_LIFETIME);
        if let Some((_, _, reply)) = self.replies.iter().find(|(mid, ..)| *mid == message.mid) {
            ctx.out.push(reply.clone());
            return;
        }
        let (mid, kind, token) = (message.mid, message.kind, message.token.clone());
        let endpoint = Self::endpoint(self.index, ctx.profile);
        let mut reply = self.resources.serve(ctx, &endpoint, message);
        reply.token = token;
        (reply.kind, reply.mid) = if kind == Kind::Confirmable {
            (Kind::Acknowledgement, mid)
        } else {
            self.mid = self.mid.wrapping_add(1);
            (Kind::NonConfirmable, self.mid)
        };
        let reply = reply.write();
        ctx.out.push(reply.clone());
        ctx.counters.requests_served += 1;
        if self.replies.len() >= REMEMBERED {
            self.replies.pop_front();
        }
        self.replies.push_back((mid, now, reply));
        self.follow_up(ctx);
    }

    /// What a request asked the device to do after its answer.
    fn follow_up(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.clock.mono;
        if self.resources.take_reboot() {
            self.resources =
                Resources::new(new_objects(self.index, ctx.profile), ctx.profile.lifetime);
            self.start_anew(now);
        } else if self.resources.wants_update() && self.is_registered() {
            self.plan = Plan::UpdateAt(now);
        }
        if let Some(uri) = self.resources.take_wanted() {
            *ctx.wanted = Some(uri);
        }
    }

    /// The device is switched off, and on again.
    fn start_anew(&mut self, now: Instant) {
        self.resources.forget_observations();
        self.location = None;
        self.pending = None;
        self.plan = Plan::RegisterAt(now + Duration::from_secs(1));
    }
}

fn new_objects(index: usize, profile: &Profile) -> Objects {
    let binding = if profile.queue_mode && profile.version == "1.0" {
        "UQ"
    } else {
        "U"
    };
    let mut objects = Objects::new(&profile.objects, index, profile.lifetime, binding);
    if is_modern(&profile.version) {
        objects.add_mute();
    }
    objects
}
