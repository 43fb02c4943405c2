//! Gateways that hear each other by a broker made up here: each message reaches each gateway, in the
//! order of its own choice.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::time::Now;

const EP: &str = "ep";

fn at(seconds: u64, skew: i64) -> Now {
    Now {
        mono: Instant::from_micros(seconds * 1_000_000),
        unix_ms: (1_000_000 + seconds * 1000).saturating_add_signed(skew),
    }
}

fn gateway(name: &str) -> Ownership {
    Ownership::new(name, "own", 1 << 20)
}

impl Ownership {
    fn registers(&mut self, now: Now, endpoint: &str) -> Vec<Action> {
        self.registered(now.mono, endpoint, now.unix_ms, 300)
    }
}

fn session(commands: usize) -> PortableSession {
    let command = |n| json!({"command": {"reqID": n, "pad": "x".repeat(1000)}, "expires_in": 60});
    let commands: Vec<Value> = (0..commands).map(command).collect();
    let text = json!({"observations": [], "commands": commands}).to_string();
    serde_json::from_str(&text).unwrap()
}

fn published(actions: Vec<Action>) -> Vec<(String, Vec<u8>)> {
    let message = |action| match action {
        Action::Publish { topic, payload, .. } => (topic, payload),
        other => panic!("{other:?}"),
    };
    actions.into_iter().map(message).collect()
}

fn one(actions: Vec<Action>) -> (String, Vec<u8>) {
    let mut messages = published(actions);
    assert_eq!(messages.len(), 1);
    messages.remove(0)
}

fn refused(actions: &[Action]) -> bool {
    matches!(actions, [Action::Refuse { .. }])
}

/// Gives a message to a gateway whose devices leave `session`.
fn hear(
    to: &mut Ownership,
    now: Now,
    (topic, payload): &(String, Vec<u8>),
    session: impl Fn() -> PortableSession,
) -> Vec<(String, Vec<u8>)> {
    let mut messages = Vec::new();
    for action in to.heard(now.mono, topic, payload) {
        match action {
            Action::Export {
                endpoint,
                to: other,
                epoch,
            } => messages.extend(published(to.exported(&endpoint, &other, epoch, session()))),
            Action::Publish { topic, payload, .. } => messages.push((topic, payload)),
            _ => {}
        }
    }
    messages
}

#[test]
fn b7_a_device_that_registers_elsewhere_leaves_and_takes_its_session_along() {
    let (mut a, mut b) = (gateway("a"), gateway("b"));
    // The clock of the second is an hour late.
    let claim = one(a.registers(at(1, 0), EP));
    assert_eq!(claim.0, "own/owner/ep");
    assert!(hear(&mut b, at(1, -3_600_000), &claim, PortableSession::default).is_empty());
    let claim = one(b.registers(at(2, -3_600_000), EP));
    let parts = hear(&mut a, at(2, 0), &claim, || session(300));
    assert!(!a.holds(EP) && b.holds(EP));
    assert!(parts.len() > 2, "{}", parts.len());
    for (number, (topic, payload)) in parts.iter().enumerate() {
        assert_eq!(topic, "own/session/b/ep");
        assert!(payload.len() < 200_000);
        let actions = b.heard(at(3, 0).mono, topic, payload);
        assert!(matches!(&*actions, [Action::Import { .. }]), "{number}");
        let again = b.heard(at(3, 0).mono, topic, payload);
        let is_last = number + 1 == parts.len();
        assert!(if is_last {
            refused(&again)
        } else {
            again.is_empty()
        });
    }
    assert!(b.tick(Instant::from_micros(100_000_000)).is_empty());
    // Its end there is not the end of the claim of another.
    assert!(a.gone(EP).is_empty());
    assert_eq!(one(b.gone(EP)), ("own/owner/ep".to_owned(), Vec::new()));
    assert!(b.gone(EP).is_empty());
}

