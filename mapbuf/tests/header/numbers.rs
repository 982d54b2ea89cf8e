//! `include/mapbuf.h`: cbindgen's view of `abi/src/wire.rs` and `abi/src/reason.rs`, in the names that C programs use.

use cbindgen::{
    Builder, Config, DocumentationLength, DocumentationStyle, ItemType, Language, Style,
};
use mapbuf::abi;
use std::{fmt::Write, fs, path::Path, sync::OnceLock};

const HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The binary interface of the mapbuf driver. Made from abi/: do not edit.
 * What a refusal means, in words: mapbuf-explain.h.
 *
 * Every struct starts with its own size in bytes; set the whole of it to zero before filling it in:
 *
 *     struct mapbuf_alloc alloc = { .size = sizeof(alloc), .bytes = 65536,
 *                                   .kind = MAPBUF_KIND_COHERENT, .numa_node = MAPBUF_ANY_NODE };
 *     if (ioctl(fd, MAPBUF_IOCTL_ALLOC, &alloc) == 0)
 *         p = mmap(NULL, alloc.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, alloc.mmap_offset);
 */

#ifndef MAPBUF_H
#define MAPBUF_H

#include <stdint.h>

";

/// The header's text, which is made once: it takes a file on the way.
pub fn header() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut header = HEAD.to_owned();
        header += &paths();
        header += &from_cbindgen();
        header += &ioctls();
        header += "#endif /* MAPBUF_H */\n";
        header
    })
}

/// cbindgen leaves strings out.
fn paths() -> String {
    let mut text = String::from("/* Where the nodes are, and what is told of them. */\n");
    for (name, value) in [
        ("SYSTEM_NODE", abi::SYSTEM_NODE),
        ("DEV_DIR", abi::DEV_DIR),
        ("NAMED_DIR", abi::NAMED_DIR),
        ("PCI_NODE_PREFIX", abi::PCI_NODE_PREFIX),
        ("PLATFORM_NODE_PREFIX", abi::PLATFORM_NODE_PREFIX),
        ("SYSFS_CLASS", abi::SYSFS_CLASS),
    ] {
        writeln!(text, "#define MAPBUF_{name} \"{value}\"").unwrap();
    }
    text + "\n"
}

fn from_cbindgen() -> String {
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join("abi-expanded.rs");
    fs::write(&source, expanded()).unwrap();

    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        no_includes: true,
        documentation_style: DocumentationStyle::C99,
        documentation_length: DocumentationLength::Full,
        ..Config::default()
    };
    config.export.item_types = vec![ItemType::Constants, ItemType::Enums, ItemType::Structs];
    for name in structs().into_iter().chain(enumerations()) {
        let renamed = format!("mapbuf_{}", snake(&name));
        config.export.include.push(name.clone());
        config.export.rename.insert(name, renamed);
    }
    let mut text = Vec::new();
    Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .unwrap()
        .write(&mut text);
    without_links(&String::from_utf8(text).unwrap()) + "\n"
}

/// The ioctls by number: the driver looks at type and number alone, so this needs no `<linux/ioctl.h>`.
fn ioctls() -> String {
    let mut text = String::from(
        "/* The ioctls; each takes the address of the struct that it is named after. */\n",
    );
    for (name, number) in [
        ("QUERY", abi::ioctl::QUERY),
        ("ALLOC", abi::ioctl::ALLOC),
        ("FREE", abi::ioctl::FREE),
        ("INFO", abi::ioctl::INFO),
        ("SEGMENTS", abi::ioctl::SEGMENTS),
        ("OFFSET", abi::ioctl::OFFSET),
        ("EXPORT", abi::ioctl::EXPORT),
        ("IMPORT", abi::ioctl::IMPORT),
        ("PROBE", abi::ioctl::PROBE),
        ("REGION", abi::ioctl::REGION),
        ("LAST_ERROR", abi::ioctl::LAST_ERROR),
        ("NAME", abi::ioctl::NAME),
        ("UNNAME", abi::ioctl::UNNAME),
        ("DEVICE", abi::ioctl::DEVICE),
        ("DMA_MASK", abi::ioctl::DMA_MASK),
        ("ATTACH", abi::ioctl::ATTACH),
        ("DETACH", abi::ioctl::DETACH),
        ("SYNC", abi::ioctl::SYNC),
        ("IRQ", abi::ioctl::IRQ),
        ("CONFIG", abi::ioctl::CONFIG),
        ("BAR", abi::ioctl::BAR),
    ] {
        writeln!(text, "#define MAPBUF_IOCTL_{name} {number:#x}u").unwrap();
    }
    text + "\n"
}

/// The structs of `wire.rs`.
pub fn structs() -> Vec<String> {
    declared("pub struct ")
}

/// The enumerations of `wire.rs`, and the reasons.
pub fn enumerations() -> Vec<String> {
    let mut names = declared("    pub enum ");
    // The macro's.
    names.retain(|name| !name.starts_with('$'));
    names.push("Reason".to_owned());
    names
}

/// The modules of `wire.rs` that hold constants.
fn modules() -> Vec<String> {
    let mut names = declared("pub mod ");
    names.retain(|name| name != "ioctl");
    names
}

/// What `wire.rs` declares by lines that begin like this.
fn declared(beginning: &str) -> Vec<String> {
    source("wire.rs")
        .lines()
        .filter_map(|line| line.strip_prefix(beginning)?.strip_suffix(" {"))
        .map(str::to_owned)
        .collect()
}

