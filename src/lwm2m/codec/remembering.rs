//! What the resources of a device without a definition have been, from one payload to the next.

use std::cell::RefCell;

use super::guess::Guess;
use super::record::{ResourceSchema, Schema};
use crate::memory::{Heap, block};

/// More resources of one device are not remembered.
const MAX_GUESSES: usize = 32;

/// What the resources of one device without a definition have shown themselves to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guesses {
    /// By object and resource id, sorted; most devices have none.
    #[allow(clippy::box_collection)] // a vector takes 24 bytes where there is nothing
    known: Option<Box<Vec<(u16, u16, Guess)>>>,
}

impl Guesses {
    fn known(&self) -> &[(u16, u16, Guess)] {
        self.known.as_deref().map_or(&[], Vec::as_slice)
    }

    fn find(&self, object: u16, resource: u16) -> Result<usize, usize> {
        let key = (object, resource);
        self.known()
            .binary_search_by_key(&key, |entry| (entry.0, entry.1))
    }

    fn get(&self, object: u16, resource: u16) -> Option<Guess> {
        let index = self.find(object, resource).ok()?;
        self.known().get(index).map(|entry| entry.2)
    }

    fn set(&mut self, object: u16, resource: u16, guess: Guess) {
        let place = self.find(object, resource);
        let known = self.known.get_or_insert_default();
        match place {
            Ok(index) => {
                if let Some(entry) = known.get_mut(index) {
                    entry.2 = guess;
                }
            }
            Err(index) if known.len() < MAX_GUESSES => {
                known.insert(index, (object, resource, guess));
            }
            Err(_) => {}
        }
    }
}

impl Heap for Guesses {
    fn heap(&self) -> usize {
        self.known.as_ref().map_or(0, |known| {
            let bytes = known.capacity() * size_of::<(u16, u16, Guess)>();
            block(bytes) + block(size_of_val(&**known))
        })
    }
}

/// A schema that guesses as before, and remembers.
pub struct Remembering<'s> {
    schema: &'s dyn Schema,
    guesses: &'s RefCell<Guesses>,
}

impl<'s> Remembering<'s> {
    /// `guesses` are those of the device, which its owner keeps from one payload to the next.
    pub const fn new(schema: &'s dyn Schema, guesses: &'s RefCell<Guesses>) -> Self {
        Self { schema, guesses }
    }
}

impl Schema for Remembering<'_> {
    fn resource(&self, object: u16, resource: u16) -> Option<ResourceSchema> {
        self.schema.resource(object, resource)
    }

    fn guess(&self, object: u16, resource: u16) -> Option<Guess> {
        self.guesses.borrow().get(object, resource)
    }

    fn guessed(&self, object: u16, resource: u16, guess: Guess) {
        self.guesses.borrow_mut().set(object, resource, guess);
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::NoSchema;
    use super::*;

    #[test]
    fn memory_is_bounded_and_by_resource() {
        let guesses = RefCell::new(Guesses::default());
        let schema = Remembering::new(&NoSchema, &guesses);
        for resource in (0..2 * MAX_GUESSES as u16).rev() {
            schema.guessed(3303, resource, Guess::Float);
        }
        schema.guessed(3303, 63, Guess::Text);
        assert_eq!(schema.guess(3303, 63), Some(Guess::Text));
        assert_eq!(schema.guess(3303, 62), Some(Guess::Float));
        assert_eq!(schema.guess(3303, 0), None);
        assert_eq!(schema.guess(3304, 62), None);
        assert_eq!(guesses.borrow().known().len(), MAX_GUESSES);
    }
}