#[test]
fn b7_a_gateway_that_is_dead_sends_nothing_and_is_not_waited_for() {
    let mut b = gateway("b");
    let claim = one(gateway("a").registers(at(1, 0), EP));
    b.heard(at(1, 0).mono, &claim.0, &claim.1);
    b.registers(at(2, 0), EP);
    assert!(b.tick(at(31, 0).mono).is_empty());
    assert!(matches!(
        &*b.tick(at(32, 0).mono),
        [Action::GoOnWithout { .. }]
    ));
    // What comes after all is taken, once. Where nobody was before, nobody is missed.
    let late = gateway("a").exported(&EP.into(), "b", 1_002_000, session(1));
    let (topic, payload) = one(late);
    let taken = b.heard(at(33, 0).mono, &topic, &payload);
    assert!(matches!(&*taken, [Action::Import { .. }]));
    assert!(refused(&b.heard(at(33, 0).mono, &topic, &payload)));
    b.registers(at(2, 0), "new");
    assert!(b.tick(at(99, 0).mono).is_empty());
}

#[test]
fn b7_a_restart_finds_the_claims_and_clears_those_of_devices_that_stay_away() {
    let mut before = gateway("a");
    let claims = ["stays", "comes", "moves"].map(|ep| one(before.registers(at(1, 0), ep)));
    // Its clock was put back meanwhile.
    let mut a = gateway("a");
    for (topic, payload) in &claims {
        assert!(a.heard(at(10, -5_000_000).mono, topic, payload).is_empty());
    }
    let again = one(a.registers(at(11, -5_000_000), "comes"));
    assert!(read(&again).is_above(&read(&claims[1])));
    let other = one(gateway("b").registers(at(12, 0), "moves"));
    assert!(a.heard(at(12, 0).mono, &other.0, &other.1).is_empty());
    assert!(a.tick(at(300, 0).mono).is_empty());
    let cleared = published(a.tick(at(311, 0).mono));
    assert_eq!(cleared, [("own/owner/stays".to_owned(), Vec::new())]);
    // An old claim of ours that comes late does not stand above the new one.
    let mut a = gateway("a");
    let new = one(a.registers(at(1, -5_000_000), EP));
    let mut old = read(&claims[0]);
    old.epoch += 1000;
    let answer = one(a.heard(at(2, 0).mono, "own/owner/ep", &old.write()));
    assert!(read(&answer).is_above(&old) && old.is_above(&read(&new)));
}

/// What a store brings back is as old as it is: the device may be at another gateway by now.
#[test]
fn b7_a_registration_from_the_store_is_not_newer_than_one_elsewhere() {
    let first = one(gateway("a").registers(at(1, 0), EP));
    let mut b = gateway("b");
    b.heard(at(1, 0).mono, &first.0, &first.1);
    let moved = one(b.registers(at(50, 0), EP));
    let mut a = gateway("a");
    let old = one(a.registered(at(100, 0).mono, EP, at(1, 0).unix_ms, 300));
    assert_eq!(one(b.heard(at(100, 0).mono, &old.0, &old.1)), moved);
    let parts = hear(&mut a, at(100, 0), &moved, || session(1));
    assert!(!a.holds(EP) && parts[0].0 == "own/session/b/ep");
    // One that has not moved stays, above what the broker has of before.
    let mut a = gateway("a");
    a.registered(at(100, 0).mono, EP, at(1, 0).unix_ms - 5, 300);
    let again = one(a.heard(at(100, 0).mono, &first.0, &first.1));
    assert!(a.holds(EP) && read(&again).is_above(&read(&first)));
}

#[test]
fn b7_what_the_broker_lost_is_said_again() {
    let mut a = gateway("a");
    let claim = one(a.registers(at(1, 0), EP));
    assert!(a.connected(true).is_empty());
    assert_eq!(one(a.connected(false)), claim);
    // So is what somebody clears that has no business with it.
    assert_eq!(one(a.heard(at(2, 0).mono, "own/owner/ep", b"")), claim);
    assert!(a.heard(at(2, 0).mono, "own/owner/other", b"").is_empty());
}

