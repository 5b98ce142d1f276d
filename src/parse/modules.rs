//! Lists of kernel modules: modules.dep, as modules.dep(5) describes it, and /etc/modules.
//!
//! A line of modules.dep is `path: path path ...`. Each dependency stands before those that it needs
//! itself, so modules are loaded from the end of the line to its beginning. A line of modules.builtin is
//! a path alone. Module names do not distinguish dashes from underscores. Module files may be compressed
//! (.gz, .xz, .zst). Aliases (modules.alias) are not supported.

use super::{file_name, next_word};
use crate::base::text::cut;

/// A module and its dependencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Path, relative to the directory of modules.dep or absolute.
    pub path: &'a [u8],
    /// Paths of its dependencies, in the order of the line.
    dependencies: &'a [u8],
}

impl<'a> Module<'a> {
    /// Iterates over the paths of its dependencies in the order in which to load them.
    pub fn load_order(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let words = self.dependencies.split(u8::is_ascii_whitespace).rev();
        words.filter(|word| !word.is_empty())
    }
}

/// Parses one line of modules.dep.
pub fn parse(line: &[u8]) -> Option<Module<'_>> {
    let mut dependencies = line;
    let path = cut(&mut dependencies, b':');
    (path.len() != line.len()).then_some(Module { path, dependencies })
}

/// Returns module name and parameters on one line of /etc/modules; `None` for a blank line and a
/// comment, which begins with `#` or `;`.
pub fn parse_etc_modules(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parameters = line;
    let name = next_word(&mut parameters)?;
    let is_comment = matches!(name.first()?, b'#' | b';');
    (!is_comment).then_some((name, parameters.trim_ascii()))
}

/// Returns the name of the module in the file `path`: the file name up to its first dot.
pub fn name_of(path: &[u8]) -> &[u8] {
    let mut file = file_name(path);
    cut(&mut file, b'.')
}

/// Whether two module names are the same. Dash and underscore are equal.
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'-' { b'_' } else { *byte };
    one.len() == other.len() && one.iter().map(folded).eq(other.iter().map(folded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::lines;
    use crate::parse::testing::torture;

    /// Finds the module called `name` in modules.dep.
    fn find<'a>(list: &'a [u8], name: &[u8]) -> Option<Module<'a>> {
        let mut modules = lines(list).filter_map(parse);
        modules.find(|module| is_same_name(name_of(module.path), name))
    }

    const DEP: &[u8] = b"\
kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz
kernel/drivers/block/virtio_blk.ko.xz:
kernel/drivers/scsi/sd_mod.ko.xz: kernel/drivers/scsi/scsi_mod.ko.xz kernel/drivers/scsi/scsi_common.ko.xz
kernel/arch/x86/crypto/aesni-intel.ko: kernel/crypto/crypto_simd.ko kernel/crypto/cryptd.ko
kernel/net/9p/9pnet.ko.zst:
extra/gzipped.ko.gz:";

    #[test]
    fn modules_have_the_name_of_their_file_without_suffixes() {
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
    fn a_line_of_modules_builtin_is_a_path_alone() {
        let line = b"kernel/drivers/char/virtio_console.ko";
        assert_eq!(parse(line), None);
        assert!(is_same_name(name_of(line), b"virtio-console"));
        assert!(!is_same_name(name_of(line), b"console"));
    }

    #[test]
    fn lines_of_etc_modules_have_a_name_and_parameters() {
        let file = b"# a comment\n\nvirtio_console\n  loop max_loop=8 x=1 \n;other\nlast";
        let expected = [
            (&b"virtio_console"[..], &b""[..]),
            (b"loop", b"max_loop=8 x=1"),
            (b"last", b""),
        ];
        assert!(lines(file).filter_map(parse_etc_modules).eq(expected));
    }

    #[test]
    fn no_input_panics() {
        torture(DEP, |bytes| {
            find(bytes, b"sd_mod").map(|module| module.load_order().count());
            lines(bytes).for_each(|line| _ = parse_etc_modules(line));
        });
    }
}
