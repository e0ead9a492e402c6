//! Counts heap allocations of sealing and opening a frame. A binary of its own: the allocator is the whole process's.

#![allow(unsafe_code, reason = "a counting allocator is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use sealwire::{
    crypto::{
        chain::{RecvChain, SendChain},
        secret::Secret,
    },
    protocol::{FRAME_OVERHEAD, open_frame, seal_frame},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn sealing_and_opening_frames_allocates_nothing_beyond_the_callers_buffer() {
    const HEADER: usize = 8;
    let mut send = SendChain::new(Secret::new([7; 32]));
    let mut receive = RecvChain::new(Secret::new([7; 32]));
    for size in [0, 64, 1_024, 16_384, 65_511] {
        let mut buffer = Vec::with_capacity(size + FRAME_OVERHEAD);
        let count = allocations(|| {
            for _ in 0..40 {
                buffer.resize(HEADER + size, 1);
                let (seq, key) = send.next().expect("a fresh chain");
                let mut frame = seal_frame(key, 0, seq, 1, std::mem::take(&mut buffer), 0);
                let key = receive.key().expect("a fresh chain");
                open_frame(key, &mut frame).expect("what was sealed opens");
                receive.commit();
                frame.clear();
                buffer = frame;
            }
        });
        assert_eq!(count, 0, "{size} bytes");
    }
}
