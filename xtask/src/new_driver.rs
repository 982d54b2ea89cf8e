//! `cargo xtask new-driver`: a driver of one's own, made from one of the examples.

use anyhow::{bail, Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make a folder with a small, complete driver that maps memory in the way that is named
///
/// The driver stands by itself: nothing in it needs mapbuf. It is one of examples/drivers, under a name of your own, with
/// a program that tries it.
#[derive(clap::Args)]
pub struct Arguments {
    /// The driver's name, and the folder to make, in the current one; letters, digits and underscores
    name: String,
    /// How it maps
    #[arg(long, value_name = "WAY", default_value = "fault-page", value_parser = ways())]
    way: String,
    /// The language
    #[arg(long, value_name = "LANGUAGE", default_value = "c")]
    lang: Language,
}

/// The languages that there are examples in.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Language {
    /// C
    C,
    /// Rust, on the layer that the examples are built on
    Rust,
}

/// A way to map, and the example that shows it.
pub struct Way {
    /// What `--way` takes; where mapbuf has a method for it, that method's name.
    pub name: &'static str,
    /// The example's file, without what follows the dot. The module is named so, or in Rust `rust_` and the name.
    pub file: &'static str,
    /// The guide's chapter that begins with it.
    pub chapter: &'static str,
    /// For whom it is, in a few words.
    pub purpose: &'static str,
    /// The program of examples/c that tries it.
    program: &'static str,
    /// What comes after the name in the node's, if that cannot be known beforehand; or a parameter of the module's.
    needs: Option<&'static str>,
}

const fn way(
    name: &'static str,
    file: &'static str,
    chapter: &'static str,
    purpose: &'static str,
) -> Way {
    Way {
        name,
        file,
        chapter,
        purpose,
        program: "try",
        needs: None,
    }
}

const PCI: Option<&str> = Some("a PCI device: QEMU's ivshmem");

/// All ways, in the order of the guide.
pub const WAYS: &[Way] = &[
    way(
        "remap",
        "remap_pfn_range",
        "remap_pfn_range.md",
        "one physical run, by frame, at once",
    ),
    way(
        "remap-each",
        "maps0",
        "remap_pfn_range.md",
        "vmalloc'd memory page by page: the lab's exercise",
    ),
    Way {
        program: "coherent",
        ..way(
            "dma",
            "dma_mmap_coherent",
            "dma_mmap_coherent.md",
            "DMA memory that an ioctl allocates, mapped by its id",
        )
    },
    way(
        "insert",
        "vm_insert_pages",
        "vm_insert_pages.md",
        "pages from anywhere, at once",
    ),
    way(
        "map-pages",
        "vm_map_pages",
        "vm_insert_pages.md",
        "an array of pages, checked by the kernel",
    ),
    way(
        "vmalloc",
        "remap_vmalloc_range",
        "remap_vmalloc_range.md",
        "vmalloc'd memory, at once",
    ),
    Way {
        needs: PCI,
        ..way(
            "iomap",
            "vm_iomap_memory",
            "vm_iomap_memory.md",
            "a PCI device's BAR",
        )
    },
    Way {
        needs: Some("a range reserved at boot, as start= and bytes="),
        ..way(
            "io-remap",
            "io_remap_pfn_range",
            "vm_iomap_memory.md",
            "a physical range that was reserved at boot",
        )
    },
    way(
        "fault-page",
        "fault_page",
        "fault-page.md",
        "pages when they are touched: the way to use when in doubt",
    ),
    Way {
        needs: PCI,
        ..way(
            "fault-pfn",
            "fault_pfn",
            "fault-pfn.md",
            "device memory that may be revoked while it is mapped",
        )
    },
    way(
        "fault-huge",
        "fault_huge",
        "fault-huge.md",
        "entries of 2 MiB",
    ),
    way(
        "dma-buf",
        "dma_buf_exporter",
        "sharing.md",
        "a buffer that other drivers and processes can take",
    ),
    way(
        "prepare",
        "mmap_prepare",
        "mmap_prepare.md",
        "the callback that replaces mmap, since 7.2",
    ),
];

