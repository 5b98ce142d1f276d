//! Texts of the loop, of PID 1, and of the options: log lines, complaints, and the help. They are
//! packed, see `base::packed`.

use crate::base::packed::texts;

texts! {
    /// A line of the log or of the help. Each `@` stands for a piece that the caller gives.
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
        SysReadOnly = "/sys cannot be written";
        NoUsers = "no user in /etc/passwd";
        PasswordsReadOnly = "/etc/shadow cannot be written";
        NoRoutes = "no /proc/net/route";
        NoDiskCounters = "no /proc/diskstats";
        NoCpuCounters = "no /proc/stat";
        HooksStopFreeze = "a hook cannot be run";
        HookIgnored = "; failures of hooks are ignored";
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
        HelpConfig = "configuration file (default: /etc/qemu/qemu-ga.conf, if it exists)";
        HelpMethod = "virtio-serial (default), isa-serial, unix-listen or vsock-listen";
        HelpPath = "device, socket or CID:PORT (default: the port org.qemu.guest_agent.0)";
        HelpChannels = "several channels: METHOD:PATH;METHOD:PATH, instead of -m and -p";
        HelpStateDirectory = "directory in memory for the mark of a freeze (default: /run)";
        HelpBlockRpcs = "commands to refuse, separated by commas; 'help' lists all";
        HelpAllowRpcs = "commands to allow, separated by commas; all others are refused";
        HelpFreezeTimeout = "seconds after which a freeze ends by itself, 0 for never (default: 600)";
        HelpAbortFuse = "abort FUSE connections that owe an answer at the freeze timeout";
        HelpFreezeHook = "run hooks: this (default: /etc/qemu-ga/fsfreeze-hook) or those in its .d";
        HelpHookTimeout = "seconds that one hook has (default: 60)";
        HelpHookFailures = "stop (default) the freeze if a hook fails, or ignore that";
        HelpAuthorizedKeys = "file of a user's ssh keys; %u is the user, %h the home directory";
        HelpVerbose = "log more";
        HelpPidFile = "pid file of a daemon (default: /run/qemu-ga.pid)";
        HelpRetryPath = "try again if a socket cannot be made; devices are always waited for";
        HelpVsockPeer = "CID that may connect besides the host's; 4294967295 for any";
        HelpDaemonize = "run in the background, as soon as the agent is ready";
        HelpLogFile = "log to this file, /dev/kmsg, or the socket of a syslog daemon";
        HelpDumpConf = "print the settings as a configuration file";
        HelpCheck = "print what works in this guest and what is missing; =json for programs";
        HelpVersion = "print the version";
        HelpHelp = "print this";
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
