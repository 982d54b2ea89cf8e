//! `python/src/mapbuf/_abi.py`: what `include/mapbuf.h` and `include/mapbuf-explain.h` say, for Python.

use mapbuf::{
    abi::{Cache, IrqKind, Kind, Method, Operation},
    Reason,
};
use std::fmt::Write;

const HEAD: &str = "\
# SPDX-License-Identifier: MIT OR Apache-2.0
\"\"\"The binary interface of the mapbuf driver, and what its refusals mean. Made from abi/: do not edit.\"\"\"

import ctypes
import enum

";

/// The module, made from the C header, so that the two cannot differ.
pub fn module(header: &str) -> String {
    let mut out = HEAD.to_owned();
    let mut lines = header.lines().peekable();
    // Lists of fields of ctypes and members of enum need something in them.
    while let Some(line) = lines.next() {
        let line = line.trim_end();
        if let Some(name) = line.strip_prefix("enum ") {
            writeln!(out, "\nclass {}(enum.IntEnum):", camel(name)).unwrap();
            let prefix = format!("{}_", name.trim_end_matches(" {").to_uppercase());
            for line in lines.by_ref().take_while(|line| *line != "};") {
                member(&mut out, line, &prefix);
            }
            out.push('\n');
        } else if let Some(name) = line.strip_prefix("struct ") {
            writeln!(
                out,
                "\nclass {}(ctypes.Structure):\n    _fields_ = [",
                camel(name)
            )
            .unwrap();
            for line in lines.by_ref().take_while(|line| *line != "};") {
                field(&mut out, line);
            }
            out.push_str("    ]\n\n");
        } else if let Some(rest) = line.strip_prefix("#define MAPBUF_") {
            // The guard has no value.
            if let Some((name, value)) = rest.split_once(' ') {
                writeln!(out, "{name} = {}", number(value)).unwrap();
            }
        }
    }
    names(
        &mut out,
        "KIND",
        Kind::ALL.iter().map(|v| (v.number(), v.name())),
    );
    names(
        &mut out,
        "CACHE",
        Cache::ALL.iter().map(|v| (v.number(), v.name())),
    );
    names(
        &mut out,
        "METHOD",
        Method::ALL.iter().map(|v| (v.number(), v.name())),
    );
    names(
        &mut out,
        "OPERATION",
        Operation::ALL.iter().map(|v| (v.number(), v.name())),
    );
    names(
        &mut out,
        "IRQ_KIND",
        IrqKind::ALL.iter().map(|v| (v.number(), v.name())),
    );
    out.push_str(
        "\n#: Of each reason: its name, its errno, what happened, what to do next.\nREASONS = {\n",
    );
    for reason in Reason::ALL {
        let text = reason.text();
        writeln!(
            out,
            "    {}: (\n        {:?},\n        {},\n        {:?},\n        {:?},\n    ),",
            reason.number(),
            reason.name(),
            reason.errno(),
            text.sentence,
            text.remedy
        )
        .unwrap();
    }
    out + "}\n"
}

fn member(out: &mut String, line: &str, prefix: &str) {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix("//") {
        writeln!(out, "    #{comment}").unwrap();
    } else {
        let (name, value) = line.trim_end_matches(',').split_once(" = ").unwrap();
        let name = name.strip_prefix(prefix).unwrap();
        writeln!(out, "    {name} = {value}").unwrap();
    }
}

fn field(out: &mut String, line: &str) {
    let line = line.trim().trim_end_matches(';');
    if let Some(comment) = line.strip_prefix("//") {
        writeln!(out, "        #{comment}").unwrap();
        return;
    }
    let (kind, name) = line.rsplit_once(' ').unwrap();
    let kind = match kind.strip_prefix("struct ") {
        Some(name) => camel(name),
        None => format!("ctypes.c_{}", kind.trim_end_matches("_t")),
    };
    let (name, kind) = match name.trim_end_matches(']').split_once('[') {
        Some((name, length)) => {
            let length = length.trim_start_matches("MAPBUF_");
            (name, format!("{kind} * {length}"))
        }
        None => (name, kind),
    };
    writeln!(out, "        ({name:?}, {kind}),").unwrap();
}

fn names(out: &mut String, name: &str, rows: impl Iterator<Item = (u32, &'static str)>) {
    writeln!(out, "\n{name}_NAMES = {{").unwrap();
    for (number, text) in rows {
        writeln!(out, "    {number}: {text:?},").unwrap();
    }
    out.push_str("}\n");
}

/// A value of C's preprocessor, as Python writes it.
fn number(value: &str) -> String {
    match value {
        "UINT32_MAX" => "0xFFFF_FFFF".to_owned(),
        "UINT64_MAX" => "0xFFFF_FFFF_FFFF_FFFF".to_owned(),
        value => value.trim_end_matches('u').to_owned(),
    }
}

/// `mapbuf_last_error {` as `LastError`.
fn camel(name: &str) -> String {
    let name = name.trim_end_matches(" {").trim_start_matches("mapbuf_");
    name.split('_')
        .map(|part| part[..1].to_uppercase() + &part[1..])
        .collect()
}
