//! Counts the work that an input causes: what the thread allocates. It is the same on every
//! machine, and grows with the square of an input where something is copied or searched for by
//! building something, again and again.
//!
//! What costs time alone is seen by libFuzzer's `-timeout`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static DONE: Cell<Work> = const { Cell::new(Work { allocations: 0, bytes: 0 }) };
}

/// What has been allocated, whether or not it was given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Allocations, and reallocations, each of which may copy everything.
    pub allocations: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Work {
    /// What may be done for an input: something for any, and so much for each of its bytes.
    pub const fn of_bytes(self, each: Self, bytes: usize) -> Self {
        Self {
            allocations: self.allocations + each.allocations * bytes as u64,
            bytes: self.bytes + each.bytes * bytes as u64,
        }
    }
}

/// What a parser may do for any input, and for each byte of it. Each target reads its input for
/// requests of six depths, strictly and leniently, and writes it again.
pub const PARSER: (Work, Work) = (
    Work {
        allocations: 2000,
        bytes: 1 << 20,
    },
    Work {
        allocations: 8,
        bytes: 512,
    },
);

/// Does it, and panics when that took more than allowed.
pub fn bounded<T>(what: &str, allowed: Work, action: impl FnOnce() -> T) -> T {
    let before = DONE.get();
    let result = action();
    let after = DONE.get();
    let (allocations, bytes) = (
        after.allocations - before.allocations,
        after.bytes - before.bytes,
    );
    assert!(
        allocations <= allowed.allocations && bytes <= allowed.bytes,
        "{what}: {allocations} allocations of {bytes} bytes, allowed are {allowed:?}"
    );
    result
}

struct Counting;

impl Counting {
    fn count(bytes: usize) {
        // A thread that ends has given its counter back.
        let _ = DONE.try_with(|done| {
            let Work {
                allocations,
                bytes: all,
            } = done.get();
            done.set(Work {
                allocations: allocations + 1,
                bytes: all + bytes as u64,
            });
        });
    }
}

// SAFETY: every call is the system allocator's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: as our caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as our caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: as our caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
