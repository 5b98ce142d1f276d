//! Memory: buffers that grow into an anonymous mapping, values in static memory, pages that are given
//! back, and page locks.
//!
//! A [`Buffer`] rests in static memory, or in none. When it outgrows that, it borrows one mapping
//! (mmap(2)), grows it by mremap(2) up to its cap, and gives it back when the content fits into the
//! memory at rest again, unless it is to keep the mapping ([`Buffer::keep_mapping`]). A process may
//! keep one mapping that buffers have given back ([`keep_spare`]). There is no heap.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MlockAllFlags, MremapFlags, ProtFlags, madvise, mlockall, mmap_anonymous,
    mremap, munlockall, munmap,
};

use super::raw;
use super::stream::{self, Read};
use crate::base::sink::{ByteSink, Full};

/// The length of the first mapping; lengths are multiples of it, and at least double. Under Miri,
/// which is slow, it is small, so that tests see mappings grow.
const MAPPING_BYTES: usize = if cfg!(miri) { 4 << 10 } else { 64 << 10 };

/// The smallest page, and the only one on x86-64.
pub const PAGE: usize = 4096;

/// The advice to give pages back.
const DONT_NEED: usize = libc::MADV_DONTNEED as usize;

/// The bytes of all mappings of buffers of this process.
static BORROWED: AtomicUsize = AtomicUsize::new(0);

/// The bytes of all mappings that buffers of this process have borrowed.
pub fn borrowed() -> usize {
    BORROWED.load(Ordering::Relaxed)
}

/// Whether a mapping that a buffer gives back may become the spare one.
static KEEPS_SPARE: AtomicBool = AtomicBool::new(false);

/// The spare mapping, of [`MAPPING_BYTES`]: no buffer uses it. Null without one.
static SPARE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// From here on a mapping that a buffer gives back stays for the next buffer that borrows one. That
/// saves most tasks two system calls and some page faults.
pub fn keep_spare() {
    KEEPS_SPARE.store(true, Ordering::Relaxed);
}

/// Gives the spare mapping back to the kernel.
pub fn release_spare() {
    if let Some(spare) = Room::take_spare() {
        // SAFETY: it was given up, and only this has taken it.
        unsafe { spare.unmap() };
    }
}

/// Mappings from this length on use huge pages, if the kernel has them.
const HUGE_BYTES: usize = 4 << 20;

/// A range of memory: the memory at rest of a buffer, or a mapping.
#[derive(Clone, Copy)]
struct Room {
    start: NonNull<u8>,
    len: usize,
}

impl Room {
    /// The spare mapping, which is no longer spare then.
    fn take_spare() -> Option<Self> {
        let start = NonNull::new(SPARE.swap(ptr::null_mut(), Ordering::Acquire))?;
        let len = MAPPING_BYTES;
        Some(Self { start, len })
    }

    /// A mapping that nothing else uses; `None` if the kernel has no memory.
    fn map(len: usize) -> Option<Self> {
        if len == MAPPING_BYTES
            && let Some(spare) = Self::take_spare()
        {
            return Some(spare);
        }
        // SAFETY: the kernel chooses the address, so the mapping overlaps no memory that is in use.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = NonNull::new(start.ok()?.cast())?;
        BORROWED.fetch_add(len, Ordering::Relaxed);
        let room = Self { start, len };
        room.advise();
        Some(room)
    }

    /// Asks for huge pages for a large mapping, which take a thousandth of the page faults.
    fn advise(self) {
        if self.len >= HUGE_BYTES {
            // SAFETY: the advice changes no content. It is refused by a kernel without huge pages.
            let _ = unsafe { madvise(self.start.as_ptr().cast(), self.len, Advice::LinuxHugepage) };
        }
    }

