//! Work counted by what it asks of the heap and by what comes out, not by the clock.

#![allow(dead_code, unreachable_pub)] // each test file uses its part

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Counts what a thread asks of the heap.
pub struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
}

fn note(bytes: usize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
}

// SAFETY: every call goes to the system's allocator as it is; the counters are plain cells of the
// thread, without destructors, that do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What something has cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    pub allocations: u64,
    pub bytes: u64,
    /// Bytes that came out.
    pub out: u64,
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.allocations += other.allocations;
        self.bytes += other.bytes;
        self.out += other.out;
    }
}

/// Counts what `work` allocates; it returns the bytes that came out.
pub fn count(work: impl FnOnce() -> u64) -> Work {
    let (allocations, bytes) = (ALLOCATIONS.get(), BYTES.get());
    let out = work();
    Work {
        allocations: ALLOCATIONS.get() - allocations,
        bytes: BYTES.get() - bytes,
        out,
    }
}

/// Twice the input makes about twice the work.
#[track_caller]
pub fn assert_linear(what: &str, n: usize, work: impl Fn(usize) -> Work) {
    let (one, two) = (work(n), work(2 * n));
    let linear = |one: u64, two: u64| two <= 2 * one + one / 4 + 2000;
    assert!(
        linear(one.allocations, two.allocations)
            && linear(one.bytes, two.bytes)
            && linear(one.out, two.out),
        "{what}: {one:?} for {n}, {two:?} for twice as much"
    );
}
