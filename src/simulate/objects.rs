//! What a simulated device holds: objects, instances and resources with values that move.

use std::collections::BTreeMap;

use crate::lwm2m::Path;

/// A resource value as the device keeps it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Opaque(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    One(Value),
    Many(BTreeMap<u16, Value>),
    /// An executable resource.
    Action,
    /// What can be written only: an image of a firmware.
    Package,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Resource {
    pub(super) content: Content,
    pub(super) writable: bool,
}

pub(super) type Instance = BTreeMap<u16, Resource>;

/// Objects by id, instances by id.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Objects {
    pub(super) map: BTreeMap<u16, BTreeMap<u16, Instance>>,
    /// Where in its curve each device is, so that two devices do not show the same values.
    phase: f64,
}

/// Objects that take their resources from the IPSO sensor template.
struct Sensor {
    object: u16,
    unit: &'static str,
    middle: f64,
    swing: f64,
}

const SENSORS: [Sensor; 4] = [
    Sensor {
        object: 3301,
        unit: "lx",
        middle: 400.0,
        swing: 300.0,
    },
    Sensor {
        object: 3303,
        unit: "Cel",
        middle: 21.0,
        swing: 4.0,
    },
    Sensor {
        object: 3304,
        unit: "%RH",
        middle: 50.0,
        swing: 15.0,
    },
    Sensor {
        object: 3323,
        unit: "bar",
        middle: 1.0,
        swing: 0.1,
    },
];

/// The object ids that can be simulated.
pub(super) const KNOWN: [u16; 9] = [1, 3, 4, 5, 6, 3301, 3303, 3304, 3323];

/// Most instances of one object; a bound for Create.
const MAX_INSTANCES: usize = 64;

fn sensor(object: u16) -> Option<&'static Sensor> {
    SENSORS.iter().find(|sensor| sensor.object == object)
}

impl Objects {
    /// The objects `ids` with one instance each; unknown ids are left out.
    pub(super) fn new(ids: &[u16], index: usize, lifetime: u32, binding: &str) -> Self {
        let mut map = BTreeMap::new();
        for id in ids {
            let instance = match *id {
                1 => server(lifetime, binding),
                3 => device(index, binding),
                4 => connectivity(index),
                5 => firmware(),
                6 => location(),
                other => match sensor(other) {
                    Some(sensor) => measurement(sensor),
                    None => continue,
                },
            };
            map.insert(*id, BTreeMap::from([(0, instance)]));
        }
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        Self {
            map,
            phase: f64::from(index) * 0.7,
        }
    }

    /// The device can be told not to Send (LwM2M Core 1.1, appendix E.2, Mute Send).
    pub(super) fn add_mute(&mut self) {
        if let Some(server) = self.map.get_mut(&1).and_then(|it| it.get_mut(&0)) {
            server.insert(23, open(Value::Boolean(false)));
        }
    }

    pub(super) fn resource(&self, path: &Path) -> Option<&Resource> {
        self.map
            .get(&path.object()?)?
            .get(&path.instance()?)?
            .get(&path.resource()?)
    }

    pub(super) fn resource_mut(&mut self, path: &Path) -> Option<&mut Resource> {
        self.map
            .get_mut(&path.object()?)?
            .get_mut(&path.instance()?)?
            .get_mut(&path.resource()?)
    }

    /// Where the values of its sensors stand.
    pub(super) fn measured(&self) -> Vec<Path> {
        let sensors = self.map.iter().filter(|(id, _)| sensor(**id).is_some());
        let paths = sensors.flat_map(|(object, instances)| {
            let ids = instances.keys();
            ids.filter_map(|instance| Path::new(&[*object, *instance, 5700]))
        });
        paths.collect()
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        match (path.object(), path.instance(), path.resource()) {
            (Some(object), None, _) => self.map.contains_key(&object),
            (Some(object), Some(instance), None) => self
                .map
                .get(&object)
                .is_some_and(|instances| instances.contains_key(&instance)),
            (Some(_), Some(_), Some(_)) => match (self.resource(path), path.resource_instance()) {
                (Some(_), None) => true,
                (Some(resource), Some(id)) => {
                    matches!(&resource.content, Content::Many(values) if values.contains_key(&id))
                }
                (None, _) => false,
            },
            (None, ..) => false,
        }
    }