    /// Gives a mapping up: it becomes the spare one, or goes back to the kernel.
    ///
    /// # Safety
    /// It came from [`Room::map`] or mremap(2), and nothing uses it from here on.
    unsafe fn give_up(self) {
        let (none, start) = (ptr::null_mut(), self.start.as_ptr());
        let becomes_spare = self.len == MAPPING_BYTES
            && KEEPS_SPARE.load(Ordering::Relaxed)
            && SPARE
                .compare_exchange(none, start, Ordering::Release, Ordering::Relaxed)
                .is_ok();
        if !becomes_spare {
            // SAFETY: as the caller says.
            unsafe { self.unmap() };
        }
    }

    /// Gives a mapping back to the kernel.
    ///
    /// # Safety
    /// As [`Room::give_up`].
    unsafe fn unmap(self) {
        // SAFETY: as the caller says. The call fails only for a range that is no mapping, so the result
        // is ignored.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        BORROWED.fetch_sub(self.len, Ordering::Relaxed);
    }
}

/// A byte sink that rests in memory of its own and borrows a mapping to grow.
///
/// The mapping goes back to the kernel when the content is cut to a length that fits into the
/// memory at rest.
pub struct Buffer {
    /// The memory in use: `at_rest`, or a mapping that only this buffer uses.
    room: Room,
    /// The memory at rest, which only this buffer uses, as long as the process runs.
    at_rest: Room,
    /// The content is `start..end` of the room: `start <= end <= room.len`.
    start: usize,
    end: usize,
    /// The highest `end`.
    cap: usize,
    /// Whether bytes did not fit since the last cut.
    full: bool,
    /// Whether to keep a mapping that is not needed.
    kept: bool,
}

// SAFETY: any thread may use the memory, and only this value leads to it.
unsafe impl Send for Buffer {}

impl Buffer {
    /// An empty buffer that rests in `at_rest` and grows up to `cap` bytes.
    pub const fn new(at_rest: &'static mut [u8], cap: usize) -> Self {
        let len = at_rest.len();
        // SAFETY: a reference is never null.
        let start = unsafe { NonNull::new_unchecked(at_rest.as_mut_ptr()) };
        Self::resting(Room { start, len }, cap)
    }

    /// An empty buffer without memory at rest that grows up to `cap` bytes.
    // Not inlined, to keep one copy of the code; so are the functions below that are not inlined.
    #[inline(never)]
    pub fn growing(cap: usize) -> Self {
        Self::new(&mut [], cap)
    }

    const fn resting(at_rest: Room, cap: usize) -> Self {
        Self {
            room: at_rest,
            at_rest,
            start: 0,
            end: 0,
            cap,
            full: false,
            kept: false,
        }
    }

    /// An empty buffer with memory for `bytes` bytes that is never freed; for no bytes if the
    /// kernel has no memory. For children of the agent, which soon end, and for settings. Takes address space only:
    /// pages follow with the first write to each.
    #[inline(never)]
    pub fn lasting(bytes: usize) -> ManuallyDrop<Self> {
        // Only this buffer uses the mapping, which is never unmapped: it is memory at rest.
        let room = Room::map(bytes).unwrap_or(Room {
            start: NonNull::dangling(),
            len: 0,
        });
        ManuallyDrop::new(Self::resting(room, room.len))
    }

    /// Appends the rest of a file; [`Errno::FBIG`] if that fills the buffer.
    #[inline(never)]
    pub fn read(&mut self, file: &OwnedFd) -> Result<(), Errno> {
        loop {
            if self.free().is_empty() && self.reserve(1).is_err() {
                self.full = true;
                return self.whole();
            }
            let Read::Bytes(count) = stream::read(file, self.free())? else {
                return self.whole();
            };
            self.end += count;
        }
    }

    /// [`Errno::FBIG`] if bytes did not fit since the last cut.
    pub fn whole(&self) -> Result<(), Errno> {
        match self.full {
            true => Err(Errno::FBIG),
            false => Ok(()),
        }
    }

