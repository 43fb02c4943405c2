//! One simulated device: the client's side of registration and its timers. It reads no clock and
//! owns no socket; the swarm feeds it datagrams and time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::content;
use super::context::{Context, Profile};
use super::objects::Objects;
use super::resources::Resources;
use super::wire::{Kind, Message, code, format, option};

/// RFC 7252 §4.8: ACK_TIMEOUT and MAX_RETRANSMIT.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_RETRANSMIT: u32 = 4;

/// How many replies are remembered for repeated requests, and how long (EXCHANGE_LIFETIME).
const REMEMBERED: usize = 8;
const EXCHANGE_LIFETIME: Duration = Duration::from_secs(247);

/// Time between a failed registration and the next try.
const RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Register,
    Update,
    Deregister,
}

/// A request of the device that waits for its answer.
#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    mid: u16,
    token: Vec<u8>,
    bytes: Vec<u8>,
    first_sent: Instant,
    deadline: Instant,
    retransmissions: u32,
}

/// What the device does next on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    Nothing,
    RegisterAt(Instant),
    UpdateAt(Instant),
}

#[derive(Debug)]
pub(super) struct Device {
    index: usize,
    random: u64,
    mid: u16,
    plan: Plan,
    /// Segments of the Location-Path while registered.
    location: Option<Vec<Vec<u8>>>,
    pending: Option<Pending>,
    resources: Resources,
    replies: VecDeque<(u16, Instant, Vec<u8>)>,
    awake_until: Option<Instant>,
    settled: bool,
    leaving: bool,
    unheard: bool,
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
    fn random(&mut self) -> u64 {
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
            self.request(ctx, Purpose::Deregister, false);
        }
    }

    /// When [`Device::on_timeout`] is to be called next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let plan = match self.plan {
            Plan::RegisterAt(at) | Plan::UpdateAt(at) if self.pending.is_none() => Some(at),
            _ => None,
        };
        let pending = self.pending.as_ref().map(|pending| pending.deadline);
        [plan, pending, self.resources.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn on_timeout(&mut self, ctx: &mut Context<'_>) {
        self.retransmit(ctx);
        if self.pending.is_none() {
            match self.plan {
                Plan::RegisterAt(at) if at <= ctx.clock.mono => {
                    self.request(ctx, Purpose::Register, true);
                }
                Plan::UpdateAt(at) if at <= ctx.clock.mono => {
                    let changed = self.resources.take_list_changed();
                    self.request(ctx, Purpose::Update, changed);
                }
                _ => {}
            }
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
            self.fail(ctx);
        }
    }

    /// Whether a request had no answer since this was last asked: the server may have forgotten
    /// the connection.
    pub(super) const fn take_unheard(&mut self) -> bool {
        std::mem::replace(&mut self.unheard, false)
    }

    /// There is no connection (any more): the request under way will have no answer.
    pub(super) fn on_connection_lost(&mut self, ctx: &mut Context<'_>) {
        if self.pending.is_some() {
            self.fail(ctx);
        }
    }

    /// The request under way has no good answer: register again later.
    fn fail(&mut self, ctx: &mut Context<'_>) {
        self.pending = None;
        self.location = None;
        self.resources.forget_observations();
        ctx.counters.errors += 1;
        self.settle(ctx);
        if !self.leaving {
            self.plan = Plan::RegisterAt(ctx.clock.mono + RETRY);
        }
    }

    fn settle(&mut self, ctx: &mut Context<'_>) {
        if !self.settled {
            self.settled = true;
            ctx.counters.settled += 1;
        }
    }

    fn request(&mut self, ctx: &mut Context<'_>, purpose: Purpose, with_list: bool) {
        self.mid = self.mid.wrapping_add(1);
        let token = self.random().to_be_bytes()[..4].to_vec();
        let method = match purpose {
            Purpose::Deregister => code::DELETE,
            _ => code::POST,
        };
        let mut message = Message::new(Kind::Confirmable, method, self.mid, token.clone());
        match (purpose, &self.location) {
            (Purpose::Register, _) | (_, None) => self.add_register_query(ctx, &mut message),
            (_, Some(location)) => {
                for segment in location {
                    message.add(option::URI_PATH, segment.clone());
                }
            }
        }
        if purpose == Purpose::Update
            && let Some(lifetime) = self.resources.take_lifetime_changed()
        {
            message.add(option::URI_QUERY, format!("lt={lifetime}"));
        }
        if with_list {
            message.add_uint(option::CONTENT_FORMAT, u32::from(format::LINK));
            message.payload = content::object_list(self.resources.objects()).into_bytes();
        }
        let bytes = message.write();
        ctx.out.push(bytes.clone());
        self.pending = Some(Pending {
            purpose,
            mid: self.mid,
            token,
            bytes,
            first_sent: ctx.clock.mono,
            deadline: ctx.clock.mono + ACK_TIMEOUT,
            retransmissions: 0,
        });
        self.stay_awake(ctx);
    }

    fn add_register_query(&self, ctx: &Context<'_>, message: &mut Message) {
        let profile = ctx.profile;
        message.add(option::URI_PATH, *b"rd");
        let endpoint = Self::endpoint(self.index, profile);
        message.add(option::URI_QUERY, format!("ep={endpoint}"));
        let lifetime = self.resources.lifetime();
        message.add(option::URI_QUERY, format!("lt={lifetime}"));
        message.add(option::URI_QUERY, format!("lwm2m={}", profile.version));
        // 1.0 says how it is reached with `b`; since 1.1 the queue mode is a query of its own.
        match (profile.version.as_str(), profile.queue_mode) {
            ("1.0", true) => message.add(option::URI_QUERY, *b"b=UQ"),
            (_, queue_mode) => {
                message.add(option::URI_QUERY, *b"b=U");
                if queue_mode {
                    message.add(option::URI_QUERY, *b"Q");
                }
            }
        }
    }

    fn stay_awake(&mut self, ctx: &Context<'_>) {
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
            self.fail(ctx);
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
            _ => self.fail(ctx),
        }
    }

    /// Three quarters into the lifetime, spread by a tenth so that devices do not come in step.
    fn plan_update(&mut self, ctx: &Context<'_>) {
        let spread = 0.7 + f64::from(self.random().to_be_bytes()[0]) / 2550.0;
        let wait = f64::from(self.resources.lifetime()) * spread;
        self.plan = Plan::UpdateAt(ctx.clock.mono + Duration::from_secs_f64(wait));
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
        let mut reply = self.resources.serve(ctx, message);
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
    fn follow_up(&mut self, ctx: &Context<'_>) {
        let now = ctx.clock.mono;
        if self.resources.take_reboot() {
            self.resources =
                Resources::new(new_objects(self.index, ctx.profile), ctx.profile.lifetime);
            self.location = None;
            self.pending = None;
            self.plan = Plan::RegisterAt(now + Duration::from_secs(1));
        } else if self.resources.wants_update() && self.is_registered() {
            self.plan = Plan::UpdateAt(now);
        }
    }
}

fn new_objects(index: usize, profile: &Profile) -> Objects {
    let binding = if profile.queue_mode && profile.version == "1.0" {
        "UQ"
    } else {
        "U"
    };
    Objects::new(&profile.objects, index, profile.lifetime, binding)
}
