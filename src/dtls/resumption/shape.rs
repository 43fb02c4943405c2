//! What sessions have in common when OpenSSL writes them down, and what each has of its own.
//!
//! OpenSSL writes a session as a DER sequence (`SSL_SESSION_ASN1`). Sessions of one context differ in four of its
//! elements. The others, and the lengths of these four, are the shape, which is kept once for many sessions.

use std::ops::Range;

use zeroize::Zeroizing;

/// Bytes of the master secret.
pub(super) const MASTER: usize = 48;

/// More shapes than there are suites, lengths of identities in use, and flags. A session of yet another shape is
/// kept as it is.
const MAX_SHAPES: usize = 64;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
/// Tags of the elements that may be missing.
const TIME: u8 = 0xa1;
const PSK_IDENTITY: u8 = 0xa8;

/// What a session has of its own.
#[derive(Clone, Copy)]
pub(super) struct Own<'a> {
    pub id: &'a [u8],
    pub master: &'a [u8],
    /// When its handshake was, in seconds since 1970.
    pub time: u32,
    pub identity: &'a [u8],
}

/// Where that is.
struct Places {
    id: Range<usize>,
    master: Range<usize>,
    time: Range<usize>,
    identity: Range<usize>,
}

/// The shapes in use.
#[derive(Default)]
pub(super) struct Shapes(Vec<Shape>);

struct Shape {
    /// With zeros for what sessions have of their own.
    blank: Box<[u8]>,
    /// By so many sessions.
    uses: u32,
}

impl<'a> Own<'a> {
    /// That of a session. `None`: it has another form.
    pub(super) fn of(der: &'a [u8]) -> Option<Self> {
        let places = Places::of(der)?;
        let own = Self {
            id: der.get(places.id)?,
            master: der.get(places.master)?,
            time: number(der.get(places.time)?)?,
            identity: der.get(places.identity)?,
        };
        (own.master.len() == MASTER).then_some(own)
    }
}

impl Places {
    fn of(der: &[u8]) -> Option<Self> {
        let mut fields = Fields::of(der, 0..der.len());
        let whole = fields.take(SEQUENCE)?;
        let mut fields = Fields::of(der, whole);
        // The versions of this structure and of the protocol, and the suite.
        fields.take(INTEGER)?;
        fields.take(INTEGER)?;
        fields.take(OCTETS)?;
        let id = fields.take(OCTETS)?;
        let master = fields.take(OCTETS)?;
        let time = fields.find(TIME)?;
        let identity = fields.find(PSK_IDENTITY)?;
        Some(Self {
            id,
            master,
            time: Fields::of(der, time).take(INTEGER)?,
            identity: Fields::of(der, identity).take(OCTETS)?,
        })
    }

    /// Puts the bytes of a session there. False: they do not fit.
    fn fill(&self, der: &mut [u8], own: &Own<'_>) -> bool {
        let mut put = |place: &Range<usize>, bytes: &[u8]| match der.get_mut(place.clone()) {
            Some(to) if to.len() == bytes.len() => {
                to.copy_from_slice(bytes);
                true
            }
            _ => false,
        };
        // A number has a byte more when its first bit would be that of a sign.
        let time = u64::from(own.time).to_be_bytes();
        let time = time
            .len()
            .checked_sub(self.time.len())
            .and_then(|zeros| time.get(zeros..));
        put(&self.id, own.id)
            && put(&self.master, own.master)
            && put(&self.identity, own.identity)
            && time.is_some_and(|time| put(&self.time, time))
    }
}

impl Shapes {
    /// The number of a session's shape, which has one more from now on. `None`: the session is not made of its
    /// shape and its own byte by byte, or there are too many shapes.
    pub(super) fn enter(&mut self, der: &[u8], own: &Own<'_>) -> Option<u16> {
        let mut blank = Zeroizing::new(der.to_vec());
        let places = Places::of(der)?;
        for place in [places.id, places.master, places.time, places.identity] {
            blank.get_mut(place)?.fill(0);
        }
        if **fill(&blank, own)? != *der {
            return None;
        }
        let known = self.0.iter().position(|shape| *shape.blank == **blank);
        let free = || self.0.iter().position(|shape| shape.uses == 0);
        let at = known.or_else(free).unwrap_or(self.0.len());
        if at == self.0.len() {
            if at == MAX_SHAPES {
                return None;
            }
            self.0.push(Shape {
                blank: Box::default(),
                uses: 0,
            });
        }
        let shape = self.0.get_mut(at)?;
        if shape.uses == 0 {
            shape.blank = blank.as_slice().into();
        }
        shape.uses = shape.uses.checked_add(1)?;
        u16::try_from(at).ok()
    }