fn ways() -> clap::builder::PossibleValuesParser {
    WAYS.iter()
        .map(|way| clap::builder::PossibleValue::new(way.name).help(way.purpose))
        .collect::<Vec<_>>()
        .into()
}

/// The folder of the examples in C.
pub fn examples() -> Result<PathBuf> {
    Ok(crate::workspace()?.join("examples/drivers/c"))
}

/// The folder of the examples in Rust, modules named `rust_` and the way's file.
pub fn examples_in_rust() -> Result<PathBuf> {
    Ok(crate::workspace()?.join("examples/drivers/rust"))
}

/// Carries the command out.
pub fn main(arguments: &Arguments) -> Result<ExitCode> {
    let lang = arguments.lang;
    let way = WAYS.iter().find(|way| way.name == arguments.way);
    let way = way.context("there is no such way")?;
    let name = &arguments.name;
    make(way, name, lang, Path::new(name))?;
    print!("{}", next_steps(way, name, lang));
    Ok(ExitCode::SUCCESS)
}

/// What there is now, and what to type.
pub fn next_steps(way: &Way, name: &str, lang: Language) -> String {
    let driver = driver_file(name, lang);
    let mut text = format!(
        "{name}/{driver}   the driver: {}\n{name}/try.c     a program that maps it\n{name}/Kbuild    what make is to build\n",
        way.purpose
    );
    if lang == Language::Rust {
        text += &format!("{name}/kmap/     the layer that it is built on, to be kept beside it\n");
    }
    text += &format!(
        "\nNext:\n  cargo xtask module --dir {name}\n  cc -static -o {name}/try {name}/try.c\n"
    );
    match way.needs {
        None => {
            text += &format!(
                "  cargo xtask vm --driver {name} --copy {name}/try -- /root/try{}\n",
                node_word(way, name)
            );
        }
        Some(needs) => {
            text += &format!(
                "  The driver needs {needs}; see the beginning of {driver} and the guide.\n"
            )
        }
    }
    text
}

/// What the program must be told, if its own default is not enough.
fn node_word(way: &Way, name: &str) -> String {
    match way.name {
        "dma" => format!(" /dev/{name}"),
        "prepare" => format!(" /dev/{name}-pages"),
        _ => String::new(),
    }
}

/// The driver's file. In Rust it is not named as the module, which is made of several.
fn driver_file(name: &str, lang: Language) -> String {
    match lang {
        Language::C => format!("{name}.c"),
        Language::Rust => "main.rs".to_owned(),
    }
}

