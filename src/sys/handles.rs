//! The table of open files, and the calls on them.
//!
//! A client calls an open file by a number, its handle. The descriptors of such files are lasting
//! ones (`process::make_lasting`), and the table has an entry for each lasting descriptor. At rest
//! the table is zeros, so it takes memory only where files are open. Every table has descriptors of
//! its own.
//!
//! An entry is one of these:
//! - 0: no file.
//! - A handle: an open file.
//! - A handle plus [`BUSY`]: a child of the agent works with the file.
//! - A negative handle, with or without [`BUSY`]: a child opens the file, or a close has begun.
//!
//! Only the kernel knows which descriptors are free, so an entry that a closed descriptor has left
//! does no harm: the next file with that descriptor overwrites it.
#![allow(unsafe_code)]

use core::ffi::CStr;
use core::mem::MaybeUninit;

use linux_raw_sys::general::{
    __NR_cachestat, PROC_SUPER_MAGIC, RAMFS_MAGIC, TMPFS_MAGIC, cachestat, cachestat_range,
};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
pub use rustix::fs::SeekFrom;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags};

use super::process::{FIRST_LASTING, InChild, make_lasting};
use super::raw;
use super::root::OpenOptions;
use crate::base::limits::OPEN_FILES;

/// Added to the handle of a file that a child works with.
const BUSY: i64 = 1 << 62;

/// Memory for the open files: an entry for each lasting descriptor.
pub struct HandleTable([i64; OPEN_FILES]);

/// An empty table.
pub const EMPTY: HandleTable = HandleTable([0; OPEN_FILES]);

/// The open files. A drop does not close them; the kernel does at the end of the process.
pub struct Handles {
    table: &'static mut [i64],
}

impl Handles {
    /// The highest number of a handle.
    pub const MOST: i64 = BUSY - 1;

    /// No files. The table is [`EMPTY`]: only [`Handles`] can write to one.
    pub fn new(HandleTable(table): &'static mut HandleTable) -> Self {
        Self { table }
    }

    /// Makes the handle of this number, with a copy of `stand_in` in its place until
    /// [`Seized::fill`]. No handle may have had the number before.
    ///
    /// # Errors
    /// [`Errno::INVAL`] for a number that is not from 1 to [`MOST`](Self::MOST).
    pub fn reserve(&mut self, handle: i64, stand_in: impl AsFd) -> Result<Seized, Errno> {
        if !(1..=Self::MOST).contains(&handle) {
            return Err(Errno::INVAL);
        }
        let fd = make_lasting(stand_in)?;
        *self.entry(fd.as_raw_fd()).ok_or(Errno::MFILE)? = -handle;
        Ok(Seized(fd.into_raw_fd()))
    }

    /// Records that a reserved handle has its file.
    pub fn publish(&mut self, seized: Seized) {
        if let Some(entry) = self.entry(seized.0) {
            *entry = entry.wrapping_abs();
        }
    }

    /// Removes a reserved handle, and closes its descriptor.
    pub fn discard(&mut self, seized: Seized) {
        if let Some(entry) = self.entry(seized.0) {
            *entry = 0;
            let _ = seized.close();
        }
    }