    /// Takes the content out of a [`Buffer::lasting`]. It stays where it is, and the buffer
    /// continues behind it, empty. [`Buffer::whole`] tells whether this and all content before it
    /// has fitted.
    ///
    /// Returns nothing for a buffer with a mapping, which may move.
    #[inline(never)]
    pub fn take(&mut self) -> &'static [u8] {
        if self.is_mapped() {
            return b"";
        }
        let (start, end) = (self.start, self.end);
        (self.start, self.end) = (0, 0);
        // SAFETY: the memory at rest is this buffer's as long as the process runs, and from here on
        // the buffer does not use it up to `end`. `start..end` is within the room, and holds the
        // content.
        let run = unsafe {
            let first = self.room.start.add(start);
            core::slice::from_raw_parts(first.as_ptr(), end - start)
        };
        self.cap = self.room.len - end;
        self.room = Room {
            // SAFETY: `end` is within the room.
            start: unsafe { self.room.start.add(end) },
            len: self.cap,
        };
        self.at_rest = self.room;
        run
    }

    /// Whether to keep a mapping that is not needed. Without `keep` the next cut gives it back.
    pub fn keep_mapping(&mut self, keep: bool) {
        self.kept = keep;
    }

    /// Gives back the memory at rest, if it holds nothing.
    pub fn release(&mut self) {
        if self.end == 0 || self.is_mapped() {
            // SAFETY: only this buffer uses its memory at rest, and with `&mut self` nothing borrows it.
            // It has no content.
            unsafe { release(self.at_rest.start, self.at_rest.len) };
        }
    }

    /// Appends `more` bytes of any value, which the caller overwrites.
    pub fn extend(&mut self, more: usize) -> Result<&mut [u8], Full> {
        self.reserve(more)?;
        self.end += more;
        let start = self.len() - more;
        Ok(&mut self.bytes_mut()[start..])
    }

    /// The length of the content.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        // The rest moves only when more bytes need room behind it.
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start == self.end {
            self.truncate(0);
        }
    }

    /// The room behind the content, up to the cap.
    fn free(&mut self) -> &mut [u8] {
        let len = self.room.len.min(self.cap).saturating_sub(self.end);
        // SAFETY: the whole room is readable and writable, `end` is within it, and with `&mut self`
        // this is the only reference to it.
        unsafe {
            let start = self.room.start.add(self.end);
            core::slice::from_raw_parts_mut(start.as_ptr(), len)
        }
    }

    fn is_mapped(&self) -> bool {
        self.room.start != self.at_rest.start
    }

    /// Makes room for `more` bytes behind the content.
    fn reserve(&mut self, more: usize) -> Result<(), Full> {
        if self.start != 0 {
            // SAFETY: the content is within the room, so it also fits at the beginning of the room.
            unsafe {
                let from = self.room.start.add(self.start);
                self.room.start.copy_from(from, self.len());
            }
            (self.start, self.end) = (0, self.len());
        }
        let need = self
            .end
            .checked_add(more)
            .filter(|need| *need <= self.cap)
            .ok_or(Full)?;
        if need <= self.room.len {
            return Ok(());
        }
        // Doubling keeps the number of mremap calls small; pages that are not needed are never
        // touched.
        let len = need
            .max(self.room.len.saturating_mul(2))
            .next_multiple_of(MAPPING_BYTES);
        self.room = if self.is_mapped() {
            self.remap(len)
        } else {
            self.move_to_mapping(len)
        }
        .ok_or(Full)?;
        Ok(())
    }

    fn remap(&mut self, len: usize) -> Option<Room> {
        // SAFETY: only this buffer uses the mapping, and with `&mut self` no slice of it is alive
        // while it moves.
        let start = unsafe {
            mremap(
                self.room.start.as_ptr().cast(),
                self.room.len,
                len,
                MremapFlags::MAYMOVE,
            )
        };
        let start = NonNull::new(start.ok()?.cast())?;
        BORROWED.fetch_add(len.saturating_sub(self.room.len), Ordering::Relaxed);
        let room = Room { start, len };
        room.advise();
        Some(room)
    }

    fn move_to_mapping(&mut self, len: usize) -> Option<Room> {
        let room = Room::map(len)?;
        // SAFETY: the mapping is new, and longer than the old room, which holds the content.
        unsafe {
            room.start
                .copy_from_nonoverlapping(self.room.start, self.end)
        };
        Some(room)
    }

    /// Gives the mapping up. The content must be in the memory at rest.
    fn unmap(&mut self) {
        let mapping = self.room;
        self.room = self.at_rest;
        // SAFETY: only this buffer used the mapping, and does so no more.
        unsafe { mapping.give_up() };
    }
}