#[test]
fn b7_what_is_no_message_of_a_gateway_harms_nobody() {
    let mut a = gateway("a");
    let claim = one(a.registers(at(1, 0), EP));
    let long = "x".repeat(300);
    let huge = format!(
        r#"{{"gateway":"b","epoch":{},"time":1,"lifetime":1}}"#,
        u64::MAX
    );
    for (topic, payload) in [
        ("own/owner/ep", "{"),
        ("own/owner/ep", "null"),
        ("own/owner/ep", &*huge),
        (
            "own/owner/ep",
            r#"{"gateway":"","epoch":9007199254740991,"time":1,"lifetime":1}"#,
        ),
        (
            "own/owner/ep",
            r#"{"gateway":"b","epoch":-1,"time":1,"lifetime":1}"#,
        ),
        ("own/owner/ep", &*long.repeat(10)),
        (
            &*format!("own/owner/{long}"),
            str::from_utf8(&claim.1).unwrap(),
        ),
        ("own/owner/", "{}"),
        ("own/owner/a/b", "{}"),
        ("own/else", "{}"),
        ("own/session/b/ep", "{}"),
        ("own/session/a/ep", "{}"),
        (
            "own/session/a/ep",
            r#"{"from":"b","epoch":1,"part":0,"last":true,"session":{"observations":[],"commands":[]}}"#,
        ),
        (
            "own/session/a/no",
            r#"{"from":"b","epoch":1,"part":0,"last":true,"session":{"observations":[],"commands":[]}}"#,
        ),
    ] {
        assert!(
            refused(&a.heard(at(2, 0).mono, topic, payload.as_bytes())),
            "{topic} {payload}"
        );
    }
    assert!(a.holds(EP) && a.entries.len() == 1);
    // A part out of turn is not taken, and those that are right still are.
    let parts = published(gateway("b").exported(&EP.into(), "a", 1_001_000, session(300)));
    assert!(refused(&a.heard(at(2, 0).mono, &parts[1].0, &parts[1].1)));
    assert!(!refused(&a.heard(at(2, 0).mono, &parts[0].0, &parts[0].1)));
}

#[test]
fn b7_names_stand_in_one_level() {
    let mut a = gateway("a/+");
    let (topic, payload) = one(a.registers(at(1, 0), "$e/p#%"));
    assert_eq!(topic, "own/owner/%24e%2Fp%23%25");
    let mut b = gateway("b");
    b.heard(at(1, 0).mono, &topic, &payload);
    assert!(b.entries.contains_key("$e/p#%"));
    let claim = one(b.registers(at(2, 0), "$e/p#%"));
    let parts = hear(&mut a, at(2, 0), &claim, PortableSession::default);
    assert_eq!(parts[0].0, "own/session/b/%24e%2Fp%23%25");
    assert_eq!(a.filters()[1], "own/session/a%2F%2B/+");
}

fn read((_, payload): &(String, Vec<u8>)) -> Claim {
    Claim::read(payload).unwrap()
}

/// Registrations of one device at three gateways with clocks that differ by hours, whose messages
/// are on the way for any time. The order of the messages of one gateway is kept, and the broker
/// keeps the last claim it got.
#[derive(Debug, Clone)]
enum Step {
    Register(usize),
    Deregister(usize),
    /// The next message of a gateway reaches the broker.
    Arrive(usize),
    /// The next message of the broker reaches a gateway.
    Deliver(usize),
    /// A gateway starts anew.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..3usize).prop_map(Step::Register),
        1 => (0..3usize).prop_map(Step::Deregister),
        6 => (0..3usize).prop_map(Step::Arrive),
        6 => (0..3usize).prop_map(Step::Deliver),
        1 => (0..3usize).prop_map(Step::Restart),
    ]
}

type Line = std::collections::VecDeque<(String, Vec<u8>)>;

