//! Every cap in one place, each with the reason for its size.

use static_assertions::const_assert;

/// Text of all tokens of one request, in bytes. qemu-ga's own limit (64 MiB, exclusive): a write of
/// 48 MiB, the largest it takes, is just under it as base64.
pub const REQUEST_BYTES: usize = (64 << 20) - 1;

/// Tokens of one request. qemu-ga's own limit.
pub const REQUEST_TOKENS: usize = 2 << 20;

/// Objects and arrays open at once in one request. qemu-ga's own limit.
pub const REQUEST_DEPTH: usize = 1024;

/// Members of all objects open at once in one request, where duplicates are looked for: one in each
/// object that may be open, and as many again. No command takes more than five members; what is left
/// is room for an `id` that is an object. A key is compared with all before it in its object, so this
/// also bounds what a member costs.
pub const REQUEST_OPEN_MEMBERS: usize = 2 * REQUEST_DEPTH;

/// Bytes of a request held without borrowing memory: every request of an ordinary client but large file
/// writes, exec input and key lists.
pub const REQUEST_AT_REST: usize = 8192;

/// Bytes of a reply held without borrowing memory: guest-info, the longest of the frequent replies,
/// fits.
pub const REPLY_AT_REST: usize = 8192;

/// A reply, in bytes. The longest is that of guest-exec-status: two captured streams of 16 MiB each in
/// base64.
pub const REPLY_BYTES: usize = 64 << 20;

/// A reply that is a list, in bytes: all but those that carry the bytes of a file or a program. libvirt
/// closes the channel over a line for which it would need more than 10 MiB, counting some room to read
/// into. The longest lists of real machines, 100,000 memory blocks among them, are within.
pub const REPLY_LIST_BYTES: usize = (10 << 20) - 4096;

/// Replies wait unsent up to this many bytes before the next request of the same client is looked
/// at. A host that writes and never reads thus costs no more than this and one reply.
pub const REPLY_LOW_WATER: usize = 2048;

/// Bytes asked of a channel in one read: a write of 4 KiB. A virtio port never returns more than a page
/// at once.
pub const READ_BYTES: usize = 8192;

/// Connected clients of all channels together. libvirt, a monitoring poller, a person, and one more.
pub const CLIENTS: usize = 4;

/// Channels at once: a port, a listener for vsock and one for a unix socket. There is a slot for a client
/// of each, and one to spare.
pub const CHANNELS: usize = 3;

/// Children that may be busy at once with slow commands of each `commands::Class`, in its order:
/// - those that look at the guest: one for each client;
/// - those on open files: the same;
/// - those on files of users, who can keep a child waiting for [`USER_TASK_MS`] at least;
/// - those that become a program: they are that soon;
/// - those that freeze, thaw and take the guest down: one that works, two that are stuck in the kernel,
///   and one of the agent's own.
pub const QUOTAS: [usize; 5] = [CLIENTS, CLIENTS, 2, 2, 4];

/// Children at once: as many as may be busy, and an idle worker of each of two kinds.
pub const CHILDREN: usize = QUOTAS[0] + QUOTAS[1] + QUOTAS[2] + QUOTAS[3] + QUOTAS[4] + 2;

/// Milliseconds that a task on files of a user has: the longest that a lock is waited for, and time for a
/// slow disk.
pub const USER_TASK_MS: u64 = 10_000;

/// Bytes of a request that is handed to a worker: half of what a socket takes at once. A larger one gets
/// a child of its own, which need not be handed anything.
pub const TASK_BYTES: usize = 64 << 10;

/// Bytes of a task or a reply for which a worker keeps memory: a write of 4 KiB.
pub const TASK_AT_REST: usize = 8192;

/// A path with its terminating NUL: the kernel's PATH_MAX.
pub const PATH_BYTES: usize = 4096;

/// Symbolic links on the way to a hook. The kernel's own limit for a path (path_resolution(7)).
pub const HOOK_SYMLINKS: usize = 40;

/// The list of the processors that run, in bytes: of 1,024 processors of which every other one runs it
/// takes 2,500. Where it is longer, each processor is asked by itself.
pub const CPU_LIST_BYTES: usize = 4096;

