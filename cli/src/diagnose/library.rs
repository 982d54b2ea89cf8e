//! Where the C library has its `mmap`: it refuses an offset within a page by itself (`sysdeps/unix/sysv/linux/mmap64.c` of
//! glibc, `src/mman/mmap.c` of musl), and the kernel never hears of it.

use object::{Object, ObjectSegment, ObjectSymbol};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// Where distributions keep their C library.
const USUAL: [&str; 6] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
    "/lib/ld-musl-x86_64.so.1",
];

/// The program's file, found as a shell would.
pub fn program(command: &[OsString]) -> Option<PathBuf> {
    let name = Path::new(command.first()?);
    if name.components().count() > 1 {
        return name.canonicalize().ok();
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).find_map(|folder| folder.join(name).canonicalize().ok())
}

/// Files that may have it: the program itself where it is static, and the usual libraries; each once.
pub fn candidates(program: Option<&Path>) -> Vec<PathBuf> {
    let usual = USUAL
        .iter()
        .filter_map(|path| Path::new(path).canonicalize().ok());
    let mut files: Vec<_> = program
        .map(Path::to_owned)
        .into_iter()
        .chain(usual)
        .collect();
    files.sort();
    files.dedup();
    files
}

/// The places in a file at which its `mmap` begins.
pub fn mmaps_of(path: &Path) -> Vec<u64> {
    fs::read(path).map_or_else(|_| Vec::new(), |bytes| places(&bytes))
}

fn places(bytes: &[u8]) -> Vec<u64> {
    let Ok(file) = object::File::parse(bytes) else {
        return Vec::new();
    };
    let mut found: Vec<u64> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|symbol| symbol.is_definition())
        .filter(|symbol| matches!(symbol.name(), Ok("mmap" | "mmap64" | "__mmap" | "__mmap64")))
        .filter_map(|symbol| {
            let address = symbol.address();
            file.segments().find_map(|segment| {
                let within = address.checked_sub(segment.address())?;
                let (offset, length) = segment.file_range();
                (within < length).then(|| offset + within)
            })
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_does() {
        assert!(program(&["sh".into()]).is_some_and(|path| path.is_absolute()));
        assert_eq!(program(&["no-such-program-at-all".into()]), None);
    }

    #[test]
    fn a_c_library_has_one() {
        let Some(library) = candidates(None).into_iter().next() else {
            // A host without any of them, which has nothing to look into.
            return;
        };
        assert!(!mmaps_of(&library).is_empty(), "{}", library.display());
        assert!(places(b"no ELF file").is_empty());
    }
}