impl ByteSink for Buffer {
    #[inline(never)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: the content is within the room, which is readable, and nothing writes to it while
        // this borrows `self`.
        unsafe {
            let start = self.room.start.add(self.start);
            core::slice::from_raw_parts(start.as_ptr(), self.len())
        }
    }

    #[inline(never)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above. The room is writable, and with `&mut self` this is the only reference
        // to it.
        unsafe {
            let start = self.room.start.add(self.start);
            core::slice::from_raw_parts_mut(start.as_ptr(), self.len())
        }
    }

    fn append(&mut self, more: &[u8]) -> Result<(), Full> {
        // Most pieces of a reply have a few bytes, which fit behind the content.
        let fits = more.len() <= self.room.len.min(self.cap) - self.end;
        if self.full || !fits && self.reserve(more.len()).is_err() {
            self.full = true;
            return Err(Full);
        }
        // SAFETY: there is room for `more` behind the content. `more` is no part of the room: with
        // `&mut self` nothing else refers to that.
        unsafe {
            let from = NonNull::from(more).cast();
            self.room
                .start
                .add(self.end)
                .copy_from_nonoverlapping(from, more.len());
        }
        self.end += more.len();
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.full = false;
        self.end = self.end.min(self.start.saturating_add(len));
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.is_mapped() && !self.kept && self.end <= self.at_rest.len {
            // SAFETY: the content fits, and a mapping does not overlap the memory at rest.
            unsafe {
                self.at_rest
                    .start
                    .copy_from_nonoverlapping(self.room.start, self.end)
            };
            self.unmap();
        }
    }
}

impl Drop for Buffer {
    #[inline(never)]
    fn drop(&mut self) {
        if self.is_mapped() {
            self.unmap();
        }
    }
}

/// A value in static memory, which is lent once.
///
/// Large values are here and not on the stack: a page of static memory takes no memory before its
/// first use, and a value of zeros takes no bytes on disk.
// In this order, so that the value begins where the linker puts the whole.
#[repr(C)]
pub struct Lent<T> {
    value: UnsafeCell<T>,
    lent: AtomicBool,
}

// SAFETY: only the thread that changes `lent` from false to true gets the value, and that happens
// once.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// Holds `value`, not lent yet.
    pub const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            lent: AtomicBool::new(false),
        }
    }

    /// Lends the value. Panics the second time.
    #[expect(clippy::mut_from_ref, reason = "one reference is ever made, see below")]
    pub fn take(&'static self) -> &'static mut T {
        assert!(!self.lent.swap(true, Ordering::Relaxed));
        // SAFETY: the swap returns false once, so this is the only reference that is ever made.
        unsafe { &mut *self.value.get() }
    }
}

/// Gives back the whole pages of memory that holds nothing. Locked pages stay.
pub fn release_free<T>(memory: &mut [MaybeUninit<T>]) {
    let len = size_of_val(memory);
    // SAFETY: it is borrowed, and nobody relies on its content.
    unsafe { release(NonNull::from(memory).cast(), len) };
}

/// As [`release_free`], for bytes that nobody needs any more: they may have any value afterwards.
pub fn release_bytes(bytes: &mut [u8]) {
    let len = bytes.len();
    // SAFETY: it is borrowed. The kernel maps zeros when the pages are used again, and 0 is a byte.
    unsafe { release(NonNull::from(bytes).cast(), len) };
}

