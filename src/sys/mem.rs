//! Memory: buffers at rest that borrow one anonymous mapping when they must grow, and page locks.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{
    MapFlags, MlockAllFlags, MremapFlags, ProtFlags, mlockall, mmap_anonymous, mremap, munlockall,
    munmap,
};

use super::raw;
use super::stream::{self, Read};
use crate::base::store::{Full, Store};

/// The unit in which mappings grow at first; from there on they double. Miri, which is slow, sees
/// them grow sooner.
const MAPPING_BYTES: usize = if cfg!(miri) { 4 << 10 } else { 64 << 10 };

/// Bytes of all mappings that buffers of this process have borrowed.
static BORROWED: AtomicUsize = AtomicUsize::new(0);

/// How many bytes buffers of this process have borrowed.
pub fn borrowed() -> usize {
    BORROWED.load(Ordering::Relaxed)
}

/// So many bytes of memory: where a buffer rests, or an anonymous mapping.
#[derive(Clone, Copy)]
struct Room {
    start: NonNull<u8>,
    len: usize,
}

impl Room {
    /// A new mapping, zero-filled, if the kernel has memory to lend.
    fn map(len: usize) -> Option<Self> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that
        // exists already.
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
        Some(Self { start, len })
    }
}

/// A byte store that rests in place and borrows a mapping to grow.
///
/// The mapping goes back to the kernel as soon as the store is cut back to what fits in place.
pub struct Buffer {
    /// Where bytes are stored: the place below, or a mapping that is this buffer's alone.
    room: Room,
    /// Where it rests: memory that was lent to this buffer alone and for good.
    at_rest: Room,
    /// Where what is stored begins and ends: not behind the end of the room, and not the other way
    /// round.
    start: usize,
    end: usize,
    cap: usize,
    full: bool,
    /// Whether a mapping is kept although it is not needed.
    kept: bool,
}

// SAFETY: memory of the process is any thread's, and this value is the only one that reaches it.
unsafe impl Send for Buffer {}

impl Buffer {
    /// An empty buffer that rests in `at_rest` and grows up to `cap` bytes.
    pub const fn new(at_rest: &'static mut [u8], cap: usize) -> Self {
        let len = at_rest.len();
        // SAFETY: a reference is never null.
        let start = unsafe { NonNull::new_unchecked(at_rest.as_mut_ptr()) };
        Self::resting(Room { start, len }, cap)
    }

    /// An empty buffer that rests nowhere and grows up to `cap` bytes.
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

    /// Room for so many bytes, or for none if the kernel has no memory to lend: for a child of the
    /// agent, which gives nothing back before it ends. Address space is taken at once, pages as they
    /// are written to.
    #[inline(never)]
    pub fn lasting(bytes: usize) -> ManuallyDrop<Self> {
        // Nobody else knows of it, and it is never given back.
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

    /// [`Errno::FBIG`] if something did not fit.
    pub fn whole(&self) -> Result<(), Errno> {
        match self.full {
            true => Err(Errno::FBIG),
            false => Ok(()),
        }
    }

    /// Ends a run of bytes in a [`Buffer::lasting`], which then stays where it is while the next is
    /// put down behind it. [`Buffer::whole`] tells if it fitted, and all before it. What was consumed
    /// is no part of the run.
    #[inline(never)]
    pub fn take(&mut self) -> &'static [u8] {
        // No such buffer; what it stores may move.
        if self.is_mapped() {
            return b"";
        }
        let (start, end) = (self.start, self.end);
        (self.start, self.end) = (0, 0);
        // SAFETY: where a buffer rests is its own for good, and it parts here with all of that up to
        // `end`. From `start` to there, which is within the room, bytes are stored.
        let run = unsafe {
            let first = self.room.start.add(start);
            core::slice::from_raw_parts(first.as_ptr(), end - start)
        };
        self.cap = self.room.len - end;
        self.room = Room {
            // SAFETY: not behind the end of the room, as above.
            start: unsafe { self.room.start.add(end) },
            len: self.cap,
        };
        self.at_rest = self.room;
        run
    }

    /// Keeps a mapping, once borrowed, from going back to the kernel, or lets it go at the next cut.
    pub fn keep_mapping(&mut self, keep: bool) {
        self.kept = keep;
    }

