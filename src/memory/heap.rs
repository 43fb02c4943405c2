//! What a value takes of the heap, estimated from its sizes.

use std::borrow::Cow;
use std::sync::Arc;

/// Bytes that the allocator takes for a block of `size`: a header of eight bytes, rounded up to
/// sixteen.
pub(crate) const fn block(size: usize) -> usize {
    if size == 0 {
        return 0;
    }
    let block = size.saturating_add(8).next_multiple_of(16);
    if block < 32 { 32 } else { block }
}

/// A value that knows what it takes of the heap.
pub(crate) trait Heap {
    /// Bytes behind the value, without the value itself; what it shares with others counts here
    /// as well.
    fn heap(&self) -> usize;
}

impl Heap for usize {
    fn heap(&self) -> usize {
        0
    }
}

impl Heap for String {
    fn heap(&self) -> usize {
        block(self.capacity())
    }
}

impl Heap for Vec<u8> {
    fn heap(&self) -> usize {
        block(self.capacity())
    }
}

impl Heap for Box<str> {
    fn heap(&self) -> usize {
        block(self.len())
    }
}

impl Heap for Arc<str> {
    fn heap(&self) -> usize {
        block(self.len().saturating_add(16))
    }
}

impl Heap for Cow<'_, str> {
    fn heap(&self) -> usize {
        match self {
            Self::Borrowed(_) => 0,
            Self::Owned(text) => text.heap(),
        }
    }
}

impl Heap for Cow<'_, [u8]> {
    fn heap(&self) -> usize {
        match self {
            Self::Borrowed(_) => 0,
            Self::Owned(bytes) => block(bytes.capacity()),
        }
    }
}

impl<T: Heap> Heap for Box<[T]> {
    fn heap(&self) -> usize {
        let inner = self.iter().map(Heap::heap);
        inner.fold(block(size_of_val(&**self)), usize::saturating_add)
    }
}

impl<T: Heap> Heap for Vec<T> {
    fn heap(&self) -> usize {
        let own = block(self.capacity().saturating_mul(size_of::<T>()));
        let inner = self.iter().map(Heap::heap);
        inner.fold(own, usize::saturating_add)
    }
}

impl<T: Heap> Heap for Option<T> {
    fn heap(&self) -> usize {
        self.as_ref().map_or(0, Heap::heap)
    }
}

impl<A: Heap, B: Heap> Heap for (A, B) {
    fn heap(&self) -> usize {
        self.0.heap().saturating_add(self.1.heap())
    }
}