    /// The file of a handle.
    ///
    /// # Errors
    /// [`Errno::BADF`] without such a file; [`Errno::BUSY`] while a child works with it: a call on
    /// the file could then have to wait for the child.
    pub fn get(&self, handle: i64) -> Result<BorrowedFd<'_>, Errno> {
        if !(1..BUSY).contains(&handle) {
            return Err(Errno::BADF);
        }
        match self.find(handle) {
            // SAFETY: the descriptor of an entry is open. It is closed only after the entry has
            // changed, which takes `&mut self`.
            Some(Seized(fd)) => Ok(unsafe { BorrowedFd::borrow_raw(fd) }),
            None if self.find(handle | BUSY).is_some() => Err(Errno::BUSY),
            None => Err(Errno::BADF),
        }
    }

    /// Takes the file of a handle for a task; other tasks find it busy.
    pub fn seize(&mut self, handle: i64) -> Result<Seized, Errno> {
        self.get(handle)?;
        self.turn(handle, handle | BUSY).ok_or(Errno::BADF)
    }

    /// Ends the use of a file by a task. If [`Handles::take_away`] has taken the handle meanwhile,
    /// two tasks have the file: the second one to give it back closes it, so the descriptor stays
    /// taken until then.
    pub fn give_back(&mut self, seized: Seized) {
        let Some(entry) = self.entry(seized.0) else {
            return;
        };
        match *entry {
            held @ 1.. => *entry = held & !BUSY,
            held if held < -BUSY => *entry = held + BUSY,
            _ => self.discard(seized),
        }
    }

    /// Removes a handle, so that a task can close its file. Also returns whether another task works
    /// with the file: then the task must replace the file instead, and give it back.
    pub fn take_away(&mut self, handle: i64) -> Result<(Seized, bool), Errno> {
        let (held, is_busy) = match self.get(handle) {
            Err(Errno::BUSY) => (handle | BUSY, true),
            found => found.map(|_| (handle, false))?,
        };
        let seized = self.turn(held, -held).ok_or(Errno::BADF)?;
        Ok((seized, is_busy))
    }

    /// The descriptor of the entry with this content.
    fn find(&self, wanted: i64) -> Option<Seized> {
        let mut entries = (FIRST_LASTING..).zip(&*self.table);
        let (fd, _) = entries.find(|(_, entry)| wanted != 0 && **entry == wanted)?;
        Some(Seized(fd))
    }

    /// The entry of a descriptor; `None` for a descriptor that is not lasting.
    fn entry(&mut self, fd: i32) -> Option<&mut i64> {
        let index = usize::try_from(fd - FIRST_LASTING).ok()?;
        self.table.get_mut(index)
    }

    /// Changes the entry with content `from` to `to`; returns its descriptor.
    fn turn(&mut self, from: i64, to: i64) -> Option<Seized> {
        let found = self.find(from)?;
        *self.entry(found.0)? = to;
        Some(found)
    }
}

/// The file that a task works with: a descriptor of the table. The agent and a child that shares
/// its descriptors call it by the same number. Nothing else uses it until the task is over.
///
/// In the agent only the table makes one, and takes it back when the task is over. In a child there
/// is the one whose number the agent has sent.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the handle stays busy until the table takes it back"]
pub struct Seized(i32);

impl Seized {
    /// The number of the descriptor, for the child.
    pub fn number(&self) -> i32 {
        self.0
    }

    /// The file whose number the agent has sent to this child; `None` for a number that no file can
    /// have, and in a child with descriptors of its own.
    pub fn handed_over(child: &InChild, number: i32) -> Option<Self> {
        let all = FIRST_LASTING..FIRST_LASTING + OPEN_FILES as i32;
        (child.shares_files() && all.contains(&number)).then_some(Self(number))
    }

    /// Replaces the file by a copy of another one.
    pub fn fill(&self, file: impl AsFd) -> Result<(), Errno> {
        // Not rustix's function: no value owns the number. SAFETY: dup3 takes any numbers. It
        // closes the stand-in of a new handle, or a file whose handle was taken away: no entry of
        // the table leads to it, so nothing borrows it.
        unsafe {
            let marked = libc::O_CLOEXEC as usize;
            let args = [
                file.as_fd().as_raw_fd() as usize,
                self.0 as usize,
                marked,
                0,
                0,
            ];
            raw::call(libc::SYS_dup3, args)
        }
        .map(|_| ())
    }

    /// Closes the file. Its handle was taken away, or never published.
    pub fn close(self) -> Result<(), Errno> {
        // Not a drop of an `OwnedFd`, which ignores errors. SAFETY: close takes any number. Of the
        // values that own a lasting descriptor, those of pipes of programs, none has this number as
        // long as the file is open.
        unsafe { raw::call(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0]) }.map(|_| ())
    }
}