    /// A shape has one session less.
    pub(super) fn leave(&mut self, shape: u16) {
        if let Some(shape) = self.0.get_mut(usize::from(shape)) {
            shape.uses = shape.uses.saturating_sub(1);
        }
    }

    /// The session of a shape as OpenSSL wrote it.
    pub(super) fn rebuild(&self, shape: u16, own: &Own<'_>) -> Option<Zeroizing<Vec<u8>>> {
        fill(&self.0.get(usize::from(shape))?.blank, own)
    }
}

fn fill(blank: &[u8], own: &Own<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let mut der = Zeroizing::new(blank.to_vec());
    Places::of(blank)?.fill(&mut der, own).then_some(der)
}

/// A number of DER that is not negative and has 32 bits.
fn number(bytes: &[u8]) -> Option<u32> {
    let is_one = bytes.len() <= 8 && bytes.first().is_some_and(|first| *first < 0x80);
    let value = bytes
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    u32::try_from(value).ok().filter(|_| is_one)
}

/// Elements of DER that stand behind each other.
struct Fields<'a> {
    der: &'a [u8],
    rest: Range<usize>,
}

impl<'a> Fields<'a> {
    const fn of(der: &'a [u8], rest: Range<usize>) -> Self {
        Self { der, rest }
    }

    /// The tag of the next one, and where its content is.
    fn next(&mut self) -> Option<(u8, Range<usize>)> {
        let rest = self.der.get(self.rest.clone())?;
        let (length, header) = match *rest {
            [_, length, ..] if length < 0x80 => (usize::from(length), 2),
            [_, 0x81, length, ..] => (usize::from(length), 3),
            [_, 0x82, high, low, ..] => (usize::from(u16::from_be_bytes([high, low])), 4),
            _ => return None,
        };
        let begin = self.rest.start.checked_add(header)?;
        let end = begin.checked_add(length)?;
        if end > self.rest.end {
            return None;
        }
        self.rest.start = end;
        Some((*rest.first()?, begin..end))
    }

    /// The content of the next one, which has this tag.
    fn take(&mut self, tag: u8) -> Option<Range<usize>> {
        self.next()
            .filter(|(it, _)| *it == tag)
            .map(|(_, content)| content)
    }