    /// Appends `more` bytes whose value does not matter, to be written by the caller.
    pub fn extend(&mut self, more: usize) -> Result<&mut [u8], Full> {
        self.reserve(more)?;
        self.end += more;
        let start = self.len() - more;
        Ok(&mut self.bytes_mut()[start..])
    }

    /// Bytes stored.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts `count` bytes off the front.
    pub fn consume(&mut self, count: usize) {
        // What is left moves only when more is to be stored behind it.
        self.start = self.end.min(self.start.saturating_add(count));
        if self.start == self.end {
            self.truncate(0);
        }
    }

    /// The room behind what is stored, as far as the cap allows.
    fn free(&mut self) -> &mut [u8] {
        let len = self.room.len.min(self.cap).saturating_sub(self.end);
        // SAFETY: the room is readable and writable over its whole length, what is stored ends within
        // it, and `&mut self` makes this the only reference to it.
        unsafe {
            let start = self.room.start.add(self.end);
            core::slice::from_raw_parts_mut(start.as_ptr(), len)
        }
    }

    fn is_mapped(&self) -> bool {
        self.room.start != self.at_rest.start
    }

    /// Makes room for `more` bytes behind what is stored.
    fn reserve(&mut self, more: usize) -> Result<(), Full> {
        if self.start != 0 {
            // SAFETY: what is stored lies within the room, and thus also from its beginning.
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
        // Doubling keeps the number of mremap calls small; pages beyond need are never touched.
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
        // SAFETY: the room is a mapping that is this buffer's alone, and `&mut self` proves that no
        // slice of it is alive while it moves.
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
        Some(Room { start, len })
    }

    fn move_to_mapping(&mut self, len: usize) -> Option<Room> {
        let room = Room::map(len)?;
        // SAFETY: the mapping is new, and longer than the room that it takes the place of, in which
        // what is stored ends.
        unsafe {
            room.start
                .copy_from_nonoverlapping(self.room.start, self.end)
        };
        Some(room)
    }

    /// Gives a mapping back, for which there must be no more use.
    fn unmap(&mut self) {
        let Room { start, len } = self.room;
        self.room = self.at_rest;
        // SAFETY: the mapping was this buffer's alone and nothing refers to it any more. The call
        // fails only for arguments that are not a mapping, so there is nothing to report.
        let _ = unsafe { munmap(start.as_ptr().cast(), len) };
        BORROWED.fetch_sub(len, Ordering::Relaxed);
    }
}

impl Store for Buffer {
    #[inline(never)]
    fn bytes(&self) -> &[u8] {
        // SAFETY: what is stored lies within the room, which is readable over its whole length, and
        // nobody writes to it as long as this borrows `self`.
        unsafe {
            let start = self.room.start.add(self.start);
            core::slice::from_raw_parts(start.as_ptr(), self.len())
        }
    }

    #[inline(never)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; `&mut self` makes this the only reference.
        unsafe {
            let start = self.room.start.add(self.start);
            core::slice::from_raw_parts_mut(start.as_ptr(), self.len())
        }
    }

