//! Texts of replies: member names and error phrases. They are packed, see `base::packed`.

use crate::base::packed::texts;

texts! {
    /// The name of a member of a reply, or the names of several adjacent members, separated by
    /// blanks.
    ///
    /// Members that long lists repeat come first, because the first lines are found soonest.
    pub enum Name {
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
        KernelRelease = "kernel-release";
        KernelVersion = "kernel-version";
        Machine = "machine";
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
}

texts! {
    /// An error phrase, in qemu-ga's words where it has the error. Each `@` stands for a piece that
    /// the caller gives.
    pub enum Phrase {
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
        NotAtRest = "failed to freeze @: it did not come to rest before the freeze timeout";
        StillUnderWay = "an earlier freeze or thaw is still under way in the kernel";
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_text_is_unpacked_whole() {
        Name::assert_all_unpack();
        Phrase::assert_all_unpack();
    }
}
