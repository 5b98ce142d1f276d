//! Every cap of the agent, with the reason for its size.

use static_assertions::const_assert;

// Requests and replies.

/// Text of all tokens of one request, in bytes. qemu-ga's limit (64 MiB, exclusive): the largest write
/// that qemu-ga accepts, 48 MiB, is just below it as base64.
pub const REQUEST_BYTES: usize = (64 << 20) - 1;

/// Tokens of one request. qemu-ga's limit.
pub const REQUEST_TOKENS: usize = 2 << 20;

/// Objects and arrays open at once in one request. qemu-ga's limit.
pub const REQUEST_DEPTH: usize = 1024;

/// Members of all objects open at once in one request, kept to find duplicate keys: one in each object
/// that may be open, and as many again. No command takes more than five members; the rest is for an `id`
/// that is an object. Each key is compared with all earlier ones of its object, so this also bounds the
/// time that a member costs.
pub const REQUEST_OPEN_MEMBERS: usize = 2 * REQUEST_DEPTH;

/// Bytes of a request that need no borrowed memory: all requests of an ordinary client except large file
/// writes, input of programs and lists of keys.
pub const REQUEST_AT_REST: usize = 8192;

/// Bytes of a reply that need no borrowed memory: guest-info, the longest of the frequent replies, fits.
pub const REPLY_AT_REST: usize = 8192;

/// A reply, in bytes. The longest is that of guest-exec-status: two captured streams of 16 MiB each, as
/// base64.
pub const REPLY_BYTES: usize = 64 << 20;

/// A reply that is a list, in bytes: every reply without the content of a file or the output of a
/// program. libvirt closes the channel if a line needs a buffer of more than 10 MiB, which includes some
/// room to read into. The longest lists of real machines fit, such as 100,000 memory blocks.
pub const REPLY_LIST_BYTES: usize = (10 << 20) - 4096;

/// Unsent bytes of replies up to which the next request of the same client is read. A host that writes
/// and never reads costs at most this much and one reply.
pub const REPLY_LOW_WATER: usize = 2048;

/// Bytes of one read from a channel: a write of 4 KiB fits. A virtio port never returns more than a page
/// at once.
pub const READ_BYTES: usize = 8192;

/// Connected clients of all channels together: libvirt, a monitoring poller, a person, and one more.
pub const CLIENTS: usize = 4;

/// Channels at once: a virtio port, a listener for vsock and one for a unix socket. Each of them has a slot
/// for a client, and one slot is spare.
pub const CHANNELS: usize = 3;

/// Parameters of one command; guest-exec has the most.
pub const PARAMETERS: usize = 5;

// Children.

/// Children that may be busy at once with slow commands, for each `commands::TaskClass` in its order:
/// - commands that read the state of the guest or change a setting of it: one for each client;
/// - commands on open files: likewise;
/// - commands on files of users, who can block a child for at least [`USER_TASK_MS`];
/// - commands that start a program: the child soon becomes that program;
/// - freeze, thaw, shutdown and suspend: one that works, two that are stuck in the kernel, and one
///   that the agent starts itself.
pub const QUOTAS: [usize; 5] = [CLIENTS, CLIENTS, 2, 2, 4];

/// Children at once: all that may be busy, and an idle worker of each of two kinds.
pub const CHILDREN: usize = QUOTAS[0] + QUOTAS[1] + QUOTAS[2] + QUOTAS[3] + QUOTAS[4] + 2;

/// Milliseconds for a task on files of a user: the longest wait for a lock, and time for a slow disk.
pub const USER_TASK_MS: u64 = 10_000;

/// Bytes of a request that is sent to a worker: half of what a socket buffers. A larger request gets a
/// child of its own, which inherits it.
pub const TASK_BYTES: usize = 64 << 10;

/// Milliseconds without an event after which the agent, and without a task after which a worker, gives
/// memory back. Clients that ask for many things in a row are faster than that.
pub const REST_MS: u64 = 100;