/// The names in a directory, and an index of them, in bytes. The longest such directory names all block
/// devices of the machine; this is room for half a million.
pub const DIRECTORY_BYTES: usize = 16 << 20;

/// The list of mounted file systems, in bytes: tens of thousands of them.
pub const MOUNT_LIST_BYTES: usize = 16 << 20;

/// Mount points that a request chooses, and an index of them, in bytes: as many as a request has room
/// for, each of which takes two quotes and a comma there, and here a NUL and four bytes.
pub const CHOSEN_BYTES: usize = 2 * REQUEST_BYTES;

/// How often a path of the mount table is tried, one try after the other, for a file system that no
/// mount led to. A user who exchanges the names of directories on the path, as fast as the kernel
/// does that, has half of all tries come at a wrong moment, and no moment lasts for ten.
pub const PATH_TRIES: u32 = 32;

/// How often paths of one such file system are tried in all. Then the table has been read anew 32
/// times, if it is mounted once. Of ten thousand freezes one fails if the directory gets another of a
/// thousand names each time, and none was seen to fail with a hundred.
pub const SEARCH_TRIES: u32 = 32 * PATH_TRIES;

/// How often the table is read anew while the paths of such a file system stay the same. They are then
/// covered for good: a user who exchanges two names has the path differ every other time.
pub const SAME_PATH_READS: u32 = 4;

/// File systems that one command searches for like that. A guest has few that are hidden for good;
/// without a limit a thousand of them would take seconds.
pub const MOUNT_SEARCHES: u32 = 8;

/// File systems that a thaw remembers it has thawed, so that it does not open each of thousands of
/// bind mounts. It borrows no memory, so they are few; what it forgets it only thaws again.
pub const THAWED_DEVICES: usize = 64;

/// A part of the kernel's list of network interfaces or addresses, in bytes. The kernel fits a part to
/// the buffer it is read into, but makes none larger than 32 KiB unless virtual functions are asked for
/// too. The room counts, because the description of one interface is never divided.
pub const DUMP_BYTES: usize = 32 << 10;

/// What is kept of all interfaces and addresses, in bytes: 100,000 interfaces of 300 bytes each, or
/// 400,000 addresses, of either as many as a reply has room for.
pub const NETWORK_BYTES: usize = 32 << 20;

/// The list of interfaces is made at most this often, if it changes while it is made. What changes
/// faster has no state that could be reported; the last list stands.
pub const DUMP_ATTEMPTS: usize = 3;

/// An os-release file, in bytes: ten times what distributions fill. What is beyond is not seen.
pub const OS_RELEASE_BYTES: usize = 8 << 10;

/// A time zone file, in bytes: the largest of the time zone database, every change spelled out and
/// leap seconds counted, stay below 5 KiB. A larger one counts as broken.
pub const TIME_ZONE_BYTES: usize = 8 << 10;

/// A utmp file, in bytes: 174,000 logins, several times what a reply has room for. A larger one is an
/// error.
pub const LOGIN_FILE_BYTES: usize = 64 << 20;

/// /etc/passwd, /etc/shadow and /etc/group, as they are and as they become, all that one command
/// needs of them together, in bytes: 80,000 users. Small enough for the kernel to promise it in any
/// guest; what is larger is refused, never cut.
pub const ACCOUNTS_BYTES: usize = 16 << 20;

/// A file of ssh keys, and the keys of one request, in bytes: 460 keys of RSA with 3,072 bits. sshd
/// looks at all of them at every login. The reply, of bytes that need six characters each, stays
/// below 2 MiB.
pub const KEYS_BYTES: usize = 256 << 10;

/// A password, in bytes. What PAM, libxcrypt and most programs that ask for one have room for;
/// nobody could log in with a longer one. The time a hash takes grows with the square of it.
pub const PASSWORD_BYTES: usize = 511;

/// Milliseconds that a lock on a file is waited for. Whoever changes accounts holds it for less than
/// one second, but for a person in vipw(8), who is not waited for.
pub const LOCK_WAIT_MS: u32 = 3_000;

/// Milliseconds between two looks at such a lock.
pub const LOCK_POLL_MS: u32 = 100;

/// Layers of device-mapper and RAID between a mounted device and its disks. The deepest that is built
/// in earnest (thin volume, pool, cached data, RAID leg, LUKS, MD, multipath) has eight; the kernel
/// sets no limit.
pub const STACKED_DEVICES: usize = 16;