/// Makes the folder with a driver of that name.
pub fn make(way: &Way, name: &str, lang: Language, folder: &Path) -> Result<()> {
    check(name)?;
    if folder.exists() {
        bail!(
            "{} already exists; choose another name, or remove it",
            folder.display()
        );
    }
    let examples = examples()?;
    let read =
        |path: PathBuf| fs::read_to_string(&path).with_context(|| path.display().to_string());
    let (source, kbuild) = match lang {
        Language::C => {
            let source = read(examples.join(way.file).with_extension("c"))?;
            (
                renamed(&source, way.file, name),
                format!("obj-m += {name}.o\n"),
            )
        }
        Language::Rust => {
            let source = read(examples_in_rust()?.join(way.file).with_extension("rs"))?;
            (
                renamed_in_rust(&source, way.file, name),
                format!("obj-m += {name}.o\n{name}-y := main.o kmap/helpers.o\n"),
            )
        }
    };
    let program = crate::workspace()?
        .join("examples/c")
        .join(way.program)
        .with_extension("c");
    let program = read(program)?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let write = |file: &str, text: &str| {
        let path = folder.join(file);
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    write(&driver_file(name, lang), &source)?;
    if lang == Language::Rust {
        fs::create_dir(folder.join("kmap"))?;
        for entry in fs::read_dir(crate::workspace()?.join("driver/kmap"))?.flatten() {
            let file = Path::new("kmap").join(entry.file_name());
            write(&file.to_string_lossy(), &read(entry.path())?)?;
        }
    }
    let header = examples.join(way.file).with_extension("h");
    if header.exists() {
        write(&format!("{name}.h"), &read(header)?)?;
    }
    let program = program
        .replace("../drivers/c/", "")
        .replace("/dev/fault_page", &format!("/dev/{name}"));
    write("try.c", &renamed(&program, way.file, name))?;
    write(
        "Kbuild",
        &format!("# SPDX-License-Identifier: GPL-2.0\n{kbuild}"),
    )
}

/// Whether a module may have such a name.
fn check(name: &str) -> Result<()> {
    let begins = name.starts_with(|letter: char| letter.is_ascii_lowercase());
    let goes_on = name
        .chars()
        .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_');
    if !begins || !goes_on || name.len() > 32 {
        bail!(
            "{name} cannot be a module's name here: use up to 32 lowercase letters, digits and underscores, beginning \
            with a letter"
        );
    }
    if name == "try" {
        bail!("try.c is the program that tries the driver; choose another name");
    }
    Ok(())
}

/// A source under another name: its node, its header, its module. Other examples are named by their place.
fn renamed(source: &str, file: &str, name: &str) -> String {
    let mut text = source
        .replace(&format!("/dev/{file}"), &format!("/dev/{name}"))
        .replace(&format!("\"{file}.h\""), &format!("\"{name}.h\""))
        .replace(&format!("{file}.ko"), &format!("{name}.ko"))
        .replace(&format!("{file}.c"), &format!("{name}.c"));
    for way in WAYS.iter().filter(|way| way.file != file) {
        let other = format!("{}.c", way.file);
        text = text.replace(&other, &format!("examples/drivers/c/{other}"));
    }
    text
}

/// The same of one in Rust, with the layer in its own folder.
fn renamed_in_rust(source: &str, file: &str, name: &str) -> String {
    let mut text = source
        .replace("../../../driver/kmap/", "kmap/")
        .replace(&format!("../c/{file}.h"), &format!("{name}.h"))
        .replace(&format!("rust_{file}"), name);
    for way in WAYS {
        let other = format!(" {}.rs", way.file);
        text = text.replace(&other, &format!(" examples/drivers/rust/{}.rs", way.file));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_has_a_way_and_every_way_an_example() {
        let kbuild = fs::read_to_string(examples().unwrap().join("Kbuild")).unwrap();
        let built: Vec<_> = kbuild
            .split_whitespace()
            .filter_map(|word| word.strip_suffix(".o"))
            .collect();
        for way in WAYS {
            assert!(built.contains(&way.file), "{}", way.file);
        }
        assert_eq!(built.len(), WAYS.len());
        for entry in fs::read_dir(examples().unwrap()).unwrap().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "c") {
                let stem = path.file_stem().unwrap().to_str().unwrap();
                assert!(WAYS.iter().any(|way| way.file == stem), "{stem} has no way");
            }
        }
    }

    #[test]
    fn examples_may_be_copied() {
        for way in WAYS {
            let path = examples().unwrap().join(way.file).with_extension("c");
            let text = fs::read_to_string(path).unwrap();
            assert!(
                text.starts_with("// SPDX-License-Identifier: GPL-2.0\n"),
                "{}",
                way.file
            );
            assert!(text.contains("MODULE_LICENSE(\"GPL\")"), "{}", way.file);
            assert!(text.contains(".owner = THIS_MODULE"), "{}", way.file);
        }
    }

    /// Lines of a file in C that are neither blank nor comment.
    fn lines_of_code(text: &str) -> usize {
        let mut in_comment = false;
        let lines = text.lines().map(str::trim).filter(|line| {
            let comment = in_comment || line.starts_with("/*");
            in_comment = comment && !line.ends_with("*/");
            !comment && !line.is_empty() && !line.starts_with("//")
        });
        lines.count()
    }

    #[test]
    fn the_guide_says_how_long_they_are() {
        let guide = crate::workspace().unwrap().join("docs/src/copy-this.md");
        let guide = fs::read_to_string(guide).unwrap();
        let mut short = 0;
        for way in WAYS {
            let path = examples().unwrap().join(way.file).with_extension("c");
            let lines = lines_of_code(&fs::read_to_string(path).unwrap());
            let said = format!("`{}.c`, {lines} lines", way.file);
            short += usize::from(lines < 100);
            assert!(lines < 100 || guide.contains(&said), "{said}");
        }
        let said = format!(
            "Of the {} in C, {short} have less than a hundred",
            WAYS.len()
        );
        assert!(guide.contains(&said), "{said}");
    }

    #[test]
    fn a_driver_of_ones_own_has_its_name_everywhere() {
        let scratch = tempfile::tempdir().unwrap();
        for way in WAYS {
            let folder = scratch.path().join(way.file);
            make(way, "hello", Language::C, &folder).unwrap();
            let driver = fs::read_to_string(folder.join("hello.c")).unwrap();
            assert!(
                driver.contains("KBUILD_MODNAME")
                    && !driver.contains(&format!("/dev/{}", way.file))
            );
            for file in driver
                .split('"')
                .filter(|part| part.ends_with(".h") && !part.contains(' '))
            {
                assert!(folder.join(file).exists(), "{}: {file}", way.name);
            }
            let program = fs::read_to_string(folder.join("try.c")).unwrap();
            assert!(
                program.contains("/dev/hello") && !program.contains("../"),
                "{}",
                way.name
            );
            // What is there is not written over.
            assert!(make(way, "hello", Language::C, &folder).is_err());
        }
    }

    #[test]
    fn one_in_rust_has_its_name_and_its_layer() {
        let scratch = tempfile::tempdir().unwrap();
        for way in WAYS {
            let folder = scratch.path().join(way.file);
            make(way, "hello", Language::Rust, &folder).unwrap();
            let example = examples_in_rust().unwrap().join(format!("{}.rs", way.file));
            let text = fs::read_to_string(example).unwrap();
            assert!(text.starts_with("// SPDX-License-Identifier: GPL-2.0\n"));
            assert!(text.contains("license: \"GPL\"") && !text.contains("unsafe"));
            let driver = fs::read_to_string(folder.join("main.rs")).unwrap();
            assert!(driver.contains("name: \"hello\"") && !driver.contains("rust_"));
            assert!(driver.contains("#[path = \"kmap/mod.rs\"]") && !driver.contains("../"));
            for file in ["kmap/mod.rs", "kmap/helpers.c", "try.c", "Kbuild"] {
                assert!(folder.join(file).exists(), "{}: {file}", way.name);
            }
        }
    }

    // What a module takes is the folder alone.
    #[test]
    fn the_layer_knows_nothing_of_mapbuf() {
        let folder = crate::workspace().unwrap().join("driver/kmap");
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let text = fs::read_to_string(entry.path()).unwrap();
            for word in ["mapbuf", "crate::", "#[path"] {
                assert!(!text.contains(word), "{:?}: {word}", entry.path());
            }
            // Only what lies in a module of a file's own looks up twice.
            let from_root = entry.file_name() == "mod.rs" && text.contains("super::");
            assert!(
                !from_root,
                "mod.rs asks for something outside of the folder"
            );
        }
    }

    #[test]
    fn names_that_make_no_module_are_refused() {
        for name in ["", "a-b", "../a", "1a", "A", "try", "a b"] {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("hello_2").is_ok());
    }
}