struct World {
    names: [&'static str; 3],
    skews: Vec<i64>,
    gateways: Vec<Ownership>,
    up: Vec<Line>,
    down: Vec<Line>,
    retained: Option<(String, Vec<u8>)>,
    seconds: u64,
}

impl World {
    fn now(&self, who: usize) -> Now {
        at(self.seconds, self.skews[who])
    }

    fn step(&mut self, step: Step) {
        self.seconds += 1;
        match step {
            Step::Register(who) => {
                let now = self.now(who);
                let said = self.gateways[who].registers(now, EP);
                self.up[who].extend(published(said));
            }
            Step::Deregister(who) => {
                let said = self.gateways[who].gone(EP);
                self.up[who].extend(published(said));
            }
            Step::Arrive(who) => {
                let Some(message) = self.up[who].pop_front() else {
                    return;
                };
                if message.0.starts_with("own/owner/") {
                    self.retained = (!message.1.is_empty()).then(|| message.clone());
                    for (other, line) in self.down.iter_mut().enumerate() {
                        if other != who {
                            line.push_back(message.clone());
                        }
                    }
                } else {
                    let to = self
                        .names
                        .iter()
                        .position(|it| message.0.contains(&format!("/{it}/")));
                    self.down[to.unwrap()].push_back(message);
                }
            }
            Step::Deliver(who) => {
                if let Some(message) = self.down[who].pop_front() {
                    let now = self.now(who);
                    let said = hear(
                        &mut self.gateways[who],
                        now,
                        &message,
                        PortableSession::default,
                    );
                    self.up[who].extend(said);
                }
            }
            Step::Restart(who) => {
                // What was not sent is lost, what was not read as well.
                self.gateways[who] = gateway(self.names[who]);
                self.up[who].clear();
                self.down[who] = self.retained.clone().into_iter().collect();
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.up.iter().chain(&self.down).all(Line::is_empty) {
                return;
            }
            for who in 0..3 {
                self.step(Step::Arrive(who));
                self.step(Step::Deliver(who));
            }
        }
        panic!("they never come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// They come to rest; then one has the device at most, and a registration that all others have
    /// heard of before is the one that counts, whatever the clocks say.
    #[test]
    fn b7_one_gateway_has_a_device(
        steps in prop::collection::vec(step(), 0..60),
        skews in prop::collection::vec(-10_000_000..10_000_000i64, 3),
        last in 0..3usize,
        calm in any::<bool>(),
    ) {
        let disturbs = |step: &Step| matches!(step, Step::Deregister(_) | Step::Restart(_));
        let steps: Vec<_> = steps.into_iter().filter(|it| !calm || !disturbs(it)).collect();
        let registers = steps.iter().any(|it| matches!(it, Step::Register(_)));
        let mut world = World {
            names: ["a", "b", "c"],
            skews: skews.into_iter().map(|it| it / 20).collect(),
            gateways: ["a", "b", "c"].map(gateway).into_iter().collect(),
            up: vec![Line::new(); 3],
            down: vec![Line::new(); 3],
            retained: None,
            seconds: 1000,
        };
        for step in steps {
            world.step(step);
        }
        world.settle();
        let holders = |world: &World| -> Vec<usize> {
            (0..3).filter(|who| world.gateways[*who].holds(EP)).collect()
        };
        let held = holders(&world);
        prop_assert!(held.len() <= 1, "{held:?}");
        // Nobody gives a device up that nobody else takes.
        prop_assert!(!calm || held.len() == usize::from(registers), "{held:?}");
        if let [who] = *held {
            let retained = world.retained.as_ref().map(read);
            prop_assert_eq!(&*retained.unwrap().gateway, world.names[who]);
        }
        world.step(Step::Register(last));
        world.settle();
        prop_assert_eq!(holders(&world), vec![last]);
        prop_assert_eq!(&*world.retained.as_ref().map(read).unwrap().gateway, world.names[last]);
    }
}