impl AsFd for Seized {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the table keeps the descriptor open until the task is over.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Opens a file. A new file gets permissions 0666 less the umask, and is never made through a
/// dangling link.
///
/// On tmpfs and ramfs clears O_NONBLOCK, which has no effect there: the flag then says whether a
/// read may wait, and nobody need ask the file system, which may hang.
///
/// # Errors
/// [`Errno::PERM`] for the memory of a process or of the machine, by whatever path: with that, safe
/// code could write to memory of this process.
pub fn open(path: &CStr, options: OpenOptions) -> Result<OwnedFd, Errno> {
    let file = open_or_create(path, options)?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    // The number has 32 bits, whatever the width of the member.
    let fs = rustix::fs::fstatfs(&file).map_or(0, |stat| stat.f_type as u32);
    let is_memory = match kind {
        FileType::RegularFile => {
            fs == PROC_SUPER_MAGIC && stat.st_mode & WRITABLE != 0 && takes_addresses(&file)
        }
        FileType::CharacterDevice => {
            let device = stat.st_rdev;
            rustix::fs::major(device) == MEMORY_MAJOR
                && matches!(rustix::fs::minor(device), MEM | KMEM | PORT)
        }
        _ => false,
    };
    if is_memory {
        return Err(Errno::PERM);
    }
    if kind == FileType::RegularFile && matches!(fs, TMPFS_MAGIC | RAMFS_MAGIC) {
        let OpenOptions(flags) = options;
        let _ = rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK);
    }
    Ok(file)
}

/// Makes the file, or opens the file that has the name. Without O_EXCL the kernel would make a file
/// through a dangling link.
fn open_or_create(path: &CStr, OpenOptions(flags): OpenOptions) -> Result<OwnedFd, Errno> {
    if flags.contains(OFlags::CREATE) {
        let mode = Mode::from_bits_truncate(0o666);
        let made = rustix::fs::openat(CWD, path, flags | OFlags::EXCL, mode);
        if !matches!(made, Err(Errno::EXIST)) {
            return made;
        }
    }
    rustix::fs::openat(CWD, path, flags - OFlags::CREATE, Mode::empty())
}

/// `S_IWUSR`.
const WRITABLE: u32 = 0o200;

/// The major number of /dev/mem, /dev/kmem and /dev/port (Documentation/admin-guide/devices.txt).
const MEMORY_MAJOR: u32 = 1;
/// Their minor numbers.
const MEM: u32 = 1;
const KMEM: u32 = 2;
const PORT: u32 = 4;

/// Whether positions of a file are addresses, and so may be any 64 bits. Of the writable files in
/// /proc this is true of `mem` only, by whatever name or mount it was opened.
fn takes_addresses(file: &OwnedFd) -> bool {
    // lseek takes the position as a signed number, of which this is the lowest. Other files refuse
    // or ignore a negative position.
    const LOWEST: u64 = 1 << 63;
    seek(file.as_fd(), SeekFrom::Start(LOWEST)) == Ok(LOWEST)
}

/// Why a read has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// The buffer is full.
    Full,
    /// The file has no more bytes now.
    End,
    /// There may be more bytes, but the read would have to wait for them.
    MustWait,
    /// An error.
    Failed(Errno),
}

/// Reads until `buffer` is full, the file ends, or an error; waits for the file. Returns the number
/// of bytes, and why there are no more.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> (usize, ReadEnd) {
    read_with(buffer, |room| rustix::io::read(file, room))
}

/// As [`read`], but stops where it would have to wait, or could have to: every file system but
/// those on disks of this machine may belong to a server that is gone.
///
/// Where it stops for that reason the number of bytes is a multiple of `unit`.
pub fn read_without_waiting(
    file: BorrowedFd<'_>,
    buffer: &mut [u8],
    unit: usize,
) -> (usize, ReadEnd) {
    if rustix::fs::fcntl_getfl(file).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK)) {
        // On tmpfs or ramfs, see `open`.
        return read(file, buffer);
    }
    if !is_cached(file, buffer.len()) {
        return (0, ReadEnd::MustWait);
    }
    let (len, stop) = read_with(buffer, |room| {
        // An offset of -1 is the file's own position.
        let room = &mut [IoSliceMut::new(room)];
        rustix::io::preadv2(file, room, u64::MAX, ReadWriteFlags::NOWAIT)
    });
    let ReadEnd::Failed(errno @ (Errno::OPNOTSUPP | Errno::NOSYS | Errno::AGAIN)) = stop else {
        return (len, stop);
    };
    let odd = len % unit;
    let sought = seek(file, SeekFrom::Current(-(odd as i64)));
    // A pipe or terminal, which cannot seek: there is no more for now.
    if errno == Errno::AGAIN && sought.is_err() {
        return (len, stop);
    }
    (len - odd, ReadEnd::MustWait)
}

