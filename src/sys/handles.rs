//! Open files that clients know by number, and the calls on them.
//!
//! A handle's descriptor is one of the lasting ones (`process::make_lasting`), and the table holds for
//! each of those the handle it belongs to. The table is zeros at rest, so it costs memory only where
//! files are open. What it holds is its own: another table has other descriptors.
//!
//! What an entry holds: nothing (0), a handle, a handle that a child of the agent works with
//! ([`BUSY`] added), or one that is about to be, or has been, opened or closed by a child (negative).
//! The kernel alone knows which descriptors are free, so what a closed one leaves behind is no harm.
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

use super::process::{FIRST_LASTING, make_lasting};
use super::raw;
use super::root::OpenOptions;
use crate::base::limits::OPEN_FILES;

/// Added to a handle that a child works with.
const BUSY: i64 = 1 << 62;

/// What open files are kept in: an entry for each lasting descriptor.
pub struct Table([i64; OPEN_FILES]);

/// An empty table.
pub const EMPTY: Table = Table([0; OPEN_FILES]);

/// The open files. Where this ends, they are left to the kernel.
pub struct Handles {
    table: &'static mut [i64],
}

impl Handles {
    /// The highest number of a handle.
    pub const MOST: i64 = BUSY - 1;

    /// None yet. The table is [`EMPTY`], as nobody else can write to one.
    pub fn new(Table(table): &'static mut Table) -> Self {
        Self { table }
    }

    /// Makes the handle of this number, with a copy of `stand_in` in its place until [`Seized::fill`]. No
    /// handle may have had the number before.
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

    /// Takes note that a reserved handle has its file.
    pub fn publish(&mut self, seized: Seized) {
        if let Some(entry) = self.entry(seized.0) {
            *entry = entry.wrapping_abs();
        }
    }

    /// Forgets a reserved handle, and closes what is in its place.
    pub fn discard(&mut self, seized: Seized) {
        if let Some(entry) = self.entry(seized.0) {
            *entry = 0;
            let _ = seized.close();
        }
    }

    /// The file of a handle. `BADF`: there is none; `BUSY`: a child works with it, and whoever
    /// touched it now could have to wait for that.
    pub fn get(&self, handle: i64) -> Result<BorrowedFd<'_>, Errno> {
        if !(1..BUSY).contains(&handle) {
            return Err(Errno::BADF);
        }
        match self.find(handle) {
            // SAFETY: descriptors that have an entry are open. One is closed only after its entry
            // changed, which takes `&mut self`.
            Some(Seized(fd)) => Ok(unsafe { BorrowedFd::borrow_raw(fd) }),
            None if self.find(handle | BUSY).is_some() => Err(Errno::BUSY),
            None => Err(Errno::BADF),
        }
    }

    /// Keeps the file of a handle for a task.
    pub fn seize(&mut self, handle: i64) -> Result<Seized, Errno> {
        self.get(handle)?;
        self.turn(handle, handle | BUSY).ok_or(Errno::BADF)
    }

    /// Ends what a task had to do with a file. One that was taken away while it was seized is closed by
    /// the last of both tasks: until then nobody else gets its descriptor.
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

    /// Takes a handle away from its users, so that a task can close its file, and gives whether another
    /// task works with that. Then the file is to be replaced, and given back.
    pub fn take_away(&mut self, handle: i64) -> Result<(Seized, bool), Errno> {
        let (held, is_busy) = match self.get(handle) {
            Err(Errno::BUSY) => (handle | BUSY, true),
            found => found.map(|_| (handle, false))?,
        };
        let seized = self.turn(held, -held).ok_or(Errno::BADF)?;
        Ok((seized, is_busy))
    }

    /// The descriptor whose entry holds this.
    fn find(&self, wanted: i64) -> Option<Seized> {
        let mut entries = (FIRST_LASTING..).zip(&*self.table);
        let (fd, _) = entries.find(|(_, entry)| wanted != 0 && **entry == wanted)?;
        Some(Seized(fd))
    }

    /// The entry of a descriptor, if there can be one.
    fn entry(&mut self, fd: i32) -> Option<&mut i64> {
        let place = usize::try_from(fd - FIRST_LASTING).ok()?;
        self.table.get_mut(place)
    }

    /// Turns an entry that holds `from` into `to`; gives its descriptor.
    fn turn(&mut self, from: i64, to: i64) -> Option<Seized> {
        let found = self.find(from)?;
        *self.entry(found.0)? = to;
        Some(found)
    }
}

/// The file that a task works with: a descriptor of the table, which the agent and a child that shares
/// its descriptors call by the same number. Nobody else uses it until the task is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seized(i32);

