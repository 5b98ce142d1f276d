//! Texts of the loop, of PID 1, and of the options: log lines and complaints. They are packed, see
//! `base::packed`.

use crate::base::packed::texts;

texts! {
    /// A line of the log. Each `@` stands for a piece that the caller gives.
    pub(super) enum AgentPhrase {
        UnknownOption = "unknown option: ";
        AmbiguousOption = "option could be several: ";
        NoValue = "option needs a value: ";
        TakesNoValue = "option takes no value: ";
        NotMethod = "unsupported channel method/type: ";
        TooManyChannels = "too many channels: ";
        OneSocketOnly = "qemu-ga only supports listening on one socket";
        UnsupportedSocket = "unsupported listen fd type";
        NotVsockAddress = "error parsing address '@'";
        NotCid = "Failed to parse cid '@'";
        NotVsockPort = "Failed to parse port '@'";
        NotSeconds = "not a number of seconds: ";
        NoTimeLimit = "a hook needs a time limit: ";
        NeitherStopNorIgnore = "neither stop nor ignore: ";
        NotKeysPath = "not the path of a file, or neither %u, %h nor %%: ";
        TooManyLists = "more than 32 lists of commands: ";
        NotAbsolute = "not an absolute path: ";
        NoPath = "must specify a path for this channel";
        OptionDropped = "the kernel kept only the last of several options of one name";
        StrayCommand = "the name of a command that no option takes: ";
        SeeHelp = "try 'gaunt --help' for more information";
        Fault = "fault: signal @ at @";
        Panicked = "fault: @:@";
        StartsAnew = "starting anew, without open files and the results of programs";
        CannotOpenRoot = "cannot open /";
        CannotReadSignals = "cannot read signals";
        CannotPoll = "cannot poll";
        CannotPollSignals = "cannot poll signals";
        CannotPollClient = "cannot poll a client";
        CannotWait = "cannot wait";
        CannotSignal = "cannot send READY=1";
        CannotStart = "cannot start as a daemon";
        CannotCreate = "Could not create '@'";
        CannotLockPidFile = "Cannot lock pid file";
        CannotOpenLog = "unable to open specified log file";
        CannotAccept = "cannot accept";
        CannotOpenChannel = "error opening channel '@'";
        NotSocket = "error opening channel '@': a file that is not a socket is there";
        PortOpen = "port open: @";
        PortGone = "the port is gone";
        WaitingForPort = "waiting for port @";
        StrangerRefused = "a connection of @ @ was refused";
        NoSuchCommand = "no command has this name: @";
        FailsClosed = "@@; only commands that change nothing, and guest-shutdown, are allowed";
        CannotLoadConfig = "error loading configuration from path: ";
        NotConfigLine = "the configuration file has a line that is not a group, a key with a value or a comment: ";
        NotConfigValue = "the configuration file has a value that cannot be interpreted, of key ";
        CannotMount = "cannot mount @";
        CannotLoad = "cannot load module @";
        CannotUseName = "cannot use the name in @";
        Works = "works";
        LeftOut = "left out of this build";
        Blocked = "blocked by policy";
        NotRoot = "the agent does not run as root";
        NoHardwareClock = "no hardware clock in /sys/class/rtc";
        NoMountTable = "no mount table: /proc is not mounted";
        NoProcessors = "no processors: /sys is not mounted";
        NoHotPlug = "no processor can be stopped (CONFIG_HOTPLUG_CPU)";
        NoMemoryBlocks = "no memory blocks in /sys/devices/system/memory (CONFIG_MEMORY_HOTPLUG)";
        NoBlockDevices = "no block devices: /sys is not mounted";
        NoNetwork = "no netlink sockets (CONFIG_NET)";
        NoSleepInMemory = "no deep sleep in /sys/power (S3, CONFIG_SUSPEND)";
        NoSleepOnDisk = "no hibernation in /sys/power, no device to resume from, or no swap area";
        NoSleepOnBoth = "no deep sleep, no hibernation, or not both (suspend in /sys/power/disk)";
        NoUsers = "no user in /etc/passwd";
        PasswordsReadOnly = "/etc/shadow cannot be written";
        NoRoutes = "no /proc/net/route";
        NoDiskCounters = "no /proc/diskstats";
        NoCpuCounters = "no /proc/stat";
        NoDirectory = "the directory is missing or cannot be written";
        NoDevice = "no such device";
        OtherFile = "the path leads to a file or device of another type";
        NoSuchCid = "the guest does not have this CID";
        NoPort = "no port has this name";
        NoPortDriver = "no port, or no driver for it (virtio_console)";
        NeitherTextNorJson = "--check takes no value or json: ";
        NotCommand = "not the name of a command: ";
        HookUsage = "usage: @ freeze|thaw";
        CannotFindHooks = "cannot find hooks";
        HookRunsItself = "@ is run by the hook @, which it would run";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_text_is_unpacked_whole() {
        AgentPhrase::assert_all_unpack();
    }
}