/// `wire.rs` and `reason.rs` as cbindgen can read them: the enumerations out of their macros, constants with the
/// names and values that C wants. What does not look as it does today fails here, or in the comparison.
fn expanded() -> String {
    let mut out = String::new();
    let wire = source("wire.rs");
    let (wire, _) = wire.split_once("/// ioctl numbers.").unwrap();
    let mut lines = wire.lines().peekable();
    let mut module = String::new();
    while let Some(line) = lines.next() {
        match line.trim() {
            // The macro's definition, up to its end.
            "macro_rules! numbered {" => while lines.next() != Some("}") {},
            "numbered! {" => {
                let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "}").collect();
                enumeration(&mut out, &body);
            }
            "}" if line == "}" && !module.is_empty() => module.clear(),
            trimmed if trimmed.starts_with("//!") => {}
            // What these speak of is not a C item.
            "/// An enumeration whose numbers cross the system call." => {}
            trimmed if is_of_module(trimmed, lines.peek()) => {}
            trimmed if trimmed.starts_with("pub mod ") => {
                let name = trimmed
                    .trim_start_matches("pub mod ")
                    .trim_end_matches(" {");
                module = format!("{}_", name.to_uppercase());
            }
            trimmed => match constant(trimmed, &module) {
                Some(text) => out += &text,
                None if module.is_empty() => {
                    out += &line.replace("[u8; NAME_LEN]", "[u8; MAPBUF_NAME_LEN]");
                    out.push('\n');
                    continue;
                }
                None => out += trimmed,
            },
        }
        out.push('\n');
    }
    // cbindgen knows an array's length by the constant's name in the source, which is the one in C already.
    let out = out.replace("[u64; OPERANDS]", "[u64; MAPBUF_OPERANDS]");
    let out = out.replace("[u8; DEVICE_NAME_LEN]", "[u8; MAPBUF_DEVICE_NAME_LEN]");
    let out = out.replace("[BarInfo; BARS]", "[BarInfo; MAPBUF_BARS]");
    // `errno` is a macro in C.
    let out = out.replace("pub errno: i32", "pub error_number: i32");
    // `class` is a word of C++.
    let out = out.replace("pub class: u32", "pub region_type: u32");

    let reason = source("reason.rs");
    let (_, rest) = reason.split_once("\nreasons! {\n").unwrap();
    let (body, _) = rest.split_once("\n}\n").unwrap();
    let mut lines = vec![
        "/// Why a request was refused. The operands are named first.",
        "pub enum Reason {",
    ];
    lines.extend(body.lines());
    let mut reasons = String::new();
    enumeration(&mut reasons, &lines);
    reasons.push_str("}\n");
    out + &reasons
}

/// Whether a line is the comment of a module, which is no C item; such a comment is one line.
fn is_of_module(line: &str, next: Option<&&str>) -> bool {
    line.starts_with("///") && next.is_some_and(|next| next.starts_with("pub mod "))
}

pub fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../abi/src")
        .join(name);
    fs::read_to_string(path).unwrap()
}

/// The inside of `numbered!` or `reasons!`: `Variant = number, something;` becomes `MAPBUF_ENUM_VARIANT = number,`.
fn enumeration(out: &mut String, body: &[&str]) {
    let mut name = String::new();
    for line in body {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("pub enum ") {
            name = rest.trim_end_matches(" {").to_owned();
            writeln!(out, "#[repr(C)]\n{line}").unwrap();
        } else if line.starts_with("//") || line.is_empty() || line == "}" {
            writeln!(out, "{line}").unwrap();
        } else {
            let (variant, rest) = line.split_once(" = ").unwrap();
            let (number, rest) = rest.split_once(',').unwrap();
            // A reason's errno; the other enumerations have a string there.
            let errno = rest.trim().trim_end_matches(';');
            if errno.starts_with('E') {
                writeln!(out, "/// Comes with {errno}.").unwrap();
            }
            let qualified = format!("MAPBUF_{}_{}", snake(&name), snake(variant)).to_uppercase();
            writeln!(out, "{qualified} = {number},").unwrap();
        }
    }
}

/// A constant that C programs need, in their spelling.
fn constant(line: &str, module: &str) -> Option<String> {
    let rest = line.strip_prefix("pub const ")?;
    if rest.starts_with("fn ") || rest.contains(": &str") {
        return None;
    }
    let (name, rest) = rest.split_once(": ")?;
    let (number_type, value) = rest.trim_end_matches(';').split_once(" = ")?;
    let value = match value.split_once(" << ") {
        // C would shift an int.
        Some((one, by)) => (one.parse::<u64>().unwrap() << by.parse::<u32>().unwrap()).to_string(),
        None => value.to_owned(),
    };
    Some(format!(
        "pub const MAPBUF_{module}{name}: {number_type} = {value};"
    ))
}

/// Replaces rustdoc's links by what they point at in C.
fn without_links(text: &str) -> String {
    let (modules, enumerations, structs) = (modules(), enumerations(), structs());
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        let (link, after) = after.split_once("`]").unwrap();
        let name = link.rsplit("::").next().unwrap();
        out += before;
        match name {
            "bit" => out += "(1 << number)",
            _ if modules.contains(&name.to_owned()) => {
                write!(out, "MAPBUF_{}_*", name.to_uppercase()).unwrap();
            }
            _ if enumerations.contains(&name.to_owned()) => {
                if out.ends_with(" a ") {
                    out.insert(out.len() - 1, 'n');
                }
                write!(out, "enum mapbuf_{}", snake(name)).unwrap();
            }
            _ if structs.contains(&name.to_owned()) => {
                write!(out, "struct mapbuf_{}", snake(name)).unwrap();
            }
            _ => write!(out, "MAPBUF_{name}").unwrap(),
        }
        rest = after
            .strip_prefix('s')
            .filter(|rest| rest.starts_with(' '))
            .unwrap_or(after);
    }
    out + rest
}

pub fn snake(name: &str) -> String {
    let mut out = String::new();
    for (place, letter) in name.char_indices() {
        if letter.is_uppercase() && place > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