impl Seized {
    /// Its number, for the child.
    pub fn number(self) -> i32 {
        self.0
    }

    /// The file of a number that was handed to this child; `None` for one that no file can have.
    pub fn handed_over(number: i32) -> Option<Self> {
        let all = FIRST_LASTING..FIRST_LASTING + OPEN_FILES as i32;
        all.contains(&number).then_some(Self(number))
    }

    /// Puts another file in its place.
    pub fn fill(self, file: impl AsFd) -> Result<(), Errno> {
        // SAFETY: dup3 takes any numbers. What it closes is the stand-in of a new handle, or
        // a file whose handle was taken away: nobody new can borrow it.
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

    /// Closes it; its handle was taken away, or never published.
    pub fn close(self) -> Result<(), Errno> {
        // SAFETY: close takes any number. No value owns a descriptor of this range but the programs'
        // pipes, which have other numbers as long as this file is open.
        unsafe { raw::call(libc::SYS_close, [self.0 as usize, 0, 0, 0, 0]) }.map(|_| ())
    }
}

impl AsFd for Seized {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the table keeps it open for the task.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Opens a file. One that is made has permissions 0666 less the umask, and is never made through a
/// dangling link.
///
/// On tmpfs and ramfs O_NONBLOCK is cleared: it means nothing there, and a read can then ask the
/// descriptor alone whether it may wait, not the file system, which may hang.
///
/// # Errors
/// [`Errno::PERM`] for the memory of a process or of the machine, however the path leads to it.
pub fn open(path: &CStr, options: OpenOptions) -> Result<OwnedFd, Errno> {
    let file = open_or_create(path, options)?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    // The numbers are of 32 bits wherever they are kept in more.
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

#[inline(never)]
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

/// Whether the positions of a file are addresses: any 64 bits. Of the files in /proc that can be
/// written to, this is true of a process's `mem` alone, whatever name or mount led to it.
fn takes_addresses(file: &OwnedFd) -> bool {
    // lseek takes the position as a signed number, of which this is the lowest. Other files refuse or
    // ignore a negative position.
    const LOWEST: u64 = 1 << 63;
    seek(file.as_fd(), SeekFrom::Start(LOWEST)) == Ok(LOWEST)
}

/// How a read came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It brought all that was asked for.
    Full,
    /// The file has no more now.
    End,
    /// There may be more, but it would have to be waited for.
    MustWait,
    /// This.
    Failed(Errno),
}

/// Reads until `buffer` is full, the file ends, or an error; waits for the file. Returns the number of
/// bytes, and why there are no more.
pub fn read(file: BorrowedFd<'_>, buffer: &mut [u8]) -> (usize, Stop) {
    read_with(buffer, |room| rustix::io::read(file, room))
}

/// As [`read`], but stops where it would have to wait, or could have to: every file system but those
/// on disks of this machine may belong to a server that is gone.
///
/// Where it stops for that reason the number of bytes is a multiple of `unit`.
pub fn read_without_waiting(file: BorrowedFd<'_>, buffer: &mut [u8], unit: usize) -> (usize, Stop) {
    if rustix::fs::fcntl_getfl(file).is_ok_and(|flags| !flags.contains(OFlags::NONBLOCK)) {
        // On tmpfs or ramfs, see `open`.
        return read(file, buffer);
    }
    if !is_cached(file, buffer.len()) {
        return (0, Stop::MustWait);
    }
    let (len, stop) = read_with(buffer, |room| {
        // An offset of -1 is the file's own position.
        let room = &mut [IoSliceMut::new(room)];
        rustix::io::preadv2(file, room, u64::MAX, ReadWriteFlags::NOWAIT)
    });
    let Stop::Failed(errno @ (Errno::OPNOTSUPP | Errno::NOSYS | Errno::AGAIN)) = stop else {
        return (len, stop);
    };
    let odd = len % unit;
    let sought = seek(file, SeekFrom::Current(-(odd as i64)));
    // A pipe or terminal, which cannot seek: there is no more for now.
    if errno == Errno::AGAIN && sought.is_err() {
        return (len, stop);
    }
    (len - odd, Stop::MustWait)
}

fn read_with(
    buffer: &mut [u8],
    mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> (usize, Stop) {
    let mut len = 0;
    while let Some(room) = buffer.get_mut(len..).filter(|room| !room.is_empty()) {
        match read(room) {
            Ok(0) => return (len, Stop::End),
            Ok(count) => len += count,
            Err(Errno::INTR) => {}
            Err(errno) => return (len, Stop::Failed(errno)),
        }
    }
    (len, Stop::Full)
}

/// Whether the next `len` bytes of a file are in memory: all of them, for the kernel, though told not
/// to wait, begins to fetch others, and waits for where on the disk they are. True also where it does
/// not tell: kernels before 6.5, pipes, files of others for an agent without privileges.
fn is_cached(file: BorrowedFd<'_>, len: usize) -> bool {
    // The least that a page can be; with larger ones there are never enough.
    const PAGE_BYTES: u64 = 4096;
    let Ok(start) = seek(file, SeekFrom::Current(0)) else {
        return true;
    };
    let range = cachestat_range {
        off: start,
        len: len as u64,
    };
    let mut stat = MaybeUninit::<cachestat>::zeroed();
    // SAFETY: cachestat reads one range, writes one cachestat, both of which outlive the call, and
    // takes no flags.
    let told = unsafe {
        let range = (&raw const range).expose_provenance();
        let stat = stat.as_mut_ptr().expose_provenance();
        let number = __NR_cachestat.into();
        raw::call(number, [file.as_raw_fd() as usize, range, stat, 0, 0])
    };
    // SAFETY: the kernel filled it in, or it is all zeros; it is numbers alone.
    let cached = unsafe { stat.assume_init() }.nr_cache;
    let last = range.off.saturating_add(range.len.saturating_sub(1));
    told.is_err() || cached > (last / PAGE_BYTES).saturating_sub(range.off / PAGE_BYTES)
}

/// Writes all of `bytes`, waiting where the file has to be waited for; gives how much was taken
/// before one that never waits, a pipe, was full.
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

    impl Default for Handles {
        fn default() -> Self {
            Self::new(Box::leak(Box::new(EMPTY)))
        }
    }

    #[test]
    fn memory_is_no_file() {
        let pid = std::process::id();
        let directory = std::env::temp_dir().join(format!("gaunt-memory-{pid}"));
        std::fs::create_dir_all(&directory).unwrap();
        let link = directory.join("link");
        std::os::unix::fs::symlink("/proc/self/mem", &link).unwrap();
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
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_others_do_leaves_the_files_of_a_table_alone() {
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
        assert_eq!(read(file, &mut [0; 5]), (5, Stop::Full));
    }

    #[test]
    fn a_handle_is_there_from_its_file_to_its_close() {
        let mut handles = Handles::default();
        let file = open(c"/proc/version", OpenOptions::READ).unwrap();
        let (first, second, third) = (1001, Handles::MOST, 1003);
        let place = handles.reserve(first, &file).unwrap();
        let unused = handles.reserve(second, &file).unwrap();
        assert!(handles.get(first).is_err(), "not before it is published");
        place.fill(&file).unwrap();
        assert_eq!(Seized::handed_over(place.number()), Some(place));
        handles.publish(place);
        assert!(handles.get(first).is_ok());
        assert_eq!(handles.seize(first), Ok(place));
        assert_eq!(handles.get(first).unwrap_err(), Errno::BUSY);
        assert_eq!(handles.seize(first), Err(Errno::BUSY));
        handles.give_back(place);
        assert!(handles.get(first).is_ok());
        handles.seize(first).unwrap();
        // Closed while a task works with it: both tasks come to an end before the number is free.
        assert_eq!(handles.take_away(first), Ok((place, true)));
        assert_eq!(handles.get(first).unwrap_err(), Errno::BADF);
        assert_eq!(handles.take_away(first), Err(Errno::BADF));
        place
            .fill(crate::sys::root::Root::open(c"/").unwrap())
            .unwrap();
        handles.give_back(place);
        let is_open = |place: Seized| rustix::fs::fstat(place).is_ok();
        assert!(is_open(place) && handles.get(first).is_err());
        handles.give_back(place);
        assert!(!is_open(place));
        // Closed while it rests.
        let place = handles.reserve(third, &file).unwrap();
        handles.publish(place);
        assert_eq!(handles.take_away(third), Ok((place, false)));
        assert_eq!(handles.take_away(third), Err(Errno::BADF));
        assert_eq!(place.close(), Ok(()));
        handles.discard(unused);
        for never in [0, -1, second, -second, BUSY, i64::MIN, i64::MAX] {
            assert_eq!(handles.get(never).unwrap_err(), Errno::BADF);
        }
        for never in [0, -1, Handles::MOST + 1, i64::MIN, i64::MAX] {
            assert_eq!(handles.reserve(never, &file), Err(Errno::INVAL));
        }
        for never in [-1, 0, FIRST_LASTING - 1, i32::MAX] {
            assert_eq!(Seized::handed_over(never), None);
        }
    }
}
