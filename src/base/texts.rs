//! The longest texts of the agent, which are those that are read least: packed in one piece, because
//! they share their pairs of letters. Numbered lines; [`line()`] unpacks one.
//!
//! One string, scanned by line: a slice each would cost more in pointers than in letters.

#![allow(long_running_const_eval)]

use super::packed::{Packed, Pairs, pack, unpack};
use super::text::cut;

/// Makes one text of the names, these lines and the phrases.
macro_rules! texts {
    (
        names { $($name:ident = $called:literal;)* }
        $(#[$about:meta])* $lines:literal
        phrases { $($phrase:ident = $text:literal;)* }
    ) => {
        $(#[$about])*
        pub(super) const TEXTS: &str = concat!($($called, "\n",)* $lines, $("\n", $text),*);

        /// What a member of a reply is called, or several in a row, parted by blanks. Those come first
        /// that long lists have many of: they are found soonest.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Name {
            $(#[doc = $called] $name,)*
        }

        /// How many lines there are before the error numbers.
        pub const ERRORS: usize = [$($called),*].len();

        /// What a reply says when a command fails, in qemu-ga's words where it has any, and what the log
        /// says; an `@` stands for what it is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Phrase {
            $(#[doc = $text] $phrase,)*
        }

        #[cfg(test)]
        const NAMES: &[(Name, &str)] = &[$((Name::$name, $called)),*];
        #[cfg(test)]
        const PHRASES: &[(Phrase, &str)] = &[$((Phrase::$phrase, $text)),*];
    };
}

texts! {
    names {
        Name = "name";
        Online = "online";
        CanOffline = "can-offline";
        PhysIndex = "phys-index";
        LogicalId = "logical-id";
        Response = "response";
        ErrorCode = "error-code";
        Type = "type";
        Mountpoint = "mountpoint";
        Disk = "disk";
        HardwareAddress = "hardware-address";
        IpAddresses = "ip-addresses";
        IpAddressType = "ip-address-type";
        IpAddress = "ip-address";
        Prefix = "prefix";
        Statistics = "statistics";
        Counters = "rx-bytes rx-packets rx-errs rx-dropped tx-bytes tx-packets tx-errs tx-dropped";
        Sizes = "used-bytes total-bytes total-bytes-privileged";
        PciController = "pci-controller";
        PciPlace = "domain bus slot function";
        BusType = "bus-type";
        BusPlace = "bus target unit";
        Serial = "serial";
        Dev = "dev";
        Partition = "partition";
        Dependencies = "dependencies";
        Address = "address";
        Path = "path";
        Version = "version";
        SupportedCommands = "supported_commands";
        Count = "count";
        Eof = "eof";
        Pid = "pid";
        Exited = "exited";
        Exitcode = "exitcode";
        Signal = "signal";
        OutData = "out-data";
        OutTruncated = "out-truncated";
        ErrData = "err-data";
        ErrTruncated = "err-truncated";
        Stats = "stats";
        Size = "size";
        Paths = "paths";
        Error = "error";
        Keys = "keys";
        Position = "position";
        Zone = "zone";
        Offset = "offset";
        User = "user";
        LoginTime = "login-time";
        CcwAddress = "ccw-address";
        HostName = "host-name";
        Id = "id";
        KernelRelease = "kernel-release";
        KernelVersion = "kernel-version";
        Machine = "machine";
        PrettyName = "pretty-name";
        VersionId = "version-id";
        Variant = "variant";
        VariantId = "variant-id";
        Load1m = "load1m";
        Load5m = "load5m";
        Load15m = "load15m";
        Alias = "alias";
        Smart = "smart";
        Cpu = "cpu";
        ProcessorTimes = "user nice system idle iowait irq softirq steal guest guestnice";
        MajorMinor = "major minor";
        DoneByOldPartition = "read-ios read-sectors write-ios write-sectors";
        Done = "read-ios read-merges read-sectors read-ticks write-ios write-merges write-sectors write-ticks ios-pgr total-ticks weight-ticks discard-ios discard-merges discard-sectors discard-ticks flush-ios flush-ticks";
        TrimmedMinimum = "trimmed minimum";
        CcwPlace = "cssid ssid subchno devno";
        SmartState = "critical-warning temperature available-spare available-spare-threshold percentage-used";
        SmartCounters = "data-units-read  data-units-written  host-read-commands  host-write-commands  controller-busy-time  power-cycles  power-on-hours  unsafe-shutdowns  media-errors  number-of-error-log-entries";
    }
/// The error numbers' lines come behind the names, counted from 0 as error numbers are; a number without
/// a text has an empty line, and [`UNKNOWN`] is for those.
"\
Success\n\
Operation not permitted\n\
No such file or directory\n\
No such process\n\
Interrupted system call\n\
Input/output error\n\
No such device or address\n\
Argument list too long\n\
Exec format error\n\
Bad file descriptor\n\
No child processes\n\
Resource temporarily unavailable\n\
Cannot allocate memory\n\
Permission denied\n\
Bad address\n\
Block device required\n\
Device or resource busy\n\
File exists\n\
Invalid cross-device link\n\
No such device\n\
Not a directory\n\
Is a directory\n\
Invalid argument\n\
Too many open files in system\n\
Too many open files\n\
Inappropriate ioctl for device\n\
Text file busy\n\
File too large\n\
No space left on device\n\
Illegal seek\n\
Read-only file system\n\
Too many links\n\
Broken pipe\n\
Numerical argument out of domain\n\
Numerical result out of range\n\
Resource deadlock avoided\n\
File name too long\n\
No locks available\n\
Function not implemented\n\
Directory not empty\n\
Too many levels of symbolic links\n\
\n\
No message of desired type\n\
Identifier removed\n\
Channel number out of range\n\
Level 2 not synchronized\n\
Level 3 halted\n\
Level 3 reset\n\
Link number out of range\n\
Protocol driver not attached\n\
No CSI structure available\n\
Level 2 halted\n\
Invalid exchange\n\
Invalid request descriptor\n\
Exchange full\n\
No anode\n\
Invalid request code\n\
Invalid slot\n\
\n\
Bad font file format\n\
Device not a stream\n\
No data available\n\
Timer expired\n\
Out of streams resources\n\
Machine is not on the network\n\
Package not installed\n\
Object is remote\n\
Link has been severed\n\
Advertise error\n\
Srmount error\n\
Communication error on send\n\
Protocol error\n\
Multihop attempted\n\
RFS specific error\n\
Bad message\n\
Value too large for defined data type\n\
Name not unique on network\n\
File descriptor in bad state\n\
Remote address changed\n\
Can not access a needed shared library\n\
Accessing a corrupted shared library\n\
.lib section in a.out corrupted\n\
Attempting to link in too many shared libraries\n\
Cannot exec a shared library directly\n\
Invalid or incomplete multibyte or wide character\n\
Interrupted system call should be restarted\n\
Streams pipe error\n\
Too many users\n\
Socket operation on non-socket\n\
Destination address required\n\
Message too long\n\
Protocol wrong type for socket\n\
Protocol not available\n\
Protocol not supported\n\
Socket type not supported\n\
Operation not supported\n\
Protocol family not supported\n\
Address family not supported by protocol\n\
Address already in use\n\
Cannot assign requested address\n\
Network is down\n\
Network is unreachable\n\
Network dropped connection on reset\n\
Software caused connection abort\n\
Connection reset by peer\n\
No buffer space available\n\
Transport endpoint is already connected\n\
Transport endpoint is not connected\n\
Cannot send after transport endpoint shutdown\n\
Too many references: cannot splice\n\
Connection timed out\n\
Connection refused\n\
Host is down\n\
No route to host\n\
Operation already in progress\n\
Operation now in progress\n\
Stale file handle\n\
Structure needs cleaning\n\
Not a XENIX named type file\n\
No XENIX semaphores available\n\
Is a named type file\n\
Remote I/O error\n\
Disk quota exceeded\n\
No medium found\n\
Wrong medium type\n\
Operation canceled\n\
Required key not available\n\
Key has expired\n\
Key has been revoked\n\
Key was rejected by service\n\
Owner died\n\
State not recoverable\n\
Operation not possible due to RF-kill\n\
Memory page has hardware error\n\
unknown error"

    phrases {
        NotJson = "@:@: JSON parse error, ";
        ExpectingValue = "expecting value";
        ExpectingKey = "expecting key";
        ExpectingColon = "expecting ':'";
        ExpectedInObject = "expected ',' or '}'";
        ExpectedInArray = "expected ',' or ']'";
        DuplicateKey = "duplicate key";
        InvalidKeyword = "invalid keyword '@'";
        InvalidKeywordCut = "invalid keyword '@";
        InvalidEscape = "invalid escape sequence in string";
        NotUnicode = "@ is not a valid Unicode character";
        InvalidUtf8 = "invalid UTF-8 sequence in string";
        Stray = "stray '@'";
        StrayCut = "stray '@";
        TokenSizeLimit = "JSON token size limit exceeded";
        TokenLimit = "JSON token count limit exceeded";
        NestingLimit = "JSON nesting depth limit exceeded";
        UnexpectedMember = "QMP input member '@' is unexpected";
        NotFound = "The command @ has not been found";
        Disabled = "Command @ has been disabled: the command is not allowed";
        EndedAbnormally = "child process has terminated abnormally";
        ReplyTooLong = "the reply is larger than 64 MiB, or there is no memory for it";
        ListTooLong = "the reply is larger than 10 MiB";
        UnknownNumber = ": Unknown error @";
        NotObject = "QMP input must be a JSON object";
        ExecuteNotString = "QMP input member 'execute' must be a string";
        ArgumentsNotObject = "QMP input member 'arguments' must be an object";
        NoExecute = "QMP input lacks member 'execute'";
        MissingParameter = "Parameter '@' is missing";
        UnexpectedParameter = "Parameter '@' is unexpected";
        ExpectsUint64 = "Parameter '@' expects uint64";
        WrongType = "Invalid parameter type for '@', expected: @";
        UnknownWord = "Parameter '@' does not accept value '@'";
        NotBase64 = "Base64 data contains invalid characters";
        NoMountTable = "failed to open mtab file: '/proc/self/mounts'";
        InvalidTime = "Invalid time";
        CannotSetClock = "Failed to set time to guest";
        CannotSetRtc = "child process has failed to set hardware clock to system time";
        CannotListDisks = "Can't open directory \"/sys/block\"";
        NoChild = "failed to create child process";
        TooManyPrograms = "too many child processes are running";
        CannotExecute = "Failed to execute child process @@@ (@)";
        NoSuchPid = "PID @ does not exist";
        InvalidOpenMode = "invalid file open mode '@'";
        CannotOpenFile = "failed to open file '@' (mode: '@')";
        CannotCloseFile = "failed to close handle";
        CannotReadFile = "failed to read file";
        CannotWriteFile = "failed to write to file";
        CannotSeekFile = "failed to seek file";
        CannotFlushFile = "failed to flush file";
        InvalidWhence = "invalid whence code @";
        InvalidCount = "value '@' is invalid for argument count";
        NoSuchHandle = "handle '@' has not been found";
        CannotFreeze = "failed to freeze @";
        CannotOpen = "failed to open @";
        StillFreezes = "an earlier freeze is still under way in the kernel";
        HookFailed = "child process has failed to execute fsfreeze hook: @";
        CannotListBlocks = "Can't open directory\"/@/\"";
        CannotOpenSysfs = "open sysfs file \"@\"";
        CannotReadSysfs = "pread sysfs file \"@\"";
        CannotListParts = "failed to list entries: /@";
        CannotTakeOut = "logical processor #@ can't be offlined";
        CannotReadPart = "pread(\"/@/@\")";
        CannotWritePart = "pwrite(\"/@/@\")";
        CannotFindPart = "Could not open '/@/'";
        CannotOpenPart = "could not open /@/@";
        CannotListMemory = "open(\"/sys/devices/system/memory/\")";
        CannotListInterfaces = "getifaddrs failed";
        CannotListUsers = "failed to read utmp (at most 64 MiB)";
        CannotReadRoutes = "open(\"/proc/net/route\")";
        CannotReadDiskStats = "Could not open '/proc/diskstats'";
        CannotReadProcessorStats = "Could not open '/proc/stat'";
        InvalidPassword = "forbidden characters in raw password";
        InvalidUserName = "forbidden characters in username";
        PasswordTooLong = "the password is too long";
        CannotSetPassword = "child process has failed to set user password: @";
        InvalidMode = "mode is invalid (valid values are: halt|powerdown|reboot";
        FrozenNow = "file systems are frozen";
        CannotShutDown = "child process has failed to shutdown";
        InContainer = "the agent runs in a container, which cannot shut down the machine";
        InvalidKey = "invalid OpenSSH public key: '@'";
        TooManyKeys = "more than 256 KiB of keys";
        CannotLookUp = "failed to lookup user '@'";
        CannotSetGroup = "failed to set group for user '@'";
        CannotSetUser = "failed to set effective user ID for user '@'";
        CannotCreate = "failed to create directory '@'";
        CannotOpenKeys = "failed to read '@': Failed to open file @";
        CannotReadKeys = "failed to read '@': Error reading file @";
        CannotWriteKeys = "failed to write to '@'";
        BelongsTo = ": @ belongs to @ (uid @)";
        CannotSleep = "the requested suspend mode is not supported by the guest";
        SleepRefused = "suspend: cannot write to '/sys/power/state'";
        UnknownOption = "unknown option: ";
        AmbiguousOption = "option could be several: ";
        NoValue = "option needs a value: ";
        TakesNoValue = "option takes no value: ";
        NotMethod = "unsupported channel method/type: ";
        NotSeconds = "not a number of seconds: ";
        NoTimeLimit = "a hook needs a time limit: ";
        NeitherStopNorIgnore = "neither stop nor ignore: ";
        NotAbsolute = "not an absolute path: ";
        NoPath = "must specify a path for this channel";
        OptionDropped = "the kernel kept only the last of several options of one name";
        StrayCommand = "the name of a command that no option takes: ";
        SeeHelp = "try 'gaunt --help' for more information";
        Usage = "Usage: gaunt [OPTION]...";
        About = "QEMU guest agent for guests that have nothing else in them.";
        HelpMethod = "virtio-serial (default) or unix-listen";
        HelpPath = "device or socket (default: the port org.qemu.guest_agent.0)";
        HelpStateDirectory = "directory in memory for the mark of a freeze (default: /run)";
        HelpBlockRpcs = "commands to refuse, separated by commas; 'help' lists all";
        HelpAllowRpcs = "commands to allow, separated by commas; all others are refused";
        HelpFreezeTimeout = "seconds after which a freeze ends by itself, 0 for never (default: 600)";
        HelpFreezeHook = "run hooks: this (default: /etc/qemu-ga/fsfreeze-hook) or those in its .d";
        HelpHookTimeout = "seconds that one hook has (default: 60)";
        HelpHookFailures = "stop (default) the freeze if a hook fails, or ignore that";
        HelpVerbose = "log more";
        HelpVersion = "print the version";
        HelpHelp = "print this";
        Fault = "fault: signal @ at @";
        Panicked = "fault: @:@";
        StartsAnew = "starting anew, without open files and the results of programs";
        LinesDropped = "@ log lines were dropped while frozen";
        CannotOpenRoot = "cannot open /";
        CannotReadSignals = "cannot read signals";
        CannotPoll = "cannot poll";
        CannotPollSignals = "cannot poll signals";
        CannotPollClient = "cannot poll a client";
        CannotWait = "cannot wait";
        CannotAccept = "cannot accept";
        CannotOpenChannel = "error opening channel '@'";
        NotSocket = "error opening channel '@': a file that is not a socket is there";
        PortOpen = "port open: @";
        PortGone = "the port is gone";
        WaitingForPort = "waiting for port @";
        StrangerRefused = "a connection of uid @ was refused";
        NoSuchCommand = "no command has this name: @";
        FailsClosed = "@@; only commands that change nothing, and guest-shutdown, are allowed";
        NoConfig = "configuration file @ does not exist";
        ConfigNotRead = "configuration file @ is not read: options are given on the command line";
        ConfigMayRestrict = "configuration file @ is not read, and may restrict commands: use --block-rpcs and --allow-rpcs";
        CannotMount = "cannot mount @";
        CannotLoad = "cannot load module @";
        CannotUseName = "cannot use the name in @";
        RunsProgram = "exec: @";
        ShuttingDown = "shutting down";
        ToldInit = "init was told to shut down";
        StrangeMark = "@ in the state directory is not the agent's: ignored";
        WasFrozen = "an earlier run had left file systems frozen";
        HadHooks = "an earlier run had left hooks without their thaw";
        FrozenUnmarked = "the state directory has no mark of the freeze: it would not outlive the agent";
        KernelThawedAll = "a mounted file system could not be reached to thaw it: the kernel was told to thaw all";
        ThawMissed = "a mounted file system could not be reached to thaw it, and may still be frozen";
        ThawedLate = "what was left frozen or at rest has been thawed";
        CannotWriteLog = "cannot write to @";
        HookLine = "hooks: @";
        HookUsage = "usage: @ freeze|thaw";
        CannotFindHooks = "cannot find hooks";
        HookRunsItself = "@ is run by the hook @, which it would run";
        CannotReadHooks = "cannot be read";
        CannotReadHookList = "cannot read the list of hooks";
        CannotKeepHookList = "cannot remember hooks";
        CannotKeepHook = "cannot be remembered";
        HookRefused = "refused: @";
        HookNotRoots = "refused: @ is not root's";
        HookWritable = "refused: others may write to @";
        HookLate = "not run, because the freeze took too long";
        CannotRunHook = "cannot be run";
        HookBegins = "begins";
        HookSays = "| @";
        HookDone = "done";
        HookExited = "exit status @";
        HookKilled = "killed by signal @";
        HookTooLong = "killed, because it took longer than @ s";
        HookNoTime = "killed, because the freeze took too long";
        HookToldToEnd = "killed, because it was to end";
    }
}

/// The last of the error numbers' lines, which no error has.
pub const UNKNOWN: usize = ERRORS + 134;
/// How many lines there are before the phrases.
pub const LINES: usize = UNKNOWN + 1;

const PACKED: Packed<{ TEXTS.len() }> = pack(TEXTS);
/// The texts as the program holds them.
static BYTES: [u8; PACKED.len] = *PACKED.bytes.first_chunk().unwrap();
static PAIRS: Pairs = PACKED.pairs;

/// Room for the longest line.
pub const LINE_BYTES: usize = 208;

/// A line.
pub type Text = heapless::Vec<u8, LINE_BYTES>;

/// The line of a phrase.
#[inline(never)]
pub fn phrase(phrase: Phrase) -> Text {
    line(LINES + phrase as usize)
}

/// Hands on a phrase piece by piece, each `@` in it being the next of these; those that are left come
/// last.
#[inline(never)]
pub fn put_phrase(phrase: Phrase, about: &[&[u8]], put: &mut dyn FnMut(&[u8])) {
    let text = line(LINES + phrase as usize);
    let mut rest = &*text;
    put(cut(&mut rest, b'@'));
    for piece in about {
        put(piece);
        put(cut(&mut rest, b'@'));
    }
}

/// The line of a name.
#[inline(never)]
pub fn name(name: Name) -> Text {
    line(name as usize)
}

/// The line of this number, counted from 0; empty if there is none.
#[inline(never)]
pub fn line(wanted: usize) -> Text {
    let mut text = Text::new();
    put_line(wanted, &mut text);
    text
}

/// Appends the line of this number to `text`.
#[inline(never)]
pub fn put_line(wanted: usize, text: &mut Text) {
    let mut rest = &BYTES[..];
    for _ in 0..wanted {
        cut(&mut rest, b'\n');
    }
    for byte in cut(&mut rest, b'\n') {
        unpack(&PAIRS, *byte, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn all_lines_come_whole() {
        assert_eq!(TEXTS.lines().count(), LINES + PHRASES.len());
        assert_eq!(NAMES.len(), ERRORS);
        for (number, text) in TEXTS.lines().enumerate() {
            assert_eq!(line(number), text.as_bytes(), "{number}");
        }
        assert_eq!(line(LINES + PHRASES.len()), b"");
        for (phrase, text) in PHRASES {
            assert_eq!(super::phrase(*phrase), text.as_bytes());
        }
        for (name, text) in NAMES {
            assert_eq!(super::name(*name), text.as_bytes());
        }
        assert_eq!(line(UNKNOWN), b"unknown error");
    }
}