/// Has children find zeros in the whole pages of these bytes: then they have no copies of them.
pub fn wipe_in_children(bytes: &'static mut [u8]) -> &'static mut [u8] {
    let (start, len) = (NonNull::from(&mut *bytes).cast(), bytes.len());
    // SAFETY: nothing changes here. In children the bytes have other values: every value is valid, and
    // the memory is bytes as long as the process runs.
    unsafe { advise(start, len, libc::MADV_WIPEONFORK) };
    bytes
}

/// Gives back the whole pages of a range.
///
/// # Safety
/// The caller has the range for itself, and nobody relies on its content.
pub(super) unsafe fn release(start: NonNull<u8>, len: usize) {
    // SAFETY: as the caller says.
    unsafe { advise(start, len, libc::MADV_DONTNEED) };
}

/// Gives the kernel advice for the whole pages of a range.
///
/// # Safety
/// As the advice requires, for a part of the range.
// Not inlined, to keep one copy of the code.
#[inline(never)]
unsafe fn advise(start: NonNull<u8>, len: usize, advice: i32) {
    let address = start.as_ptr().expose_provenance();
    let first = address.next_multiple_of(PAGE);
    let len = (address + len).saturating_sub(first) / PAGE * PAGE;
    if cfg!(miri) && advice == libc::MADV_DONTNEED {
        // SAFETY: as below.
        unsafe { start.add(first - address).write_bytes(0, len) };
    }
    let call = |first, len| {
        // SAFETY: the pages are part of the range, so as the caller says.
        unsafe { raw::call(libc::SYS_madvise, [first, len, advice as usize, 0, 0]) }
    };
    // The kernel refuses an address that is no multiple of its pages, but rounds the length up: larger
    // pages could reach past the range. A length of 0 changes nothing.
    if cfg!(target_arch = "x86_64") || call(PAGE, 0).is_ok() {
        let _ = call(first, len);
    }
}

/// Gives back pages of the stack below this frame, which deeper calls have used. For the first
/// thread of the process, the only one of the agent.
// Not inlined: a frame of the caller could reach further down.
#[inline(never)]
pub fn release_stack() {
    /// Bytes that are kept below this frame: more than the system call needs.
    const NEAR: usize = 1 << 10;
    /// Bytes that are given back below that: more than the deepest call uses.
    const FAR: usize = 512 << 10;
    let here = 0u8;
    let here = (&raw const here).addr();
    let end = here.saturating_sub(NEAR) / PAGE * PAGE;
    // SAFETY: below this frame there are no values, and nothing but the stack: the kernel keeps a
    // gap below the stack that is wider than `FAR`. Where there is no page, the call changes
    // nothing.
    let _ = unsafe {
        let start = end.saturating_sub(FAR);
        raw::call(libc::SYS_madvise, [start, FAR, DONT_NEED, 0, 0])
    };
}

unsafe extern "C" {
    /// The first byte of the program in memory. The linker defines it.
    static __executable_start: u8;
    /// The first byte behind code and constants. The linker defines it.
    static etext: u8;
}

/// Gives back the pages of code and constants, which stay in the page cache. The kernel maps pages
/// again when they are used, together with their neighbours (`targets/layout.ld`). Locked pages stay.
// Not inlined, to keep one copy of the code.
#[inline(never)]
pub fn release_code() {
    // Miri knows no linker.
    if cfg!(miri) {
        return;
    }
    let start = (&raw const __executable_start).addr();
    let end = (&raw const etext).addr();
    // SAFETY: these pages are a private mapping of the program's file, and the program never writes to
    // them. So the kernel maps them again with the same content. (Breakpoints of a debugger go.)
    let _ = unsafe { raw::call(libc::SYS_madvise, [start, end - start, DONT_NEED, 0, 0]) };
}

/// Keeps all pages of this process, present and future, in memory until [`unlock_pages`]. A child
/// does not inherit the lock.
pub fn lock_pages() -> Result<(), Errno> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
}