    /// The content of the first one with this tag.
    fn find(&mut self, tag: u8) -> Option<Range<usize>> {
        while let Some((it, content)) = self.next() {
            if it == tag {
                return Some(content);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        match content.len() {
            short @ ..0x80 => bytes.push(short as u8),
            long @ ..0x100 => bytes.extend([0x81, long as u8]),
            long => bytes.extend([0x82, (long >> 8) as u8, long as u8]),
        }
        bytes.extend(content);
        bytes
    }

    /// As OpenSSL writes it.
    fn session(id: &[u8], master: &[u8], time: &[u8], identity: &[u8]) -> Vec<u8> {
        let fields = [
            element(INTEGER, &[1]),
            element(INTEGER, &[0, 0xfe, 0xfd]),
            element(OCTETS, &[0xc0, 0xa8]),
            element(OCTETS, id),
            element(OCTETS, master),
            element(TIME, &element(INTEGER, time)),
            element(0xa2, &element(INTEGER, &[0x0e, 0x10])),
            element(0xa4, &element(OCTETS, b"gateway")),
            element(PSK_IDENTITY, &element(OCTETS, identity)),
            element(0xad, &element(INTEGER, &[1])),
        ];
        element(SEQUENCE, &fields.concat())
    }

    #[test]
    fn sessions_of_one_shape_share_it() {
        let mut shapes = Shapes::default();
        let one = session(&[1; 32], &[2; 48], &[0x65, 0, 0, 1], b"urn:imei:1");
        let other = session(&[3; 32], &[4; 48], &[0x65, 0, 0, 2], b"urn:imei:2");
        let longer = session(&[3; 32], &[4; 48], &[0x65, 0, 0, 2], b"urn:imei:22");
        let later = session(&[3; 32], &[4; 48], &[0, 0x85, 0, 0, 2], b"urn:imei:2");
        let enter = |shapes: &mut Shapes, der: &[u8]| shapes.enter(der, &Own::of(der).unwrap());
        let entered = [&one, &other, &longer, &later].map(|der| enter(&mut shapes, der));
        assert_eq!(entered, [Some(0), Some(0), Some(1), Some(2)]);
        for (der, shape) in [&one, &other, &longer, &later].into_iter().zip(entered) {
            let own = Own::of(der).unwrap();
            assert_eq!(**shapes.rebuild(shape.unwrap(), &own).unwrap(), **der);
        }
        // Nothing of a session is left in its shape.
        assert!(
            !shapes.0[0]
                .blank
                .windows(4)
                .any(|it| it == [2; 4] || it == [1; 4])
        );
        // Another id has another length.
        let mut own = Own::of(&one).unwrap();
        own.id = &[1; 31];
        assert!(shapes.rebuild(0, &own).is_none());
        // The place of one that nobody has any more is used again.
        shapes.leave(0);
        shapes.leave(0);
        let new = session(&[1; 32], &[2; 48], &[0x65, 0, 0, 1], b"x");
        assert_eq!(enter(&mut shapes, &new), Some(0));
    }

    #[test]
    fn shapes_are_bounded() {
        let mut shapes = Shapes::default();
        let ders = (0..2 * MAX_SHAPES).map(|n| session(&[1; 32], &[2; 48], &[9], &vec![b'x'; n]));
        let entered = ders.filter(|der| shapes.enter(der, &Own::of(der).unwrap()).is_some());
        assert_eq!(entered.count(), MAX_SHAPES);
    }

    #[test]
    fn what_has_another_form_is_kept_as_it_is() {
        let is_known = |der: &[u8]| Own::of(der).is_some();
        assert!(is_known(&session(&[1; 32], &[2; 48], &[9], b"x")));
        assert!(!is_known(&session(&[1; 32], &[2; 47], &[9], b"x")));
        assert!(!is_known(&session(
            &[1; 32],
            &[2; 48],
            &[0x85, 0, 0, 0],
            b"x"
        )));
        assert!(!is_known(&session(
            &[1; 32],
            &[2; 48],
            &[1, 0, 0, 0, 0],
            b"x"
        )));
        let whole = session(&[1; 32], &[2; 48], &[9], b"x");
        assert!((0..whole.len()).all(|end| !is_known(&whole[..end])));
    }

    proptest! {
        #[test]
        fn any_bytes(mut der in proptest::collection::vec(any::<u8>(), 0..200), whole: bool) {
            if whole {
                der = element(SEQUENCE, &der);
            }
            if let Some(own) = Own::of(&der) {
                let mut shapes = Shapes::default();
                let shape = shapes.enter(&der, &own).unwrap();
                prop_assert_eq!(&**shapes.rebuild(shape, &own).unwrap(), &*der);
            }
        }

        #[test]
        fn a_session_comes_back(
            id in proptest::collection::vec(any::<u8>(), 0..33),
            master in proptest::collection::vec(any::<u8>(), 48),
            time in 0u32..,
            identity in proptest::collection::vec(any::<u8>(), 0..257),
        ) {
            let mut number = time.to_be_bytes().to_vec();
            number.insert(0, 0);
            while number.len() > 1 && number[0] == 0 && number[1] < 0x80 {
                number.remove(0);
            }
            let der = session(&id, &master, &number, &identity);
            let own = Own::of(&der).unwrap();
            prop_assert_eq!((own.id, own.time), (&id[..], time));
            prop_assert_eq!((own.master, own.identity), (&master[..], &identity[..]));
            let mut shapes = Shapes::default();
            let shape = shapes.enter(&der, &own).unwrap();
            prop_assert_eq!(&**shapes.rebuild(shape, &own).unwrap(), &*der);
        }
    }
}
