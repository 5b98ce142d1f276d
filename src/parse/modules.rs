//! The lists kmod keeps beside the kernel modules: modules.dep, modules.builtin, and /etc/modules.
//!
//! modules.dep(5): a line is `path: path path ...`; each dependency stands before those it needs
//! itself, so loading goes from the end of the line to its beginning, then the module.
//! Dash and underscore are the same in module names. Modules may be compressed (.gz, .xz, .zst).
//! The lists are read line by line: a caller without room for a whole file hands in runs of whole
//! lines. Aliases (modules.alias) are not read.

use super::{file_name, lines, next_word};
use crate::base::text::cut;

/// A module and what must be loaded before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Path below the directory of modules.dep, or from the root.
    pub path: &'a [u8],
    /// Paths of what it needs, as the line has them.
    dependencies: &'a [u8],
}

impl<'a> Module<'a> {
    /// Paths of what it needs, first to be loaded first; the module itself is not among them.
    pub fn load_order(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let words = self.dependencies.split(u8::is_ascii_whitespace).rev();
        words.filter(|word| !word.is_empty())
    }
}

/// The module one line of modules.dep tells of.
pub fn parse(line: &[u8]) -> Option<Module<'_>> {
    let mut dependencies = line;
    let path = cut(&mut dependencies, b':');
    (path.len() != line.len()).then_some(Module { path, dependencies })
}

/// The module called `name` in (a run of whole lines of) modules.dep.
pub fn find<'a>(list: &'a [u8], name: &[u8]) -> Option<Module<'a>> {
    lines(list)
        .filter_map(parse)
        .find(|module| is_same_name(name_of(module.path), name))
}

/// Whether (a run of whole lines of) modules.builtin has a module called `name`.
pub fn is_built_in(list: &[u8], name: &[u8]) -> bool {
    lines(list).any(|path| is_same_name(name_of(path), name))
}

/// Names and parameters in an /etc/modules file; `#` and `;` begin comments.
pub fn wanted(file: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(file).filter_map(parse_etc_modules)
}

/// Name and parameters on one line of /etc/modules, unless it is blank or a comment.
pub fn parse_etc_modules(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parameters = line;
    let name = next_word(&mut parameters)?;
    let is_comment = matches!(name.first()?, b'#' | b';');
    (!is_comment).then_some((name, parameters.trim_ascii()))
}

/// The name of the module in file `path`: without directory, `.ko`, and what compression added. Names
/// of modules have no dots.
pub fn name_of(path: &[u8]) -> &[u8] {
    let mut file = file_name(path);
    cut(&mut file, b'.')
}

/// Whether two module names are the same; dash and underscore are.
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let plain = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    one.len() == other.len() && one.iter().map(plain).eq(other.iter().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::testing::torture;

    const DEP: &[u8] = b"\
kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/drivers/block/virtio_blk.ko.xz:
kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko.xz kernel/drivers/scsi/scsi_common.ko.xz
kernel/arch/x86/crypto/aesni-intel.ko: kernel/crypto/crypto_simd.ko kernel/crypto/cryptd.ko
kernel/net/9p/9pnet.ko.zst:
extra/gzipped.ko.gz:";

    #[test]
    fn modules_are_found_by_name_whatever_their_compression() {
        assert_eq!(
            find(DEP, b"virtio_blk").unwrap().path,
            b"kernel/drivers/block/virtio_blk.ko.xz"
        );
        assert_eq!(find(DEP, b"virtio-blk"), find(DEP, b"virtio_blk"));
        assert_eq!(
            find(DEP, b"aesni_intel").unwrap().path,
            b"kernel/arch/x86/crypto/aesni-intel.ko"
        );
        assert_eq!(
            find(DEP, b"9pnet").unwrap().path,
            b"kernel/net/9p/9pnet.ko.zst"
        );
        assert_eq!(find(DEP, b"gzipped").unwrap().path, b"extra/gzipped.ko.gz");
        for absent in [&b""[..], b"virtio", b"virtio_blk.ko", b"blk", b"libcrc32c"] {
            assert_eq!(find(DEP, absent), None);
        }
    }

    #[test]
    fn the_last_dependency_is_loaded_first() {
        let module = find(DEP, b"sd_mod").unwrap();
        assert!(
            module
                .load_order()
                .map(name_of)
                .eq([&b"scsi_common"[..], b"scsi_mod"])
        );
        assert_eq!(find(DEP, b"virtio_blk").unwrap().load_order().count(), 0);
    }

    #[test]
    fn built_in_modules_are_known() {
        let list = b"kernel/fs/ext4/ext4.ko\nkernel/drivers/char/virtio_console.ko\n";
        assert!(is_built_in(list, b"ext4") && is_built_in(list, b"virtio-console"));
        assert!(!is_built_in(list, b"xfs") && !is_built_in(list, b"console"));
    }

    #[test]
    fn wanted_modules_have_names_and_parameters() {
        let file = b"# a comment\n\nvirtio_console\n  loop max_loop=8 x=1 \n;other\nlast";
        let expected = [
            (&b"virtio_console"[..], &b""[..]),
            (b"loop", b"max_loop=8 x=1"),
            (b"last", b""),
        ];
        assert!(wanted(file).eq(expected));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        torture(DEP, |bytes| {
            find(bytes, b"sd_mod").map(|module| module.load_order().count());
            is_built_in(bytes, b"x");
            wanted(bytes).count();
        });
    }
}