/// Turns of the loop after which the agent gives memory back although there are events: a client may
/// send pings without a pause.
pub const TURNS_TO_REST: u8 = 32;

/// Bytes of a request or reply for which a worker keeps memory meanwhile: a write of 4 KiB fits.
pub const TASK_AT_REST: usize = 8192;

/// Microseconds that one turn of the event loop spends on reaping children: some thousand children, or
/// one of very many that still run, because the kernel walks past all of them each time.
pub const REAP_TURN_US: i64 = 2_000;

// Paths and mounts.

/// A path with its terminating NUL: the kernel's `PATH_MAX`.
pub const PATH_BYTES: usize = 4096;

/// Symbolic links in the path of a hook: the kernel's limit for any path (path_resolution(7)).
pub const HOOK_SYMLINKS: usize = 40;

/// The kernel's list of online CPUs, in bytes. With 1,024 CPUs of which every other one is online it has
/// 2,500. If it is longer, each CPU is read by itself.
pub const CPU_LIST_BYTES: usize = 4096;

/// The SMBIOS table, in bytes. QEMU's has some hundred bytes, plus the strings that its user adds.
pub const SMBIOS_BYTES: usize = 1 << 20;

/// The names in a directory and their index, in bytes: half a million names. The longest directory that
/// is read lists all block devices of the machine.
pub const DIRECTORY_BYTES: usize = 16 << 20;

/// The mount table and its index, in bytes: tens of thousands of file systems.
pub const MOUNT_LIST_BYTES: usize = 16 << 20;

/// Mount points in a request and their index, in bytes: as many as a request can hold. Each of them needs
/// two quotes and a comma there, and a NUL and four bytes here.
pub const CHOSEN_BYTES: usize = 2 * REQUEST_BYTES;

/// Tries in a row of one path of the mount table, for a file system that no mount has led to yet. A user
/// who exchanges directory names on the path as fast as the kernel can makes half of all tries fail,
/// and no wrong state lasts for ten tries.
pub const PATH_TRIES: u32 = 32;

/// Tries of all paths of one such file system: if it is mounted once, the mount table is read 32 times.
/// If the directory gets another one of a thousand names each time, one freeze in ten thousand fails; with
/// a hundred names no failure was seen.
pub const SEARCH_TRIES: u32 = 32 * PATH_TRIES;

/// Reads of the mount table in which the paths of such a file system stay the same. After that they count
/// as covered for good: if a user exchanges two names, the path differs every other time.
pub const SAME_PATH_READS: u32 = 4;

/// File systems that one command searches in this way. A guest has few that are hidden for good; without
/// a limit a thousand of them would take seconds.
pub const MOUNT_SEARCHES: u32 = 8;

/// File systems that a thaw remembers as thawed, to skip their other mounts: there may be thousands of
/// bind mounts. They are few because a thaw borrows no memory; a forgotten one is thawed again.
pub const THAWED_DEVICES: usize = 64;

// Network.

/// One datagram of the kernel's list of interfaces or addresses, in bytes. The kernel fits a datagram to
/// the reader's buffer, but sends at most 32 KiB unless virtual functions are requested too. The
/// description of one interface is never split, so it must fit as well.
pub const DUMP_BYTES: usize = 32 << 10;

/// Memory for all interfaces and addresses, in bytes: 100,000 interfaces of 300 bytes each, or 400,000
/// addresses; a reply has no room for more of either.
pub const NETWORK_BYTES: usize = 32 << 20;

/// Attempts to read the list of interfaces if it changes meanwhile. If it changes faster than that, no
/// attempt would be consistent: the last one is reported.
pub const DUMP_ATTEMPTS: usize = 3;

// System files.

/// An os-release file, in bytes: ten times the size of any distribution's. Further bytes are ignored.
pub const OS_RELEASE_BYTES: usize = 8 << 10;

