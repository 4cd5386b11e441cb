//! How much memory a test asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has asked for.
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize) {
    // At the end of a thread there is nothing left to count with.
    let _ = ASKED.try_with(|asked| asked.set(asked.get().saturating_add(bytes)));
}

// SAFETY: all is done by the system's allocator, with what came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller promises what the system's allocator needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

/// What `action` returns, and how many bytes it has asked for, given back or not.
pub fn asked_by<T>(action: impl FnOnce() -> T) -> (T, usize) {
    let before = ASKED.get();
    let returned = action();
    (returned, ASKED.get().saturating_sub(before))
}

#[test]
fn what_is_asked_for_is_counted() {
    let (bytes, asked) = asked_by(|| vec![1_u8; 1000]);
    assert_eq!((bytes.len(), asked), (1000, 1000));
    assert_eq!(asked_by(|| drop(bytes)).1, 0);
}
