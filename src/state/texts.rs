//! Texts that `state` and `commands` write to the log and to the log of hooks. They are packed, see
//! `base::packed`.

use crate::base::packed::texts;

texts! {
    /// A line of a log. Each `@` stands for a piece that the caller gives.
    pub enum LogPhrase {
        LinesDropped = "@ log lines were dropped";
        RunsProgram = "exec: @";
        ShuttingDown = "shutting down";
        ToldInit = "init was told to shut down";
        StrangeMark = "@ in the state directory is not the agent's: ignored";
        WasFrozen = "an earlier run had left file systems frozen";
        HadHooks = "an earlier run had left hooks without their thaw";
        FuseAborted = "FUSE connections that did not answer were aborted";
        FrozenUnmarked = "the state directory has no mark of the freeze: it would not outlive the agent";
        KernelThawedAll = "a mounted file system could not be reached to thaw it: the kernel was told to thaw all";
        ThawMissed = "a mounted file system could not be reached to thaw it, and may still be frozen";
        ThawedLate = "what was left frozen or at rest has been thawed";
        CannotWriteLog = "cannot write to @";
        HookLine = "hooks: @";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "too slow for Miri")]
    fn every_text_is_unpacked_whole() {
        LogPhrase::assert_all_unpack();
    }
}