/// A time zone file, in bytes. The largest files of the time zone database, fat and with leap seconds,
/// have less than 5 KiB. A larger file counts as invalid.
pub const TIME_ZONE_BYTES: usize = 8 << 10;

/// A utmp file, in bytes: 174,000 logins, several times as many as fit into a reply. A larger file is an
/// error.
pub const LOGIN_FILE_BYTES: usize = 64 << 20;

/// The old and new content of /etc/passwd, /etc/shadow and /etc/group that one command needs, all
/// together, in bytes: 80,000 users. Small enough that the kernel grants it in any guest. Larger files
/// are refused, never cut.
pub const ACCOUNTS_BYTES: usize = 16 << 20;

/// A file of ssh keys and the keys of one request, in bytes: 460 RSA keys of 3,072 bits. sshd reads all
/// of them at every login. The reply has less than 2 MiB even if every byte needs six characters.
pub const KEYS_BYTES: usize = 256 << 10;

/// A password, in bytes: the limit of PAM, libxcrypt and most programs that ask for a password, so nobody
/// could log in with a longer one. The time to hash it grows with the square of its length.
pub const PASSWORD_BYTES: usize = 511;

/// Milliseconds to wait for the lock of a file. Programs that change accounts hold it for less than a
/// second, except for a person in vipw(8): for that nobody waits.
pub const LOCK_WAIT_MS: u32 = 3_000;

/// Milliseconds between two attempts to take such a lock.
pub const LOCK_POLL_MS: u32 = 100;

// Disks.

/// Layers of device-mapper and RAID between a mounted device and its disks. The deepest stack in real use
/// (thin volume, pool, cached data, RAID leg, LUKS, MD, multipath) has eight; the kernel has no limit.
pub const STACKED_DEVICES: usize = 16;

/// The name of a block device: 31 bytes of the disk (the kernel's `DISK_NAME_LEN`), the number of the
/// partition after it, `/dev/` before it.
pub const BLOCK_NAME_BYTES: usize = 64;

/// The serial number of a disk. The longest is built from a SCSI designator: a digit, 8 bytes of vendor,
/// 16 of model, and 252 bytes (the size of a page of 255), or half of them in hexadecimal. Names of
/// device-mapper, at most 127 bytes, fit as well.
pub const SERIAL_BYTES: usize = 288;

/// The entry of a block device in udevd's database, in bytes. A disk with many has 2 KiB: a few links and
/// some forty properties. Further bytes are ignored.
pub const UDEV_ENTRY_BYTES: usize = 16 << 10;

// Programs and open files.

/// Programs of guest-exec that run, or whose result waits for a client. With three pipes each they need
/// 384 of the 1,024 descriptors that the kernel allows a process. The oldest results are dropped for new
/// programs; qemu-ga keeps all of them for ever.
pub const PROGRAMS: usize = 128;

/// Captured bytes of one output of a program. qemu-ga's limit.
pub const EXEC_STREAM_BYTES: usize = 16 << 20;

/// Input and output of all programs together, in bytes: both outputs of four programs at their limits.
/// Above it the oldest results are dropped; if that is not enough, output is dropped and input refused.
pub const EXEC_HELD_BYTES: usize = 128 << 20;

/// Open files. The kernel allows a process 1,024 descriptors by default. In most guests the pages of a
/// table of this size are never used.
pub const OPEN_FILES: usize = 1024;

/// Bytes of a file that one command reads. qemu-ga's limit.
pub const READ_FILE_BYTES: usize = 48 << 20;

/// Bytes of one read from a file, which are 4/3 as many in the reply: few system calls, little memory. A
/// multiple of three, so that the pieces form one base64 text.
pub const READ_PIECE_BYTES: usize = 48 << 10;

/// Bytes of one read from a file in a child: enough to be worth a child, and little enough that the agent
/// can hold the text.
pub const FETCH_BYTES: usize = 4 * READ_PIECE_BYTES;