    /// Adds an instance to a sensor object; `None` where Create is not possible.
    pub(super) fn create(&mut self, object: u16, wanted: Option<u16>) -> Option<u16> {
        let template = measurement(sensor(object)?);
        let instances = self.map.get_mut(&object)?;
        let id = match wanted {
            Some(id) if instances.contains_key(&id) => return None,
            Some(id) => id,
            None => (0..u16::MAX).find(|id| !instances.contains_key(id))?,
        };
        if instances.len() >= MAX_INSTANCES {
            return None;
        }
        instances.insert(id, template);
        Some(id)
    }

    /// Takes an instance of a sensor object away; false where Delete is not possible.
    pub(super) fn delete(&mut self, object: u16, instance: u16) -> bool {
        sensor(object).is_some()
            && self
                .map
                .get_mut(&object)
                .is_some_and(|instances| instances.remove(&instance).is_some())
    }

    /// Moves the changing values of `path` (and below) to the wall-clock time `unix`, in seconds.
    pub(super) fn refresh(&mut self, path: &Path, unix: f64) {
        let Some(object) = path.object() else { return };
        let phase = self.phase;
        let wave = |period: f64| (unix * std::f64::consts::TAU / period + phase).sin();
        let Some(instances) = self.map.get_mut(&object) else {
            return;
        };
        for (id, instance) in instances {
            if path.instance().is_some_and(|wanted| wanted != *id) {
                continue;
            }
            let mut set = |resource: u16, value: Value| {
                if let Some(resource) = instance.get_mut(&resource) {
                    resource.content = Content::One(value);
                }
            };
            match object {
                3 => {
                    set(9, Value::Integer(whole(75.0 + 20.0 * wave(3600.0))));
                    set(10, Value::Integer(whole(48.0 + 8.0 * wave(60.0))));
                    set(13, Value::Integer(whole(unix)));
                }
                4 => {
                    set(2, Value::Integer(whole(-80.0 + 10.0 * wave(120.0))));
                    set(3, Value::Integer(whole(60.0 + 20.0 * wave(90.0))));
                }
                6 => {
                    set(
                        0,
                        Value::Float(rounded(52.52 + 0.05 * wave(600.0), 100_000.0)),
                    );
                    set(
                        1,
                        Value::Float(rounded(13.405 + 0.05 * wave(700.0), 100_000.0)),
                    );
                    set(5, Value::Integer(whole(unix)));
                    set(6, Value::Float(rounded(8.0 + 6.0 * wave(45.0), 10.0)));
                }
                other => {
                    if let Some(sensor) = sensor(other) {
                        measure(
                            instance,
                            rounded(sensor.middle + sensor.swing * wave(300.0), 100.0),
                        );
                    }
                }
            }
        }
    }
}

/// A new measurement with its running minimum and maximum.
fn measure(instance: &mut Instance, value: f64) {
    let extreme = |instance: &Instance, id: u16| match instance.get(&id).map(|r| &r.content) {
        Some(Content::One(Value::Float(old))) => *old,
        _ => value,
    };
    let low = extreme(instance, 5601).min(value);
    let high = extreme(instance, 5602).max(value);
    for (id, value) in [(5700, value), (5601, low), (5602, high)] {
        instance.insert(id, fixed(Value::Float(value)));
    }
}