/// Undoes [`lock_pages`].
pub fn unlock_pages() -> Result<(), Errno> {
    munlockall()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::sys::testing::file_of;

    fn buffer_of(at_rest: usize, cap: usize) -> Buffer {
        Buffer::new(vec![0; at_rest].leak(), cap)
    }

    #[test]
    fn a_buffer_grows_into_a_mapping_and_shrinks_back() {
        let mut buffer = buffer_of(8, 300_000);
        assert_eq!(buffer.append(b"12345678"), Ok(()));
        assert!(!buffer.is_mapped());
        assert_eq!(buffer.append(&[b'x'; 200_000]), Ok(()));
        assert_eq!(buffer.append(&[b'y'; 99_992]), Ok(()));
        assert_eq!(buffer.len(), 300_000);
        assert_eq!(&buffer.bytes()[..9], b"12345678x");
        buffer.consume(4);
        assert_eq!(&buffer.bytes()[..5], b"5678x");
        buffer.truncate(4);
        assert!(!buffer.is_mapped());
        assert_eq!(buffer.bytes(), b"5678");
        buffer.consume(9);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_full_buffer_stays_full_until_it_is_cut_back() {
        let mut buffer = buffer_of(4, 6);
        assert_eq!(buffer.append(b"12345"), Ok(()));
        assert_eq!(buffer.append(b"67"), Err(Full));
        assert_eq!(buffer.append(b"6"), Err(Full));
        buffer.truncate(5);
        assert_eq!(buffer.append(b"6"), Ok(()));
        assert_eq!(buffer.bytes(), b"123456");
    }

    #[test]
    fn take_returns_no_consumed_bytes() {
        let mut buffer = Buffer::lasting(8);
        buffer.append(b"12345").unwrap();
        buffer.consume(2);
        let run = buffer.take();
        assert_eq!((run, buffer.len()), (&b"345"[..], 0));
        buffer.append(b"678").unwrap();
        assert_eq!((buffer.bytes(), run), (&b"678"[..], &b"345"[..]));
        assert_eq!(
            buffer.append(b"9"),
            Err(Full),
            "consumed bytes are gone, too"
        );
        // A buffer that can grow: content at rest is taken, content in a mapping is not.
        let mut buffer = buffer_of(4, 100_000);
        buffer.append(b"123").unwrap();
        buffer.consume(1);
        assert_eq!(buffer.take(), b"23");
        let mut buffer = buffer_of(4, 100_000);
        buffer.append(b"12345").unwrap();
        assert_eq!((buffer.take(), buffer.bytes()), (&b""[..], &b"12345"[..]));
    }

    #[test]
    fn no_length_reaches_past_the_content() {
        for mapped in [false, true] {
            let mut buffer = buffer_of(if mapped { 0 } else { 8 }, 100);
            buffer.append(b"12345").unwrap();
            buffer.consume(2);
            for len in [3, 4, 100, usize::MAX - 1, usize::MAX] {
                buffer.truncate(len);
                assert_eq!(buffer.bytes(), b"345", "{len}");
            }
            buffer.truncate(2);
            assert_eq!(buffer.bytes(), b"34");
            buffer.append(b"6").unwrap();
            assert_eq!(buffer.bytes(), b"346");
            buffer.consume(1);
            buffer.consume(usize::MAX);
            assert!(buffer.is_empty());
            for more in [101, usize::MAX - 1, usize::MAX] {
                assert_eq!(buffer.extend(more).err(), Some(Full), "{more}");
            }
            assert_eq!(buffer.extend(100).map(|room| room.len()), Ok(100));
        }
    }

    #[test]
    fn taken_content_of_a_lasting_buffer_does_not_move() {
        let mut buffer = Buffer::lasting(10);
        assert_eq!(buffer.append(b"123"), Ok(()));
        let first = buffer.take();
        assert_eq!(buffer.append(b"4567"), Ok(()));
        assert_eq!(buffer.bytes(), b"4567");
        assert_eq!((first, buffer.take()), (&b"123"[..], &b"4567"[..]));
        assert_eq!(buffer.append(b"8901"), Err(Full));
        assert_eq!(buffer.append(b"8"), Err(Full));
        assert_eq!(buffer.take(), b"");
        assert_eq!(buffer.whole(), Err(Errno::FBIG));
        let read = |room| {
            let file = file_of(&[b'x'; 9]);
            let mut buffer = Buffer::lasting(room);
            buffer.read(&file).map(|()| buffer.take())
        };
        assert_eq!(read(10), Ok(&[b'x'; 9][..]));
        assert_eq!(read(9), Err(Errno::FBIG));
    }

    #[test]
    fn reads_a_file_into_a_growing_buffer() {
        let len = if cfg!(miri) { 20_000 } else { 200_000 };
        let content: Vec<u8> = (0..len).map(|number| number as u8).collect();
        let read = |cap| {
            let file = file_of(&content);
            let mut buffer = Buffer::growing(cap);
            buffer.append(b"before").unwrap();
            let done = buffer.read(&file);
            (
                done,
                buffer.bytes().strip_prefix(b"before") == Some(&content),
            )
        };
        assert_eq!(read(1 << 20), (Ok(()), true));
        assert_eq!(read(len + 7), (Ok(()), true));
        assert_eq!(read(len + 5).0, Err(Errno::FBIG));
    }

    /// Gives memory back until `done`: pages stay while another test has all pages locked.
    fn until_given_back(mut release: impl FnMut(), mut done: impl FnMut() -> bool) {
        for _ in 0..1000 {
            // Miri does not know the call.
            if !cfg!(miri) {
                let _ = unlock_pages();
            }
            release();
            if done() {
                return;
            }
        }
        panic!("the pages are still there");
    }

    #[test]
    fn gives_whole_pages_back_and_nothing_beside_them() {
        const PAGES: usize = 4;
        let memory = vec![b'x'; PAGES * PAGE].leak();
        // Two pages, and nine bytes before and behind them.
        let start = 9 + memory[9..].as_ptr().align_offset(PAGE);
        let end = start + 2 * PAGE;
        let memory = RefCell::new(memory);
        until_given_back(
            || release_bytes(&mut memory.borrow_mut()[start - 9..end + 9]),
            || memory.borrow()[start] == 0,
        );
        let memory = memory.borrow();
        assert!(memory[start..end].iter().all(|byte| *byte == 0));
        assert!(memory[..start].iter().all(|byte| *byte == b'x'));
        assert!(memory[end..].iter().all(|byte| *byte == b'x'));
    }

    #[test]
    fn a_buffer_gives_back_its_memory_at_rest_but_no_content() {
        const BYTES: usize = 3 * PAGE;
        let mut buffer = buffer_of(BYTES, 2 * BYTES);
        let content = [b'x'; BYTES];
        buffer.append(&content).unwrap();
        buffer.release();
        assert_eq!(buffer.bytes(), content);
        // In a mapping: the memory at rest holds nothing.
        buffer.append(b"y").unwrap();
        buffer.release();
        assert_eq!(buffer.len(), BYTES + 1);
        assert!(buffer.bytes().starts_with(&content));
        buffer.truncate(BYTES);
        assert_eq!(buffer.bytes(), content);
        buffer.truncate(0);
        let buffer = RefCell::new(buffer);
        until_given_back(
            || buffer.borrow_mut().release(),
            || buffer.borrow_mut().free().contains(&0),
        );
        buffer.borrow_mut().append(b"z").unwrap();
        assert_eq!(buffer.borrow().bytes(), b"z");
    }

    #[test]
    fn a_vector_gives_back_its_free_memory_but_no_element() {
        const COUNT: usize = 4 * PAGE / size_of::<u64>();
        let mut vector = Box::new(heapless::Vec::<u64, COUNT>::new());
        vector.extend(0..COUNT as u64);
        vector.truncate(COUNT / 2);
        release_free(vector.spare_capacity_mut());
        assert!(vector.iter().copied().eq(0..COUNT as u64 / 2));
        vector.extend(0..COUNT as u64 / 2);
        assert_eq!(vector.len(), COUNT);
    }

    #[test]
    fn lends_a_value_once() {
        static LENT: Lent<[u8; 16]> = Lent::new([0; 16]);
        assert_eq!(LENT.take().len(), 16);
        assert!(std::panic::catch_unwind(|| LENT.take()[0]).is_err());
    }
}