// Freeze and hooks.

/// Seconds until a freeze ends by itself, unless `--freeze-timeout` says otherwise.
pub const FREEZE_TIMEOUT_S: u32 = 600;

/// Seconds that one hook may take, unless `--hook-timeout` says otherwise: a busy database needs some for
/// a checkpoint.
pub const HOOK_TIMEOUT_S: u32 = 60;

/// Output of one run of a hook that is logged, in bytes of the log. Further output is read and dropped.
pub const HOOK_OUTPUT_BYTES: usize = 64 << 10;

/// A line of a hook's output, in bytes: a line of the log has room for four times as many, because
/// escaping needs up to four for each. A longer line is split.
pub const HOOK_LINE_BYTES: usize = 400;

/// The end of a hook's output that is part of an error, in bytes: two or three lines.
pub const HOOK_TAIL_BYTES: usize = 256;

/// The text of an error about a hook, in bytes.
pub const HOOK_FAILURE_BYTES: usize = 1024;

/// Milliseconds after the end of a hook in which its output is still read, because a background process of
/// the hook may keep the pipe open. What the hook itself wrote has arrived by then.
pub const HOOK_DRAIN_MS: u64 = 200;

/// Milliseconds after SIGKILL in which a hook must end. Only a hook stuck in the kernel needs longer.
pub const HOOK_KILL_MS: u64 = 1_000;

/// Milliseconds between the end of the hooks and the freeze timeout. With less time left the agent itself
/// would end the freeze half way.
pub const HOOK_MARGIN_MS: u64 = 500;

/// Milliseconds after the freeze timeout in which a child undoes its freeze. Then the agent kills the
/// child.
pub const UNDO_MS: u64 = 5_000;

/// Milliseconds for a file system to come to rest after FUSE connections were aborted: the writes
/// that waited for them fail at once.
pub const ABORTED_MS: u64 = 1_000;

/// Milliseconds for the thaw of one file system. A thaw writes one block; only a disk that is gone
/// takes longer.
pub const THAW_MS: u64 = 10_000;

/// Milliseconds for the thaw of one file system beside one that hangs in the kernel.
pub const STUCK_THAW_MS: u64 = 500;

/// Milliseconds that one hook may take in addition to its own limit: to kill it, to read its output, and
/// to write its list and its log.
pub const HOOK_SPARE_MS: u64 = HOOK_KILL_MS + HOOK_DRAIN_MS + 5_000;

/// The list of hooks that need a thaw, in bytes: more than a thousand hooks.
pub const HOOK_LIST_BYTES: usize = 128 << 10;

/// Size at which the log of hooks is started anew, in bytes: a year of daily snapshots with ten hooks.
pub const HOOK_LOG_BYTES: u64 = 1 << 20;

// Shutdown.

/// Milliseconds after which an init counts as stuck if it was asked to take the guest down and has not
/// ended the agent. systemd gives a unit 90 s to stop: with a margin, whatever still blocks it then never
/// ends.
pub const INIT_GRACE_MS: u64 = 120_000;

/// Milliseconds from SIGTERM to SIGKILL for all processes, if there is no init to end them: as in
/// sysvinit, and well within the minute that libvirt waits for a shutdown.
pub const TERM_MS: u64 = 5_000;

/// Milliseconds from SIGKILL to the end of all processes. Only processes stuck in the kernel need longer,
/// and they never end.
pub const KILL_MS: u64 = 2_000;

/// Milliseconds for the kernel to answer a question that may need a server: the command line of a process.
/// It is in memory nearly always, and the answer takes less than one.
pub const ANSWER_MS: u64 = 200;

/// Unanswered questions after which no more are asked. Each of them is about a process of root that hangs
/// for good.
pub const UNANSWERED: u32 = 10;

/// Milliseconds to end all processes: both times above, the questions before each of them, and as much
/// again for a machine with thousands of processes.
pub const ENDING_MS: u64 = 2 * (TERM_MS + KILL_MS + 2 * UNANSWERED as u64 * ANSWER_MS);