fn read_with(
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> (usize, ReadEnd) {
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match read(room) {
            Ok(0) => return (len, ReadEnd::End),
            Ok(count) => len += count,
            Err(Errno::INTR) => {}
            Err(errno) => return (len, ReadEnd::Failed(errno)),
        }
    }
    (len, ReadEnd::Full)
}

/// Whether all of the next `len` bytes of a file are in memory. For missing ones even RWF_NOWAIT
/// starts to read from disk, and waits for the place where they are on it. True also if the kernel
/// does not say: before Linux 6.5, for pipes, and for files of other users if the agent has no
/// privileges.
fn is_cached(file: BorrowedFd<'_>, len: usize) -> bool {
    // The smallest page; with larger pages this finds too few of them, and answers no.
    const PAGE_BYTES: u64 = 4096;
    let Ok(start) = seek(file, SeekFrom::Current(0)) else {
        return true;
    };
    let range = cachestat_range {
        off: start,
        len: len as u64,
    };
    let mut stat = MaybeUninit::<cachestat>::zeroed();
    // SAFETY: cachestat reads one range and writes one cachestat; both are ours and outlive the
    // call.
    let done = unsafe {
        let range = (&raw const range).expose_provenance();
        let stat = stat.as_mut_ptr().expose_provenance();
        let number = __NR_cachestat.into();
        raw::call(number, [file.as_raw_fd() as usize, range, stat, 0, 0])
    };
    // SAFETY: the kernel has filled it in, or it is zeros, which are valid for integers.
    let cached = unsafe { stat.assume_init() }.nr_cache;
    let last = range.off.saturating_add(range.len.saturating_sub(1));
    done.is_err() || cached > (last / PAGE_BYTES).saturating_sub(range.off / PAGE_BYTES)
}