    fn append(&mut self, more: &[u8]) -> Result<(), Full> {
        // Most pieces of a reply are a few bytes and fit where the last one ended.
        let fits = self.end.saturating_add(more.len()) <= self.room.len.min(self.cap);
        if self.full || !fits && self.reserve(more.len()).is_err() {
            self.full = true;
            return Err(Full);
        }
        // SAFETY: there is room for as many bytes behind what is stored, and `more` is no part of it:
        // `&mut self` proves that nothing else refers to it.
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
        if self.end <= self.at_rest.len && !self.kept && self.is_mapped() {
            // SAFETY: that much fits, and a mapping is no part of where the buffer rests.
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
    // Of the buffer, not of what is in it: one call wherever a buffer ends.
    #[inline(never)]
    fn drop(&mut self) {
        if self.is_mapped() {
            self.unmap();
        }
    }
}

/// A value in the memory of the program itself, lent once and for good.
///
/// What is large lies here rather than on the stack: pages here cost nothing before they are first
/// used, nor on disk as long as all is zero or not initialised.
// The mark comes first: taking it writes to the page that the value begins in, not to one more.
#[repr(C)]
pub struct Lent<T> {
    lent: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only by whoever turned `lent` from false to true, once; it goes to
// that thread for good.
unsafe impl<T: Send> Sync for Lent<T> {}

impl<T> Lent<T> {
    /// `value`, not lent yet.
    pub const fn new(value: T) -> Self {
        Self {
            lent: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, for the first who asks; a second time is a fault of the agent, and its end.
    #[expect(clippy::mut_from_ref, reason = "one reference is ever made, see below")]
    pub fn take(&'static self) -> &'static mut T {
        assert!(!self.lent.swap(true, Ordering::Relaxed));
        // SAFETY: the swap gives false to one caller only, so this is the only reference ever made.
        unsafe { &mut *self.value.get() }
    }
}

/// Gives pages of the stack back that are not used at this moment: what calls deeper than this one have
/// left behind. Of the process's first thread, which is the only one of an agent.
#[inline(never)]
pub fn release_stack() {
    /// Bytes that are left alone below this frame: more than the system call takes.
    const NEAR: usize = 1 << 10;
    /// How far down pages are given back: deeper than any call goes.
    const FAR: usize = 512 << 10;
    const PAGE: usize = 4096;
    let here = 0u8;
    let here = (&raw const here).addr();
    let end = here.saturating_sub(NEAR) / PAGE * PAGE;
    // SAFETY: below this frame there is no value of anybody's, and nothing but the stack: the kernel
    // keeps a gap below it that is wider than this. Where no page is, the call changes nothing.
    let _ = unsafe {
        let start = end.saturating_sub(FAR);
        let advice = libc::MADV_DONTNEED as usize;
        raw::call(libc::SYS_madvise, [start, FAR, advice, 0, 0])
    };
}

/// Keeps every page of this process, present and future, in memory until [`unlock_pages`].
///
/// A fork does not inherit the lock.
pub fn lock_pages() -> Result<(), Errno> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
}

/// Undoes [`lock_pages`].
pub fn unlock_pages() -> Result<(), Errno> {
    munlockall()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer_of(at_rest: usize, cap: usize) -> Buffer {
        Buffer::new(vec![0; at_rest].leak(), cap)
    }

    #[test]
    fn a_buffer_grows_into_a_mapping_and_comes_back() {
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
    fn what_was_consumed_is_no_part_of_a_run() {
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
        // Of another buffer: what rests in place stays, and what may move is not taken.
        let mut buffer = buffer_of(4, 100_000);
        buffer.append(b"123").unwrap();
        buffer.consume(1);
        assert_eq!(buffer.take(), b"23");
        let mut buffer = buffer_of(4, 100_000);
        buffer.append(b"12345").unwrap();
        assert_eq!((buffer.take(), buffer.bytes()), (&b""[..], &b"12345"[..]));
    }

    #[test]
    fn no_length_reaches_past_what_is_stored() {
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
    fn runs_of_a_lasting_buffer_stay_where_they_are() {
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
        let path = std::env::temp_dir().join(format!("gaunt-run-{}", std::process::id()));
        std::fs::write(&path, [b'x'; 9]).unwrap();
        let read = |room| {
            let flags = rustix::fs::OFlags::RDONLY;
            let path = path.to_str().unwrap();
            let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap();
            let mut buffer = Buffer::lasting(room);
            buffer.read(&file).map(|()| buffer.take())
        };
        assert_eq!(read(10), Ok(&[b'x'; 9][..]));
        assert_eq!(read(9), Err(Errno::FBIG));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_is_read_into_a_buffer_that_grows() {
        let path = std::env::temp_dir().join(format!("gaunt-grow-{}", std::process::id()));
        let len = if cfg!(miri) { 20_000 } else { 200_000 };
        let content: Vec<u8> = (0..len).map(|number| number as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let read = |cap| {
            let flags = rustix::fs::OFlags::RDONLY;
            let file =
                rustix::fs::open(path.to_str().unwrap(), flags, rustix::fs::Mode::empty()).unwrap();
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
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn memory_is_lent_once() {
        static LENT: Lent<[u8; 16]> = Lent::new([0; 16]);
        assert_eq!(LENT.take().len(), 16);
        assert!(std::panic::catch_unwind(|| LENT.take()[0]).is_err());
    }
}
