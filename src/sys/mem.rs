//! Memory: buffers at rest that borrow one anonymous mapping when they must grow, and page locks.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::mm::{
    MapFlags, MlockAllFlags, MremapFlags, ProtFlags, mlockall, mmap_anonymous, mremap, munlockall,
    munmap,
};

use super::stream::{self, Read};
use crate::base::store::{Full, Store};

/// The unit in which mappings grow at first; from there on they double.
const MAPPING_BYTES: usize = 64 << 10;

/// One private anonymous mapping, which is there until [`Mapping::give_back`].
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> Result<Self, Errno> {
        // SAFETY: a new private mapping at an address of the kernel's choice touches no memory that
        // exists already.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        Ok(Self { start, len })
    }

    fn grow(&mut self, len: usize) -> Result<(), Errno> {
        // SAFETY: `start` and `len` are those of a mapping this value owns alone, and `&mut self`
        // proves that no slice of it is alive while it moves.
        let start = unsafe {
            mremap(
                self.start.as_ptr().cast(),
                self.len,
                len,
                MremapFlags::MAYMOVE,
            )
        }?;
        self.start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        self.len = len;
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable over its whole length, zero-filled where never written,
        // and lives as long as `self`.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and writable; `&mut self` makes this the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

// SAFETY: memory of the process is any thread's, and this value is the only one that reaches it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn give_back(self) {
        // SAFETY: the mapping is this value's alone and nothing refers to it any more. The call
        // fails only for arguments that are not a mapping, so there is nothing to report.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// A byte store that rests in place and borrows a mapping to grow.
///
/// The mapping goes back to the kernel as soon as the store is cut back to what fits in place.
pub struct Buffer {
    at_rest: &'static mut [u8],
    mapping: Option<Mapping>,
    /// Where what is stored begins and ends.
    start: usize,
    end: usize,
    cap: usize,
    full: bool,
    /// Whether a mapping is kept although it is not needed.
    kept: bool,
}

impl Buffer {
    /// An empty buffer that rests in `at_rest` and grows up to `cap` bytes.
    pub const fn new(at_rest: &'static mut [u8], cap: usize) -> Self {
        Self {
            at_rest,
            mapping: None,
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
        let room = Mapping::new(bytes).map(|mapping| {
            // SAFETY: the mapping is readable and writable over its whole length, nobody else knows
            // of it, and it is never given back, so it stays until the process ends.
            unsafe { core::slice::from_raw_parts_mut(mapping.start.as_ptr(), mapping.len) }
        });
        let room = room.unwrap_or_default();
        let cap = room.len();
        ManuallyDrop::new(Self::new(room, cap))
    }

    /// Appends the rest of a file; [`Errno::FBIG`] if that fills the buffer.
    #[inline(never)]
    pub fn read(&mut self, file: &OwnedFd) -> Result<(), Errno> {
        loop {
            let end = self.end;
            let room = self.room().get_mut(end..).unwrap_or_default();
            match stream::read(file, room)? {
                Read::Bytes(count) => self.end += count,
                // Reading into no room at all looks like the end of the file.
                _ => break,
            }
        }
        self.full |= self.end == self.cap;
        self.whole()
    }

    /// [`Errno::FBIG`] if something did not fit.
    pub fn whole(&self) -> Result<(), Errno> {
        match self.full {
            true => Err(Errno::FBIG),
            false => Ok(()),
        }
    }

    /// Ends a run of bytes in a [`Buffer::lasting`], which then stays where it is while the next is
    /// put down behind it. [`Buffer::whole`] tells if it fitted, and all before it.
    #[inline(never)]
    pub fn take(&mut self) -> &'static [u8] {
        let len = core::mem::take(&mut self.end);
        let room = core::mem::take(&mut self.at_rest);
        let (run, rest) = room.split_at_mut_checked(len).unwrap_or_default();
        self.cap = rest.len();
        self.at_rest = rest;
        run
    }

    /// Keeps a mapping, once borrowed, from going back to the kernel, or lets it go at the next cut.
    pub fn keep_mapping(&mut self, keep: bool) {
        self.kept = keep;
    }

    /// Appends `more` bytes whose value does not matter, to be written by the caller.
    pub fn extend(&mut self, more: usize) -> Result<&mut [u8], Full> {
        self.reserve(more)?;
        let start = self.end;
        self.end += more;
        Ok(&mut self.room()[start..start + more])
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
        self.start = self.end.min(self.start + count);
        if self.start == self.end {
            self.truncate(0);
        }
    }

    fn room(&mut self) -> &mut [u8] {
        match &mut self.mapping {
            Some(mapping) => mapping.bytes_mut(),
            None => self.at_rest,
        }
    }

    /// Makes room for `more` bytes behind what is stored.
    fn reserve(&mut self, more: usize) -> Result<(), Full> {
        if self.start != 0 {
            let stored = self.start..self.end;
            self.room().copy_within(stored.clone(), 0);
            (self.start, self.end) = (0, stored.len());
        }
        let need = self
            .end
            .checked_add(more)
            .filter(|need| *need <= self.cap)
            .ok_or(Full)?;
        let have = self
            .mapping
            .as_ref()
            .map_or(self.at_rest.len(), |mapping| mapping.len);
        if need <= have {
            return Ok(());
        }
        // Doubling keeps the number of mremap calls small; pages beyond need are never touched.
        let len = need
            .max(have.saturating_mul(2))
            .next_multiple_of(MAPPING_BYTES);
        match &mut self.mapping {
            Some(mapping) => mapping.grow(len).map_err(|_| Full)?,
            None => {
                let mut mapping = Mapping::new(len).map_err(|_| Full)?;
                mapping.bytes_mut()[..self.end].copy_from_slice(&self.at_rest[..self.end]);
                self.mapping = Some(mapping);
            }
        }
        Ok(())
    }
}

impl Store for Buffer {
    #[inline(never)]
    fn bytes(&self) -> &[u8] {
        let room = self.mapping.as_ref().map_or(&*self.at_rest, Mapping::bytes);
        &room[self.start..self.end]
    }

    #[inline(never)]
    fn bytes_mut(&mut self) -> &mut [u8] {
        let stored = self.start..self.end;
        &mut self.room()[stored]
    }

    fn append(&mut self, more: &[u8]) -> Result<(), Full> {
        if self.full || self.reserve(more.len()).is_err() {
            self.full = true;
            return Err(Full);
        }
        let start = self.end;
        self.room()[start..start + more.len()].copy_from_slice(more);
        self.end = start + more.len();
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.full = false;
        self.end = self.end.min(self.start + len);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end <= self.at_rest.len()
            && !self.kept
            && let Some(mapping) = self.mapping.take()
        {
            self.at_rest[..self.end].copy_from_slice(&mapping.bytes()[..self.end]);
            mapping.give_back();
        }
    }
}

impl Drop for Buffer {
    // Of the buffer, not of what is in it: one call wherever a buffer ends.
    #[inline(never)]
    fn drop(&mut self) {
        if let Some(mapping) = self.mapping.take() {
            mapping.give_back();
        }
    }
}

/// A value in the memory of the program itself, lent once and for good.
///
/// What is large lies here rather than on the stack: pages here cost nothing before they are first
/// used, nor on disk as long as all is zero or not initialised.
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

    fn buffer(at_rest: usize, cap: usize) -> Buffer {
        Buffer::new(vec![0; at_rest].leak(), cap)
    }

    #[test]
    fn a_buffer_grows_into_a_mapping_and_comes_back() {
        let mut buffer = buffer(8, 300_000);
        assert_eq!(buffer.append(b"12345678"), Ok(()));
        assert!(buffer.mapping.is_none());
        assert_eq!(buffer.append(&[b'x'; 200_000]), Ok(()));
        assert_eq!(buffer.append(&[b'y'; 99_992]), Ok(()));
        assert_eq!(buffer.len(), 300_000);
        assert_eq!(&buffer.bytes()[..9], b"12345678x");
        buffer.consume(4);
        assert_eq!(&buffer.bytes()[..5], b"5678x");
        buffer.truncate(4);
        assert!(buffer.mapping.is_none());
        assert_eq!(buffer.bytes(), b"5678");
        buffer.consume(9);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_full_buffer_stays_full_until_it_is_cut_back() {
        let mut buffer = buffer(4, 6);
        assert_eq!(buffer.append(b"12345"), Ok(()));
        assert_eq!(buffer.append(b"67"), Err(Full));
        assert_eq!(buffer.append(b"6"), Err(Full));
        buffer.truncate(5);
        assert_eq!(buffer.append(b"6"), Ok(()));
        assert_eq!(buffer.bytes(), b"123456");
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
    fn memory_is_lent_once() {
        static LENT: Lent<[u8; 16]> = Lent::new([0; 16]);
        assert_eq!(LENT.take().len(), 16);
        assert!(std::panic::catch_unwind(|| LENT.take()[0]).is_err());
    }
}