#[allow(clippy::cast_possible_truncation)] // `as` saturates, which is what a sensor would do
fn whole(value: f64) -> i64 {
    value as i64
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn fixed(value: Value) -> Resource {
    Resource {
        content: Content::One(value),
        writable: false,
    }
}

fn open(value: Value) -> Resource {
    Resource {
        content: Content::One(value),
        writable: true,
    }
}

fn many(values: &[i64]) -> Resource {
    let values = (0..)
        .zip(values)
        .map(|(id, value)| (id, Value::Integer(*value)));
    Resource {
        content: Content::Many(values.collect()),
        writable: false,
    }
}

fn action() -> Resource {
    Resource {
        content: Content::Action,
        writable: false,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn server(lifetime: u32, binding: &str) -> Instance {
    BTreeMap::from([
        (0, fixed(Value::Integer(1))),
        (1, open(Value::Integer(i64::from(lifetime)))),
        (2, open(Value::Integer(0))),
        (3, open(Value::Integer(0))),
        (6, open(Value::Boolean(true))),
        (7, open(text(binding))),
        (8, action()),
    ])
}

fn device(index: usize, binding: &str) -> Instance {
    BTreeMap::from([
        (0, fixed(text("Example Devices"))),
        (1, fixed(text("Simulated sensor"))),
        (2, fixed(Value::Text(format!("SN-{index:06}")))),
        (3, fixed(text("1.0.0"))),
        (4, action()),
        (5, action()),
        (6, many(&[1, 5])),
        (7, many(&[3800, 5000])),
        (8, many(&[125, 900])),
        (9, fixed(Value::Integer(75))),
        (10, fixed(Value::Integer(48))),
        (11, many(&[0])),
        (12, action()),
        (13, open(Value::Integer(0))),
        (14, open(text("+00:00"))),
        (15, open(text("Etc/UTC"))),
        (16, fixed(text(binding))),
        (17, fixed(text("sensor"))),
        (18, fixed(text("A"))),
        (19, fixed(text("1.0.0"))),
        (20, fixed(Value::Integer(0))),
        (21, fixed(Value::Integer(64))),
    ])
}

fn connectivity(index: usize) -> Instance {
    let [.., high, low] = index.to_be_bytes();
    let address = Value::Text(format!("10.0.{high}.{low}"));
    BTreeMap::from([
        (0, fixed(Value::Integer(7))),
        (1, many(&[6, 7])),
        (2, fixed(Value::Integer(-80))),
        (3, fixed(Value::Integer(60))),
        (
            4,
            Resource {
                content: Content::Many(BTreeMap::from([(0, address)])),
                writable: false,
            },
        ),
        (
            8,
            fixed(Value::Integer(i64::from(u16::from_be_bytes([high, low])))),
        ),
    ])
}

fn firmware() -> Instance {
    let package = Resource {
        content: Content::Package,
        writable: true,
    };
    BTreeMap::from([
        (0, package),
        (1, open(text(""))),
        (2, action()),
        (3, fixed(Value::Integer(0))),
        (5, fixed(Value::Integer(0))),
        (6, fixed(text(""))),
        (7, fixed(text(""))),
        // CoAP, pulled and pushed.
        (8, many(&[0])),
        (9, fixed(Value::Integer(2))),
    ])
}

fn location() -> Instance {
    BTreeMap::from([
        (0, fixed(Value::Float(52.52))),
        (1, fixed(Value::Float(13.405))),
        (2, fixed(Value::Float(34.0))),
        (3, fixed(Value::Float(5.0))),
        (4, fixed(Value::Opaque(vec![0x00, 0x10, 0xfe, 0xff]))),
        (5, fixed(Value::Integer(0))),
        (6, fixed(Value::Float(0.0))),
    ])
}

fn measurement(sensor: &Sensor) -> Instance {
    BTreeMap::from([
        (5601, fixed(Value::Float(sensor.middle))),
        (5602, fixed(Value::Float(sensor.middle))),
        (5603, fixed(Value::Float(sensor.middle - sensor.swing))),
        (5604, fixed(Value::Float(sensor.middle + sensor.swing))),
        (5605, action()),
        (5700, fixed(Value::Float(sensor.middle))),
        (5701, fixed(text(sensor.unit))),
        (5750, open(text(""))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    #[test]
    fn every_known_object_is_built() {
        let objects = Objects::new(&KNOWN, 7, 60, "U");
        assert!(
            KNOWN
                .iter()
                .all(|id| objects.exists(&path(&format!("/{id}/0"))))
        );
        assert!(objects.exists(&path("/3/0/7/1")) && !objects.exists(&path("/3/0/7/2")));
    }

    #[test]
    fn values_move_with_time_and_differ_between_devices() {
        let value = |index, unix| {
            let mut objects = Objects::new(&[3303], index, 60, "U");
            objects.refresh(&path("/3303/0"), unix);
            objects.resource(&path("/3303/0/5700")).unwrap().clone()
        };
        assert_ne!(value(0, 10.0), value(0, 60.0));
        assert_ne!(value(0, 10.0), value(1, 10.0));
    }

    #[test]
    fn instances_come_and_go() {
        let mut objects = Objects::new(&[3, 3303], 0, 60, "U");
        assert_eq!(objects.create(3303, None), Some(1));
        assert_eq!(objects.create(3303, Some(1)), None);
        assert_eq!(objects.create(3, None), None);
        assert!(objects.delete(3303, 1) && !objects.delete(3303, 1) && !objects.delete(3, 0));
        for _ in 0..2 * MAX_INSTANCES {
            objects.create(3303, None);
        }
        assert_eq!(objects.map[&3303].len(), MAX_INSTANCES);
    }
}