/// The name of a block device: 31 bytes of a disk (the kernel's DISK_NAME_LEN), the partition's
/// number behind it, `/dev/` before it.
pub const BLOCK_NAME_BYTES: usize = 64;

/// The serial number of a disk. The longest is made of a SCSI designator: a digit, 8 bytes of vendor,
/// 16 of model, and the 252 that one page of 255 has room for, or half of them as hexadecimal.
/// Names of device-mapper, at most 127 bytes, fit too.
pub const SERIAL_BYTES: usize = 288;

/// Programs started by guest-exec that run, or whose result is kept until a client asks. With three
/// pipes each they take 384 of the 1,024 descriptors that the kernel lets a process have. Results
/// make room for new programs, oldest first; qemu-ga keeps all for ever.
pub const PROGRAMS: usize = 128;

/// What is kept of one output of a program, in bytes. qemu-ga's own limit.
pub const EXEC_STREAM_BYTES: usize = 16 << 20;

/// Input and output of all programs together, in bytes: both outputs of four programs to the full.
/// Past that, results are dropped, oldest first; if that is not enough, output is dropped and input
/// refused.
pub const EXEC_HELD_BYTES: usize = 128 << 20;

/// What udevd knows of a block device, in bytes: a handful of links and some forty properties, in all
/// 2 KiB of a disk that has many. What is beyond is not seen.
pub const UDEV_ENTRY_BYTES: usize = 16 << 10;

/// Open files. The kernel allows a process 1,024 descriptors unless told otherwise, and the table of
/// this many handles is pages that are never used in most guests.
pub const OPEN_FILES: usize = 1024;

/// Bytes of a file read by one command. qemu-ga's own limit.
pub const READ_FILE_BYTES: usize = 48 << 20;

/// Bytes of a file read at once, of which the reply is 4/3: few system calls, little memory. A
/// multiple of three, so that what is sent in pieces is one base64 text.
pub const READ_PIECE_BYTES: usize = 48 << 10;

/// Bytes of a file that a child reads at once: more work than making the child costs, and little
/// enough that the text, all of which the agent takes over, is no burden.
pub const FETCH_BYTES: usize = 4 * READ_PIECE_BYTES;

/// Parameters of one command; guest-exec has the most.
pub const PARAMETERS: usize = 5;

/// Seconds after which an unthawed freeze ends by itself, unless `--freeze-timeout` says otherwise.
pub const FREEZE_TIMEOUT_S: u32 = 600;

/// Seconds that one hook has, unless `--hook-timeout` says otherwise: a checkpoint of a database that
/// is written to takes some.
pub const HOOK_TIMEOUT_S: u32 = 60;

/// What a hook says in one run is logged up to so many bytes of the log; the rest is read and dropped.
pub const HOOK_OUTPUT_BYTES: usize = 64 << 10;

/// The longest line of what a hook says, in bytes: four times as many, escaped, fit into a line of the
/// log. A longer one becomes several.
pub const HOOK_LINE_BYTES: usize = 400;

/// The end of what a hook says that is part of an error, in bytes: two or three lines.
pub const HOOK_TAIL_BYTES: usize = 256;

/// An error about a hook, in bytes.
pub const HOOK_FAILURE_BYTES: usize = 1024;

/// Milliseconds after the end of a hook that processes it has left in the background may keep its
/// output open. What the hook itself wrote is there by then.
pub const HOOK_DRAIN_MS: u64 = 200;

/// Milliseconds that a hook has to be gone after SIGKILL. One that is stuck in the kernel needs longer.
pub const HOOK_KILL_MS: u64 = 1_000;

/// Freeze hooks must end this many milliseconds before the freeze timeout. With less time left the agent
/// would give up the freeze itself half way.
pub const HOOK_MARGIN_MS: u64 = 500;

/// Milliseconds that the thaw of one file system has while a freeze is stuck in the kernel.
pub const STUCK_THAW_MS: u64 = 500;

/// Milliseconds that one hook may take besides its own limit: to be killed, to have its output read,
/// and to be put on its list and into its log.
pub const HOOK_SPARE_MS: u64 = HOOK_KILL_MS + HOOK_DRAIN_MS + 5_000;