/// Writes all of `bytes`; waits for the file. Returns the number of bytes written, which is less
/// only for a file that never waits: a pipe that is full.
pub fn write(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let mut len = 0;
    while let Some(rest) = bytes.get(len..).filter(|rest| !rest.is_empty()) {
        match rustix::io::write(file, rest) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if len != 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(len)
}

/// Moves a file's position; returns the new position.
pub fn seek(file: BorrowedFd<'_>, to: SeekFrom) -> Result<u64, Errno> {
    rustix::fs::seek(file, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::Tree;

    impl Default for Handles {
        fn default() -> Self {
            Self::new(Box::leak(Box::new(EMPTY)))
        }
    }

    #[test]
    fn refuses_to_open_memory() {
        let pid = std::process::id();
        let tree = Tree::new();
        let link = tree.link("link", "/proc/self/mem");
        let open = |path: &str, options| open(&std::ffi::CString::new(path).unwrap(), options);
        let (read, read_write) = (OpenOptions::READ, OpenOptions::READ_WRITE);
        let write = OpenOptions::WRITE.create().truncate();
        for options in [read, read_write, write, read_write.create().append()] {
            for path in [
                "/proc/self/mem",
                "/proc/thread-self/mem",
                "/proc/self/../self/root/proc/self/mem",
                &format!("/proc/{pid}/mem"),
                &format!("/proc/{pid}/task/{pid}/mem"),
                link.to_str().unwrap(),
            ] {
                let refused = open(path, options).err();
                assert_eq!(refused, Some(Errno::PERM), "{path} {options:?}");
            }
        }
        for (path, options) in [
            ("/proc/self/maps", read),
            ("/proc/self/environ", read),
            ("/proc/self/pagemap", read),
            ("/proc/self/comm", read_write),
            ("/proc/self/coredump_filter", write),
            ("/dev/null", read_write),
            ("/dev/zero", read_write),
            ("/proc/self/fd/0", read),
        ] {
            let opened = open(path, options);
            assert!(opened.is_ok(), "{path}: {:?}", opened.err());
        }
    }

    #[test]
    fn a_table_has_no_files_of_another() {
        let file = open(c"/proc/version", OpenOptions::READ).unwrap();
        let mut handles = Handles::default();
        let handle = 1001;
        let seized = handles.reserve(handle, &file).unwrap();
        handles.publish(seized);
        let mut others = Handles::default();
        for other in [handle, -handle] {
            assert_eq!(others.get(other).unwrap_err(), Errno::BADF);
            assert_eq!(others.take_away(other), Err(Errno::BADF));
        }
        let file = handles.get(handle).unwrap();
        assert_eq!(read(file, &mut [0; 5]), (5, ReadEnd::Full));
    }

    #[test]
    fn a_handle_is_valid_from_publish_to_close() {
        let mut handles = Handles::default();
        let file = open(c"/proc/version", OpenOptions::READ).unwrap();
        let (first, second, third) = (1001, Handles::MOST, 1003);
        let seized = handles.reserve(first, &file).unwrap();
        let unused = handles.reserve(second, &file).unwrap();
        assert!(handles.get(first).is_err(), "valid before publish");
        seized.fill(&file).unwrap();
        let child = InChild::in_test(true);
        let number = seized.number();
        assert_eq!(Seized::handed_over(&child, number).as_ref(), Some(&seized));
        handles.publish(seized);
        assert!(handles.get(first).is_ok());
        let seized = handles.seize(first).unwrap();
        assert_eq!(seized.number(), number);
        assert_eq!(handles.get(first).unwrap_err(), Errno::BUSY);
        assert_eq!(handles.seize(first), Err(Errno::BUSY));
        handles.give_back(seized);
        assert!(handles.get(first).is_ok());
        let seized = handles.seize(first).unwrap();
        // Closed while a task works with it: the number is free only after both tasks.
        let (closing, is_busy) = handles.take_away(first).unwrap();
        assert_eq!((closing.number(), is_busy), (number, true));
        assert_eq!(handles.get(first).unwrap_err(), Errno::BADF);
        assert_eq!(handles.take_away(first), Err(Errno::BADF));
        closing
            .fill(crate::sys::root::Root::open(c"/").unwrap())
            .unwrap();
        handles.give_back(closing);
        // SAFETY: only the number is asked about.
        let is_open = || rustix::fs::fstat(unsafe { BorrowedFd::borrow_raw(number) }).is_ok();
        assert!(is_open() && handles.get(first).is_err());
        handles.give_back(seized);
        assert!(!is_open());
        // Closed while no task works with it.
        let seized = handles.reserve(third, &file).unwrap();
        let number = seized.number();
        handles.publish(seized);
        let (seized, is_busy) = handles.take_away(third).unwrap();
        assert_eq!((seized.number(), is_busy), (number, false));
        assert_eq!(handles.take_away(third), Err(Errno::BADF));
        assert_eq!(seized.close(), Ok(()));
        handles.discard(unused);
        for never in [0, -1, second, -second, BUSY, i64::MIN, i64::MAX] {
            assert_eq!(handles.get(never).unwrap_err(), Errno::BADF);
        }
        for never in [0, -1, Handles::MOST + 1, i64::MIN, i64::MAX] {
            assert_eq!(handles.reserve(never, &file), Err(Errno::INVAL));
        }
        let other_table = InChild::in_test(false);
        assert_eq!(Seized::handed_over(&other_table, number), None);
        for never in [-1, 0, FIRST_LASTING - 1, i32::MAX] {
            assert_eq!(Seized::handed_over(&child, never), None);
        }
    }
}