/// A list of processes, in bytes: the kernel's maximum of 2^22, four bytes each.
pub const PROCESS_LIST_BYTES: usize = 16 << 20;

/// Milliseconds to write out and unmount disks: some GiB of dirty pages on a slow disk. Only a disk that
/// is gone takes longer.
pub const WRITE_OUT_MS: u64 = 300_000;

/// Milliseconds to unmount what covers disks. All of it is in memory; a server that does not answer must
/// not prevent disks from being made read-only by force.
pub const UNCOVER_MS: u64 = 5_000;

/// Milliseconds to unmount disks that were covered, or whose path leads through a network file system.
/// They must be written out, which may take a while; a server that does not answer never does.
pub const SECOND_LOOK_MS: u64 = 60_000;

/// Milliseconds for the kernel to make disks read-only by force. All that could be reached is written out
/// by then; a disk that never becomes read-only must not keep the guest up for long.
pub const FORCE_MS: u64 = 10_000;

/// Milliseconds for the last sync. Disks are clean by then; only network file systems are left, whose
/// server may be gone.
pub const LAST_SYNC_MS: u64 = 10_000;

/// Ancestors of the agent that are not killed with all other processes: a supervisor, its supervisor, and
/// shells between them.
pub const ANCESTORS: usize = 16;

// Start and PID 1.

/// Milliseconds that PID 1 waits for the devices in /etc/fstab, from its start. Disks of a virtual machine
/// appear within one second of their driver; an emulated machine needs a few.
pub const DEVICE_WAIT_MS: u64 = 10_000;

/// The beginning of a disk that PID 1 reads to recognize it: the super block of btrfs, at 64 KiB, is the
/// last.
pub const SUPER_BLOCK_BYTES: usize = 68 << 10;

/// The root directory of vfat in which its label is looked for: 2,048 entries. The label is one of the
/// first, unless it was set when there were files.
pub const LABEL_DIRECTORY_BYTES: usize = 64 << 10;

/// Errors of settings that are logged: the first fails closed.
pub const LOGGED_OPTION_ERRORS: usize = 4;

/// Lists of commands in all settings together: one has room for all names, so this is far more than anybody writes.
pub const LISTS: usize = 32;

/// Unknown names in lists of commands that are logged. With the errors of the command line they are
/// about as many lines as the log holds while file systems are frozen.
pub const LOGGED_UNKNOWN_NAMES: usize = 8;

/// A configuration file, in bytes: ten times the size of one that names all commands twice. A larger file
/// is an error.
pub const CONFIG_BYTES: usize = 32 << 10;

/// Milliseconds before PID 1 restarts after a fault, so that a permanent fault neither fills the console
/// nor keeps a CPU busy. A host that asks again after a second waits no longer than for a busy guest.
pub const RESTART_MS: u32 = 1_000;

const_assert!(CHANNELS < CLIENTS);
const_assert!(ENDING_MS < WRITE_OUT_MS);
const_assert!(UNCOVER_MS < SECOND_LOOK_MS);
const_assert!(SECOND_LOOK_MS + FORCE_MS < WRITE_OUT_MS);
const_assert!(REPLY_LOW_WATER < REPLY_AT_REST);
const_assert!(REPLY_LIST_BYTES < REPLY_BYTES);
const_assert!(2 * EXEC_STREAM_BYTES.div_ceil(3) * 4 < REPLY_BYTES);
const_assert!(REQUEST_AT_REST <= REQUEST_BYTES);
const_assert!(READ_PIECE_BYTES.is_multiple_of(3));
const_assert!(USER_TASK_MS > LOCK_WAIT_MS as u64);
const_assert!(2 * HOOK_TAIL_BYTES < HOOK_FAILURE_BYTES);
const_assert!(REQUEST_BYTES < EXEC_HELD_BYTES);