/// The list of hooks that are to be thawed, in bytes: a thousand of them and more.
pub const HOOK_LIST_BYTES: usize = 128 << 10;

/// The log of hooks is begun anew when it has so many bytes: a year of daily snapshots with ten hooks.
pub const HOOK_LOG_BYTES: u64 = 1 << 20;

/// Milliseconds after which an init that was told to take the guest down, and has not even ended the
/// agent, is taken to be stuck. systemd gives a unit 90 s to stop; whoever is in the way longer than
/// that and a margin never goes.
pub const INIT_GRACE_MS: u64 = 120_000;

/// Milliseconds that processes have from SIGTERM to SIGKILL when there is no init to end them. What
/// sysvinit gives them, and well within the minute that libvirt waits for a shutdown.
pub const TERM_MS: u64 = 5_000;

/// Milliseconds that processes have to be gone after SIGKILL. Only those stuck in the kernel need
/// more, and those never go.
pub const KILL_MS: u64 = 2_000;

/// Milliseconds that the kernel has to answer what may have to be read from a server: the name that a
/// process was called by. In memory, where it always is, that takes less than one.
pub const ANSWER_MS: u64 = 200;

/// Such questions that may stay without an answer before no more are asked. Each is of a process of
/// root's that hangs for good.
pub const UNANSWERED: u32 = 10;

/// Milliseconds that ending all processes may take: both times above, the questions asked before each
/// of them, and as much again for a machine that has thousands of processes.
pub const ENDING_MS: u64 = 2 * (TERM_MS + KILL_MS + 2 * UNANSWERED as u64 * ANSWER_MS);

/// A list of processes, in bytes: as many as the kernel can number (2^22), four bytes each.
pub const PROCESS_LIST_BYTES: usize = 16 << 20;

/// Milliseconds that writing out and unmounting disks may take: some GiB of dirty pages on a slow disk. Only a disk that is gone takes longer.
pub const WRITE_OUT_MS: u64 = 300_000;

/// Milliseconds that unmounting what covers disks may take. It is all in memory; a server that is asked
/// and does not answer must not keep disks from being made read-only by force.
pub const UNCOVER_MS: u64 = 5_000;

/// Milliseconds that closing the disks may take that are covered, or whose path leads through the file
/// system of a server. They have to be written out, which may take a while; a server that does not
/// answer is waited for in vain.
pub const SECOND_LOOK_MS: u64 = 60_000;

/// Milliseconds that the kernel has to make disks read-only by force. They have been written out as far
/// as they could be reached; what never becomes read-only must not keep the guest up for long.
pub const FORCE_MS: u64 = 10_000;

/// Milliseconds that the last sync may take. Disks are clean by then; what is left is file systems
/// of the network, whose server may be gone.
pub const LAST_SYNC_MS: u64 = 10_000;

/// Milliseconds that a device named in /etc/fstab is waited for, counted from the start of the
/// agent as PID 1. Disks of a virtual machine are there within one second of their driver; an
/// emulated machine takes a few.
pub const DEVICE_WAIT_MS: u64 = 10_000;

/// Complaints about the command line that PID 1 writes into its log: it fails closed at the first.
pub const LOGGED_OPTION_ERRORS: usize = 4;

/// Names in lists that no command has, which are named in the log. With the complaints they are as
/// many lines as the log holds while file systems are frozen.
pub const LOGGED_UNKNOWN_NAMES: usize = 8;

/// A configuration file, in bytes: ten times what one fills that names all commands twice. A larger
/// one counts as one with a policy.
pub const CONFIG_BYTES: usize = 32 << 10;

/// Microseconds of one turn of the loop in which children are buried: some thousand of them, or one of
/// very many that still run, which the kernel walks past each time.
pub const REAP_TURN_US: i64 = 2_000;

/// Milliseconds that PID 1 waits before it starts anew after a fault, so that a fault that stays neither
/// fills the console nor keeps a processor busy. A host that asks again after a second is not kept
/// waiting longer than by a busy guest.
pub const RESTART_MS: u32 = 1_000;

/// Ancestors of the agent that are spared when all else is killed: a supervisor, its supervisor, and
/// shells between them.
pub const ANCESTORS: usize = 16;

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
