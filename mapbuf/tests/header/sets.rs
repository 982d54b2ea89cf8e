//! That `include/mapbuf.h` has everything that `abi/` has, and nothing else: both are read as sets of names, and a C
//! compiler says that sizes and numbers are the same. How the header is made does not matter here.

use super::numbers::{enumerations, snake, source, structs};
use mapbuf::abi;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::fs;
use std::path::Path;
use std::process::Command;

fn header() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/mapbuf.h");
    fs::read_to_string(path).unwrap()
}

/// What follows a prefix at the beginning of a line, up to something that cannot stand in a name.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.trim_start().strip_prefix(prefix))
        .map(|rest| {
            let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

/// Both must be the same; what only one has is said.
fn same<T: Ord + Debug>(what: &str, abi: &BTreeSet<T>, header: &BTreeSet<T>) {
    let missing: Vec<_> = abi.difference(header).collect();
    let more: Vec<_> = header.difference(abi).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "{what}: include/mapbuf.h lacks {missing:?} of abi/, which in turn lacks {more:?}"
    );
    assert!(!abi.is_empty(), "no {what} at all");
}

#[test]
#[should_panic(expected = "lacks [\"import\"]")]
fn a_struct_that_is_missing_is_seen() {
    let header = header().replace("struct mapbuf_import {", "struct elsewhere {");
    let abi = structs().iter().map(|name| snake(name)).collect();
    same("structs", &abi, &names(&header, "struct mapbuf_"));
}

#[test]
fn structs_are_the_same() {
    let abi = structs().iter().map(|name| snake(name)).collect();
    same("structs", &abi, &names(&header(), "struct mapbuf_"));
}

/// The enumerations with their variants by number, as the library has them.
fn variants() -> BTreeMap<&'static str, BTreeSet<(String, u32)>> {
    macro_rules! all {
        ($($name:ident)*) => {
            BTreeMap::from([$((
                stringify!($name),
                abi::$name::ALL
                    .iter()
                    .map(|variant| (snake(&format!("{variant:?}")), variant.number()))
                    .collect(),
            )),*])
        };
    }
    all! { Kind Method Cache RegionType RegionState Direction Iommu IrqKind IrqAction Operation Reason }
}

#[test]
fn enumerations_and_their_variants_are_the_same() {
    let declared: BTreeSet<_> = enumerations().iter().map(|name| snake(name)).collect();
    let compared = variants().keys().map(|name| snake(name)).collect();
    same("enumerations compared", &declared, &compared);
    let header = header();
    same("enumerations", &declared, &names(&header, "enum mapbuf_"));
    for (name, abi) in variants() {
        let (_, rest) = header
            .split_once(&format!("enum mapbuf_{} {{", snake(name)))
            .unwrap();
        let (body, _) = rest.split_once('}').unwrap();
        let prefix = format!("MAPBUF_{}_", snake(name).to_uppercase());
        let found = body
            .lines()
            .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
            .filter(|(variant, _)| !variant.starts_with("//"))
            .map(|(variant, number)| {
                let variant = variant.strip_prefix(&prefix).unwrap_or(variant);
                (variant.to_lowercase(), number.parse().unwrap())
            })
            .collect();
        same(name, &abi, &found);
    }
}

/// The constants of `wire.rs`, with the module that they are in.
fn constants() -> BTreeSet<String> {
    let mut module = String::new();
    let mut found = BTreeSet::new();
    for line in source("wire.rs").lines() {
        if let Some(name) = line.strip_prefix("pub mod ") {
            module = name.trim_end_matches(" {").to_uppercase() + "_";
        } else if line == "}" {
            module.clear();
        }
        // Of an `impl`, or a function.
        let own = line.starts_with("pub const ") || !module.is_empty();
        let constant = names(line, "pub const ");
        found.extend(
            constant
                .iter()
                .filter(|name| own && *name != "fn")
                .map(|name| format!("{module}{name}")),
        );
    }
    found
}

#[test]
fn constants_flags_and_ioctls_are_the_same() {
    let mut found = names(&header(), "#define MAPBUF_");
    assert!(found.remove("H"), "the guard");
    let abi = constants();
    for some in ["ABI_VERSION", "FEATURE_CMA", "PROBE_WRITE", "IOCTL_REGION"] {
        assert!(abi.contains(some), "{some} was overlooked");
    }
    same("constants", &abi, &found);
}

#[test]
fn a_c_compiler_sees_the_same_sizes_and_ioctls() {
    let mut program = String::from("#include <sys/ioctl.h>\n#include \"mapbuf.h\"\n");
    let names = constants();
    let ioctls: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix("IOCTL_"))
        .collect();
    for (number, name) in ioctls.iter().enumerate() {
        let lower = name.to_lowercase();
        writeln!(
            program,
            "_Static_assert(MAPBUF_IOCTL_{name} == _IOWR(MAPBUF_MAGIC, MAPBUF_OPERATION_{name}, struct mapbuf_{lower}), \
             \"{number}\");"
        )
        .unwrap();
    }
    macro_rules! sizes {
        ($($name:ident)*) => {
            [$((stringify!($name), size_of::<abi::$name>())),*]
        };
    }
    let sizes = sizes! {
        Refused Query Alloc Free Info Segment Segments Offset Export Import Probe Region LastError Name Unname
        BarInfo Device DmaMask Attach Detach Sync Irq Config Bar
    };
    let compared = sizes.iter().map(|(name, _)| (*name).to_owned()).collect();
    same(
        "structs compared",
        &structs().into_iter().collect(),
        &compared,
    );
    for (name, size) in sizes {
        let name = snake(name);
        writeln!(
            program,
            "_Static_assert(sizeof(struct mapbuf_{name}) == {size}, \"{name}\");"
        )
        .unwrap();
    }
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header.c");
    fs::write(&file, program).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include");
    let output = Command::new("cc")
        .args([
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-fsyntax-only",
            "-I",
        ])
        .arg(include)
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
